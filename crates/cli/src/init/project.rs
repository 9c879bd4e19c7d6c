//! What is to be run.

/// What is to be run, and what people should know of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
    /// What makes a worker ready, where a program tells more than recluster expects of it.
    pub(super) ready_when: Option<&'static str>,
    /// What is to be watched while it is written, where that is not around the server file.
    pub(super) watch: Option<String>,
    /// The default variable for the port, and a port, where the start script names one.
    pub(super) port: Option<String>,
    /// What else is to be known, a line each.
    pub(super) notes: Vec<String>,
}

impl Project {
    /// Whether a shell would have to put the value of a variable into its command.
    pub(super) fn needs_shell(&self) -> bool {
        [&self.server].into_iter().chain(&self.args).chain(&self.node_args).any(|word| word.contains('$'))
    }
}

/// One short line of it, as a comment may have it.
pub(super) fn plain(text: &str) -> String {
    one_line(text, 80)
}

/// As many letters of it, in one line.
pub(super) fn one_line(text: &str, most: usize) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take(most).collect()
}
