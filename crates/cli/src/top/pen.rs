//! Writes line under line into a part of the screen. A line that is too long is cut, and shows it.

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;
use ratatui_core::style::Style;
use ratatui_core::text::Span;

/// Ends what was cut.
const CUT: &str = "…";

/// A piece of text and how it looks.
pub(super) type Piece<'a> = (&'a str, Style);

/// Where the next line goes.
#[derive(Debug)]
pub(super) struct Pen<'a> {
    buffer: &'a mut Buffer,
    area: Rect,
    y: u16,
}

impl<'a> Pen<'a> {
    pub(super) fn new(buffer: &'a mut Buffer, area: Rect) -> Self {
        let area = area.intersection(buffer.area);
        Self { y: area.top(), buffer, area }
    }

    /// For how many lines there is room.
    pub(super) fn left(&self) -> usize {
        self.area.bottom().saturating_sub(self.y).into()
    }

    pub(super) fn width(&self) -> usize {
        self.area.width.into()
    }

    /// A line of pieces.
    pub(super) fn line(&mut self, pieces: &[Piece<'_>]) {
        if self.left() == 0 {
            return;
        }
        let mut x = self.area.left();
        for (text, style) in pieces {
            let room = self.area.right().saturating_sub(x);
            if room == 0 {
                break;
            }
            x = self.put(x, room, text, *style);
        }
        self.y += 1;
    }

    /// A line whose whole width looks like this.
    pub(super) fn band(&mut self, text: &str, style: Style) {
        if self.left() > 0 {
            self.buffer.set_style(Rect { y: self.y, height: 1, ..self.area }, style);
            self.line(&[(text, style)]);
        }
    }

    /// Looks like this, as far as the last line goes.
    pub(super) fn mark(&mut self, style: Style) {
        let y = self.y.saturating_sub(1).max(self.area.top());
        self.buffer.set_style(Rect { y, height: 1, ..self.area }, style);
    }

    pub(super) fn skip(&mut self) {
        self.y = (self.y + 1).min(self.area.bottom());
    }

    /// To the line that is this far from the end, if it is below.
    pub(super) fn down_to(&mut self, from_end: usize) {
        let from_end = u16::try_from(from_end).unwrap_or(u16::MAX);
        self.y = self.y.max(self.area.bottom().saturating_sub(from_end));
    }

    fn put(&mut self, x: u16, room: u16, text: &str, style: Style) -> u16 {
        if Span::raw(text).width() <= room.into() {
            return self.buffer.set_stringn(x, self.y, text, room.into(), style).0;
        }
        let (end, _) = self.buffer.set_stringn(x, self.y, text, usize::from(room) - 1, style);
        self.buffer.set_stringn(end, self.y, CUT, 1, style).0
    }
}

/// The text in exactly this width: cut, or filled up on one of its sides.
pub(super) fn fitted(text: &str, width: usize, to_the_right: bool) -> String {
    let has = Span::raw(text).width();
    if has <= width {
        let rest = " ".repeat(width - has);
        return if to_the_right { rest + text } else { text.to_owned() + &rest };
    }
    let Some(mut room) = width.checked_sub(1) else { return String::new() };
    let mut cut = String::new();
    for c in text.chars() {
        let Some(rest) = room.checked_sub(Span::raw(c.to_string()).width()) else { break };
        room = rest;
        cut.push(c);
    }
    cut + CUT + &" ".repeat(room)
}
