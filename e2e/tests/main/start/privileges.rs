//! As whom workers run, and what they are allowed. Only root can give workers another user, and only then these tests say
//! something.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use recluster_e2e::{Home, Launch, Master, eventually, recluster};
use rustix::process::geteuid;
use serde_json::{Value, json};

/// What a server finds itself to be.
const SERVER: &str = "const fs = require('node:fs')
const { USER, LOGNAME, HOME } = process.env
const limit = fs.readFileSync('/proc/self/limits', 'utf8').match(/Max core file size +(\\w+) +(\\w+)/).slice(1)
require('node:http').createServer((request, response) => {
  const ids = { uid: process.getuid(), gid: process.getgid(), groups: process.getgroups() }
  response.end(JSON.stringify({ ...ids, umask: process.umask(), cwd: process.cwd(), limit, env: { USER, LOGNAME, HOME } }))
}).listen(Number(process.env.PORT ?? 0), '127.0.0.1')";

/// Whether this is root. In CI it must be.
fn is_root() -> bool {
    let is_root = geteuid().is_root();
    assert!(is_root || std::env::var_os("RECLUSTER_TEST_NO_SKIP").is_none(), "only root can run this");
    is_root
}

/// The ids of a user that every machine has.
fn daemon() -> [u32; 2] {
    let users = fs::read_to_string("/etc/passwd").expect("a list of users");
    let line = users.lines().find(|line| line.starts_with("daemon:")).expect("such a user");
    let mut fields = line.split(':').skip(2).map(|field| field.parse().expect("a number"));
    [(); 2].map(|()| fields.next().expect("two ids"))
}

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
    if !is_root() {
        return;
    }
    let [uid, gid] = daemon();
    let (home, out) = open_home();
    let [checked, hooked] = ["checked", "hooked"].map(|name| out.join(name));
    let launch = launch(&home).option("--user", "daemon").option("--chdir", out.to_str().unwrap());
    let launch = launch.option("--ready-check", &format!("exec:touch {}", checked.display()));
    let master = launch.hook(&format!("started=exec:touch {} 2>/dev/stderr", hooked.display())).serve();
    let found = found(&master);
    assert_eq!((&found["uid"], &found["gid"]), (&json!(uid), &json!(gid)));
    assert!(found["groups"].as_array().unwrap().contains(&json!(gid)), "{found}");
    assert!(!found["groups"].as_array().unwrap().contains(&json!(0)), "nothing of root's is left: {found}");
    assert_eq!(found["cwd"], out.to_str().unwrap());
    assert_eq!((&found["env"]["USER"], &found["env"]["LOGNAME"]), (&json!("daemon"), &json!("daemon")));
    assert_ne!(found["env"]["HOME"], json!("/root"));
    eventually("the hook has run", || hooked.exists());
    assert_eq!([checked, hooked].map(|file| fs::metadata(file).unwrap().uid()), [uid, uid]);
    master.reload().expect_code(0);
}

#[test]
fn a_reload_gives_workers_another_user_umask_and_limit() {
    if !is_root() {
        return;
    }
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
    if !is_root() {
        return;
    }
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

/// A service manager may give a master that is not root what it needs for this; its workers need none of it.
#[test]
fn workers_have_no_capability_of_their_master() {
    if !is_root() {
        return;
    }
    let (home, out) = open_home();
    fs::set_permissions(&out, Permissions::from_mode(0o777)).expect("ours");
    let server = home.write(
        "capable.js",
        "const status = require('node:fs').readFileSync('/proc/self/status', 'utf8')
         const sets = status.match(/^Cap(Inh|Prm|Eff|Amb):.*$/gm)
         require('node:fs').writeFileSync('out/sets', JSON.stringify([process.getuid(), ...sets]))
         setInterval(() => {}, 1e9)",
    );
    let mut master = Command::new("setpriv");
    let capabilities = "+setuid,+setgid,+kill";
    master.args([
        "--reuid=54321",
        "--regid=54322",
        "--clear-groups",
        "--inh-caps",
        capabilities,
        "--ambient-caps",
        capabilities,
    ]);
    master.arg(recluster()).arg("run").arg(server).args([
        "--user=54323",
        "--group=54324",
        "-w1",
        "--control=none",
    ]);
    master.args(["--ready-when=started", "--chdir"]).arg(home.path()).current_dir("/");
    let mut master =
        master.stdin(Stdio::null()).stderr(Stdio::null()).stdout(Stdio::null()).spawn().expect("setpriv");
    let read = || fs::read_to_string(out.join("sets")).ok().filter(|sets| sets.ends_with(']'));
    eventually("the worker has said what it may", || read().is_some());
    let none = |set: &str| format!("{set}:\t0000000000000000");
    let sets: Value = serde_json::from_str(&read().expect("it has")).expect("JSON");
    rustix::process::kill_process(rustix::process::Pid::from_child(&master), rustix::process::Signal::TERM)
        .expect("ours");
    assert_eq!(master.wait().expect("a status").code(), Some(0), "the master may still signal its worker");
    assert_eq!(sets[0], 54323);
    for (place, set) in ["CapPrm", "CapEff", "CapAmb"].iter().enumerate() {
        assert_eq!(sets[place + 2], none(set), "{sets}");
    }
}
