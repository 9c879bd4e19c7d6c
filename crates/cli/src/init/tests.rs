//! Layouts that frameworks make, and what is written for them.

use std::fs;

use tempfile::TempDir;

use super::project::Project;
use super::*;

/// A directory with these files.
fn directory(files: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    directory
}

fn project(files: &[(&str, &str)]) -> Project {
    look::at(directory(files).path()).unwrap()
}

/// What is run, as it would be typed.
fn runs(files: &[(&str, &str)]) -> String {
    let project = project(files);
    let words = [project.server].into_iter().chain(project.node_args).chain(project.args);
    words.collect::<Vec<_>>().join(" ")
}

fn manifest(rest: &str) -> String {
    format!("{{ \"name\": \"shop\", {rest} }}")
}

#[test]
fn a_start_script_that_names_a_file_knows_better_than_the_framework() {
    let next = |start: &str| {
        let scripts = format!(r#""dependencies": {{ "next": "1" }}, "scripts": {{ "start": "{start}" }}"#);
        project(&[("package.json", &manifest(&scripts)), ("server.js", "")])
    };
    assert_eq!(next("next start").server, "node_modules/.bin/next");
    let own = next("NODE_ENV=production node --env-file .env server.js");
    assert_eq!(
        (own.server.as_str(), own.node_args),
        ("server.js", vec!["--env-file".to_owned(), ".env".to_owned()])
    );
    assert_eq!(own.notes, ["the command sets NODE_ENV: put it into [env]"]);
}

#[test]
fn the_server_of_a_framework_is_known() {
    for (dependency, server) in [
        ("next", "node_modules/.bin/next start"),
        ("nuxt", ".output/server/index.mjs"),
        ("@nestjs/core", "dist/main.js"),
        ("@sveltejs/adapter-node", "build/index.js"),
        ("@astrojs/node", "dist/server/entry.mjs"),
    ] {
        let text = manifest(&format!(
            r#""scripts": {{ "build": "x", "start": "x y" }}, "dependencies": {{ "{dependency}": "1" }}"#
        ));
        assert_eq!(runs(&[("package.json", &text)]), server);
        assert_eq!(project(&[("package.json", &text)]).build.as_deref(), Some("npm run build"));
    }
}

#[test]
fn the_start_script_says_which_file_is_the_server() {
    let start = |script: &str| {
        manifest(&format!(r#""scripts": {{ "start": "{script}" }}, "dependencies": {{ "express": "4" }}"#))
    };
    let runs = |script: &str| runs(&[("package.json", &start(script)), ("app.js", ""), ("bin/www", "")]);
    assert_eq!(runs("node ./bin/www"), "bin/www");
    assert_eq!(
        runs("NODE_ENV=production node --enable-source-maps -r dotenv/config lib/web.js --port 1"),
        "lib/web.js --enable-source-maps -r dotenv/config --port 1"
    );
    assert_eq!(runs("nodemon"), "app.js", "that is a tool, and no server");
    assert_eq!(runs("npm run build && node dist/x.js"), "app.js", "a shell would be needed");
    assert!(project(&[("package.json", &start("node ./bin/www"))]).is_for_node, "no ending says so");
    let port = project(&[("package.json", &start("PORT=8080 node app.js"))]).port;
    assert_eq!(port.as_deref(), Some("8080"));
}

#[test]
fn without_a_start_script_the_usual_names_are_tried_before_main() {
    let text = manifest(r#""main": "lib/x.js", "type": "module", "engines": { "node": ">=22" }"#);
    let main = [("package.json", text.as_str()), ("lib/x.js", "")];
    assert_eq!(runs(&main), "lib/x.js");
    let typescript = [("package.json", text.as_str()), ("lib/x.js", ""), ("src/server.ts", "")];
    assert_eq!(runs(&typescript), "src/server.ts");
    let notes = project(&typescript).notes.join("; ");
    assert_eq!(notes, "package.json wants node >=22; node runs TypeScript from 22.18 on");
}

#[test]
fn projects_that_are_not_of_node_have_their_way() {
    assert_eq!(runs(&[("Procfile", "release: x\nweb: bin/shop --port 1\n")]), "bin/shop --port 1");
    assert_eq!(runs(&[("Procfile", "web: node app.js")]), "app.js");
    let gunicorn = ".venv/bin/gunicorn --bind fd://3";
    assert_eq!(runs(&[("Procfile", "web: gunicorn --preload shop.wsgi")]), format!("{gunicorn} shop.wsgi"));
    let pyproject = "[project]\ndependencies = [\"fastapi\", \"gunicorn>=20\"]\n";
    assert_eq!(runs(&[("pyproject.toml", pyproject)]), format!("{gunicorn} main:app"));
    assert_eq!(runs(&[("Cargo.toml", "[package]\nname = 'shop'")]), "target/release/shop");
    assert_eq!(
        runs(&[("Cargo.toml", "[package]\nname = 'shop'\n[[bin]]\nname = 'web'")]),
        "target/release/web"
    );
    assert_eq!(
        runs(&[("requirements.txt", "uvicorn[standard]>=0.3\n"), ("app.py", "")]),
        ".venv/bin/uvicorn --fd 3 app:app"
    );
    assert_eq!(
        runs(&[("pyproject.toml", "dependencies = [\n  \"gunicorn\",\n]"), ("venv/x", "")]),
        "venv/bin/gunicorn --bind fd://3 main:app"
    );
}

#[test]
fn what_cannot_be_known_is_said() {
    let reason = |files: &[(&str, &str)]| look::at(directory(files).path()).unwrap_err();
    assert!(reason(&[]).starts_with("there is no package.json"));
    assert!(reason(&[("package.json", "{")]).starts_with("its package.json is no JSON"));
    assert!(reason(&[("package.json", "{}")]).contains("no server.js"));
    for program in ["npm start", "bundle exec puma", "python app.py"] {
        let why = reason(&[("Procfile", &format!("web: {program}"))]);
        assert!(why.contains("does not look in PATH"), "{why}");
    }
    assert!(reason(&[("Procfile", "web: a | b")]).contains("more than a program"));
    assert!(reason(&[("requirements.txt", "flask")]).contains("neither uvicorn nor gunicorn"));
}

#[test]
fn what_is_written_is_read_again_and_no_file_is_written_over() {
    let text = manifest(
        r#""scripts": { "build": "tsc", "start": "PORT=81 node --enable-source-maps dist/a\u0001b.js" }, "engines": { "node": "22\nx = 1" }"#,
    );
    let place = directory(&[("package.json", &text)]);
    let args = Init { directory: place.path().to_owned() };
    init(&args).unwrap();
    let path = place.path().join(FILE);
    let written = fs::read_to_string(&path).unwrap();
    let read = toml::de::DeTable::parse(&written).unwrap();
    let value = |key: &str| read.get_ref().get(key).map(|value| format!("{:?}", value.get_ref()));
    assert!(value("server").unwrap().contains("dist/a"), "{written}");
    assert!(value("node-arg").unwrap().contains("--enable-source-maps"), "{written}");
    assert_eq!(value("x"), None, "a comment is one line: {written}");
    assert!(
        written.contains("PORT = \"81\"") && written.contains("`npm run build` makes the server"),
        "{written}"
    );
    assert!(matches!(init(&args), Err(Error::ConfigExists { .. })));
    assert_eq!(fs::read_to_string(&path).unwrap(), written);
}
