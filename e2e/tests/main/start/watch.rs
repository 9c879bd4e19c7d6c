//! `--watch`: a server is written, and every file that is saved is a reload.

use std::fs;
use std::net::TcpListener;

use recluster_e2e::{Home, Launch, Master, Tmux, fixture, on};

/// A project with a server that answers what `text.js` says.
fn project() -> Home {
    let home = Home::new();
    for directory in ["app/src", "app/node_modules/some", "app/build"] {
        fs::create_dir_all(home.join(directory)).expect("the directory is ours");
    }
    home.write("app/package.json", "{}");
    home.write("app/.gitignore", "build/\n");
    fs::copy(fixture("server.js"), home.join("app/src/http.js")).expect("a fixture can be copied");
    home.write("app/src/server.js", "require('./text.js'); require('./http.js')");
    says(&home, "first");
    home
}

fn says(home: &Home, text: &str) {
    home.write("app/src/text.js", &format!("process.env.TEXT = '{text}'"));
}

fn watching(home: &Home) -> Launch {
    let launch = Launch::of(home.join("app/src/server.js")).home(home).flag("--watch");
    ["--workers", "--timeout", "--bake"].into_iter().fold(launch, Launch::without)
}

#[track_caller]
fn answers(master: &Master, text: &str) {
    assert_eq!(master.get("/").json()["env"]["TEXT"], text);
}

#[test]
fn what_is_saved_is_served_and_what_is_broken_is_rolled_back_until_it_is_mended() {
    let home = project();
    let master = watching(&home).serve();
    answers(&master, "first");
    assert_eq!(master.active_pids().len(), 1, "one worker is enough");

    home.write("app/build/out.js", "it is built");
    home.write("app/node_modules/some/index.js", "it is installed");
    says(&home, "second");
    master.wait(on("reloaded").with("/verdict", "done"));
    answers(&master, "second");
    let changed = master.wait(on("files_changed"));
    assert!(changed.text("/files/0").ends_with("/app/src/text.js"), "{changed:?}");

    home.write("app/src/text.js", "this is no JavaScript");
    let verdict = master.wait(on("reloaded").with("/verdict", "rolled_back"));
    assert!(verdict.text("/failure/reason").contains("SyntaxError"), "{verdict:?}");
    answers(&master, "second");

    says(&home, "third");
    master.wait_all(2, on("reloaded").with("/verdict", "done"));
    answers(&master, "third");
}

#[test]
fn a_server_that_does_not_start_and_one_that_ends_wait_for_the_next_change() {
    let home = project();
    home.write("app/src/text.js", "this is no JavaScript");
    let master = watching(&home).start();
    master.wait(on("held"));
    says(&home, "mended");
    master.wait(on("reloaded").with("/verdict", "done"));
    answers(&master, "mended");
    master.get("/exit");
    master.wait_all(2, on("held"));
    says(&home, "mended again");
    master.wait_all(2, on("reloaded").with("/verdict", "done"));
    answers(&master, "mended again");
    assert_eq!(master.seen(&on("spawned")).len(), 3, "nothing is started again and again");
}

#[test]
fn a_debugger_finds_each_worker_at_the_same_port() {
    let home = project();
    // Free a moment ago; where another process takes it, there is no debugger, and the master moves to another port.
    let port =
        TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port is free").port();
    let master = watching(&home).node_arg(&format!("--inspect=127.0.0.1:{port}")).serve();
    let debugged_at = || master.get("/").json()["inspector"].as_str().unwrap_or_default().to_owned();
    let place = |url: &str| url.rsplit_once('/').map(|(place, _)| place.to_owned());
    let first = debugged_at();
    says(&home, "second");
    master.wait(on("reloaded").with("/verdict", "done"));
    answers(&master, "second");
    let second = debugged_at();
    assert!(first.starts_with("ws://127.0.0.1:"), "{first}");
    assert_eq!(place(&first), place(&second));
    assert_ne!(first, second, "it is another worker");
}

/// What is on the screen then is of the new code alone.
#[test]
#[cfg_attr(not(has = "tmux"), ignore = "tmux is not installed")]
fn the_screen_is_cleared_before_a_reload_where_that_is_asked_for() {
    for (option, stays) in [("--clear-screen", false), ("", true)] {
        let home = project();
        let control = home.join("it.sock");
        let run =
            format!("\"$RECLUSTER\" app/src/server.js --watch {option} --control '{}'", control.display());
        let tmux = Tmux::start(&home, (200, 50), &run);
        tmux.wait_for("1 worker serves generation 1");
        says(&home, "second");
        let screen = tmux.wait_for("reloaded: generation 2 serves");
        assert!(screen.contains("text.js has changed: reload"), "{screen}");
        assert_eq!(screen.contains("1 worker serves generation 1"), stays, "{screen}");
    }
}
