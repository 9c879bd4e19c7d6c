//! What a directory holds, and what of it is to be run.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::command::{is_file_name, of_command};
use super::project::{Project, plain};
use super::{node, python};

/// How much of a file is read. No manifest is longer.
const MOST: usize = 1 << 20;
/// Where the programs of a project are.
const PROGRAMS: [&str; 4] = [".venv/bin", "venv/bin", "node_modules/.bin", "bin"];
/// Says what a program of another language has to do for its socket.
const TAKES: &str = "recluster binds the address, and the program takes the socket as descriptor 3";

/// What a directory holds. The error says what is missing.
pub(super) fn at(directory: &Path) -> Result<Project, String> {
    at_with(directory, env::var_os("PATH").as_deref())
}

/// The same where programs are found in these directories.
pub(super) fn at_with(directory: &Path, path: Option<&OsStr>) -> Result<Project, String> {
    let of_node = read(&directory.join("package.json")).map(|manifest| node::project(directory, &manifest));
    match of_node {
        Some(Ok(project)) => Ok(project),
        // It may be there for what browsers are given, and the server is another.
        Some(Err(reason)) => of_others(directory, path).map_err(|_| reason),
        None => of_others(directory, path),
    }
}

/// What the other manifests say.
fn of_others(directory: &Path, path: Option<&OsStr>) -> Result<Project, String> {
    let read = |name: &str| read(&directory.join(name));
    if let Some(procfile) = read("Procfile") {
        return of_procfile(directory, &procfile, path);
    }
    if let Some(manifest) = read("Cargo.toml") {
        return of_cargo(&manifest);
    }
    if let Some(module) = read("go.mod") {
        return of_go(directory, &module);
    }
    if let Some(gems) = read("Gemfile") {
        return of_ruby(directory, &gems, &[], path);
    }
    let requirements = [read("requirements.txt"), read("pyproject.toml")].into_iter().flatten();
    let requirements = requirements.collect::<Vec<_>>().join("\n");
    if requirements.is_empty() {
        return Err(
            "there is no package.json, Procfile, Cargo.toml, go.mod, Gemfile, requirements.txt or pyproject.toml"
                .to_owned(),
        );
    }
    python::of_requirements(directory, &requirements)
}

/// A file's text; none where it is not there, is no text or is far too long.
fn read(path: &Path) -> Option<String> {
    fs::read(path).ok().filter(|text| text.len() <= MOST).and_then(|text| String::from_utf8(text).ok())
}

fn of_procfile(directory: &Path, procfile: &str, path: Option<&OsStr>) -> Result<Project, String> {
    let web = procfile.lines().find_map(|line| line.trim().strip_prefix("web:"));
    let web = web.ok_or("its Procfile has no line 'web: COMMAND'")?;
    let shell = "the command of 'web:' in its Procfile is more than a program with arguments";
    let project = node::resolved(directory, of_command(web).ok_or(shell)?, None);
    let kind = "the line 'web' of Procfile".to_owned();
    if let Some((program, args)) = python::known(&project.server, &project.args) {
        let Project { mut notes, port, .. } = project.clone();
        let mut python = python::of_command(directory, program, args);
        python.notes.append(&mut notes);
        // Where it is to listen is left out.
        return if python.needs_shell() { Err(shell.to_owned()) } else { Ok(Project { port, ..python }) };
    }
    if let Some(options) = options_of_puma(&project) {
        return of_ruby(directory, "puma", options, path);
    }
    if project.needs_shell() {
        return Err(shell.to_owned());
    }
    if project.is_for_node || is_file_name(&project.server) {
        return Ok(Project { kind, ..project });
    }
    let server = find(directory, &project.server, path).ok_or_else(|| {
        let program = plain(&project.server);
        format!(
            "the command of 'web:' in its Procfile runs {program}, which is not in {}, and not in PATH",
            PROGRAMS.join(", ")
        )
    })?;
    Ok(Project { kind, server, ..project })
}

/// Where a program is that is named without a path: recluster does not look in `PATH` when it runs.
fn find(directory: &Path, program: &str, path: Option<&OsStr>) -> Option<String> {
    let is_there = |place: &Path| place.join(program).is_file();
    let own = PROGRAMS.into_iter().find(|place| is_there(&directory.join(place)));
    own.map(|place| format!("{place}/{program}")).or_else(|| {
        let place = env::split_paths(path?).find(|place| place.is_absolute() && is_there(place))?;
        Some(place.join(program).display().to_string())
    })
}

