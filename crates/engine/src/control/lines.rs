//! Lines with a limit, read from a connection: the framing of the control protocol, for both of its sides.

use std::io;

use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::sync::OwnedSemaphorePermit;

use super::leaving::Shown;
use super::room::{Room, SHORT};
use super::seats::Activity;

/// Reads lines, none of them longer than a limit.
#[derive(Debug)]
pub(crate) struct Lines<R> {
    reader: BufReader<R>,
    /// The beginning of a line whose end has not come yet.
    line: Vec<u8>,
    limit: usize,
    among: Option<Among>,
}

/// One connection among many.
#[derive(Debug)]
struct Among {
    /// What the lines of all share, and what this one has of it.
    room: Room,
    held: Option<OwnedSemaphorePermit>,
    activity: Activity,
    /// Shows what was read and is no whole line yet.
    shown: Shown,
}

/// What [`Lines::next`] found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// A line, without its line feed.
    Whole(Vec<u8>),
    /// Longer than the limit. Reading on makes no sense.
    TooLong,
    /// Nothing more will come.
    End,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(crate) fn new(reader: R, limit: usize) -> Self {
        Self { reader: BufReader::new(reader), line: Vec::new(), limit, among: None }
    }

    /// Those of one connection among many, whose long lines share a room.
    pub(super) fn sharing(reader: R, limit: usize, room: Room, (activity, shown): (Activity, Shown)) -> Self {
        Self { among: Some(Among { room, held: None, activity, shown }), ..Self::new(reader, limit) }
    }

    /// The next line. The last one may lack its line feed.
    ///
    /// Cancel safe: if the future is dropped, what was read of a line is kept.
    pub(crate) async fn next(&mut self) -> io::Result<Line> {
        loop {
            let left = (self.limit + 1).saturating_sub(self.line.len());
            if left == 0 {
                return Ok(Line::TooLong);
            }
            let count = self.read_some(left).await?;
            self.show();
            if self.line.last() == Some(&b'\n') {
                self.line.pop();
                if let Some(among) = &mut self.among {
                    among.held = None;
                }
                return Ok(Line::Whole(std::mem::take(&mut self.line)));
            }
            if count == 0 {
                let rest = std::mem::take(&mut self.line);
                return Ok(if rest.is_empty() { Line::End } else { Line::Whole(rest) });
            }
            if let Some(Among { activity, .. }) = &self.among {
                activity.stalls();
            }
        }
    }

    /// Shows what was read, but for a line that is whole now.
    fn show(&self) {
        let Some(Among { shown, .. }) = &self.among else { return };
        let begun = if self.line.ends_with(b"\n") { &[][..] } else { &self.line };
        let unread = &mut shown.lock().unread;
        unread.clear();
        unread.extend_from_slice(begun);
        unread.extend_from_slice(self.reader.buffer());
    }

    /// Reads what there is: to the end of the line, to this many bytes, or to where a short line would end.
    async fn read_some(&mut self, left: usize) -> io::Result<usize> {
        let is_long = self.line.len() >= SHORT;
        if let (Some(Among { room, held: held @ None, .. }), true) = (&mut self.among, is_long) {
            *held = Some(room.for_line(self.limit).await?);
        }
        let most = if is_long || self.among.is_none() { left } else { left.min(SHORT - self.line.len()) };
        let buffer = self.reader.fill_buf().await?;
        let buffer = buffer.get(..most).unwrap_or(buffer);
        let end = buffer.iter().position(|&byte| byte == b'\n').map_or(buffer.len(), |at| at + 1);
        self.line.extend_from_slice(buffer.get(..end).unwrap_or_default());
        self.reader.consume(end);
        Ok(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn all(input: &[u8], limit: usize) -> Vec<Line> {
        let mut lines = Lines::new(input, limit);
        let mut found = Vec::new();
        loop {
            let line = lines.next().await.unwrap();
            let last = !matches!(line, Line::Whole(_));
            found.push(line);
            if last {
                return found;
            }
        }
    }

    fn whole(text: &str) -> Line {
        Line::Whole(text.as_bytes().to_vec())
    }

    #[tokio::test]
    async fn lines_end_at_line_feeds_and_at_the_end() {
        assert_eq!(all(b"one\n\ntwo", 8).await, [whole("one"), whole(""), whole("two"), Line::End]);
        assert_eq!(all(b"", 8).await, [Line::End]);
    }

    #[tokio::test]
    async fn the_limit_is_the_longest_line() {
        assert_eq!(all(b"12345678\n", 8).await, [whole("12345678"), Line::End]);
        assert_eq!(all(b"123456789\n", 8).await, [Line::TooLong]);
        assert_eq!(all(&vec![b'x'; 100_000], 8).await, [Line::TooLong]);
    }

    #[tokio::test]
    async fn a_line_survives_a_dropped_future() {
        let (mut writer, reader) = tokio::io::duplex(64);
        let mut lines = Lines::new(reader, 64);
        tokio::io::AsyncWriteExt::write_all(&mut writer, b"one ").await.unwrap();
        tokio::select! {
            biased;
            line = lines.next() => panic!("{line:?}"),
            () = std::future::ready(()) => {}
        }
        tokio::io::AsyncWriteExt::write_all(&mut writer, b"line\n").await.unwrap();
        assert_eq!(lines.next().await.unwrap(), whole("one line"));
    }
}
