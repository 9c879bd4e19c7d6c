//! As whom workers run, and what they are allowed. Only root can give workers another user, and only then these tests say
//! something.

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use recluster_e2e::{Connection, Event, Home, Launch, Master, eventually, recluster};
use rustix::process::{Signal, geteuid};
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

/// It binds what only root may, and has nothing that other users could use but what its workers need.
#[test]
fn a_master_that_is_root_binds_a_port_of_the_privileged_and_keeps_what_is_its_own() {
    if !is_root() {
        return;
    }
    let [uid, _] = daemon();
    let (home, _) = open_home();
    let server = home.program(
        "server.py",
        "#!/usr/bin/env python3\nimport os, socket\n\
         notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n\
         notify.sendto(b'READY=1', os.environ['NOTIFY_SOCKET'])\n\
         listener = socket.socket(fileno=3)\n\
         while True:\n  client, _ = listener.accept()\n  client.recv(999)\n  \
         body = b'%d' % os.getuid()\n  client.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n' % len(body) + body)\n  client.close()\n",
    );
    let free = |port: &u16| TcpListener::bind(("127.0.0.2", *port)).is_ok();
    let port = (600..1024).rev().find(free).expect("not all of them are taken");
    let launch = Launch::of(server).home(&home).workers(1).option("--user", "daemon");
    let launch = launch.listen(&format!("127.0.0.2:{port}")).option("--ready-when", "notify");
    let [log, pid] = ["log", "pid"].map(|name| home.join(name));
    let launch =
        launch.option("--log-file", log.to_str().unwrap()).option("--pidfile", pid.to_str().unwrap());
    let mut master = launch.start();
    let started =
        || home.read_if_there("log").lines().filter_map(Event::parse).find(|event| event.name() == "started");
    eventually("it has started", || started().is_some());
    let mut client = Connection::open(([127, 0, 0, 2], port).into()).expect("it listens");
    assert_eq!(client.get("/").expect("an answer").body, uid.to_string());
    let control = master.control().to_owned();
    let status = |who: &str| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", who, "--clear-groups"]).arg(recluster()).arg("status");
        let command = command.arg("--control").arg(&control).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().expect("setpriv").code()
    };
    assert_eq!([status("0"), status("daemon")], [Some(0), Some(2)]);
    for file in [log, pid] {
        assert_eq!(fs::metadata(&file).expect("it is there").mode() & 0o022, 0, "{}", file.display());
    }
    master.signal(Signal::TERM);
    master.expect_end(0);
}

#[test]
fn a_master_that_may_give_workers_no_other_user_is_refused() {
    if !is_root() {
        return;
    }
    let (home, _) = open_home();
    for (option, id) in [("--user", "daemon"), ("--group", "54324")] {
        let mut master = Command::new("setpriv");
        master.args(["--reuid=54321", "--regid=54322", "--clear-groups"]).arg(recluster()).arg("run");
        master.arg(home.join("server.js")).args([option, id, "--control=none"]).stdin(Stdio::null());
        let refused = master.current_dir(home.path()).output().expect("setpriv");
        let said = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{said}");
        assert!(said.contains("CAP_SETUID") || said.contains("CAP_SETGID"), "what to do: {said}");
    }
}

/// As under Node's own cluster.
#[test]
fn a_worker_of_another_user_may_ask_a_root_master_for_a_port_of_the_privileged() {
    if !is_root() {
        return;
    }
    let (home, _) = open_home();
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let port = (600..1024).rev().find(free).expect("not all of them are taken");
    let master = launch(&home).option("--user", "daemon").env("PORT", port.to_string()).serve();
    assert_eq!(master.address().port(), port);
    assert_eq!(found(&master)["uid"], daemon()[0]);
}

/// The permissions of the socket are one wall, and behind it is looked at who asks.
#[test]
fn another_user_is_refused_also_where_the_control_socket_is_open_to_everybody() {
    if !is_root() {
        return;
    }
    let (home, _) = open_home();
    let master = launch(&home).serve();
    let control = master.control();
    fs::set_permissions(control, Permissions::from_mode(0o777)).expect("root may");
    let directory = control.parent().expect("it is in one");
    fs::set_permissions(directory, Permissions::from_mode(0o755)).expect("root may");
    for words in [&["status"][..], &["stop"], &["upgrade", "--binary", "/bin/true"]] {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "daemon", "--clear-groups"]).arg(recluster()).args(words);
        let refused = command.arg("--control").arg(control).output().expect("setpriv");
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(
            said.contains("only the user that the cluster runs as, and root, may ask"),
            "{words:?}: {said}"
        );
        assert!(!refused.status.success() && refused.stdout.is_empty(), "{words:?}");
    }
    found(&master);
}
