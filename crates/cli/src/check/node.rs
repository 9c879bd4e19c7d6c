//! What node itself says: its version, and whether it can read the server file.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use recluster::logical_directory;
use tokio::process::Command;
use tokio::time::timeout;

use crate::args::Run;
use crate::describe::describe;

/// How long node may take to answer. It takes a tenth of a second on a machine that is not busy.
const PATIENCE: Duration = Duration::from_secs(20);
/// The endings of files that node can check: it does not check TypeScript.
const CHECKED_ENDINGS: [&str; 3] = ["js", "cjs", "mjs"];
/// Arguments of node that run code of the user's, which may change how files are read, or that open a port. A check
/// does neither.
const DOING_MORE: [&str; 8] =
    ["-r", "--require", "--import", "--loader", "--experimental-loader", "--inspect", "--watch", "--test"];

/// A node binary.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) binary: PathBuf,
    /// What `node --version` prints.
    pub(super) version: Option<String>,
}

/// The oldest Node that this is tested with.
const OLDEST: u32 = 18;
/// The endings of files that a Node must strip the types of.
const TYPESCRIPT: [&str; 3] = ["ts", "cts", "mts"];
/// From which version on a Node strips types by itself, where its major version is one of these.
const STRIPS: [(u32, u32); 2] = [(22, 18), (23, 6)];

/// Whether node can read the server file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Syntax {
    Right,
    /// It cannot, and says where and why.
    Wrong(String),
    /// It was not checked, for this reason.
    Unknown(String),
}

impl Node {
    /// Asks for the version.
    pub(super) async fn ask(binary: PathBuf, run: &Run) -> Self {
        let answer = listen(command(&binary, run).arg("--version")).await;
        let version = answer.ok().filter(|output| output.status.success());
        let version = version.and_then(|output| first_line(&output.stdout));
        Self { binary, version }
    }

    /// Why it is not sure to do, if it is too old.
    pub(super) fn is_too_old(&self) -> Option<String> {
        let version = self.version.as_deref()?;
        let (major, _) = release(version)?;
        (major < OLDEST).then(|| {
            format!("node {version} is older than {OLDEST}, the oldest one that recluster is tested with")
        })
    }

    /// Its version, where that cannot run this server file: it is TypeScript, and nothing else is told to read it.
    pub(super) fn cannot_run(&self, server: &Path, args: &[OsString], run: &Run) -> Option<String> {
        let ending = server.extension().and_then(OsStr::to_str).unwrap_or_default();
        let version = self.version.as_ref().filter(|_| TYPESCRIPT.contains(&ending))?;
        let (major, minor) = release(version)?;
        let strips = STRIPS.iter().any(|(of, from)| major == *of && minor >= *from) || major > 23;
        (!strips && reader(args, run).is_none()).then(|| version.clone())
    }

    /// Has the file read, with the arguments that node will have.
    pub(super) async fn syntax(&self, server: &Path, args: &[OsString], run: &Run) -> Syntax {
        let ending = server.extension().and_then(OsStr::to_str);
        if let Some(ending) = ending.filter(|ending| !CHECKED_ENDINGS.contains(ending)) {
            return Syntax::Unknown(format!("node does not check .{ending} files"));
        }
        if !self.version.as_ref().is_some_and(|version| version.starts_with('v')) {
            return Syntax::Unknown(format!("{} is not node", self.binary.display()));
        }
        if let Some(arg) = does_more(args, run) {
            return Syntax::Unknown(format!("with {arg} node would do more than read it"));
        }
        let mut check = command(&self.binary, run);
        check.args(args).arg("--check").arg(server);
        match listen(&mut check).await {
            Ok(output) if output.status.success() => Syntax::Right,
            Ok(output) => verdict(&String::from_utf8_lossy(&output.stderr)),
            Err(why) => Syntax::Unknown(why),
        }
    }
}

/// What node's error output means.
fn verdict(stderr: &str) -> Syntax {
    let mut lines = stderr.lines().filter(|line| !line.trim().is_empty());
    let place = lines.next().unwrap_or_default();
    match lines.find(|line| line.starts_with("SyntaxError")) {
        Some(error) => Syntax::Wrong(format!("{}: {error}", place.trim_start_matches("file://"))),
        None if place.is_empty() => Syntax::Unknown("node failed, and did not say why".to_owned()),
        None => Syntax::Wrong(place.to_owned()),
    }
}

