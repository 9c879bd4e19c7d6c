//! What a message says, by looking through its bytes once and keeping next to nothing of them.
//!
//! It reads JSON that is valid as [`parse`](super::parse) does: of a key that occurs twice the last one counts. Of what is
//! no JSON it may say anything: whoever reads the message is not told.

use memchr::memchr2;
use serde::{Deserialize, Serialize};

use super::fields::unquoted;
use super::message::{FromWorker, HandleEnvelope, MAX_NAME, MAX_STRING, SkippedMessage, UserCommand};
use super::parse::Cmd;

/// By which fields libraries tell their messages from those of others. The first one that there is counts.
const NAMES: [&[u8]; 7] = [b"topic", b"type", b"cmd", b"channel", b"event", b"kind", b"source"];

/// A message through which one has looked so far.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Skim {
    bytes: u64,
    depth: u64,
    string: Option<Text>,
    /// What the line is, and what `msg` in it is.
    outer: Level,
    inner: Level,
    /// At some moment it was a message between the two halves of the protocol.
    was_internal: bool,
}

/// What is known of one value.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Level {
    kind: Kind,
    /// The next string is a key.
    at_key: bool,
    key: Option<Vec<u8>>,
    first_key: Option<Vec<u8>>,
    /// The value, still escaped, if it is a string.
    text: Option<Vec<u8>>,
    cmd: Option<Vec<u8>>,
    /// In the order of [`NAMES`].
    names: [Option<Vec<u8>>; NAMES.len()],
}

/// What a value is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Kind {
    #[default]
    Other,
    Object,
    Array,
    String,
}

/// A string through which one has looked so far.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Text {
    /// Its first bytes, still escaped; none where nobody wants them.
    kept: Option<Vec<u8>>,
    /// The next byte belongs to an escape.
    escaped: bool,
}

impl Skim {
    /// Looks through the next bytes of the line.
    pub(super) fn read(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        self.bytes += bytes.len() as u64;
        while !rest.is_empty() {
            rest = if self.string.is_some() { self.in_string(rest) } else { self.between(rest) };
        }
    }

    /// How long the line is.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether it is a message between the two halves of the protocol, and not a user's in an envelope.
    pub(super) fn is_internal(&self) -> bool {
        self.was_internal
    }

    /// Whether a descriptor comes with it.
    pub(super) fn is_envelope(&self) -> bool {
        Cmd::of(self.outer.cmd()) == Cmd::Handle
    }

    /// The message of so many bytes through which one has looked, as all that is left of it.
    pub(super) fn skipped(&self, bytes: u64) -> FromWorker {
        let message =
            FromWorker::Skipped(SkippedMessage { bytes, command: self.command(), name: self.name() });
        if !self.is_envelope() {
            return message;
        }
        FromWorker::Handle(HandleEnvelope { kind: None, key: None, message: Box::new(message) })
    }

    /// What it means to us.
    pub(super) fn command(&self) -> UserCommand {
        let message = self.message();
        if message.text.as_deref() == Some(b"ready") {
            return UserCommand::Ready;
        }
        match Cmd::of(message.cmd()) {
            Cmd::User(command) => command,
            Cmd::Handle | Cmd::Internal => UserCommand::Other,
        }
    }

    /// What people may call messages of its kind.
    pub(super) fn name(&self) -> String {
        let message = self.message();
        match message.kind {
            Kind::Array => "an array".to_owned(),
            Kind::String => "a string".to_owned(),
            Kind::Other => "a value".to_owned(),
            Kind::Object => {
                let name = message.names.iter().flatten().next();
                match (name, &message.first_key) {
                    (Some(name), _) => readable(name),
                    (None, Some(key)) => format!("{{{}: …}}", readable(key)),
                    (None, None) => "{}".to_owned(),
                }
            }
        }
    }

    /// The user's message, in an envelope or not.
    fn message(&self) -> &Level {
        if self.is_envelope() { &self.inner } else { &self.outer }
    }

