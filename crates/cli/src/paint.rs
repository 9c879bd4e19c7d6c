//! Text on a terminal: colours where they are wanted, and nothing that a worker could move the cursor with.

use std::env;
use std::fmt::Write as _;
use std::io::IsTerminal;

/// Colours text, or leaves it as it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint {
    on: bool,
}

impl Paint {
    /// Colours for a stream that is a terminal, unless `NO_COLOR` is set.
    pub(crate) fn for_stream(stream: &impl IsTerminal) -> Self {
        Self::new(stream.is_terminal() && Self::is_wanted())
    }

    /// Whether terminals are to have colours.
    pub(crate) fn is_wanted() -> bool {
        env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
    }

    /// Colours or not.
    pub(crate) fn new(on: bool) -> Self {
        Self { on }
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    pub(crate) fn red(self, text: &str) -> String {
        self.wrap("1;31", text)
    }

    pub(crate) fn green(self, text: &str) -> String {
        self.wrap("32", text)
    }

    pub(crate) fn yellow(self, text: &str) -> String {
        self.wrap("33", text)
    }

    /// In the colour of a slot.
    pub(crate) fn of_slot(self, slot: u32, text: &str) -> String {
        let colours = ["36", "33", "32", "35", "34", "96"];
        let colour = usize::try_from(slot).ok().and_then(|slot| colours.get(slot % colours.len()));
        self.wrap(colour.unwrap_or(&"36"), text)
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Whether a terminal would do something else with it than show it where it stands: controls of C0 and C1, and what turns the
/// direction of a text around.
fn is_harmful(c: char) -> bool {
    let turns =
        matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || turns || matches!(c, '\u{2028}' | '\u{2029}')
}

/// JSON text in which such characters are escaped, as they may be wherever they stand: what is read from it is the same.
pub(crate) fn printable_json(json: String) -> String {
    if !json.contains(is_harmful) {
        return json;
    }
    let mut escaped = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if is_harmful(c) {
            // All of them are below U+10000.
            let _ = write!(escaped, "\\u{:04x}", u32::from(c));
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// The text without control characters. What comes from workers, such as a path that they listen on or a line of
/// their stderr, must neither break a line of the log nor control the reader's terminal.
pub(crate) fn printable(text: &str) -> String {
    let shown = |c: char| if is_harmful(c) && c != '\t' { char::REPLACEMENT_CHARACTER } else { c };
    text.chars().map(shown).collect()
}

/// A line that a worker has written, for a terminal: as [`printable`], but with the colours that it has, where colours are wanted.
pub(crate) fn printable_line(line: &[u8], paint: Paint) -> String {
    if paint.on {
        return uncontrolled(line, true);
    }
    printable(&String::from_utf8_lossy(without_return(line)))
}

/// The same where colours would be in the way: they are left out.
pub(crate) fn printable_plain(line: &[u8]) -> String {
    uncontrolled(line, false)
}

fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn uncontrolled(line: &[u8], with_colours: bool) -> String {
    let text = String::from_utf8_lossy(without_return(line));
    let (mut shown, mut rest, mut is_coloured) = (String::with_capacity(text.len()), &*text, false);
    while let Some(escape) = rest.find("\x1b[") {
        let (before, from) = rest.split_at(escape);
        shown.push_str(&printable(before));
        let length = colour(from);
        let (code, after) = from.split_at(length.unwrap_or(1));
        if length.is_none() {
            shown.push_str(&printable(code));
        } else if with_colours {
            shown.push_str(code);
            is_coloured = true;
        }
        rest = after;
    }
    shown.push_str(&printable(rest));
    if is_coloured {
        shown.push_str("\x1b[0m");
    }
    shown
}

/// How long the sequence at the beginning is, if it sets colours and does nothing else.
fn colour(text: &str) -> Option<usize> {
    let codes = text.strip_prefix("\x1b[")?;
    let end = codes.find(|c: char| !(c.is_ascii_digit() || c == ';' || c == ':'))?;
    codes.get(end..)?.starts_with('m').then_some(end + 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paint_is_off_or_on() {
        assert_eq!(Paint::new(false).red("x"), "x");
        assert_eq!(Paint::new(true).red("x"), "\x1b[1;31mx\x1b[0m");
    }

    #[test]
    fn control_characters_are_shown_as_what_they_are() {
        assert_eq!(printable("a\tb\nc\x1b[2Jd"), "a\tb\u{fffd}c\u{fffd}[2Jd");
        assert_eq!(printable("\u{9b}2J \u{202e}txt.exe"), "\u{fffd}2J \u{fffd}txt.exe");
    }

    #[test]
    fn a_line_of_a_worker_keeps_its_colours_and_nothing_else() {
        let line = b"\x1b[1;31mred\x1b[m \x1b[2J\x1b]0;title\x07 50%\r100% \xff\r";
        let coloured = printable_line(line, Paint::new(true));
        assert_eq!(
            coloured,
            "\x1b[1;31mred\x1b[m \u{fffd}[2J\u{fffd}]0;title\u{fffd} 50%\u{fffd}100% \u{fffd}\x1b[0m"
        );
        let plain = printable_line(line, Paint::new(false));
        assert!(plain.starts_with("\u{fffd}[1;31mred\u{fffd}[m ") && !plain.contains('\x1b'), "{plain}");
        assert_eq!(printable_plain(line), "red \u{fffd}[2J\u{fffd}]0;title\u{fffd} 50%\u{fffd}100% \u{fffd}");
        assert_eq!(printable_line(b"\x1b[", Paint::new(true)), "\u{fffd}[");
        assert_eq!(printable_line("\x1b[3é".as_bytes(), Paint::new(true)), "\u{fffd}[3é");
    }

    #[test]
    fn in_json_they_are_escaped_and_read_as_what_they_were() {
        let text = "\x1b[2J \u{9b}2J \u{202e}txt.exe \u{2028} é 🦀";
        let json = printable_json(serde_json::to_string(text).unwrap());
        assert!(!json.contains(is_harmful), "{json}");
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
    }
}
