//! What node itself says: its version, and whether it can read the server file.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use recluster::logical_directory;
use tokio::process::Command;
use tokio::time::timeout;

use crate::args::Run;

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

    /// Has the file read, with the arguments that node will have.
    pub(super) async fn syntax(&self, server: &Path, run: &Run) -> Syntax {
        let ending = server.extension().and_then(OsStr::to_str).unwrap_or_default();
        if !CHECKED_ENDINGS.contains(&ending) {
            return Syntax::Unknown(format!("node does not check .{ending} files"));
        }
        if !self.version.as_ref().is_some_and(|version| version.starts_with('v')) {
            return Syntax::Unknown(format!("{} is not node", self.binary.display()));
        }
        if let Some(arg) = does_more(run) {
            return Syntax::Unknown(format!("with {arg} node would do more than read it"));
        }
        let mut check = command(&self.binary, run);
        check.args(&run.running.node_arg).arg("--check").arg(server);
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

/// The first argument for node, or word of `NODE_OPTIONS`, with which node would do more than it is asked.
fn does_more(run: &Run) -> Option<String> {
    let options = run.env.get("NODE_OPTIONS").cloned().or_else(|| env::var("NODE_OPTIONS").ok());
    let args = run.running.node_arg.iter().map(|arg| arg.to_string_lossy().into_owned());
    let words = options.iter().flat_map(|options| options.split_whitespace()).map(str::to_owned);
    args.chain(words).find(|arg| DOING_MORE.iter().any(|more| arg.starts_with(more)))
}

fn command(binary: &Path, run: &Run) -> Command {
    let mut command = Command::new(binary);
    command.envs(&run.env).current_dir(logical_directory()).stdin(Stdio::null()).kill_on_drop(true);
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
