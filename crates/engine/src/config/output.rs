//! Where the lines go that workers write, and how they look there.

use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::unread::Unread;
use crate::report::stream::Stream;
use crate::report::worker::Worker;

/// How many files of a slot that are full are kept, if it is not said.
const KEEP: NonZeroU32 = NonZeroU32::new(5).unwrap();

/// A line that a worker has written.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct WorkerLine<'a> {
    /// Who wrote it.
    pub worker: Worker,
    /// Where.
    pub stream: Stream,
    /// What: any bytes but line feeds.
    pub text: &'a [u8],
    /// False if the rest of it follows as a line of its own: it is longer than 120 KiB, or its end did not come for a second.
    pub is_whole: bool,
}

impl<'a> WorkerLine<'a> {
    /// A whole line.
    pub fn new(worker: Worker, stream: Stream, text: &'a [u8]) -> Self {
        Self { worker, stream, text, is_whole: true }
    }
}

/// How lines of workers look in the master's own output, or in a [`WorkerLog`].
#[derive(Clone)]
pub struct LineStyle(Arc<Write>);

type Write = dyn Fn(&WorkerLine<'_>, &mut Vec<u8>) + Send + Sync;

impl LineStyle {
    /// Appends with this function what is to be written for a line, its line feed included. It is called on threads that write,
    /// and on them alone.
    pub fn new(write: impl Fn(&WorkerLine<'_>, &mut Vec<u8>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(write))
    }

    pub(crate) fn write(&self, line: &WorkerLine<'_>, out: &mut Vec<u8>) {
        (self.0)(line, out);
    }
}

impl fmt::Debug for LineStyle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LineStyle")
    }
}

/// Files that have what workers write: `0.log` for those of the first slot, and so on.
#[derive(Clone, Debug)]
pub struct WorkerLog {
    pub(crate) directory: PathBuf,
    pub(crate) size: Option<u64>,
    pub(crate) keep: NonZeroU32,
}

impl WorkerLog {
    /// Files in this directory, which must be there.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        let directory = directory.into();
        Self { directory: std::path::absolute(&directory).unwrap_or(directory), size: None, keep: KEEP }
    }

    /// Begins a new file before one is larger than this, in bytes. Default: never.
    #[must_use]
    pub fn size(mut self, bytes: u64) -> Self {
        self.size = Some(bytes);
        self
    }

    /// How many files of a slot that are full are kept: `0.log.1` is the newest of them. Default 5.
    #[must_use]
    pub fn keep(mut self, files: NonZeroU32) -> Self {
        self.keep = files;
        self
    }

    pub(crate) fn path(&self, slot: u32) -> PathBuf {
        self.directory.join(format!("{slot}.log"))
    }
}

/// What becomes of what workers write.
#[derive(Clone, Debug, Default)]
pub(crate) struct Output {
    pub(crate) unread: Unread,
    pub(crate) style: Option<LineStyle>,
    pub(crate) log: Option<WorkerLog>,
}

impl Output {
    /// Whether the master reads workers' stdout as well as their stderr.
    pub(crate) fn takes_stdout(&self) -> bool {
        self.style.is_some() || self.log.is_some()
    }
}
