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

/// Options of node that `tsx`, `ts-node` and `nodemon` take as well, with the same meaning.
const SHARED: [&str; 4] = ["-r", "--require", "--import", "--env-file"];
/// Options of those that watch whose value may stand in the next word.
const OF_WATCHERS: [&str; 11] =
    ["-w", "--watch", "-e", "--ext", "-i", "--ignore", "-d", "--delay", "-s", "--signal", "--config"];
/// How often one script may lead to another.
const DEPTH: usize = 4;

/// A command as a shell reads it, if it is a program with arguments and nothing that only a shell can do. Where commands follow each
/// other, the last one is the server.
pub(super) fn of_command(command: &str) -> Option<Project> {
    let (before, last) = parts(command);
    if last.trim().contains(['|', '&', ';', '<', '>', '`', '(', '*', '\n']) {
        return None;
    }
    let place = place_after(before)?;
    let words = shlex::split(last)?;
    let mut words = words.iter().map(String::as_str);
    let mut project = Project::default();
    if !before.is_empty() {
        project.notes.push(format!("before the server, the command runs: {before}"));
    }
    let program = loop {
        let word = words.next()?;
        match word.split_once('=').filter(|(name, _)| is_variable(name)) {
            Some(("PORT", value)) if port_in(value).is_some() => project.port = port_in(value),
            Some((name, _)) => project.notes.push(format!("the command sets {name}: put it into [env]")),
            None if STARTERS.contains(&word) => {}
            None => break word,
        }
    };
    inside(&place, of_program(project, program, words)?)
}

/// What precedes the last of commands that follow each other, and that one.
fn parts(command: &str) -> (&str, &str) {
    let (before, last) = command.rsplit_once("&&").unwrap_or(("", command));
    (before.trim(), last.trim())
}

/// The number in `3000` or `${PORT:-3000}`.
fn port_in(value: &str) -> Option<String> {
    let inner = value.strip_prefix("${").and_then(|value| value.strip_suffix('}'));
    let number = inner.map_or(Some(value), |inner| Some(inner.split_once(":-")?.1))?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| number.to_owned())
}

/// Whether a command changes to another directory before it runs the server, as far as that can be known.
pub(super) fn changes_directory(command: &str) -> bool {
    place_after(parts(command).0).is_none_or(|place| !place.is_empty())
}

/// The directory to which the commands change that precede the server; empty if they do not. None if that cannot be known.
fn place_after(before: &str) -> Option<String> {
    let mut place = Vec::new();
    for command in before.split("&&") {
        let mut words = command.split_whitespace();
        if words.next() != Some("cd") {
            if words.any(|word| ["cd", "pushd"].contains(&word)) {
                return None;
            }
            continue;
        }
        let [_, directory] = <[String; 2]>::try_from(shlex::split(command)?).ok()?;
        let is_elsewhere = directory.starts_with(['-', '~', '/']);
        if is_elsewhere || directory.contains(['$', '`', ';', '|', '&', '<', '>', '(', '*', '?', '[', '{']) {
            return None;
        }
        for part in directory.split('/').filter(|part| !["", "."].contains(part)) {
            if part == ".." && place.last().is_some_and(|last| last != "..") {
                place.pop();
            } else {
                place.push(part.to_owned());
            }
        }
    }
    Some(place.join("/"))
}

/// The same where the command has changed to another directory. None if that changes more than where the file is.
fn inside(place: &str, project: Project) -> Option<Project> {
    let server = project.server.as_str();
    if place.is_empty() || server.starts_with('/') {
        return Some(project);
    }
    let is_file = project.is_for_node || server.contains('/');
    let server = match server.trim_start_matches("./") {
        "." | "" => place.to_owned(),
        server => format!("{place}/{server}"),
    };
    (is_file && !project.server.starts_with("node_modules/")).then_some(Project { server, ..project })
}

/// What a program runs that has these words as its arguments.
fn of_program<'a>(
    mut project: Project,
    program: &str,
    words: impl Iterator<Item = &'a str>,
) -> Option<Project> {
    match program {
        "node" => under_node(project, words),
        "tsx" | "ts-node" | "ts-node-esm" => {
            // Its own command starts node in another process.
            project.node_args.push(
                if program == "tsx" { "--import=tsx" } else { "--require=ts-node/register" }.to_owned(),
            );
            under_another(project, program, words)
        }
        _ if WATCHERS.contains(&program) => {
            let words: Vec<&str> = words.collect();
            match executed(&words) {
                Some(command) => {
                    let mut inner = of_command(&command)?;
                    project.notes.append(&mut inner.notes);
                    let port = inner.port.take().or(project.port);
                    Some(Project { notes: project.notes, port, ..inner })
                }
                None => under_another(project, program, words.into_iter()),
            }
        }
        _ => {
            let is_package = SERVERS.contains(&program);
            project.server =
                if is_package { format!("node_modules/.bin/{program}") } else { program.to_owned() };
            project.args = words.map(str::to_owned).collect();
            Some(project)
        }
    }
}