    /// Reads up to the end of a string, or all; returns what follows.
    fn in_string<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let Some(string) = &mut self.string else { return bytes };
        if std::mem::take(&mut string.escaped) {
            let (escape, rest) = bytes.split_at(1);
            string.keep(escape);
            return rest;
        }
        let end = memchr2(b'"', b'\\', bytes).unwrap_or(bytes.len());
        let (text, rest) = bytes.split_at(end);
        string.keep(text);
        match rest.split_first() {
            None => rest,
            Some((b'"', rest)) => {
                let kept = self.string.take().and_then(|string| string.kept);
                self.string_ended(kept);
                rest
            }
            Some((escape, rest)) => {
                string.keep(std::slice::from_ref(escape));
                string.escaped = true;
                rest
            }
        }
    }

    /// Reads one byte between strings; returns what follows.
    fn between<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let Some((&byte, rest)) = bytes.split_first() else { return bytes };
        if self.depth == 0 && self.outer.kind == Kind::Other && !matches!(byte, b'{' | b'[' | b'"') {
            // A line that is garbage may be long.
            let next = rest.iter().position(|byte| matches!(byte, b'{' | b'[' | b'"')).unwrap_or(rest.len());
            return rest.get(next..).unwrap_or_default();
        }
        match byte {
            b'"' => self.string_begins(),
            b'{' => self.value_opens(Kind::Object),
            b'[' => self.value_opens(Kind::Array),
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            b':' => self.value_follows(),
            b',' => {
                if let Some(level) = self.level() {
                    level.at_key = true;
                }
            }
            _ => {}
        }
        rest
    }

    /// The object in whose fields we are, if its fields matter.
    fn level(&mut self) -> Option<&mut Level> {
        match self.depth {
            1 if self.outer.kind == Kind::Object => Some(&mut self.outer),
            2 if self.outer.is_at(b"msg") && self.inner.kind == Kind::Object => Some(&mut self.inner),
            _ => None,
        }
    }

    fn value_opens(&mut self, kind: Kind) {
        if self.depth == 0 {
            self.outer = Level { kind, at_key: true, ..Level::default() };
        } else if self.depth == 1 && self.outer.is_at(b"msg") {
            self.inner = Level { kind, at_key: true, ..Level::default() };
        }
        self.depth += 1;
    }

    /// Of a key that occurs twice the last value counts, whatever it is.
    fn value_follows(&mut self) {
        let depth = self.depth;
        let Some(level) = self.level() else { return };
        level.at_key = false;
        level.note(None);
        if depth == 1 && self.outer.is_at(b"msg") {
            self.inner = Level::default();
        }
    }

    fn string_begins(&mut self) {
        let is_wanted = self.depth == 0 || self.level().is_some();
        self.string = Some(Text { kept: is_wanted.then(Vec::new), escaped: false });
    }

    fn string_ended(&mut self, kept: Option<Vec<u8>>) {
        let Some(kept) = kept else { return };
        if self.depth == 0 {
            self.outer = Level::of_text(kept);
            return;
        }
        if self.depth == 1 && self.outer.is_at(b"msg") && !self.outer.at_key {
            self.inner = Level::of_text(kept);
            return;
        }
        let Some(level) = self.level() else { return };
        let text = unquoted(kept);
        if level.at_key {
            level.first_key.get_or_insert_with(|| text.clone());
            level.key = Some(text);
        } else {
            level.note(Some(text));
        }
        let outer = Cmd::of(self.outer.cmd());
        let inner = outer == Cmd::Handle && matches!(Cmd::of(self.inner.cmd()), Cmd::Handle | Cmd::Internal);
        self.was_internal |= outer == Cmd::Internal || inner;
    }
}

impl Level {
    fn of_text(text: Vec<u8>) -> Self {
        Self { kind: Kind::String, text: Some(text), ..Self::default() }
    }

    fn cmd(&self) -> &[u8] {
        self.cmd.as_deref().unwrap_or_default()
    }

