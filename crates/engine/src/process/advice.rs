//! What to run in the place of a program that starts the server in a process of its own, as `npm start` does: that one knows
//! nothing of the cluster, so that it cannot share its sockets, and is not drained.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

use crate::process::program::ResolvedProgram;
use crate::process::runtime::{Because, NodeKind, Runtime};
use crate::process::shebang::{Interpreter, Shebang};

/// How many bytes of a script or a `package.json` are looked at.
const LOOK: u64 = 256 * 1024;
/// Package managers. They run scripts of a package, or the commands of others.
const MANAGERS: [&str; 7] = ["npm", "npx", "yarn", "yarnpkg", "pnpm", "pnpx", "bunx"];
/// Words of theirs before the name of a script or of a command.
const VERBS: [&str; 6] = ["run", "run-script", "exec", "dlx", "x", "--"];
/// Shells, whose scripts can be looked into.
const SHELLS: [&str; 6] = ["sh", "bash", "dash", "ash", "ksh", "zsh"];
/// What a word that only a shell understands has in it.
const SHELL_SIGNS: [char; 10] = ['$', '`', '&', '|', ';', '<', '>', '(', '*', '?'];

/// The environment does not say where compiled code is to be kept.
const NO_CACHE_DIRECTORY: &str = "workers keep no compiled code: none of CACHE_DIRECTORY, XDG_CACHE_HOME and HOME names a directory \
     (hint: name one, --compile-cache=DIR)";

/// What people should know of a program before it is run. `has_listeners`: it is given sockets, and may pass them on.
pub(crate) fn caveats(program: &ResolvedProgram, has_listeners: bool) -> Vec<Cow<'static, str>> {
    let of_kind = program.node_kind().and_then(NodeKind::caveat).map(Cow::Borrowed);
    let lacks_cache = program.said.compile_cache.is_some() && program.compile_cache.is_none();
    let of_cache = (lacks_cache && program.node_kind() == Some(NodeKind::Node))
        .then_some(Cow::Borrowed(NO_CACHE_DIRECTORY));
    let of_user = program.privileges.caveat().map(Cow::Borrowed);
    let all = of_kind.into_iter().chain(of_cache).chain(of_user);
    all.chain(advice(program, has_listeners).map(Cow::Owned)).collect()
}

fn advice(program: &ResolvedProgram, has_listeners: bool) -> Option<String> {
    let here = Here { program };
    if matches!(program.runtime, Runtime::Node { because: Because::Said, .. }) {
        return None;
    }
    if let Some(manager) = here.manager() {
        return Some(here.instead_of_manager(&manager));
    }
    match &program.runtime {
        Runtime::Node { kind, because: Because::Ending { first_line: Some(line) }, .. } => {
            other_runtime(*kind, line)
        }
        Runtime::Executable { script: Some(script), .. } if !has_listeners => here.instead_of_script(script),
        Runtime::Node { .. } | Runtime::Executable { .. } => None,
    }
}

/// The first line names one that runs JavaScript as well, and the ending has decided.
fn other_runtime(kind: NodeKind, line: &str) -> Option<String> {
    let shebang = Shebang::of_line(line).filter(|shebang| !kind.is_named_by(shebang))?;
    let hint = match shebang.kind() {
        Interpreter::Deno => "--node deno".to_owned(),
        Interpreter::Bun => "--node bun".to_owned(),
        Interpreter::Wrapper => loader(&shebang)?.to_owned(),
        Interpreter::Node | Interpreter::Other => return None,
    };
    let name = kind.name();
    Some(format!(
        "the server file's first line is {line}, and by the ending of its name {name} runs it (hint: {hint})"
    ))
}

/// How node itself is told to do what a wrapper does.
fn loader(shebang: &Shebang) -> Option<&'static str> {
    let words =
        [shebang.interpreter.as_os_str()].into_iter().chain(shebang.args.iter().map(OsString::as_os_str));
    let names: Vec<_> = words.filter_map(|word| Path::new(word).file_name()?.to_str()).collect();
    let has = |name: &str| names.contains(&name);
    if has("tsx") {
        Some("--node-arg=--import=tsx")
    } else if has("ts-node") {
        Some("--node-arg=--require=ts-node/register")
    } else if has("ts-node-esm") {
        Some("--node-arg=--loader=ts-node/esm")
    } else {
        None
    }
}

