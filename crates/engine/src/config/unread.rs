//! What becomes of workers' stderr that is not read in time.

/// What becomes of workers' stderr where the master's own is a pipe or a socket whose reader is slow. A worker has 4 MiB that
/// may wait there, and all together have 16. (To a file or a terminal nothing is lost, unless it takes nothing for 10 s.)
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unread {
    /// Lines are lost, and counted: a reader that is stuck stops no worker.
    #[default]
    Lose,
    /// The worker waits when it writes, as if the pipe were its own.
    Wait,
}
