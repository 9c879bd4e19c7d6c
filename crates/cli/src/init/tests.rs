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
fn options_of_what_starts_node_are_not_node_s() {
    for (start, runs_as) in [
        ("ts-node -P tsconfig.json src/index.ts", "src/index.ts --require=ts-node/register"),
        ("ts-node --esm --transpile-only src/index.ts", "src/index.ts --require=ts-node/register"),
        (
            "ts-node -r tsconfig-paths/register src/index.ts -r x",
            "src/index.ts --require=ts-node/register -r tsconfig-paths/register -r x",
        ),
        ("tsx --tsconfig x.json --env-file=.env src/a.ts", "src/a.ts --import=tsx --env-file=.env"),
        ("nodemon -i x.js -r dotenv/config --inspect web.js", "web.js -r dotenv/config"),
        ("nodemon --exec 'node server.js'", "server.js"),
        ("nodemon --exec=node -e js,ts web.js -e x", "web.js -e x"),
        ("nodemon --exec ts-node src/index.ts", "src/index.ts --require=ts-node/register"),
        ("nodemon -w src -x 'node --inspect' dist/x.js", "dist/x.js --inspect"),
    ] {
        let text = manifest(&format!(r#""scripts": {{ "start": "{start}" }}"#));
        assert_eq!(runs(&[("package.json", &text)]), runs_as, "{start}");
    }
    let text = manifest(r#""scripts": { "start": "ts-node -P tsconfig.json x.ts" }"#);
    let notes = project(&[("package.json", &text)]).notes;
    assert_eq!(notes, ["options of ts-node are left out: -P"]);
}

#[test]
fn a_command_that_changes_its_directory_and_scripts_that_lead_on() {
    let start = |start: &str| {
        let scripts =
            format!(r#""scripts": {{ "start": "{start}", "build": "tsc", "serve": "node dist/x" }}"#);
        runs(&[("package.json", &manifest(&scripts)), ("app.js", ""), ("server/lib/index.js", "")])
    };
    assert_eq!(start("cd server && node ./index.js"), "server/index.js");
    assert_eq!(start("cd server/ && node lib"), "server/lib/index.js");
    assert_eq!(start("cd client && tsc && cd ../server && node index.js"), "server/index.js");
    assert_eq!(start("npm run build && npm run serve"), "dist/x.js");
    assert_eq!(start("NODE_ENV=production npm run serve"), "dist/x.js");
}

#[test]
fn a_port_is_a_number() {
    let port = |start: &str| {
        let text = manifest(&format!(r#""scripts": {{ "start": "{start} node server.js" }}"#));
        project(&[("package.json", &text)]).port
    };
    assert_eq!(port("PORT=${PORT:-3000}").as_deref(), Some("3000"));
    for start in ["PORT=$PORT", "PORT=${PORT:-$X}", "PORT=${PORT}", "PORT=", "PORT=/run/x"] {
        assert_eq!(port(start), None, "{start}");
    }
}

/// A package may be there for what browsers are given.
#[test]
fn a_package_that_names_no_server_leaves_that_to_other_manifests() {
    let assets = manifest(r#""scripts": { "start": "vite --port 3000" }"#);
    for package in ["{}", &assets] {
        let files =
            [("package.json", package), ("Gemfile", "gem 'puma'"), ("bin/puma", ""), ("src/x.js", "")];
        assert_eq!(project(&files).kind, "Ruby with puma");
    }
    let reason = |start: &str| {
        let text = manifest(&format!(r#""scripts": {{ "start": "{start}" }}"#));
        look::at(directory(&[("package.json", &text), ("src/index.js", "")]).path()).unwrap_err()
    };
    for start in ["cd $HOME && node index.js", "true; cd server && node index.js", "cd x && npm start"] {
        let why = reason(start);
        assert!(why.starts_with("its start script changes to another directory"), "{why}");
    }
    for (start, program) in [("vite --port 3000", "vite"), ("react-scripts start", "react-scripts")] {
        let why = reason(start);
        assert!(why.contains(&format!("runs {program}, and which file")), "{why}");
    }
}

#[test]
fn go_modules_are_built_where_their_program_is() {
    let build = |module: &str, files: &[(&str, &str)]| {
        let files: Vec<_> = [("go.mod", module)].into_iter().chain(files.iter().copied()).collect();
        project(&files).build.unwrap()
    };
    let module = "module \"example.org/shop\" // the shop\n";
    let command = ("cmd/shop/main.go", "package main\n");
    assert_eq!(build(module, &[command, ("main.go", "package main // it\n")]), "go build -o shop .");
    assert_eq!(
        build(module, &[command, ("cmd/x/x.go", ""), ("shop.go", "package shop\n")]),
        "go build -o shop ./cmd/shop"
    );
    assert_eq!(build(module, &[("cmd/web/main.go", "")]), "go build -o web ./cmd/web");
    let why = look::at(directory(&[("go.mod", "module x/$(id)")]).path()).unwrap_err();
    assert_eq!(why, "its go.mod names no module");
}

#[test]
fn what_a_command_says_beside_the_server_is_taken_or_noted() {
    let python = "web: python -m gunicorn shop.wsgi --bind 0.0.0.0:8000 -w 4";
    assert_eq!(runs(&[("Procfile", python)]), ".venv/bin/gunicorn --workers 1 shop.wsgi");
    assert_eq!(
        runs(&[("Procfile", "web: python3 -m gunicorn -w4 --workers=$N shop.wsgi")]),
        ".venv/bin/gunicorn --workers 1 shop.wsgi"
    );
    let puma = [("Procfile", "web: bundle exec puma -e production -C x.rb"), ("bin/puma", "")];
    let notes = project(&puma).notes.join("; ");
    assert!(notes.contains("options of puma are left out: -e production -C x.rb"), "{notes}");
    let commented = "# gunicorn was here\nhypercorn # not uvicorn\n";
    assert_eq!(project(&[("requirements.txt", commented)]).kind, "Python with hypercorn");
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

/// What a note repeats, and what a string holds, stays there.
#[test]
fn no_text_of_the_project_becomes_a_line_of_the_config() {
    let text = manifest(r#""scripts": { "start": "echo \u0001 \nx = 1\n[y] && node a.js \u007f \u0001" }"#);
    let place = directory(&[("package.json", &text)]);
    init(&Init { directory: place.path().to_owned() }).unwrap();
    let written = fs::read_to_string(place.path().join(FILE)).unwrap();
    let read = toml::de::DeTable::parse(&written).unwrap();
    let keys: Vec<_> = read.get_ref().keys().map(|key| key.get_ref().to_string()).collect();
    assert_eq!(keys.len(), 3, "server, args and env: {written}");
    assert!(written.contains(r#"args = ["\u007f", "\u0001"]"#), "{written}");
    assert!(written.contains("the command runs: echo   "), "{written}");
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
