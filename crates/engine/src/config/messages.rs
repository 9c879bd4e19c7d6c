//! Who hears what applications say.

/// Who hears the messages that workers' applications send. What they mean to the cluster itself (`{cmd: 'ready'}`,
/// `{cmd: 'disconnect'}`) is heard in any case, however long they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Messages {
    /// Subscribers, who act on them. Those that are longer than 16 MiB are skipped, and an event says so.
    #[default]
    Heard,
    /// A log: subscribers hear how long each of them is, and nobody acts on them. They are not kept.
    Logged,
    /// Nobody. They are not kept.
    Unheard,
}
