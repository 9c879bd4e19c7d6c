//! Projects of Node's: the framework and the start script say which file is the server.

use std::path::Path;

use serde_json::Value;

use super::command::{changes_directory, followed, is_file_name, of_command};
use super::project::{Project, plain};

/// Frameworks whose command hides the server, or whose build makes it: the package, the name, the server, its arguments.
const BUILT: [(&str, &str, &str, &[&str]); 8] = [
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
    ("@remix-run/serve", "Remix", "node_modules/.bin/remix-serve", &["build/server/index.js"]),
];
/// Scripts that run the server, as far as they say so.
const SCRIPTS: [&str; 3] = ["start", "start:prod", "start:production"];
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
    let main = manifest.get("main").and_then(Value::as_str);
    let starts = SCRIPTS.iter().filter_map(|name| script(name));
    let starts: Vec<String> = starts.map(|command| followed(command, script)).collect();
    let of_script = starts.iter().find_map(|command| {
        let found = of_command(command).filter(|found| !found.needs_shell())?;
        Some(resolved(directory, found, main)).filter(|found| is_file_name(&found.server))
    });
    // A start script that names a file knows better than the framework.
    let framework = BUILT.iter().find(|(package, ..)| depends(package));
    if let Some((_, kind, server, args)) = framework.filter(|_| of_script.is_none()) {
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
    if let Some(why) = starts.iter().find_map(|command| unknown(command)).filter(|_| of_script.is_none()) {
        return Err(format!(
            "its start script {why}, and which file is the server cannot be known from that"
        ));
    }
    let library = || LIBRARIES.iter().find(|(package, _)| depends(package)).map(|(_, kind)| *kind);
    let kind = framework.map(|(_, kind, ..)| *kind).or_else(library).unwrap_or("Node").to_owned();
    // `npm start` runs server.js where no script says otherwise.
    let has = |file: &&str| directory.join(file).is_file();
    let of_names = || {
        let known = [Some("server.js"), main].into_iter().flatten().find(has);
        known.map(str::to_owned).or_else(|| usual(directory))
    };
    let found = of_script.or_else(|| of_names().map(|server| Project { server, ..Project::default() }));
    let found = found.ok_or("its package.json says by no start script 'node FILE' which file is the server, and there is no server.js, app.js or index.js")?;
    let is_made = framework.is_some() || !directory.join(&found.server).is_file();
    let build = build.filter(|_| is_made);
    let is_compiled =
        found.node_args.iter().any(|arg| ["tsx", "ts-node"].iter().any(|name| arg.contains(name)));
    if is_typescript(&found.server) && !is_compiled {
        notes.push("node runs TypeScript from 22.18 on".to_owned());
    }
    notes.extend(found.notes.iter().cloned());
    Ok(Project { kind, build, notes, ..found })
}

/// What a command does of which no server can be known. It may be no server at all: `vite` serves what is being written.
fn unknown(command: &str) -> Option<String> {
    if changes_directory(command) {
        return Some("changes to another directory".to_owned());
    }
    let program = of_command(command).filter(|found| !found.is_for_node)?.server;
    (!is_file_name(&program)).then(|| format!("runs {}", plain(&program)))
}

/// The same with the file that node finds by that name, which may lack its ending or be a directory.
pub(super) fn resolved(directory: &Path, mut found: Project, main: Option<&str>) -> Project {
    if !found.is_for_node {
        return found;
    }
    let named = found.server.trim_end_matches('/');
    let named = if named == "." { main.unwrap_or("index.js") } else { named };
    let is_file = |name: &String| directory.join(name).is_file();
    let candidates = [named.to_owned(), format!("{named}.js"), format!("{named}/index.js")];
    let there = candidates.iter().find(|name| is_file(name)).cloned();
    let has_ending = Path::new(named).extension().is_some();
    // A compiler is yet to make what is not there.
    found.server = there.unwrap_or_else(|| if has_ending { named.to_owned() } else { format!("{named}.js") });
    found.is_for_node = Path::new(&found.server).extension().is_none();
    found
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