/// What follows `node`: its options, the file, and the arguments of that.
fn under_node<'a>(mut project: Project, mut words: impl Iterator<Item = &'a str>) -> Option<Project> {
    while let Some(word) = words.next() {
        if !word.starts_with('-') {
            return Some(of_file(project, word, words));
        }
        let value = if WITH_VALUE.contains(&word) { words.next() } else { None };
        // That is what `recluster --watch` does.
        if !word.starts_with("--watch") {
            project.node_args.extend([Some(word), value].into_iter().flatten().map(str::to_owned));
        }
    }
    None
}

/// The same for a program whose options are its own. Those that it passes to node stay.
fn under_another<'a>(
    mut project: Project,
    program: &str,
    mut words: impl Iterator<Item = &'a str>,
) -> Option<Project> {
    let mut left = Vec::new();
    while let Some(word) = words.next() {
        let name = word.split_once('=').map_or(word, |(name, _)| name);
        if SHARED.contains(&name) {
            let value = if name == word { words.next() } else { None };
            project.node_args.extend([Some(word), value].into_iter().flatten().map(str::to_owned));
        } else if is_script(word) {
            // What is watched is not asked for here.
            if !left.is_empty() && !WATCHERS.contains(&program) {
                project.notes.push(format!("options of {program} are left out: {}", left.join(" ")));
            }
            return Some(of_file(project, word, words));
        } else if word.starts_with('-') {
            left.push(word);
            if ["-i", "--ignore"].contains(&word) {
                words.next();
            }
        }
    }
    None
}

fn of_file<'a>(mut project: Project, file: &str, args: impl Iterator<Item = &'a str>) -> Project {
    file.trim_start_matches("./").clone_into(&mut project.server);
    project.is_for_node = true;
    project.args = args.map(str::to_owned).collect();
    project
}

/// The command that a watcher is to run in node's place: `nodemon --exec "ts-node -T" src/index.ts`.
fn executed(words: &[&str]) -> Option<String> {
    let mut words = words.iter().copied();
    let command = loop {
        let word = words.next()?;
        if ["-x", "--exec"].contains(&word) {
            break words.next()?;
        }
        if let Some(command) = word.strip_prefix("--exec=") {
            break command;
        }
        if is_script(word) {
            return None;
        }
    };
    let mut rest = Vec::new();
    let mut is_before = true;
    while let Some(word) = words.next() {
        is_before &= !is_script(word);
        if is_before && OF_WATCHERS.contains(&word) {
            words.next();
        } else {
            rest.push(word);
        }
    }
    Some(format!("{command} {}", shlex::try_join(rest).ok()?))
}

/// The command to which scripts of a package lead, one after the other.
pub(super) fn followed<'a>(command: &str, script: impl Fn(&str) -> Option<&'a str>) -> String {
    let mut command = command.to_owned();
    for _ in 0..DEPTH {
        let (before, last) = parts(&command);
        let words: Vec<&str> = last.split_whitespace().collect();
        let is_leading = |word: &&&str| {
            STARTERS.contains(*word) || word.split_once('=').is_some_and(|(name, _)| is_variable(name))
        };
        let (leading, words) = words.split_at(words.iter().take_while(is_leading).count());
        // In another directory there is another package.
        let is_here = !changes_directory(&command);
        let Some(next) = script_of(words).filter(|_| is_here).and_then(&script) else { break };
        let next = leading.iter().copied().chain([next]).collect::<Vec<_>>().join(" ");
        command = if before.is_empty() { next } else { format!("{before} && {next}") };
    }
    command
}

/// The script of the same package that a command is about: `npm run serve`.
fn script_of<'a>(words: &[&'a str]) -> Option<&'a str> {
    let (manager, words) = words.split_first().filter(|(word, _)| ["npm", "pnpm", "yarn"].contains(word))?;
    match words {
        ["run" | "run-script", name] => Some(name),
        [name] => (*manager != "npm" || *name == "start").then_some(*name),
        _ => None,
    }
}

/// Whether it is the name of a file: `server.js`, `bin/www`.
pub(super) fn is_file_name(server: &str) -> bool {
    server.contains('/') || Path::new(server).extension().is_some()
}

/// Whether node or one of its compilers runs it, by its name.
fn is_script(word: &str) -> bool {
    let ending = Path::new(word).extension().and_then(OsStr::to_str).filter(|_| !word.starts_with('-'));
    ending.is_some_and(|ending| ["js", "mjs", "cjs", "ts", "mts", "cts"].contains(&ending))
}

fn is_variable(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_' || byte.is_ascii_digit())
}
