//! What is to be run.

/// What is to be run, and what people should know of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Project {
    /// What it is, for people: `Nest`.
    pub(super) kind: String,
    /// From the directory.
    pub(super) server: String,
    pub(super) args: Vec<String>,
    pub(super) node_args: Vec<String>,
    /// Only the command says that node runs it.
    pub(super) is_for_node: bool,
    /// What makes the server file, where something does.
    pub(super) build: Option<String>,
    /// What the master is to bind, for programs that take a socket.
    pub(super) listen: Option<String>,
    /// The default variable for the port, and a port, where the start script names one.
    pub(super) port: Option<String>,
    /// What else is to be known, a line each.
    pub(super) notes: Vec<String>,
}

/// One line of it, as a comment may have it.
pub(super) fn plain(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(80).collect()
}
