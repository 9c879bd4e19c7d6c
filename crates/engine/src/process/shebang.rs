//! The first line of a script, which says what runs it (`#!/usr/bin/env -S node --flag`).
//!
//! It is read as a person means it: a byte order mark before it, a carriage return behind it, or several words behind `env`
//! without its `-S` keep the kernel from running the script, and change nothing about what it is written for.

use serde::{Deserialize, Serialize};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::upgrade::plain;

/// How many bytes of a file are looked at. The kernel reads 256; flags in a long line are not cut off here.
const LOOK: u64 = 1024;
/// The control characters that text may have.
const TEXT_CONTROLS: &[u8] = b"\t\n\r\x0c\x1b";
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// Node does not take it either, but in an ES module.
pub(crate) const MARKED: &str = "it begins with a byte order mark, and a script must begin with #!";
const RETURNED: &str =
    "its first line ends in a carriage return (CRLF), which is taken for a part of the interpreter's name";
/// The program that looks an interpreter up in `PATH`.
const ENV: &str = "env";
/// Programs that start node, with JavaScript or TypeScript, in a process of their own.
const WRAPPERS: [&str; 8] =
    ["tsx", "ts-node", "ts-node-esm", "swc-node", "babel-node", "npx", "pnpx", "bunx"];

/// The beginning of a file, as far as it says how the file is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Beginning {
    /// A line that names an interpreter.
    Script(Shebang),
    /// Text that names none.
    Text,
    /// Something else, or not to be read: the kernel may know.
    Other,
}

/// What an interpreter line says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shebang {
    /// The interpreter: a path, or a name for `env` to look up.
    #[serde(with = "plain")]
    pub(crate) interpreter: PathBuf,
    /// Its own arguments.
    #[serde(with = "plain")]
    pub(crate) args: Vec<OsString>,
    /// The variables that `env` is to set.
    #[serde(with = "plain")]
    pub(crate) env: Vec<(OsString, OsString)>,
    /// The line, for people.
    pub(crate) line: String,
    /// Why the kernel does not find the interpreter by this line.
    // What has one is not run.
    #[serde(skip)]
    pub(crate) obstacle: Option<&'static str>,
}

/// What kind of interpreter it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interpreter {
    Node,
    Deno,
    Bun,
    /// It starts node in a process of its own, as `tsx` does.
    Wrapper,
    Other,
}

impl Beginning {
    /// Looks at a file.
    pub(crate) fn of(path: &Path) -> Self {
        let mut start = Vec::new();
        // A user may be allowed to run a program that they may not read.
        match File::open(path).and_then(|file| file.take(LOOK).read_to_end(&mut start)) {
            Ok(_) => Self::read(&start),
            Err(_) => Self::Other,
        }
    }

    fn read(start: &[u8]) -> Self {
        if start.iter().any(|byte| byte.is_ascii_control() && !TEXT_CONTROLS.contains(byte)) {
            return Self::Other;
        }
        Shebang::read(start).map_or(Self::Text, Self::Script)
    }
}

impl Shebang {
    /// Reads the beginning of a text.
    pub(crate) fn read(start: &[u8]) -> Option<Self> {
        let text = start.strip_prefix(BYTE_ORDER_MARK).unwrap_or(start);
        let whole = text.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
        let (first, rest) = split_word(whole.trim_ascii());
        if first.is_empty() {
            return None;
        }
        let is_env = Path::new(OsStr::from_bytes(first)).file_name() == Some(OsStr::new(ENV));
        let words = if is_env { words_for_env(rest) } else { split_string(rest) };
        let mut words = words.into_iter().peekable();
        let mut env = Vec::new();
        while let Some((name, value)) = words.peek().filter(|_| is_env).and_then(|word| assignment(word)) {
            env.push((name, value));
            words.next();
        }
        let named = if is_env { words.next().unwrap_or_default() } else { os_string(first) };
        let args: Vec<_> = words.collect();
        let line = format!("#!{}", String::from_utf8_lossy(whole.trim_ascii()));
        let obstacle = if text.len() < start.len() {
            Some(MARKED)
        } else {
            (whole.ends_with(b"\r") && args.is_empty()).then_some(RETURNED)
        };
        Some(Self { interpreter: named.into(), args, env, line, obstacle })
    }

