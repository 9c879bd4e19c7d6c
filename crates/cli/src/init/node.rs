//! Projects of Node's: the framework and the start script say which file is the server.

use std::path::Path;

use serde_json::Value;

use super::project::{Project, plain};

/// Frameworks whose command hides the server, or whose build makes it: the package, the name, the server, its arguments.
const BUILT: [(&str, &str, &str, &[&str]); 7] = [
    ("next", "Next", "node_modules/.bin/next", &["start"]),
    ("nuxt", "Nuxt", ".output/server/index.mjs", &[]),
    ("nitropack", "Nitro", ".output/server/index.mjs", &[]),
    ("@nestjs/core", "Nest", "dist/main.js", &[]),
    ("@sveltejs/adapter-node", "SvelteKit", "build/index.js", &[]),
    ("@astrojs/node", "Astro", "dist/server/entry.mjs", &[]),
    (
        "@react-router/serve",
        "React Router",
        "node_modules/.bin/react-router-serve",
        &["build/server/index.js"],
    ),
];
/// Frameworks of which the server is a file of the user's.
const LIBRARIES: [(&str, &str); 6] = [
    ("fastify", "Fastify"),
    ("express", "Express"),
    ("koa", "Koa"),
    ("hono", "Hono"),
    ("@hapi/hapi", "hapi"),
    ("socket.io", "Socket.IO"),
];
/// Where servers usually are.
const NAMES: [&str; 5] = ["server", "app", "index", "main", "bin/www"];
const PLACES: [&str; 2] = ["", "src/"];
const ENDINGS: [&str; 7] = [".js", ".mjs", ".cjs", ".ts", ".mts", ".cts", ""];

/// The project that a `package.json` describes.
pub(super) fn project(directory: &Path, manifest: &str) -> Result<Project, String> {
    let manifest: Value =
        serde_json::from_str(manifest).map_err(|error| format!("its package.json is no JSON: {error}"))?;
    let depends = |name: &str| {
        let has = |list: &str| manifest.get(list).and_then(|list| list.get(name)).is_some();
        has("dependencies") || has("devDependencies")
    };
    let script =
        |name: &str| manifest.get("scripts").and_then(|scripts| scripts.get(name)).and_then(Value::as_str);
    let build = script("build").map(|_| "npm run build".to_owned());
    let mut notes = Vec::new();
    if let Some(node) =
        manifest.get("engines").and_then(|engines| engines.get("node")).and_then(Value::as_str)
    {
        notes.push(format!("package.json wants node {}", plain(node)));
    }
    let of_script = script("start").and_then(of_command).filter(|found| is_file_name(&found.server));
    // A start script that names a file knows better than the framework.
    if let Some((_, kind, server, args)) =
        BUILT.iter().find(|(package, ..)| of_script.is_none() && depends(package))
    {
        let args = args.iter().map(ToString::to_string).collect();
        return Ok(Project {
            kind: (*kind).to_owned(),
            server: (*server).to_owned(),
            args,
            build,
            notes,
            ..Project::default()
        });
    }
    let kind =
        LIBRARIES.iter().find(|(package, _)| depends(package)).map_or("Node", |(_, kind)| kind).to_owned();
    if depends("fastify-cli") && script("start").is_some_and(|start| start.contains("fastify start")) {
        let args = script("start").and_then(|start| start.split("fastify start").nth(1)).unwrap_or_default();
        let args = ["start"].into_iter().chain(args.split_whitespace()).map(str::to_owned).collect();
        let server = "node_modules/.bin/fastify".to_owned();
        return Ok(Project { kind: "Fastify".to_owned(), server, args, build, notes, ..Project::default() });
    }
    let main = manifest.get("main").and_then(Value::as_str).filter(|main| directory.join(main).is_file());
    let of_names = || usual(directory).or_else(|| main.map(str::to_owned));
    let found = of_script.or_else(|| of_names().map(|server| Project { server, ..Project::default() }));
    let found = found.ok_or("its package.json says by no start script 'node FILE' which file is the server, and there is no server.js, app.js or index.js")?;
    let is_made = !directory.join(&found.server).is_file();
    let build = build.filter(|_| is_made);
    if is_typescript(&found.server) {
        notes.push("node runs TypeScript from 22.18 on".to_owned());
    }
    notes.extend(found.notes.iter().cloned());
    Ok(Project { kind, build, notes, ..found })
}

/// A command as a shell reads it, if it is a program with arguments and nothing that only a shell can do.
pub(super) fn of_command(command: &str) -> Option<Project> {
    if command.contains(['|', '&', ';', '<', '>', '`', '$', '(', '"', '\'', '\\', '*']) {
        return None;
    }
    let mut words = command.split_whitespace().peekable();
    let mut project = Project::default();
    while let Some((name, value)) =
        words.peek().and_then(|word| word.split_once('=')).filter(|(name, _)| is_variable(name))
    {
        if name == "PORT" {
            project.port = Some(value.to_owned());
        } else {
            project.notes.push(format!("the command sets {name}: put it into [env]"));
        }
        words.next();
    }
    let program = words.next()?;
    if program != "node" {
        program.clone_into(&mut project.server);
        project.args = words.map(str::to_owned).collect();
        return Some(project);
    }
    while let Some(word) = words.next() {
        if !word.starts_with('-') {
            word.trim_start_matches("./").clone_into(&mut project.server);
            project.is_for_node = Path::new(word).extension().is_none();
            project.args = words.map(str::to_owned).collect();
            return Some(project);
        }
        project.node_args.push(word.to_owned());
        // The value of these stands in the next word.
        if [
            "-r",
            "--require",
            "--import",
            "--loader",
            "--conditions",
            "-C",
            "--env-file",
            "--env-file-if-exists",
        ]
        .contains(&word)
        {
            project.node_args.extend(words.next().map(str::to_owned));
        }
    }
    None
}

fn is_variable(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_' || byte.is_ascii_digit())
}

/// Whether node runs it, by its name: `nodemon` and `tsx` are others.
pub(super) fn is_file_name(server: &str) -> bool {
    server.contains('/') || Path::new(server).extension().is_some()
}

fn is_typescript(server: &str) -> bool {
    Path::new(server)
        .extension()
        .is_some_and(|ending| ["ts", "mts", "cts"].iter().any(|typescript| ending == *typescript))
}

fn usual(directory: &Path) -> Option<String> {
    let names = PLACES.iter().flat_map(|place| NAMES.iter().map(move |name| format!("{place}{name}")));
    let mut files = names.flat_map(|name| ENDINGS.iter().map(move |ending| format!("{name}{ending}")));
    files.find(|file| directory.join(file).is_file())
}
