//! What a directory holds, and what of it is to be run.

use std::fs;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::node;
use super::project::{Project, plain};

/// Servers of Python that know how to take a socket.
const PYTHON: [&str; 2] = ["uvicorn", "gunicorn"];
/// How much of a file is read. No manifest is longer.
const MOST: usize = 1 << 20;

/// What a directory holds. The error says what is missing.
pub(super) fn at(directory: &Path) -> Result<Project, String> {
    let read = |name: &str| read(&directory.join(name));
    if let Some(manifest) = read("package.json") {
        return node::project(directory, &manifest);
    }
    if let Some(procfile) = read("Procfile") {
        return of_procfile(directory, &procfile);
    }
    if let Some(manifest) = read("Cargo.toml") {
        return of_cargo(&manifest);
    }
    let requirements = [read("requirements.txt"), read("pyproject.toml")].into_iter().flatten();
    let requirements = requirements.collect::<Vec<_>>().join("\n");
    if requirements.is_empty() {
        return Err(
            "there is no package.json, Procfile, Cargo.toml, requirements.txt or pyproject.toml".to_owned()
        );
    }
    of_python(directory, &requirements, None)
}

/// A file's text; none where it is not there, is no text or is far too long.
fn read(path: &Path) -> Option<String> {
    fs::read(path).ok().filter(|text| text.len() <= MOST).and_then(|text| String::from_utf8(text).ok())
}

fn of_procfile(directory: &Path, procfile: &str) -> Result<Project, String> {
    let web = procfile.lines().find_map(|line| line.trim().strip_prefix("web:"));
    let web = web.ok_or("its Procfile has no line 'web: COMMAND'")?;
    let project = node::of_command(web)
        .ok_or("the command of 'web:' in its Procfile is more than a program with arguments")?;
    if PYTHON.contains(&&*project.server) {
        let app = project.args.iter().find(|arg| !arg.starts_with('-')).cloned();
        let mut python = of_python(directory, &project.server, app)?;
        python.notes.push("of the command of 'web:' only the application is taken over".to_owned());
        return Ok(python);
    }
    if !(project.is_for_node || node::is_file_name(&project.server)) {
        return Err(format!(
            "the command of 'web:' in its Procfile runs {} without a path, and recluster does not look in PATH",
            plain(&project.server)
        ));
    }
    Ok(Project { kind: "the line 'web' of Procfile".to_owned(), ..project })
}

fn of_cargo(manifest: &str) -> Result<Project, String> {
    let manifest = DeTable::parse(manifest).map_err(|_| "its Cargo.toml is no TOML")?;
    let manifest = manifest.get_ref();
    let name =
        |value: &DeValue<'_>| value.get("name").and_then(|name| name.get_ref().as_str()).map(str::to_owned);
    let bins = manifest.get("bin").and_then(|bins| bins.get_ref().as_array());
    let bin = bins.and_then(|bins| bins.iter().next()).and_then(|bin| name(bin.get_ref()));
    let package = || manifest.get("package").and_then(|package| name(package.get_ref()));
    let name = bin.or_else(package).ok_or("its Cargo.toml names no package")?;
    Ok(Project {
        kind: "Rust".to_owned(),
        server: format!("target/release/{name}"),
        build: Some("cargo build --release".to_owned()),
        listen: Some("8080".to_owned()),
        notes: vec![
            "the program takes the socket as descriptor 3, or by the crate recluster-worker".to_owned(),
        ],
        ..Project::default()
    })
}

/// `app` is the application, where it is known.
fn of_python(directory: &Path, requirements: &str, app: Option<String>) -> Result<Project, String> {
    let is_between = |next: char| next.is_whitespace() || ['"', '\'', ',', '[', ']'].contains(&next);
    let needs = |name: &str| {
        requirements.split(is_between).any(|word| {
            word.strip_prefix(name)
                .is_some_and(|rest| !rest.starts_with(|next: char| next.is_alphanumeric() || next == '-'))
        })
    };
    let venv = [".venv", "venv"].into_iter().find(|venv| directory.join(venv).is_dir()).unwrap_or(".venv");
    let file =
        ["main", "app", "server"].into_iter().find(|name| directory.join(format!("{name}.py")).is_file());
    let app = app.unwrap_or_else(|| format!("{}:app", file.unwrap_or("main")));
    let (program, args) = if needs("uvicorn") {
        ("uvicorn", vec!["--fd".to_owned(), "3".to_owned(), app])
    } else if needs("gunicorn") {
        ("gunicorn", vec!["--bind".to_owned(), "fd://3".to_owned(), app])
    } else {
        return Err("its requirements have neither uvicorn nor gunicorn".to_owned());
    };
    Ok(Project {
        kind: format!("Python with {program}"),
        server: format!("{venv}/bin/{program}"),
        args,
        listen: Some("8000".to_owned()),
        notes: vec![
            "recluster binds the address, and the program takes the socket as descriptor 3".to_owned(),
        ],
        ..Project::default()
    })
}