/// The major and minor version that a Node names. Deno and Bun have no `v`.
fn release(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.strip_prefix('v')?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The first argument for node, or word of `NODE_OPTIONS`, that may have TypeScript read.
fn reader(args: &[OsString], run: &Run) -> Option<String> {
    does_more(args, run)
        .or_else(|| word_of(args, run, &["--experimental-strip-types", "--experimental-transform-types"]))
}

/// The first argument for node, or word of `NODE_OPTIONS`, with which node would do more than it is asked.
fn does_more(args: &[OsString], run: &Run) -> Option<String> {
    word_of(args, run, &DOING_MORE)
}

fn word_of(args: &[OsString], run: &Run, beginnings: &[&str]) -> Option<String> {
    let options =
        environment(run).remove(OsStr::new("NODE_OPTIONS")).and_then(|options| options.into_string().ok());
    let args = args.iter().map(|arg| arg.to_string_lossy().into_owned());
    let words = options.iter().flat_map(|options| options.split_whitespace()).map(str::to_owned);
    args.chain(words).find(|arg| beginnings.iter().any(|more| arg.starts_with(more)))
}

/// The environment of the workers. What is wrong with it is found when the cluster is described.
fn environment(run: &Run) -> BTreeMap<OsString, OsString> {
    describe(run).worker_environment().unwrap_or_default()
}

fn command(binary: &Path, run: &Run) -> Command {
    let mut command = Command::new(binary);
    command
        .env_clear()
        .envs(environment(run))
        .current_dir(logical_directory())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// Waits for an answer, within reason.
async fn listen(command: &mut Command) -> Result<Output, String> {
    match timeout(PATIENCE, command.output()).await {
        Ok(Ok(output)) => Ok(output),
        Ok(Err(error)) => Err(format!("node cannot be run: {error}")),
        Err(_) => Err(format!("node did not answer within {} s", PATIENCE.as_secs())),
    }
}

fn first_line(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    text.lines().next().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args;

    fn node(version: &str) -> Node {
        Node { binary: "/usr/bin/node".into(), version: Some(version.to_owned()) }
    }

    /// The arguments of `run`, with these for node.
    fn run(node_args: &[&str]) -> Run {
        let args = node_args.iter().map(|arg| format!("--node-arg={arg}"));
        let line =
            ["recluster", "run"].map(str::to_owned).into_iter().chain(args).chain(["server.ts".to_owned()]);
        let line: Vec<_> = line.map(Into::into).collect();
        args::typed(&args::matches(&line).unwrap()).unwrap().into_run().unwrap()
    }

    #[test]
    fn a_node_that_strips_no_types_runs_no_typescript_unless_something_else_reads_it() {
        let cannot = |version, server: &str, args: &[&str]| {
            node(version)
                .cannot_run(
                    Path::new(server),
                    &args.iter().map(OsString::from).collect::<Vec<_>>(),
                    &run(args),
                )
                .is_some()
        };
        for version in ["v18.20.8", "v20.20.2", "v22.17.0", "v23.5.0"] {
            assert!(
                cannot(version, "server.ts", &[]) && cannot(version, "server.mts", &["--expose-gc"]),
                "{version}"
            );
            assert!(!cannot(version, "server.js", &[]), "{version}");
            assert!(!cannot(version, "server.ts", &["--import=tsx"]), "{version}");
            assert!(!cannot(version, "server.cts", &["--experimental-strip-types"]), "{version}");
        }
        for version in ["v22.18.0", "v22.21.1", "v23.6.0", "v24.0.0", "v26.1.0", "1.2.3", "v26.0.0-nightly"] {
            assert!(!cannot(version, "server.ts", &[]), "{version}");
        }
    }

    #[test]
    fn a_node_that_is_not_tested_is_named() {
        assert!(["v18.0.0", "v26.0.0", "1.2.3"].iter().all(|version| node(version).is_too_old().is_none()));
        insta::assert_snapshot!(node("v16.20.2").is_too_old().unwrap(), @"node v16.20.2 is older than 18, the oldest one that recluster is tested with");
    }

    #[test]
    fn a_complaint_of_node_becomes_one_line() {
        let script = "/srv/server.js:3\nconst x = ;\n          ^\n\nSyntaxError: Unexpected token ';'\n    at wrapSafe\n\nNode.js v22.1.0\n";
        let module = script.replace("/srv", "file:///srv");
        let reason = "/srv/server.js:3: SyntaxError: Unexpected token ';'";
        for stderr in [script, &module] {
            assert_eq!(verdict(stderr), Syntax::Wrong(reason.to_owned()));
        }
        let option = "/usr/bin/node: bad option: --no-such-option\n";
        assert_eq!(verdict(option), Syntax::Wrong("/usr/bin/node: bad option: --no-such-option".to_owned()));
        assert!(matches!(verdict("\n"), Syntax::Unknown(_)));
    }
}
