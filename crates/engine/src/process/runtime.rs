//! What runs a server file: node or one of its kin, or the kernel, as it is.
//!
//! There is one judgement. It is made on the file that the given path leads to, when a generation begins, and everything
//! that depends on it asks the program that was resolved then.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::process::shebang::{Beginning, Interpreter, Shebang};
use crate::upgrade::plain;

/// The endings of a server file that runs under node.
const NODE_ENDINGS: [&str; 6] = ["js", "cjs", "mjs", "ts", "mts", "cts"];
/// The endings that need a Node that strips types.
const TYPESCRIPT_ENDINGS: [&str; 3] = ["ts", "mts", "cts"];

/// How a server file is run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Runtime {
    /// Under node, Deno or Bun, with a channel.
    Node {
        /// Which of them.
        kind: NodeKind,
        /// The binary, resolved.
        #[serde(with = "plain")]
        binary: PathBuf,
        /// The name that the user gave. Version managers look at it.
        #[serde(with = "plain")]
        name: PathBuf,
        /// Its own arguments: those of the file's first line, then the user's.
        #[serde(with = "plain")]
        args: Vec<OsString>,
        because: Because,
    },
    /// As it is.
    Executable {
        /// The name that the user gave. Programs with several names, and Python's virtual environments, look at it.
        #[serde(with = "plain")]
        name: PathBuf,
        /// Its first line, if it is a script.
        script: Option<Shebang>,
    },
}

/// The runtime of a server file for node. Deno and Bun speak parts of Node's protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum NodeKind {
    /// Node.js.
    Node,
    /// Deno: takes connections from the master, and closes idle ones at once when it drains.
    Deno,
    /// Bun: binds its own sockets, and drains when it is sent a signal.
    Bun,
}

/// Why a server file is one for node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Because {
    /// The program that embeds the engine says so.
    Said,
    /// Its name has an ending of node's. If its first line names another interpreter, that is the line.
    Ending { first_line: Option<String> },
    /// Its first line says so.
    FirstLine(String),
    /// A binary for it was named, and it is text.
    Named,
}

/// The judgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// Under node or one of its kin; with its first line, where that says how.
    Node(Because, Option<Shebang>),
    /// As it is.
    Itself(Beginning),
}

impl Judgement {
    /// Judges a file by where the path leads to, and by the path as it was given where that says nothing. `node_named`: the
    /// user has named a binary for it.
    pub(crate) fn of(resolved: &Path, given: &Path, node_named: bool) -> Self {
        let beginning = Beginning::of(resolved);
        let kind = match &beginning {
            Beginning::Script(shebang) => Some(shebang.kind()),
            Beginning::Text | Beginning::Other => None,
        };
        let is_kin = matches!(kind, Some(Interpreter::Node | Interpreter::Deno | Interpreter::Bun));
        if has_ending(resolved, &NODE_ENDINGS) {
            return Self::by_ending(beginning);
        }
        match beginning {
            Beginning::Script(shebang) if is_kin => {
                Self::Node(Because::FirstLine(shebang.line.clone()), Some(shebang))
            }
            Beginning::Script(_) if kind == Some(Interpreter::Wrapper) && node_named => {
                Self::Node(Because::Named, None)
            }
            Beginning::Text if node_named => Self::Node(Because::Named, None),
            Beginning::Text if has_ending(given, &NODE_ENDINGS) => {
                Self::Node(Because::Ending { first_line: None }, None)
            }
            beginning @ (Beginning::Script(_) | Beginning::Text | Beginning::Other) => {
                Self::Itself(beginning)
            }
        }
    }

    fn by_ending(beginning: Beginning) -> Self {
        let Beginning::Script(shebang) = beginning else {
            return Self::Node(Because::Ending { first_line: None }, None);
        };
        let first_line = (shebang.kind() != Interpreter::Node).then(|| shebang.line.clone());
        Self::Node(Because::Ending { first_line }, Some(shebang))
    }
}

impl NodeKind {
    /// By the name of the binary, as the user gave it or with symlinks resolved.
    pub(crate) fn of(name: &Path, binary: &Path) -> Self {
        let is =
            |kin: &str| [name, binary].iter().any(|path| path.file_stem().is_some_and(|stem| stem == kin));
        if is("deno") {
            Self::Deno
        } else if is("bun") {
            Self::Bun
        } else {
            Self::Node
        }
    }

    /// What people call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Deno => "deno",
            Self::Bun => "bun",
        }
    }

    /// What it is to do with the file. All permissions, as node has them; more arguments may take some away.
    pub(crate) fn default_args(self) -> &'static [&'static str] {
        match self {
            Self::Deno => &["run", "-A"],
            Self::Node | Self::Bun => &[],
        }
    }

    /// Whether an interpreter line is for this one.
    pub(crate) fn is_named_by(self, shebang: &Shebang) -> bool {
        let kind = match self {
            Self::Node => Interpreter::Node,
            Self::Deno => Interpreter::Deno,
            Self::Bun => Interpreter::Bun,
        };
        shebang.kind() == kind
    }

    /// What does not work as in Node.
    pub(crate) fn caveat(self) -> Option<&'static str> {
        match self {
            Self::Node => None,
            Self::Deno => {
                Some("Deno drains by itself: it closes idle connections at once, a request on its way or not")
            }
            Self::Bun => Some(
                "Bun binds its own sockets (SO_REUSEPORT): the kernel spreads connections, --balance and the lossless \
                 drain do not apply, and a worker is let go by --drain-signal",
            ),
        }
    }
}

