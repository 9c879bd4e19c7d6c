//! Words of a command line as a systemd unit has them.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;

/// A command line for `ExecStart=` and the like: systemd reads exactly these words.
pub(super) fn command(words: &[OsString]) -> String {
    words.iter().map(|word| argument(word)).collect::<Vec<_>>().join(" ")
}

/// One word of a command line, in which a dollar would begin a variable.
fn argument(word: &OsStr) -> String {
    quoted(word, |byte| if byte == b'$' { Some("$$") } else { None })
}

/// One assignment for `Environment=`, or one path.
pub(super) fn word(word: &OsStr) -> String {
    quoted(word, |_| None)
}

/// A percent sign begins a specifier everywhere.
fn quoted(word: &OsStr, special: impl Fn(u8) -> Option<&'static str>) -> String {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_./:=,@+%$?&[]~".contains(byte);
    let bytes = word.as_bytes();
    let needs_quotes = bytes.is_empty() || !bytes.iter().all(is_plain);
    let mut text = String::new();
    for &byte in bytes {
        match (special(byte), byte) {
            (Some(instead), _) => text.push_str(instead),
            (None, b'%') => text.push_str("%%"),
            (None, b'"') => text.push_str("\\\""),
            (None, b'\\') => text.push_str("\\\\"),
            (None, b' '..=b'~') => text.push(char::from(byte)),
            // A String takes every write.
            (None, _) => drop(write!(text, "\\x{byte:02x}")),
        }
    }
    if needs_quotes { format!("\"{text}\"") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_reads_the_words_that_were_meant() {
        let line = |words: &[&str]| command(&words.iter().map(OsString::from).collect::<Vec<_>>());
        assert_eq!(
            line(&["/bin/a", "--listen", "web=[::1]:80?backlog=9"]),
            "/bin/a --listen web=[::1]:80?backlog=9"
        );
        assert_eq!(
            line(&["two words", "", "it's", "a\"b", "a\\b"]),
            r#""two words" "" "it's" "a\"b" "a\\b""#
        );
        assert_eq!(line(&["100%", "$HOME", "a;b", "'#'"]), "100%% $$HOME \"a;b\" \"'#'\"");
        assert_eq!(line(&["line\nbreak", "ä"]), r#""line\x0abreak" "\xc3\xa4""#);
        assert_eq!(word(OsStr::new("PATH=/a b:$X")), "\"PATH=/a b:$X\"");
    }
}
