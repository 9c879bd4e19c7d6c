//! What cannot take a master's place is told from what can before anything is changed.

use recluster_e2e::{Home, Launch, Stage, eventually, on};

use super::{that_does, upgrade, variant};

#[test]
fn what_is_no_program_that_could_take_over_is_refused_and_the_master_goes_on() {
    let home = Home::new();
    let master = Launch::fixture("server.js").serve();
    let (pids, files) = (master.active_pids(), master.process().open_files());
    let script = home.script("script", "exit 0");
    let text = home.write("text", "recluster");
    let stranger = variant(&home, "stranger", &[("\u{7f}ELF", "\u{7f}ELF")]);
    // Its head says that it is for a machine that nobody has.
    let mut bytes = std::fs::read(&stranger).expect("it was just written");
    bytes.truncate(64);
    bytes[18] = 0xfe;
    std::fs::write(&stranger, bytes).expect("the directory is ours");
    let aborts = that_does(&home, "other", "abort\n");
    for (binary, reason) in [
        (home.path(), "it is a directory"),
        (script.as_path(), "it is a script: name the recluster that it starts"),
        (text.as_path(), "it may not be executed (chmod +x)"),
        (&stranger, "it is a program for another kind of machine"),
        (&home.path().join("nowhere"), "No such file or directory"),
        (std::path::Path::new("/bin/true"), "its dry run ended with status 0"),
        (std::path::Path::new("/bin/false"), "its dry run ended with status 1"),
        (&aborts, "the new program is no recluster that could take over"),
    ] {
        let refused = upgrade(&master, binary);
        refused.expect_code(1);
        let reply = refused.json();
        assert_eq!(reply["reply"], "not_upgraded");
        let said = reply["reason"].as_str().expect("a reason");
        assert!(said.contains(reason), "{}: {said}", binary.display());
    }
    assert_eq!(master.active_pids(), pids);
    // A client may not have been gone yet when they were counted first.
    eventually("it has no more descriptors than before", || master.process().open_files() <= files);
    assert_eq!(master.status()["master"]["upgrades"], 0);
}

#[test]
fn a_config_file_that_is_wrong_by_now_is_a_reason() {
    let home = Home::new();
    let next = super::next(&home);
    let master = Launch::fixture("server.js").config("timeout = \"20s\"\n").serve();
    master.configure("timeout = \"twenty\"\n");
    let refused = upgrade(&master, &next);
    refused.expect_code(1);
    assert!(refused.stdout.contains("timeout"), "{refused:?}");
    master.configure("timeout = \"10s\"\n");
    upgrade(&master, &next).expect_code(0);
}

#[test]
fn a_reload_is_not_disturbed_and_can_be_waited_for() {
    let home = Home::new();
    let next = super::next(&home);
    let stage = Stage::new();
    let master = stage.launch().workers(1).start();
    let mut old = stage.next();
    old.serve();
    master.wait(on("started"));
    master.client(&["reload", "--no-wait"]).expect_code(0);
    let mut new = stage.next();
    let refused = upgrade(&master, &next);
    refused.expect_code(1);
    assert!(refused.stdout.contains("a reload is going on"), "{refused:?}");
    let waits = master.begin_client(&["upgrade", "--wait", "--binary", next.to_str().expect("text")]);
    new.serve();
    master.wait(on("reloaded").with("/verdict", "done"));
    waits.finish().expect_code(0);
}

/// A recluster that knows of no upgrade starts nothing where it is asked for a dry run.
#[test]
fn what_a_dry_run_says_is_refused_by_one_that_knows_none() {
    let home = Home::new();
    let old = home.path();
    let refused = recluster_e2e::command(old);
    let mut refused = refused;
    refused.args(["run", "upgrade", "--rehearsal=7", "--", "run", "server.js"]);
    let refused = recluster_e2e::Finished::run(refused);
    refused.expect_code(2);
    assert!(refused.stderr.contains("--rehearsal"), "{refused:?}");
}
