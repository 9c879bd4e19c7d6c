//! The npm package: its tests are Node's, in `npm/test`. They are run here by the node under test, with the addon that is
//! built first.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use recluster_e2e::{Node, addon, recluster, remark, repository};

/// Runs one file of `npm/test`. Its own waits are bounded.
#[track_caller]
fn passes(name: &str) {
    let mut node = Command::new(&Node::under_test().path);
    node.arg("--test")
        .arg(tests().join(format!("{name}.test.js")))
        .env("RECLUSTER_ADDON", addon())
        .env("RECLUSTER_COMMAND", recluster());
    for variable in ["NODE_ENV", "NODE_OPTIONS", "RECLUSTER_MODULE"] {
        node.env_remove(variable);
    }
    let output = node.output().expect("node should run");
    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(output.status.success(), "{stdout}\n{stderr}");
    for line in stdout.lines().map(str::trim).filter(|line| line.starts_with('﹣') || line.contains("# SKIP"))
    {
        remark(&format!("skipped in {name}.test.js: {line}"));
    }
}

fn tests() -> PathBuf {
    repository().join("npm/test")
}

/// A test for each file, so that cargo names the one that fails.
macro_rules! files {
    ($($name:ident)*) => {
        const FILES: &[&str] = &[$(stringify!($name)),*];

        $(
            #[test]
            fn $name() {
                passes(stringify!($name));
            }
        )*
    };
}

files! { apps cluster compare ends fallback faults fd handles hooks install migrate modules nodes options panic process readme releases reload send serialization settings signals soak starts stderr sticky systemd types watch workers }

#[test]
fn no_file_is_without_a_test() {
    let entries = fs::read_dir(tests()).expect("npm/test");
    let names = entries.map(|entry| entry.expect("npm/test").file_name().to_string_lossy().into_owned());
    let mut found: Vec<String> =
        names.filter_map(|name| name.strip_suffix(".test.js").map(str::to_owned)).collect();
    found.sort();
    assert_eq!(found, FILES);
}
