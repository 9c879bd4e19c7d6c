//! The master's own stdout or stderr, as the end of what workers write.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::fstat;
use serde::{Deserialize, Serialize};

use crate::config::output::{LineStyle, WorkerLine};
use crate::process::source::Source;

/// How much is written by one call, in bytes.
pub(super) const WRITE: usize = 4 << 10;

/// What is known of the file of a slot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LeftFile {
    pub(super) open: Option<LeftLine>,
    pub(super) failing: Option<LeftLoss>,
    /// It cannot be moved away, and people know.
    pub(super) is_stuck: bool,
}

/// A line that has begun and not ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LeftLine {
    pub(super) by: Source,
    pub(super) is_torn: bool,
}

/// What was lost since it could not be written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LeftLoss {
    pub(super) lines: u64,
    pub(super) uncounted: u64,
}

/// Where lines of workers are written, on a thread that may wait for it.
pub(super) trait Outlet: Send + 'static {
    /// Writes a piece of what this one says, and tells each time that some of it is written. Where that fails, the reader is
    /// gone: the workers serve all the same.
    fn write(&mut self, source: &Source, piece: &[u8], progress: &dyn Fn());

    /// Opens anew what was opened by a path.
    fn reopen(&mut self) {}

    /// What another program goes on with, between two pieces.
    fn save(&self) -> BTreeMap<u32, LeftFile> {
        BTreeMap::new()
    }
}

/// The master's stdout or stderr.
pub(super) struct Console<W> {
    writer: W,
    style: Option<LineStyle>,
    /// Whatever else is written to the same file is written under the lock of Rust's stderr: the log, for one.
    has_company: bool,
}

impl Console<io::Stderr> {
    pub(super) fn stderr(style: Option<LineStyle>) -> Self {
        Self { writer: io::stderr(), style, has_company: true }
    }
}

impl Console<File> {
    /// Its stdout, without the buffer that Rust has before it.
    pub(super) fn stdout(style: Option<LineStyle>) -> io::Result<Self> {
        let writer = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let has_company = is_one_file(writer.as_fd(), io::stderr().as_fd());
        Ok(Self { writer, style, has_company })
    }
}

#[cfg(test)]
impl<W> Console<W> {
    pub(super) fn plain(writer: W) -> Self {
        Self { writer, style: None, has_company: false }
    }

    pub(super) fn styled(writer: W, style: LineStyle) -> Self {
        Self { writer, style: Some(style), has_company: false }
    }
}

impl<W: Write + AsFd + Send + 'static> Outlet for Console<W> {
    fn write(&mut self, source: &Source, piece: &[u8], progress: &dyn Fn()) {
        let Self { writer, style, has_company } = self;
        match style {
            // Others write there as well, the log for one: they come between lines. Only a line that is longer is split.
            None => by_lines(piece, |lines| write_all(writer, lines, progress)),
            Some(style) => in_style(style, source, piece, |lines| {
                let _alone = has_company.then(|| io::stderr().lock());
                write_all(writer, lines, progress);
            }),
        }
    }
}

/// Hands on whole lines, about so many bytes of them at once as one call writes; of a longer line a piece.
pub(super) fn by_lines(piece: &[u8], mut each: impl FnMut(&[u8])) {
    let mut rest = piece;
    while !rest.is_empty() {
        let most = rest.get(..WRITE).unwrap_or(rest);
        let whole = most.iter().rposition(|&byte| byte == b'\n').map_or(most.len(), |newline| newline + 1);
        let (now, later) = rest.split_at(whole);
        each(now);
        rest = later;
    }
}

/// Hands on lines in their style, about so many bytes of them at once as one call writes.
pub(super) fn in_style(style: &LineStyle, source: &Source, piece: &[u8], mut each: impl FnMut(&[u8])) {
    let (worker, stream) = (source.worker, source.stream);
    let mut styled = Vec::new();
    for line in piece.split_inclusive(|&byte| byte == b'\n') {
        let (text, is_whole) = line.strip_suffix(b"\n").map_or((line, false), |text| (text, true));
        style.write(&WorkerLine { worker, stream, text, is_whole }, &mut styled);
        if styled.len() >= WRITE {
            each(&styled);
            styled.clear();
        }
    }
    if !styled.is_empty() {
        each(&styled);
    }
}

fn write_all(writer: &mut (impl Write + AsFd), bytes: &[u8], progress: &dyn Fn()) {
    let mut rest = bytes;
    while !rest.is_empty() {
        match writer.write(rest) {
            Ok(0) => return,
            Ok(count) => {
                rest = rest.get(count..).unwrap_or_default();
                progress();
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Whoever started the master may have made it so.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let _ = poll(&mut [PollFd::new(writer, PollFlags::OUT)], None);
            }
            Err(_) => return,
        }
    }
}

/// Whether both descriptors lead to one file, pipe or terminal.
fn is_one_file(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> bool {
    let about = |fd: BorrowedFd<'_>| fstat(fd).map(|about| (about.st_dev, about.st_ino)).ok();
    about(one).is_some_and(|file| about(other) == Some(file))
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use recluster_core::WorkerId;

    use super::*;
    use crate::report::stream::Stream;
    use crate::report::worker::Worker;

    #[test]
    fn every_line_has_its_style_and_the_beginning_of_one_is_a_line_as_well() {
        let worker = Worker { id: 1, slot: 3, generation: 1, pid: Some(7) };
        let source = Source { id: WorkerId::from_number(1), worker, stream: Stream::Stdout };
        let style = LineStyle::new(|line, out| {
            let end = if line.is_whole { "" } else { " …" };
            out.extend_from_slice(format!("{} {}|", line.worker.slot, line.stream.name()).as_bytes());
            out.extend_from_slice(line.text);
            out.extend_from_slice(format!("{end}\n").as_bytes());
        });
        let (mut reader, writer) = io::pipe().unwrap();
        let mut console = Console::styled(writer, style);
        console.write(&source, b"one\n\n\xff\r\nthe begin", &|| {});
        console.write(&source, b"ning\n", &|| {});
        drop(console);
        let mut read = Vec::new();
        reader.read_to_end(&mut read).unwrap();
        let expected = [b"3 stdout|one\n3 stdout|\n3 stdout|\xff\r\n3 stdout|the begin".as_slice()]
            .into_iter()
            .chain([" …\n3 stdout|ning\n".as_bytes()]);
        let expected: Vec<u8> = expected.flatten().copied().collect();
        assert_eq!(read, expected);
    }

    #[test]
    fn whole_lines_are_written_together_and_a_long_one_in_pieces() {
        let mut pieces = Vec::new();
        let text = [b"a\n".repeat(3000), vec![b'x'; WRITE + 1], b"\nb".to_vec()].concat();
        by_lines(&text, |piece| pieces.push(piece.to_vec()));
        assert_eq!(pieces.concat(), text);
        assert!(pieces.iter().all(|piece| piece.len() <= WRITE));
        assert!(pieces[0].ends_with(b"\n") && pieces[1].ends_with(b"\n"));
    }
}
