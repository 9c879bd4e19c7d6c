//! As whom workers run, and what they are allowed. These tests need root, as does what they are about.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;

use recluster_e2e::{Home, Launch, Master, eventually};
use serde_json::{Value, json};

/// What a server finds itself to be.
const SERVER: &str = "const fs = require('node:fs')
const { USER, LOGNAME, HOME } = process.env
const limit = fs.readFileSync('/proc/self/limits', 'utf8').match(/Max core file size +(\\w+) +(\\w+)/).slice(1)
require('node:http').createServer((request, response) => {
  const ids = { uid: process.getuid(), gid: process.getgid(), groups: process.getgroups() }
  response.end(JSON.stringify({ ...ids, umask: process.umask(), cwd: process.cwd(), limit, env: { USER, LOGNAME, HOME } }))
}).listen(Number(process.env.PORT ?? 0), '127.0.0.1')";

/// A directory that other users may read, and one in it that they may write.
fn open_home() -> (Home, PathBuf) {
    let home = Home::new();
    home.write("server.js", SERVER);
    let out = home.join("out");
    fs::create_dir(&out).expect("ours");
    fs::set_permissions(home.join(""), Permissions::from_mode(0o755)).expect("ours");
    fs::set_permissions(&out, Permissions::from_mode(0o777)).expect("ours");
    (home, out)
}

fn launch(home: &Home) -> Launch {
    Launch::of(home.join("server.js")).home(home).workers(1)
}

fn found(master: &Master) -> Value {
    master.get("/").json()
}

#[test]
fn workers_checks_and_hooks_are_of_the_account_that_is_named() {
    let (home, out) = open_home();
    let [checked, hooked] = ["checked", "hooked"].map(|name| out.join(name));
    let launch = launch(&home).option("--user", "daemon").option("--chdir", out.to_str().unwrap());
    let launch = launch.option("--ready-check", &format!("exec:touch {}", checked.display()));
    let master = launch.hook(&format!("started=exec:touch {}", hooked.display())).serve();
    let found = found(&master);
    assert_eq!((&found["uid"], &found["gid"]), (&json!(1), &json!(1)));
    assert!(found["groups"].as_array().unwrap().contains(&json!(1)), "{found}");
    assert!(!found["groups"].as_array().unwrap().contains(&json!(0)), "nothing of root's is left: {found}");
    assert_eq!(found["cwd"], out.to_str().unwrap());
    assert_eq!((&found["env"]["USER"], &found["env"]["LOGNAME"]), (&json!("daemon"), &json!("daemon")));
    assert_ne!(found["env"]["HOME"], json!("/root"));
    eventually("the hook has run", || hooked.exists());
    assert_eq!([checked, hooked].map(|file| fs::metadata(file).unwrap().uid()), [1, 1]);
    master.reload().expect_code(0);
}

#[test]
fn a_reload_gives_workers_another_user_umask_and_limit() {
    let (home, _) = open_home();
    let master = launch(&home).config("user = 54321\ngroup = 54322\n").serve();
    let before = found(&master);
    let ids = |found: &Value| (found["uid"].clone(), found["gid"].clone(), found["groups"].clone());
    assert_eq!(ids(&before), (json!(54321), json!(54322), json!([54322])));
    assert_eq!(before["env"], json!({ "HOME": "/" }), "there is no such account");

    master.configure("user = 54323\ngroup = 54322\numask = \"027\"\nrlimit = \"core=4096:8192\"\n");
    master.reload().expect_code(0);
    let after = found(&master);
    assert_eq!(ids(&after), (json!(54323), json!(54322), json!([54322])));
    assert_eq!((&after["umask"], &after["limit"]), (&json!(0o027), &json!(["4096", "8192"])));

    master.configure("user = 54323\n");
    let refused = master.reload();
    refused.expect_code(1);
    assert!(refused.stderr.contains("user 54323 has no account"), "{}", refused.stderr);
    assert_eq!(ids(&found(&master)), ids(&after), "the old workers serve on");
}

#[test]
fn what_no_worker_could_be_is_refused_before_anything_is_started() {
    let (home, _) = open_home();
    for (option, value, why) in [
        ("--user", "no-such-user", "there is no user \"no-such-user\" on this machine"),
        ("--user", "54321", "user 54321 has no account on this machine"),
        ("--group", "no-such-group", "there is no group \"no-such-group\" on this machine"),
        ("--umask", "9", "write three octal digits"),
        ("--rlimit", "files=1", "\"files\" is no limit; there are as, core"),
        ("--rlimit", "nofile=99999999999", "workers cannot have the limit nofile=99999999999"),
        ("--chdir", "/nowhere", "/nowhere"),
    ] {
        let refused = launch(&home).option(option, value).refused();
        assert!(refused.stderr.contains(why), "{option} {value}: {}", refused.stderr);
    }
}

#[test]
fn root_is_told_that_workers_are_root_unless_that_is_said() {
    let (home, _) = open_home();
    let warning = "workers run as root";
    let warned = |launch: Launch| {
        let master = launch.serve();
        let caveats = master.log().into_iter().filter(|event| event.name() == "caveat");
        caveats.into_iter().any(|event| event.text("/caveat").contains(warning))
    };
    assert!(warned(launch(&home)));
    assert!(!warned(launch(&home).option("--user", "root")));
}
