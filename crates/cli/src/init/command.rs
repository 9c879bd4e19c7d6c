//! A command as a script of `package.json` or a `Procfile` has it: which server it runs, and how.

use std::ffi::OsStr;
use std::path::Path;

use super::project::Project;

/// What starts the command behind it, and is not needed for that.
const STARTERS: [&str; 5] = ["cross-env", "cross-env-shell", "env", "exec", "npx"];
/// What starts a file anew when it changes.
const WATCHERS: [&str; 4] = ["nodemon", "node-dev", "ts-node-dev", "tsnd"];
/// Programs of packages that are servers themselves; node runs them.
const SERVERS: [&str; 4] = ["next", "react-router-serve", "remix-serve", "fastify"];
/// Options of node whose value may stand in the next word.
const WITH_VALUE: [&str; 31] = [
    "-r",
    "--require",
    "--import",
    "--loader",
    "--experimental-loader",
    "-C",
    "--conditions",
    "--env-file",
    "--env-file-if-exists",
    "--title",
    "--disable-warning",
    "--max-http-header-size",
    "--unhandled-rejections",
    "--dns-result-order",
    "--diagnostic-dir",
    "--redirect-warnings",
    "--icu-data-dir",
    "--openssl-config",
    "--tls-cipher-list",
    "--tls-keylog",
    "--trace-event-categories",
    "--trace-event-file-pattern",
    "--report-filename",
    "--report-signal",
    "--heapsnapshot-signal",
    "--cpu-prof-dir",
    "--heap-prof-dir",
    "--secure-heap",
    "--allow-fs-read",
    "--allow-fs-write",
    "--watch-path",
];

/// A command as a shell reads it, if it is a program with arguments and nothing that only a shell can do. Where commands follow each
/// other, the last one is the server.
pub(super) fn of_command(command: &str) -> Option<Project> {
    let (before, last) =
        command.rsplit_once("&&").map_or((None, command), |(before, last)| (Some(before), last));
    if last.contains(['|', '&', ';', '<', '>', '`', '(', '*']) {
        return None;
    }
    let words = shlex::split(last)?;
    let mut words = words.iter().map(String::as_str).peekable();
    let mut project = Project::default();
    project
        .notes
        .extend(before.map(|before| format!("before the server, the command runs: {}", before.trim())));
    let program = loop {
        let word = words.next()?;
        match word.split_once('=').filter(|(name, _)| is_variable(name)) {
            Some(("PORT", value)) => project.port = Some(value.to_owned()),
            Some((name, _)) => project.notes.push(format!("the command sets {name}: put it into [env]")),
            None if STARTERS.contains(&word) => {}
            None => break word,
        }
    };
    match program {
        "node" => under_node(project, words),
        "tsx" | "ts-node" | "ts-node-esm" => {
            // Its own command starts node in another process.
            project.node_args.push(
                if program == "tsx" { "--import=tsx" } else { "--require=ts-node/register" }.to_owned(),
            );
            words.next_if(|word| *word == "watch");
            under_node(project, words)
        }
        // Their options are not node's.
        _ if WATCHERS.contains(&program) => under_node(project, words.skip_while(|word| !is_script(word))),
        _ if SERVERS.contains(&program) => {
            project.server = format!("node_modules/.bin/{program}");
            project.args = words.map(str::to_owned).collect();
            Some(project)
        }
        _ => {
            program.clone_into(&mut project.server);
            project.args = words.map(str::to_owned).collect();
            Some(project)
        }
    }
}

/// What follows `node`: its options, the file, and the arguments of that.
fn under_node<'a>(mut project: Project, mut words: impl Iterator<Item = &'a str>) -> Option<Project> {
    while let Some(word) = words.next() {
        if !word.starts_with('-') {
            word.trim_start_matches("./").clone_into(&mut project.server);
            project.is_for_node = true;
            project.args = words.map(str::to_owned).collect();
            return Some(project);
        }
        let value = if WITH_VALUE.contains(&word) { words.next() } else { None };
        // That is what `recluster --watch` does.
        if !word.starts_with("--watch") {
            project.node_args.extend([Some(word), value].into_iter().flatten().map(str::to_owned));
        }
    }
    None
}

/// The script of the same package that a command is about: `npm run serve`.
pub(super) fn script_of(command: &str) -> Option<&str> {
    let mut words = command.split_whitespace();
    let manager = words.next().filter(|word| ["npm", "pnpm", "yarn"].contains(word))?;
    let word = words.next()?;
    let name = if word == "run" || word == "run-script" { words.next()? } else { word };
    let is_alone = words.next().is_none();
    (is_alone && (word != name || manager != "npm" || word == "start")).then_some(name)
}

/// Whether it is the name of a file: `server.js`, `bin/www`.
pub(super) fn is_file_name(server: &str) -> bool {
    server.contains('/') || Path::new(server).extension().is_some()
}

/// Whether node or one of its compilers runs it, by its name.
fn is_script(word: &str) -> bool {
    let ending = Path::new(word).extension().and_then(OsStr::to_str);
    ending.is_some_and(|ending| ["js", "mjs", "cjs", "ts", "mts", "cts"].contains(&ending))
}

fn is_variable(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_' || byte.is_ascii_digit())
}