struct Here<'a> {
    program: &'a ResolvedProgram,
}

impl Here<'_> {
    /// The package manager that it is.
    fn manager(&self) -> Option<String> {
        let given = self.program.named_server.file_name().and_then(OsStr::to_str).unwrap_or_default();
        let file = self.program.server.file_stem().and_then(OsStr::to_str).unwrap_or_default();
        let file = file.strip_suffix("-cli").unwrap_or(file);
        let is_installed = self.program.server.components().any(|part| part.as_os_str() == "node_modules");
        let name = [given, file].into_iter().find(|name| MANAGERS.contains(name))?;
        (given == name || is_installed).then(|| name.to_owned())
    }

    fn instead_of_manager(&self, manager: &str) -> String {
        let asked: Vec<_> = self.program.args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
        let words: Vec<&str> = asked.iter().map(String::as_str).collect();
        let target = words.iter().position(|word| !VERBS.contains(word) && !word.starts_with('-'));
        let (target, rest) =
            target.map_or((None, &[][..]), |at| (words.get(at), words.get(at + 1..).unwrap_or(&[])));
        let script = target.and_then(|target| self.package_script(target));
        let command = match (&script, target) {
            (Some(script), _) => self.instead_of(&words_of(script)),
            (None, Some(target)) => self
                .instead_of(&[&[*target], rest].concat().into_iter().map(str::to_owned).collect::<Vec<_>>()),
            (None, None) => None,
        };
        let what =
            script.map(|script| format!(" ({manager} {} is: {script})", words.join(" "))).unwrap_or_default();
        own_process(manager, &what, command)
    }

    fn instead_of_script(&self, script: &Shebang) -> Option<String> {
        let name = self.shown(&self.program.named_server);
        if script.kind() == Interpreter::Wrapper {
            let hint = loader(script).map(|loader| format!("recluster --node node {loader} {name}"));
            return Some(own_process(&script.line, "", hint));
        }
        let interpreter = script.interpreter.file_name().and_then(OsStr::to_str).unwrap_or_default();
        if !SHELLS.contains(&interpreter) {
            return None;
        }
        let text = read(&self.program.server)?;
        let command = text.lines().filter_map(started_by).next_back()?;
        let words = words_of(command);
        let is_node = words.first().is_some_and(|word| is_node(word));
        let is_manager = words.first().is_some_and(|word| MANAGERS.contains(&word.as_str()));
        (is_node || is_manager).then(|| {
            own_process(
                &format!("the shell script {name}"),
                &format!(" ({command})"),
                self.instead_of(&words),
            )
        })
    }

    /// The command of recluster that has the same effect, where that can be said.
    fn instead_of(&self, words: &[String]) -> Option<String> {
        let is_setting = |word: &&String| {
            word.as_str() == "cross-env"
                || word.split_once('=').is_some_and(|(name, _)| !name.starts_with('-'))
        };
        let settings: Vec<_> =
            words.iter().take_while(is_setting).filter(|word| *word != "cross-env").cloned().collect();
        if settings.iter().any(|word| word.contains(SHELL_SIGNS)) {
            return None;
        }
        let command = self.instead_of_plain(words.iter().skip_while(is_setting))?;
        // Workers have the variables of the master.
        Some([settings.as_slice(), &[command]].concat().join(" "))
    }

    fn instead_of_plain<'a>(&self, words: impl Iterator<Item = &'a String>) -> Option<String> {
        let mut words = words.filter(|word| *word != "\"$@\"");
        let first = words.next()?;
        let rest: Vec<&str> = words.map(String::as_str).collect();
        if is_node(first) {
            let at = rest.iter().position(|word| !word.starts_with('-'))?;
            let (flags, rest) = rest.split_at(at);
            let (file, args) = rest.split_first()?;
            let flags: Vec<String> = flags.iter().map(|flag| format!("--node-arg={flag} ")).collect();
            return self.run(&flags.concat(), &self.file(file)?, args);
        }
        let installed = Path::new("node_modules/.bin").join(first);
        let file = self.program.directory.join(&installed).exists().then_some(installed)?;
        self.run("", &file, &rest)
    }

    fn run(&self, flags: &str, file: &Path, args: &[&str]) -> Option<String> {
        let plain = !args.iter().chain([&flags]).any(|word| word.contains(SHELL_SIGNS));
        let args = if args.is_empty() { String::new() } else { format!(" -- {}", args.join(" ")) };
        plain.then(|| format!("recluster {flags}{}{args}", self.shown(file)))
    }

    /// A file as a script names it: by the place of the script, or from the working directory.
    fn file(&self, word: &str) -> Option<PathBuf> {
        let word = word.trim_matches(['"', '\'']);
        let file = match word.strip_prefix("$basedir/") {
            Some(rest) => plain(&self.program.named_server.parent()?.join(rest)),
            None => PathBuf::from(word),
        };
        let is_there = self.program.directory.join(&file).exists()
            && !word.replace("$basedir", "").contains(SHELL_SIGNS);
        is_there.then_some(file)
    }

    /// The script of this name in the `package.json` of the working directory.
    fn package_script(&self, name: &str) -> Option<String> {
        let text = read(&self.program.directory.join("package.json"))?;
        let package: serde_json::Value = serde_json::from_str(&text).ok()?;
        package.get("scripts")?.get(name)?.as_str().map(str::to_owned)
    }

    /// A path as people who are in the working directory would write it.
    fn shown(&self, path: &Path) -> String {
        let directories = [&self.program.directory, &self.program.named_directory];
        let short = directories.into_iter().find_map(|directory| path.strip_prefix(directory).ok());
        short.unwrap_or(path).display().to_string()
    }
}

