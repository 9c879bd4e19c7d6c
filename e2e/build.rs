//! Looks for what only some tests need, and tells the compiler by `cfg(has = "…")`: cargo lists the tests of what is missing
//! as *ignored*, with the reason. Where `RECLUSTER_TEST_NO_SKIP` is set, as in CI, every program counts as installed, and
//! the tests of a missing one fail.

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

#[path = "src/machine.rs"]
mod machine;

/// Programs that are looked for by their name.
const PROGRAMS: [&str; 15] = [
    "bash",
    "curl",
    "gcc",
    "go",
    "haproxy",
    "nginx",
    "php",
    "php-fpm8.2",
    "plackup",
    "puma",
    "prometheus",
    "promtool",
    "script",
    "systemd-notify",
    "tmux",
];

/// The list of what is installed on Debian: a library is in no directory of programs.
const PACKAGES: &str = "/var/lib/dpkg/status";

fn main() {
    let mut all: Vec<(&str, bool)> =
        PROGRAMS.into_iter().map(|name| (name, machine::find(name).is_some())).collect();
    all.push(("chromium", machine::browser().is_some()));
    all.push(("python3-venv", python("import venv, ensurepip")));
    all.push(("libsystemd", python("import ctypes; ctypes.CDLL('libsystemd.so.0').sd_notify_barrier")));
    if env::var_os("RECLUSTER_TEST_NO_SKIP").is_some() {
        for (_, has) in &mut all {
            *has = true;
        }
    }
    let node = machine::node().map_or((0, 0), |node| machine::node_version(&node));
    all.push(("node-20", node >= (20, 0)));
    all.push(("node-22.8", node >= (22, 8)));
    all.push(("node-22.10", node >= (22, 10)));
    all.push(("node-22.18", node >= (22, 18)));
    all.push(("node-24.12", node >= (24, 12)));
    all.push(("privileged-ports", has_privileged_ports()));
    all.push(("root", is_root()));
    all.push(("pid-namespaces", has_pid_namespaces()));
    all.push(("mounts", can_mount()));
    all.push(("fuse", can_mount() && fs::File::open("/dev/fuse").is_ok()));
    all.push(("networks", has_networks()));
    all.push(("ptrace", can_trace()));
    all.push(("freezer", fixture_can("frozen.py")));
    all.push(("memory-groups", fixture_can("in-a-memory-group.py")));
    all.push(("pids-groups", fixture_can("in-a-pids-group.py")));
    all.push(("fanotify", fixture_can("keeps-from-running.py")));
    for (name, has) in all {
        println!("cargo::rustc-check-cfg=cfg(has, values(\"{name}\"))");
        if has {
            println!("cargo::rustc-cfg=has=\"{name}\"");
        }
    }
    run_again_when_something_is_installed();
}

fn run_again_when_something_is_installed() {
    for variable in ["PATH", "RECLUSTER_TEST_NODE", "RECLUSTER_TEST_NO_SKIP"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    // What is not there counts as changed each time.
    for path in machine::directories().iter().map(|path| &**path).chain([Path::new(PACKAGES)]) {
        if path.exists() {
            println!("cargo::rerun-if-changed={}", path.display());
        }
    }
}

/// Whether Python runs this.
fn python(text: &str) -> bool {
    let status = Command::new("python3").args(["-c", text]).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// Whether there are ports that only a privileged process may listen on.
fn has_privileged_ports() -> bool {
    let first_free = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    first_free.is_ok_and(|port| port.trim() != "0")
}

/// Whether a program can be the first process of a PID namespace here.
fn has_pid_namespaces() -> bool {
    let mut unshare = Command::new("unshare");
    unshare.args(["--pid", "--fork", "--mount-proc", "true"]).stderr(Stdio::null());
    unshare.status().is_ok_and(|status| status.success())
}

/// Whether a program can have file systems of its own here.
fn can_mount() -> bool {
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "sh", "-c", "mount -t tmpfs none /mnt"]).stderr(Stdio::null());
    is_root() && unshare.status().is_ok_and(|status| status.success())
}

/// Whether a program can have mounts and networks of its own here, with links between them.
fn has_networks() -> bool {
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--net", "ip", "link", "add", "one", "type", "veth", "peer", "name", "other"]);
    is_root() && unshare.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Whether a process may trace another one of the same user.
fn can_trace() -> bool {
    fixture_can("cannot-be-killed.py")
}

/// Whether a fixture can do here what it is for, as it says itself.
fn fixture_can(name: &str) -> bool {
    let mut program = Command::new("python3");
    program.args([&format!("fixtures/{name}"), "try"]).stderr(Stdio::null());
    program.status().is_ok_and(|status| status.success())
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}