fn of_cargo(manifest: &str) -> Result<Project, String> {
    let manifest = DeTable::parse(manifest).map_err(|_| "its Cargo.toml is no TOML")?;
    let manifest = manifest.get_ref();
    let text = |value: &DeValue<'_>, key: &str| {
        value.get(key).and_then(|name| name.get_ref().as_str()).map(str::to_owned)
    };
    let of_package = |key: &str| manifest.get("package").and_then(|package| text(package.get_ref(), key));
    let bins = manifest.get("bin").and_then(|bins| bins.get_ref().as_array());
    let bin = bins.and_then(|bins| bins.iter().next()).and_then(|bin| text(bin.get_ref(), "name"));
    let name = of_package("default-run").or(bin).or_else(|| of_package("name"));
    let server = format!("target/release/{}", name.ok_or("its Cargo.toml names no package")?);
    Ok(Project {
        kind: "Rust".to_owned(),
        build: Some("cargo build --release".to_owned()),
        listen: Some("8080".to_owned()),
        watch: Some(server.clone()),
        server,
        notes: vec![
            "the program takes the socket as descriptor 3, or by the crate recluster-worker".to_owned(),
        ],
        ..Project::default()
    })
}

fn of_go(directory: &Path, module: &str) -> Result<Project, String> {
    let module = module.lines().find_map(|line| line.trim().strip_prefix("module "));
    let module = module.map(|module| module.split("//").next().unwrap_or_default());
    let module = module.map(|module| module.trim().trim_matches(['"', '`']));
    let is_version = |part: &&str| {
        part.strip_prefix('v').is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let is_of_names = |letter: char| letter.is_ascii_alphanumeric() || "-_.~".contains(letter);
    let name = module.and_then(|module| module.rsplit('/').find(|part| !is_version(part)));
    let name = name.filter(|name| !name.is_empty() && name.chars().all(is_of_names));
    let server = name.ok_or("its go.mod names no module")?.to_owned();
    let (server, package) = match command_of_go(directory, &server) {
        Some(command) => (command.clone(), format!("./cmd/{command}")),
        None => (server, ".".to_owned()),
    };
    Ok(Project {
        kind: "Go".to_owned(),
        build: Some(format!("go build -o {server} {package}")),
        listen: Some("8080".to_owned()),
        watch: Some(server.clone()),
        server,
        notes: vec![TAKES.to_owned()],
        ..Project::default()
    })
}

/// Which directory of `cmd` has the program, where the directory itself has none: that of the module's name, or the only one.
fn command_of_go(directory: &Path, name: &str) -> Option<String> {
    let names = |place: &Path| {
        let entries = fs::read_dir(place).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect::<Vec<_>>()
    };
    let is_main = |line: &str| line.split_whitespace().take(2).eq(["package", "main"]);
    let has_main = |file: &String| {
        let is_of_program =
            Path::new(file).extension().is_some_and(|ending| ending == "go") && !file.ends_with("_test.go");
        is_of_program && read(&directory.join(file)).is_some_and(|text| text.lines().any(is_main))
    };
    if names(directory).iter().any(has_main) {
        return None;
    }
    let commands = directory.join("cmd");
    let mut found: Vec<String> = names(&commands);
    found.retain(|command| commands.join(command).is_dir() && plain(command) == *command);
    let own = found.iter().find(|command| *command == name).cloned();
    own.or_else(|| found.pop().filter(|_| found.is_empty()))
}

/// What a command tells puma, if it runs that or has Bundler do so.
fn options_of_puma(project: &Project) -> Option<&[String]> {
    match (project.server.as_str(), project.args.as_slice()) {
        ("puma", options) => Some(options),
        ("bundle", [exec, puma, options @ ..]) if exec == "exec" && puma == "puma" => Some(options),
        _ => None,
    }
}

fn of_ruby(
    directory: &Path,
    gems: &str,
    options: &[String],
    path: Option<&OsStr>,
) -> Result<Project, String> {
    if !gems.contains("puma") {
        return Err("its Gemfile has no puma".to_owned());
    }
    let server = find(directory, "puma", path)
        .ok_or("puma is neither in bin (`bundle binstubs puma` puts it there) nor in PATH")?;
    let mut notes = vec![TAKES.to_owned()];
    if !options.is_empty() {
        notes.push(format!(
            "options of puma are left out: {} (those that do not say where it listens may stand in args)",
            options.join(" ")
        ));
    }
    Ok(Project {
        kind: "Ruby with puma".to_owned(),
        server,
        args: vec!["--bind-to-activated-sockets=only".to_owned()],
        listen: Some("8080".to_owned()),
        watch: Some(".".to_owned()),
        notes,
        ..Project::default()
    })
}