    fn is_at(&self, key: &[u8]) -> bool {
        self.kind == Kind::Object && self.key.as_deref() == Some(key)
    }

    /// The value of the last key is this string, or none.
    fn note(&mut self, value: Option<Vec<u8>>) {
        let key = self.key.as_deref().unwrap_or_default();
        for (name, slot) in NAMES.iter().zip(&mut self.names) {
            if *name == key {
                slot.clone_from(&value);
            }
        }
        if key == b"cmd" {
            self.cmd = value;
        }
    }
}

impl Text {
    fn keep(&mut self, bytes: &[u8]) {
        if let Some(kept) = &mut self.kept {
            let room = MAX_STRING.saturating_sub(kept.len()).min(bytes.len());
            kept.extend_from_slice(bytes.get(..room).unwrap_or_default());
        }
    }
}

/// A name as people can read it: short, and without anything that a terminal obeys.
fn readable(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    let mut chars = text.chars().map(|char| if char.is_control() { '?' } else { char });
    let mut short: String = chars.by_ref().take(MAX_NAME).collect();
    if chars.next().is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skim(line: &str) -> Skim {
        let mut skim = Skim::default();
        skim.read(line.as_bytes());
        skim
    }

    #[test]
    fn only_the_fields_of_the_message_itself_name_it() {
        for (line, name) in [
            (r#"{"type":"a"}"#, "a"),
            (r#"{"x":{"type":"b"}}"#, "{x: …}"),
            (r#"{"msg":{"type":"b"},"y":1}"#, "{msg: …}"),
            (r#"["type","b"]"#, "an array"),
            ("5", "a value"),
            ("{}", "{}"),
            // In an envelope it is that of `msg`.
            (r#"{"cmd":"NODE_HANDLE","msg":{"type":"a"}}"#, "a"),
            (r#"{"cmd":"NODE_HANDLE","msg":{"type":"a"},"x":{"type":"b"}}"#, "a"),
            (r#"{"cmd":"NODE_HANDLE","msg":{"x":{"type":"b"}}}"#, "{x: …}"),
            (r#"{"cmd":"NODE_HANDLE","msg":["type","b"]}"#, "an array"),
            (r#"{"cmd":"NODE_HANDLE","msg":"type","x":{"type":"b"}}"#, "a string"),
            (r#"{"cmd":"NODE_HANDLE","msg":5,"x":["type"]}"#, "a value"),
            (r#"{"cmd":"NODE_HANDLE","type":"net.Socket"}"#, "a value"),
        ] {
            assert_eq!(skim(line).name(), name, "{line}");
        }
    }

    #[test]
    fn a_message_of_a_user_may_hold_one_of_the_protocol_and_an_envelope_may_not() {
        for (cmd, is_internal) in [("x", false), ("NODE_HANDLE", true), ("NODE_X", true)] {
            let line = format!(r#"{{"cmd":"{cmd}","msg":{{"cmd":"NODE_CLUSTER"}}}}"#);
            assert_eq!(skim(&line).is_internal(), is_internal, "{line}");
        }
    }

    #[test]
    fn a_string_that_is_cut_within_an_escape_means_what_is_before_it() {
        for before in 0..12 {
            let before = "x".repeat(before);
            let long = format!("{before}{}", "\\u007f".repeat(MAX_STRING));
            let name = skim(&format!(r#"{{"type":"{long}"}}"#)).name();
            assert_eq!(name, format!("{before}{}…", "?".repeat(MAX_NAME - before.len())));
            let internal = format!(r#"{{"cmd":"\u004eODE_{long}"}}"#);
            assert!(skim(&internal).is_internal(), "{before}");
        }
    }

    #[test]
    fn garbage_before_a_message_does_not_hide_it() {
        for line in [r#"{"cmd":"NODE_X"}"#, "\u{2}{\"cmd\":\"NODE_X\"}", "1, :}{\"cmd\":\"NODE_X\"}"] {
            assert!(skim(line).is_internal(), "{line}");
        }
        assert!(!skim("5").is_internal());
    }
}