    /// Reads such a line.
    pub(crate) fn of_line(line: &str) -> Option<Self> {
        Self::read(line.as_bytes())
    }

    /// The program that the kernel starts for it.
    pub(crate) fn program(&self) -> Option<&Path> {
        let is_between = |c: char| matches!(c, ' ' | '\t');
        self.line.strip_prefix("#!")?.split(is_between).find(|word| !word.is_empty()).map(Path::new)
    }

    /// What kind of interpreter it names. `node20` and `nodejs` are node as well.
    pub(crate) fn kind(&self) -> Interpreter {
        let name = self.interpreter.file_name().and_then(OsStr::to_str).unwrap_or_default();
        let plain = name.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '.' | '-'));
        match plain {
            "node" | "nodejs" => Interpreter::Node,
            "deno" => Interpreter::Deno,
            "bun" => Interpreter::Bun,
            _ if WRAPPERS.contains(&name) => Interpreter::Wrapper,
            _ => Interpreter::Other,
        }
    }
}

fn os_string(bytes: &[u8]) -> OsString {
    OsStr::from_bytes(bytes).to_owned()
}

/// The first word of a line, and what follows it.
fn split_word(line: &[u8]) -> (&[u8], &[u8]) {
    let end = line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len());
    let (word, rest) = line.split_at(end);
    (word, rest.trim_ascii())
}

/// The words that `env` is given, without its own options. Those that change what it starts (`-i`, `-u`) make it one of
/// which nothing is known.
fn words_for_env(rest: &[u8]) -> Vec<OsString> {
    let mut rest = rest;
    loop {
        rest = rest.trim_ascii_start();
        let split = [&b"--split-string="[..], b"--split-string", b"-vS", b"-S", b"-v", b"--debug", b"-- "];
        match split.iter().find_map(|option| rest.strip_prefix(*option)) {
            Some(behind) => rest = behind,
            None => return split_string(rest),
        }
    }
}

/// Splits a line as `env -S` does: at spaces outside of quotes.
fn split_string(line: &[u8]) -> Vec<OsString> {
    let mut words: Vec<OsString> = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut quote = None;
    let mut bytes = line.iter().copied();
    while let Some(byte) = bytes.next() {
        match (byte, quote) {
            (b'\\', open) if open != Some(b'\'') => word.get_or_insert_default().extend(bytes.next()),
            (b'"' | b'\'', None) => {
                quote = Some(byte);
                word.get_or_insert_default();
            }
            (_, Some(open)) if byte == open => quote = None,
            (_, None) if byte.is_ascii_whitespace() => words.extend(word.take().map(|word| os_string(&word))),
            _ => word.get_or_insert_default().push(byte),
        }
    }
    words.extend(word.map(|word| os_string(&word)));
    words
}

