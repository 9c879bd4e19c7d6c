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
    assert_eq!(runs("node web.js | pino"), "app.js", "a shell would be needed");
    assert_eq!(runs("npm run build && node dist/x.js"), "dist/x.js", "the last one stays");
    assert!(
        project(&[("package.json", &start("node ./bin/www")), ("bin/www", "")]).is_for_node,
        "no ending says so"
    );
    let port = project(&[("package.json", &start("PORT=8080 node app.js"))]).port;
    assert_eq!(port.as_deref(), Some("8080"));
}

#[test]
fn without_a_start_script_server_js_comes_first_then_main_then_the_usual_names() {
    let text = manifest(r#""main": "lib/x.js", "type": "module", "engines": { "node": ">=22" }"#);
    let with = |file| runs(&[("package.json", text.as_str()), ("lib/x.js", ""), (file, "")]);
    assert_eq!(with("server.js"), "server.js", "as npm start has it");
    assert_eq!(with("src/server.ts"), "lib/x.js");
    let typescript = [("package.json", text.as_str()), ("src/server.ts", "")];
    assert_eq!(runs(&typescript), "src/server.ts", "main is not there");
    let notes = project(&typescript).notes.join("; ");
    assert_eq!(notes, "package.json wants node >=22; node runs TypeScript from 22.18 on");
}

/// What generators of projects and their guides write as of today.
#[test]
fn start_scripts_as_they_are_found() {
    for (dependency, scripts, runs_as) in [
        ("express", r#""start": "node ./bin/www""#, "bin/www"),
        ("express", r#""start": "node src/server""#, "src/server.js"),
        ("express", r#""start": "node .""#, "index.js"),
        ("express", r#""start": "node lib""#, "lib/index.js"),
        (
            "fastify",
            r#""start": "fastify start -l info app.js""#,
            "node_modules/.bin/fastify start -l info app.js",
        ),
        ("@nestjs/core", r#""start": "nest start", "start:prod": "node dist/main""#, "dist/main.js"),
        ("@nestjs/core", r#""start": "nest start", "start:prod": "node dist/src/main""#, "dist/src/main.js"),
        ("next", r#""start": "next start -p 4000 -H ::""#, "node_modules/.bin/next start -p 4000 -H ::"),
        ("nuxt", r#""start": "nuxt start""#, ".output/server/index.mjs"),
        ("nuxt", r#""start": "node .output/server/index.mjs""#, ".output/server/index.mjs"),
        (
            "@remix-run/serve",
            r#""start": "remix-serve ./build/server/index.js""#,
            "node_modules/.bin/remix-serve ./build/server/index.js",
        ),
        (
            "@remix-run/serve",
            r#""start": "remix vite:preview""#,
            "node_modules/.bin/remix-serve build/server/index.js",
        ),
        (
            "@hapi/hapi",
            r#""start": "node --max-old-space-size=4096 --title shop server.js""#,
            "server.js --max-old-space-size=4096 --title shop",
        ),
        ("tsx", r#""start": "tsx watch src/main.ts --port 1""#, "src/main.ts --import=tsx --port 1"),
        ("ts-node", r#""start": "ts-node src/main.ts""#, "src/main.ts --require=ts-node/register"),
        ("koa", r#""start": "cross-env NODE_ENV=production node 'my server.js'""#, "my server.js"),
        ("koa", r#""start": "npm run serve", "serve": "yarn web", "web": "node web.js""#, "web.js"),
        ("koa", r#""start": "nodemon --watch src web.js""#, "web.js"),
        ("koa", r#""start": "prisma migrate deploy && exec node web.js""#, "web.js"),
    ] {
        let text =
            manifest(&format!(r#""scripts": {{ {scripts} }}, "dependencies": {{ "{dependency}": "1" }}"#));
        assert_eq!(
            runs(&[("package.json", &text), ("lib/index.js", ""), ("bin/www", "")]),
            runs_as,
            "{text}"
        );
    }
    let text = manifest(r#""scripts": { "start": "prisma migrate deploy && node web.js" }"#);
    assert_eq!(
        project(&[("package.json", &text)]).notes,
        ["before the server, the command runs: prisma migrate deploy"]
    );
}

#[test]
fn projects_that_are_not_of_node_have_their_way() {
    assert_eq!(runs(&[("Procfile", "release: x\nweb: bin/shop --port 1\n")]), "bin/shop --port 1");
    assert_eq!(runs(&[("Procfile", "web: node app.js")]), "app.js");
    let gunicorn = ".venv/bin/gunicorn --workers 1";
    assert_eq!(
        runs(&[("Procfile", "web: gunicorn --preload shop.wsgi")]),
        format!("{gunicorn} --preload shop.wsgi")
    );
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
        "venv/bin/gunicorn --workers 1 main:app"
    );
}

/// A program is found where the project or the machine has it, since recluster runs what a path names.
#[test]
fn programs_of_other_languages_are_found_and_take_their_socket() {
    let shop = directory(&[
        ("Procfile", "web: shop --port 1"),
        ("Gemfile", "gem \"puma\""),
        ("elsewhere/shop", ""),
        ("elsewhere/puma", ""),
    ]);
    let path = shop.path().join("elsewhere");
    let found = look::at_with(shop.path(), Some(path.as_os_str())).unwrap();
    assert_eq!(found.server, path.join("shop").display().to_string());
    fs::remove_file(shop.path().join("Procfile")).unwrap();
    let puma = look::at_with(shop.path(), Some(path.as_os_str())).unwrap();
    assert_eq!(puma.server, path.join("puma").display().to_string());
    assert_eq!(puma.args, ["--bind-to-activated-sockets=only"]);
    assert_eq!(
        runs(&[("Procfile", "web: bundle exec puma -C config/puma.rb"), ("bin/puma", "")]),
        "bin/puma --bind-to-activated-sockets=only"
    );
    assert_eq!(runs(&[("Procfile", "web: serve"), (".venv/bin/serve", "")]), ".venv/bin/serve");
    let django = [
        ("requirements.txt", "Django\ngunicorn"),
        ("manage.py", ""),
        ("shop/wsgi.py", ""),
        ("shop/asgi.py", ""),
    ];
    assert_eq!(runs(&django), ".venv/bin/gunicorn --workers 1 shop.wsgi:application");
    assert_eq!(project(&django).ready_when, Some("notify"), "it says READY=1");
    let fastapi = [("pyproject.toml", "dependencies = [\"fastapi[standard]>=0.1\"]"), ("app/main.py", "")];
    assert_eq!(runs(&fastapi), ".venv/bin/uvicorn --fd 3 app.main:app");
    let why = look::at(directory(&[("Procfile", "web: node app.js --port $PORT")]).path()).unwrap_err();
    assert!(why.contains("more than a program"), "{why}");
    let heroku =
        [("Procfile", "web: uvicorn --host=0.0.0.0 --port ${PORT:-80} shop:app --reload --log-level info")];
    assert_eq!(runs(&heroku), ".venv/bin/uvicorn --fd 3 shop:app --log-level info");
    assert_eq!(
        project(&[("go.mod", "module example.org/shop/v2\n\ngo 1.22\n")]).build.as_deref(),
        Some("go build -o shop .")
    );
    assert_eq!(
        runs(&[("Cargo.toml", "[package]\nname = 'shop'\ndefault-run = 'web'")]),
        "target/release/web"
    );
}

#[test]
fn what_cannot_be_known_is_said() {
    let reason = |files: &[(&str, &str)]| look::at(directory(files).path()).unwrap_err();
    assert!(reason(&[]).starts_with("there is no package.json"));
    assert!(reason(&[("package.json", "{")]).starts_with("its package.json is no JSON"));
    assert!(reason(&[("package.json", "{}")]).contains("no server.js"));
    let why = reason(&[("Procfile", "web: no-such-program app.py")]);
    assert!(why.ends_with("runs no-such-program, which is not in .venv/bin, venv/bin, node_modules/.bin, bin, and not in PATH"), "{why}");
    let why = look::at_with(directory(&[("Gemfile", "gem 'puma'")]).path(), None).unwrap_err();
    assert!(why.contains("bundle binstubs puma"), "{why}");
    assert!(reason(&[("Procfile", "web: a | b")]).contains("more than a program"));
    assert!(reason(&[("requirements.txt", "flask")]).contains("neither uvicorn nor gunicorn nor hypercorn"));
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