impl Runtime {
    /// Under what it runs, and why, in words.
    pub(crate) fn in_words(&self) -> String {
        match self {
            Self::Node { kind, because, .. } => {
                let why = match because {
                    Because::Said => return format!("under {}", kind.name()),
                    Because::Ending { .. } => "by the ending of its name".to_owned(),
                    Because::FirstLine(line) => format!("by its first line, {line}"),
                    Because::Named => "since --node is given".to_owned(),
                };
                format!("under {}, {why}", kind.name())
            }
            Self::Executable { script: Some(Shebang { line, .. }), .. } => {
                format!("as it is, by its first line, {line}")
            }
            Self::Executable { script: None, .. } => "as it is, as a program".to_owned(),
        }
    }
}

/// Whether a file needs a Node that strips types.
pub(crate) fn is_typescript(server: &Path) -> bool {
    has_ending(server, &TYPESCRIPT_ENDINGS)
}

fn has_ending(path: &Path, endings: &[&str]) -> bool {
    path.extension().and_then(OsStr::to_str).is_some_and(|ending| endings.contains(&ending))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn judged(name: &str, text: &str, given: &str, node_named: bool) -> Judgement {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(name);
        fs::write(&file, text).unwrap();
        Judgement::of(&file, Path::new(given), node_named)
    }

    /// How it is run: `ending`, `first line`, `named` or `itself`; and with how many flags of its first line.
    fn how(name: &str, text: &str, given: &str, node_named: bool) -> (&'static str, usize) {
        match judged(name, text, given, node_named) {
            Judgement::Node(because, shebang) => {
                let why = match because {
                    Because::Said => "said",
                    Because::Ending { .. } => "ending",
                    Because::FirstLine(_) => "first line",
                    Because::Named => "named",
                };
                (why, shebang.map_or(0, |shebang| shebang.args.len()))
            }
            Judgement::Itself(_) => ("itself", 0),
        }
    }

    #[test]
    fn the_file_is_judged_and_not_the_name_that_leads_to_it() {
        assert_eq!(how("www", "#!/usr/bin/env node\n", "www", false), ("first line", 0));
        assert_eq!(how("cli.js", "#!/usr/bin/env -S node --a\n", ".bin/next", false), ("ending", 1));
        assert_eq!(how("next", "#!/usr/bin/env -S node --a -b\n", ".bin/next", false), ("first line", 2));
        assert_eq!(how("server", "#!/bin/sh\n", "server.js", false), ("itself", 0));
        assert_eq!(how("server", "\u{7f}ELF", "server.js", false), ("itself", 0));
        assert_eq!(how("server", "serve()\n", "server.js", false), ("ending", 0), "nothing else is known");
    }

    #[test]
    fn the_kin_of_node_are_known_by_the_first_line_and_wrappers_are_none_of_it() {
        assert_eq!(how("www", "#!/usr/bin/env bun\n", "www", false), ("first line", 0));
        assert_eq!(how("www", "#!/usr/bin/env -S deno run --allow-net\n", "www", false), ("first line", 2));
        for wrapper in ["tsx", "ts-node", "-S npx tsx"] {
            let text = format!("#!/usr/bin/env {wrapper}\n");
            assert_eq!(how("www", &text, "www", false), ("itself", 0));
            assert_eq!(how("www", &text, "www", true), ("named", 0));
        }
    }

    #[test]
    fn a_binary_that_was_named_runs_text_and_nothing_that_says_otherwise() {
        assert_eq!(how("www", "serve()\n", "www", true), ("named", 0));
        assert_eq!(how("www", "serve()\n", "www", false), ("itself", 0));
        assert_eq!(how("www", "#!/usr/bin/env python3\n", "www", true), ("itself", 0));
        assert_eq!(how("www", "\u{7f}ELF", "www", true), ("itself", 0));
    }

    #[test]
    fn an_ending_is_enough_and_a_first_line_that_disagrees_is_known() {
        let bun = judged("a.ts", "#!/usr/bin/env bun\n", "a.ts", false);
        let Judgement::Node(Because::Ending { first_line }, Some(shebang)) = bun else { panic!("{bun:?}") };
        assert_eq!(first_line.as_deref(), Some("#!/usr/bin/env bun"));
        assert!(NodeKind::Bun.is_named_by(&shebang), "it says how bun runs it, should that be asked to");
    }

    #[test]
    fn the_kin_of_node_are_known_by_their_names() {
        let kind = |name: &str, binary: &str| NodeKind::of(Path::new(name), Path::new(binary));
        assert_eq!(kind("node", "/usr/bin/node"), NodeKind::Node);
        assert_eq!(kind("node", "/opt/bunker/node20"), NodeKind::Node);
        assert_eq!(kind("deno", "/opt/deno/deno"), NodeKind::Deno);
        assert_eq!(kind("js", "/opt/bun/bin/bun.exe"), NodeKind::Bun);
    }
}