/// What is wrong with it, and what to do.
fn own_process(who: &str, what: &str, command: Option<String>) -> String {
    let instead =
        command.map_or_else(|| "run the server file itself".to_owned(), |command| format!("run {command}"));
    format!(
        "{who} starts the server in a process of its own{what}: workers cannot share its port, and reloads lose \
         requests (hint: {instead})"
    )
}

/// The command that a line of a shell script puts in the script's place, or runs under node.
fn started_by(line: &str) -> Option<&str> {
    let line = line.trim();
    let command = line.strip_prefix("exec ").map(str::trim);
    command.or_else(|| line.starts_with("node ").then_some(line))
}

fn is_node(word: &str) -> bool {
    let word = word.trim_matches(['"', '\'']);
    ["node", "nodejs"].iter().any(|node| Path::new(word).file_name() == Some(OsStr::new(node)))
}

fn words_of(command: &str) -> Vec<String> {
    command.split_whitespace().map(str::to_owned).collect()
}

/// A path without `..`. It is for people, and is tried before it is shown.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        if part != Component::ParentDir || !plain.pop() {
            plain.push(part);
        }
    }
    plain
}

fn read(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    // Opening a pipe could wait for ever.
    fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    File::open(path).ok()?.take(LOOK).read_to_end(&mut bytes).ok()?;
    // What is cut off may be in the middle of a character.
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;
    use crate::process::program::Program;

    /// A package with a framework's command in it, and what is said of a file in it.
    struct Package(tempfile::TempDir);

    impl Package {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let package = Self(directory);
            package.write("server.js", "");
            package.write("node_modules/next/dist/bin/next", "#!/usr/bin/env node\n");
            package.write("node_modules/npm/bin/npm-cli.js", "#!/usr/bin/env node\n");
            fs::create_dir(package.0.path().join("node_modules/.bin")).unwrap();
            for (link, target) in [("next", "next/dist/bin/next"), ("npm", "npm/bin/npm-cli.js")] {
                symlink(format!("../{target}"), package.0.path().join("node_modules/.bin").join(link))
                    .unwrap();
            }
            package.write(
                "package.json",
                r#"{ "scripts": { "start": "NODE_ENV=production node --no-warnings ./server.js --port 80",
                     "next": "next start", "both": "node a.js & node b.js" } }"#,
            );
            package
        }

        fn write(&self, name: &str, text: &str) {
            let path = self.0.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }

        fn said(&self, server: &str, args: &[&str], has_listeners: bool) -> String {
            let mut program = Program::new(self.0.path().join(server));
            program.set_directory(self.0.path().to_owned());
            program.args = args.iter().map(Into::into).collect();
            advice(&program.resolve().unwrap(), has_listeners).unwrap_or_default()
        }

        /// The command that is to be used.
        fn hint(&self, server: &str, args: &[&str]) -> String {
            let said = self.said(server, args, false);
            let hint = said.split_once("(hint: run ").map(|(_, hint)| hint.trim_end_matches(')'));
            hint.unwrap_or_default().to_owned()
        }
    }

    #[test]
    fn a_package_manager_is_replaced_by_what_its_script_runs() {
        let package = Package::new();
        let npm = |args: &[&str]| package.hint("node_modules/.bin/npm", args);
        assert_eq!(
            npm(&["start"]),
            "NODE_ENV=production recluster --node-arg=--no-warnings ./server.js -- --port 80"
        );
        assert_eq!(npm(&["run", "next"]), "recluster node_modules/.bin/next -- start");
        assert_eq!(npm(&["exec", "next", "start"]), "recluster node_modules/.bin/next -- start");
        assert_eq!(npm(&["run", "both"]), "the server file itself");
        assert_eq!(npm(&[]), "the server file itself");
        let said = package.said("node_modules/.bin/npm", &["run", "next"], true);
        assert!(
            said.starts_with("npm starts the server in a process of its own (npm run next is: next start):"),
            "{said}"
        );
    }

    #[test]
    fn a_shell_script_is_replaced_by_the_file_that_it_runs() {
        let package = Package::new();
        let shim = "#!/bin/sh\nbasedir=$(dirname \"$0\")\nif [ -x \"$basedir/node\" ]; then\n  exec \"$basedir/node\"  \
                    \"$basedir/../next/dist/bin/next\" \"$@\"\nelse\n  exec node  \"$basedir/../next/dist/bin/next\" \"$@\"\nfi\n";
        package.write("node_modules/.bin/shim", shim);
        assert_eq!(
            package.hint("node_modules/.bin/shim", &["start"]),
            "recluster node_modules/next/dist/bin/next"
        );
        assert_eq!(package.said("node_modules/.bin/shim", &[], true), "", "it may pass its sockets on");
        package.write("run.sh", "#!/usr/bin/env bash\nset -e\nexec node --no-warnings server.js \"$@\"\n");
        assert_eq!(package.hint("run.sh", &[]), "recluster --node-arg=--no-warnings server.js");
        package.write("dynamic", "#!/bin/sh\nexec node \"$SERVER\"\n");
        assert_eq!(package.hint("dynamic", &[]), "the server file itself");
        package.write("other", "#!/bin/sh\nexec ./server -p 80\n");
        assert_eq!(package.said("other", &[], false), "");
    }

    #[test]
    fn a_wrapper_is_replaced_by_node_with_its_loader() {
        let package = Package::new();
        package.write("www", "#!/usr/bin/env tsx\n");
        assert_eq!(package.hint("www", &[]), "recluster --node node --node-arg=--import=tsx www");
        package.write("www", "#!/usr/bin/env -S npx ts-node\n");
        assert_eq!(
            package.hint("www", &[]),
            "recluster --node node --node-arg=--require=ts-node/register www"
        );
    }

    #[test]
    fn a_first_line_that_disagrees_with_the_ending_is_said() {
        let package = Package::new();
        package.write("server.ts", "#!/usr/bin/env bun\n");
        assert_eq!(
            package.said("server.ts", &[], true),
            "the server file's first line is #!/usr/bin/env bun, and by the ending of its name node runs it (hint: --node bun)"
        );
        package.write("server.ts", "#!/bin/sh\n");
        assert_eq!(package.said("server.ts", &[], true), "");
        assert_eq!(package.said("server.js", &[], true), "");
    }
}