/// `NAME=VALUE`.
fn assignment(word: &OsStr) -> Option<(OsString, OsString)> {
    let bytes = word.as_bytes();
    let equals = bytes.iter().position(|byte| *byte == b'=').filter(|at| *at > 0)?;
    let (name, value) = (bytes.get(..equals)?, bytes.get(equals + 1..)?);
    let is_name = name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    is_name.then(|| (os_string(name), os_string(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(text: &str) -> Shebang {
        match Beginning::read(text.as_bytes()) {
            Beginning::Script(shebang) => shebang,
            other @ (Beginning::Text | Beginning::Other) => panic!("{text:?}: {other:?}"),
        }
    }

    fn words(text: &str) -> (String, Vec<String>) {
        let Shebang { interpreter, args, .. } = script(text);
        let args = args.iter().map(|arg| arg.to_string_lossy().into_owned());
        (interpreter.display().to_string(), args.collect())
    }

    #[test]
    fn the_interpreter_is_what_env_looks_up_or_what_is_named() {
        let node = |args: &[&str]| ("node".to_owned(), args.iter().map(ToString::to_string).collect());
        assert_eq!(words("#!/usr/bin/env node\n'use strict'"), node(&[]));
        assert_eq!(words("#! /usr/bin/env  node  \n"), node(&[]));
        assert_eq!(words("#!/usr/bin/env node"), node(&[]), "without an end of line");
        assert_eq!(words("\u{feff}#!/usr/bin/env node\r\nserve()"), node(&[]));
        assert_eq!(words("#!/usr/bin/env -S node --no-warnings\n"), node(&["--no-warnings"]));
        assert_eq!(words("#!/usr/bin/env -Snode --a -b\r\n"), node(&["--a", "-b"]));
        assert_eq!(words("#!/usr/bin/env --split-string=node --a\n"), node(&["--a"]));
        assert_eq!(
            words("#!/usr/bin/env node --max-old-space-size=64\n"),
            node(&["--max-old-space-size=64"])
        );
        assert_eq!(words("#!/usr/bin/env -S node --title='a b' \"c d\"\n"), node(&["--title=a b", "c d"]));
        assert_eq!(words("#!/opt/node/bin/node --a\n"), ("/opt/node/bin/node".into(), vec!["--a".into()]));
        assert_eq!(words("#!/usr/bin/env -i node\n").0, "-i", "nobody knows what that runs");
        assert_eq!(words("#!/usr/bin/env\n").0, "");
    }

    #[test]
    fn what_keeps_the_kernel_from_running_it_is_known() {
        let obstacle = |text: &str| script(text).obstacle;
        assert_eq!(obstacle("\u{feff}#!/bin/sh\n"), Some(MARKED));
        assert_eq!(obstacle("#!/bin/sh\r\n"), Some(RETURNED));
        assert_eq!(obstacle("#!/usr/bin/env python3\r\n"), Some(RETURNED));
        assert_eq!(obstacle("#!/usr/bin/perl -w\r\n"), None, "perl knows what to make of it");
        assert_eq!(obstacle("#!/bin/sh\n\r\n"), None);
    }

    #[test]
    fn env_may_set_variables() {
        let shebang = script("#!/usr/bin/env -S NODE_ENV=production A= node --a=b\n");
        let pair = |name: &str, value: &str| (OsString::from(name), OsString::from(value));
        assert_eq!(shebang.env, [pair("NODE_ENV", "production"), pair("A", "")]);
        assert_eq!(shebang.interpreter, Path::new("node"));
        assert_eq!(shebang.args, ["--a=b"]);
        assert_eq!(shebang.line, "#!/usr/bin/env -S NODE_ENV=production A= node --a=b");
    }

    #[test]
    fn node_has_several_names_and_others_have_theirs() {
        let kind = |line: &str| script(line).kind();
        for node in [
            "/usr/bin/node",
            "/usr/bin/nodejs",
            "/usr/bin/env node20",
            "/opt/node-22.4",
            "/usr/bin/env nodejs",
        ] {
            assert_eq!(kind(&format!("#!{node}\n")), Interpreter::Node, "{node}");
        }
        assert_eq!(kind("#!/usr/bin/env bun\n"), Interpreter::Bun);
        assert_eq!(kind("#!/usr/bin/env -S deno run --allow-net\n"), Interpreter::Deno);
        for wrapper in ["tsx", "-S npx tsx", "ts-node"] {
            assert_eq!(kind(&format!("#!/usr/bin/env {wrapper}\n")), Interpreter::Wrapper, "{wrapper}");
        }
        for other in
            ["/bin/sh", "/usr/bin/env python3", "/usr/bin/nodemon", "/usr/bin/env -i node", "/usr/bin/env"]
        {
            assert_eq!(kind(&format!("#!{other}\n")), Interpreter::Other, "{other}");
        }
    }

    #[test]
    fn text_without_such_a_line_is_text_and_the_rest_is_for_the_kernel() {
        for text in ["", "serve()", "\n#!/bin/sh\n", "#!\n", "# !node"] {
            assert_eq!(Beginning::read(text.as_bytes()), Beginning::Text, "{text:?}");
        }
        for other in [&b"\x7fELF\x02\x01"[..], b"MZ\x90\0", b"PK\x03\x04"] {
            assert_eq!(Beginning::read(other), Beginning::Other);
        }
        assert_eq!(Beginning::of(Path::new("/nowhere")), Beginning::Other);
    }
}
