//! Projects of Python's: which server they need, and which application is theirs.

use std::fs;
use std::path::Path;

use super::project::Project;

/// Servers that know how to take a socket: how they are told of it, and how the command line says where else to listen, how
/// many they are and when they start anew, which recluster does.
const SERVERS: [(&str, &[&str], &[&str]); 3] = [
    ("gunicorn", &["--workers", "1"], &["-b", "--bind", "-w", "--workers", "--reload"]),
    ("uvicorn", &["--fd", "3"], &["--host", "--port", "--uds", "--reload", "--workers"]),
    ("hypercorn", &["--bind", "fd://3"], &["-b", "--bind", "-w", "--workers", "--reload"]),
];
/// Options that have no value.
const ALONE: [&str; 1] = ["--reload"];
/// Where applications usually are.
const FILES: [&str; 5] = ["main", "app", "server", "app/main", "src/main"];
const PORT: &str = "8000";

/// The server that is known here and its arguments, if a program with these arguments is one: `python -m gunicorn` as well.
pub(super) fn known<'a>(program: &'a str, args: &'a [String]) -> Option<(&'a str, &'a [String])> {
    let is_known = |program: &str| SERVERS.iter().any(|(name, ..)| *name == program);
    match args {
        [option, module, args @ ..] if option == "-m" && ["python", "python3"].contains(&program) => {
            is_known(module).then_some((module.as_str(), args))
        }
        args => is_known(program).then_some((program, args)),
    }
}

/// The server that a project needs. The error says what is missing.
pub(super) fn of_requirements(directory: &Path, requirements: &str) -> Result<Project, String> {
    let requirements = requirements.lines().map(without_comment).collect::<Vec<_>>().join("\n");
    let is_between = |next: char| next.is_whitespace() || ['"', '\'', ',', '[', ']'].contains(&next);
    let needs = |name: &str| {
        requirements.split(is_between).any(|word| {
            word.strip_prefix(name)
                .is_some_and(|rest| !rest.starts_with(|next: char| next.is_alphanumeric() || next == '-'))
        })
    };
    // FastAPI brings its server, where it is asked to.
    let brings = requirements.contains("fastapi[");
    let known = ["uvicorn", "gunicorn", "hypercorn"];
    let program = known.into_iter().find(|name| needs(name) || (*name == "uvicorn" && brings));
    let program = program.ok_or("its requirements have neither uvicorn nor gunicorn nor hypercorn")?;
    let app = application(directory, program);
    Ok(of_command(directory, program, &[app]))
}

/// A line of requirements or of TOML without its comment. `#egg=` within a word is none.
fn without_comment(line: &str) -> &str {
    let is_comment = |at: &usize| line[..*at].chars().next_back().is_none_or(char::is_whitespace);
    let at = line.match_indices('#').map(|(at, _)| at).find(is_comment);
    at.map_or(line, |at| &line[..at])
}

/// A server with these arguments, of which those that say where to listen are left out.
pub(super) fn of_command(directory: &Path, program: &str, given: &[String]) -> Project {
    let known = SERVERS.iter().find(|(name, ..)| *name == program);
    let (takes, listens) = known.map_or((&[][..], &[][..]), |(_, takes, listens)| (*takes, *listens));
    let mut args: Vec<String> = takes.iter().map(ToString::to_string).collect();
    let mut notes =
        vec!["recluster binds the address, and the program takes the socket as descriptor 3".to_owned()];
    let mut given = given.iter();
    while let Some(arg) = given.next() {
        let (name, value) =
            arg.split_once('=').map_or((arg.as_str(), None), |(name, value)| (name, Some(value)));
        // `-w4` is `-w 4`.
        let short =
            arg.split_at_checked(2).filter(|(name, value)| listens.contains(name) && !value.is_empty());
        let (name, value) = short
            .filter(|(name, _)| *name != "--")
            .map_or((name, value), |(name, value)| (name, Some(value)));
        if !listens.contains(&name) {
            args.push(arg.clone());
            continue;
        }
        if value.is_none() && !ALONE.contains(&name) {
            given.next();
        }
        notes.push(format!(
            "the command says {name}: `listen` is in its place, `workers` and `--watch` are recluster's"
        ));
    }
    let venv = [".venv", "venv"].into_iter().find(|venv| directory.join(venv).is_dir()).unwrap_or(".venv");
    Project {
        kind: format!("Python with {program}"),
        server: format!("{venv}/bin/{program}"),
        args,
        listen: Some(PORT.to_owned()),
        // It says so by sd_notify. The others say nothing.
        ready_when: (program == "gunicorn").then_some("notify"),
        watch: Some(".".to_owned()),
        notes,
        ..Project::default()
    }
}

/// The application, as these servers name it: that of Django, or a variable of the usual file.
fn application(directory: &Path, program: &str) -> String {
    let kind = if program == "gunicorn" { "wsgi" } else { "asgi" };
    if directory.join("manage.py").is_file() {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        let has = |name: &String| directory.join(name).join(format!("{kind}.py")).is_file();
        let mut packages = entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(has);
        if let Some(package) = packages.next() {
            return format!("{package}.{kind}:application");
        }
    }
    let file = FILES.into_iter().find(|name| directory.join(format!("{name}.py")).is_file());
    format!("{}:app", file.unwrap_or("main").replace('/', "."))
}
