//! What is a program for node: a server file by its ending or its first line, whatever the name is that leads to it.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use recluster_e2e::{Home, Launch, Master, eventually, fixture, on};

/// The usual server, as a file of this name with this first line, and readable but not executable.
fn server(home: &Home, name: &str, first_line: &str) -> PathBuf {
    let path = home.join(name);
    fs::create_dir_all(path.parent().expect("it is in the home")).expect("the directory is ours");
    let text = fs::read_to_string(fixture("server.js")).expect("a fixture");
    fs::write(&path, format!("{first_line}{text}")).expect("the directory is ours");
    path
}

fn executable(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("the file is ours");
}

/// By the node of the `PATH`, with two workers.
fn launch(home: &Home, server: &Path) -> Launch {
    let node = PathBuf::from(&recluster_e2e::Node::under_test().path);
    let directory = node.parent().expect("a binary is in a directory").to_string_lossy().into_owned();
    let path = format!("{directory}:{}", std::env::var("PATH").unwrap_or_default());
    Launch::of(server).home(home).without("--node").env("PATH", path)
}

/// Both workers answer at one address, and a reload goes by the new ones.
fn is_a_cluster(master: &Master) {
    assert_eq!(master.status()["listeners"].as_array().map(Vec::len), Some(1));
    let ask = || master.get("/").text("slot");
    let mut slots = std::collections::BTreeSet::new();
    eventually("both are given connections", || {
        slots.insert(ask());
        slots.len() == 2
    });
    master.reload().expect_code(0);
    assert_eq!(master.get("/").text("generation"), "2");
}

#[test]
fn a_script_of_node_without_an_ending_is_a_program_for_node() {
    for (first_line, is_executable) in [
        ("#!/usr/bin/env node\n", true),
        ("#!/usr/bin/env node\n", false),
        ("#!/usr/bin/env node\r\n", true),
        ("#!/usr/bin/env nodejs\n", true),
        ("#!/no/such/place/node\n", true),
    ] {
        let home = Home::new();
        let www = server(&home, "bin/www", first_line);
        if is_executable {
            executable(&www);
        }
        is_a_cluster(&launch(&home, &www).serve());
    }
}

#[test]
fn a_command_in_node_modules_is_judged_by_the_file_that_it_leads_to() {
    for (target, first_line) in [
        ("next/dist/bin/next", "#!/usr/bin/env node\n"),
        ("serve/cli.js", ""),
        ("esm/cli.cjs", "#!/usr/bin/env node\n"),
    ] {
        let home = Home::new();
        executable(&server(&home, &format!("node_modules/{target}"), first_line));
        let command = home.join("node_modules/.bin/command");
        fs::create_dir(home.join("node_modules/.bin")).expect("the directory is ours");
        symlink(format!("../{target}"), &command).expect("the directory is ours");
        is_a_cluster(&launch(&home, &command).serve());
    }
}

#[test]
fn flags_and_variables_of_the_first_line_are_heeded_and_those_of_the_user_follow() {
    for line in [
        "#!/usr/bin/env -S FROM_LINE=1 node --no-deprecation --title='a b'\n",
        "#!/usr/bin/env FROM_LINE=1 node --no-deprecation --title=x\n",
    ] {
        for name in ["www", "server.js"] {
            let home = Home::new();
            let www = server(&home, name, line);
            let master = launch(&home, &www).node_arg("--no-warnings").serve();
            let answer = master.get("/").json();
            let flags: Vec<_> =
                answer["nodeArgs"].as_array().expect("flags").iter().map(|arg| arg.as_str()).collect();
            assert!(
                flags.starts_with(&[Some("--no-deprecation")]) && flags.contains(&Some("--no-warnings")),
                "{flags:?}"
            );
            assert_eq!(answer["env"]["FROM_LINE"], "1");
        }
    }
}

#[test]
fn a_script_of_node_that_nothing_can_run_is_refused_with_one_line() {
    let home = Home::new();
    let refused = launch(&home, &server(&home, "www", "\u{feff}#!/usr/bin/env node\n")).refused();
    refused.expect_code(126);
    assert!(refused.stderr.contains("www: it begins with a byte order mark"), "{refused:?}");
}

#[test]
fn text_is_for_the_node_that_was_named() {
    let home = Home::new();
    let www = server(&home, "www", "");
    let refused = launch(&home, &www).refused();
    refused.expect_code(126);
    assert!(refused.stderr.contains("nor --node"), "{refused:?}");
    is_a_cluster(&launch(&home, &www).option("--node", "node").serve());
}

/// The readiness goes by the same judgement, made anew by each reload.
#[test]
fn a_reload_may_bring_another_kind_of_program() {
    let home = Home::new();
    let www = server(&home, "one", "#!/usr/bin/env node\n");
    executable(&www);
    home.script("two", "exec sleep 1000000");
    home.link("current", "one");
    let master = launch(&home, &home.join("current")).serve();
    assert_eq!(master.seen(&on("listening")).len(), 2);
    home.link("current", "two");
    master.reload().expect_code(0);
    home.link("current", "one");
    master.reload().expect_code(0);
    assert_eq!(master.get("/").text("generation"), "3");
}

#[test]
fn check_says_how_it_is_run() {
    let home = Home::new();
    let shown = |server: &Path| {
        let checked = home.recluster(&["check", &server.to_string_lossy()]);
        checked.expect_code(0);
        let line = checked.stdout.lines().find(|line| line.starts_with("runs ")).expect("a line");
        line.trim_start_matches("runs").trim().to_owned()
    };
    assert_eq!(shown(&server(&home, "server.js", "")), "under node, by the ending of its name");
    let line = "#!/usr/bin/env -S node --no-warnings";
    assert_eq!(
        shown(&server(&home, "www", &format!("{line}\n"))),
        format!("under node, by its first line, {line}")
    );
    assert_eq!(shown(&home.script("program", "exec sleep 1")), "as it is, by its first line, #!/bin/sh");
    assert_eq!(shown(Path::new("/bin/sleep")), "as it is, as a program");
}

#[test]
fn what_hides_the_server_is_told_with_what_to_run_instead() {
    let home = Home::new();
    server(&home, "server.js", "");
    home.write("package.json", r#"{ "scripts": { "start": "node --no-warnings server.js" } }"#);
    let shim = home.script("start", "exec node --no-warnings server.js \"$@\"");
    executable(&server(&home, "node_modules/npm/bin/npm-cli.js", "#!/usr/bin/env node\n"));
    let npm = home.join("node_modules/npm/bin/npm-cli.js");
    for (program, args) in [(&shim, &[][..]), (&npm, &["--", "start"])] {
        let program = program.to_string_lossy();
        let checked = home.recluster(&[&["check", &*program], args].concat());
        let hint = "(hint: run recluster --node-arg=--no-warnings server.js)";
        assert!(checked.stdout.contains(hint), "{checked:?}");
    }
    let master = launch(&home, &shim).workers(1).start();
    eventually("the log says so", || {
        master
            .seen(&on("caveat"))
            .iter()
            .any(|event| event.text("/caveat").contains("in a process of its own"))
    });
}
