//! The command line and the config file of `contrib/kubernetes`, as they stand there, in what a pod is: a user without privileges, a
//! root that cannot be written to, an empty `/tmp`, and a `ConfigMap` laid out as the kubelet does it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use recluster_e2e::{Home, Master, Node, eventually, fixture, on, recluster, repository};
use rustix::process::Signal;

/// Prints the status and the body of an answer.
const ASK: &str = "import sys, urllib.request
try: answer = urllib.request.build_opener(urllib.request.ProxyHandler({})).open(sys.argv[1])
except urllib.error.HTTPError as error: answer = error
except OSError as error: sys.exit(print('nobody:', error))
print(answer.status, answer.read().decode())";

fn manifest(name: &str) -> String {
    fs::read_to_string(repository().join("contrib/kubernetes/base").join(name)).expect("a manifest")
}

/// A list of the container, which is written as JSON.
fn list(manifest: &str, key: &str) -> Vec<String> {
    let line = manifest.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix(": "));
    serde_json::from_str(line.expect("the manifest has it")).expect("it is written in brackets")
}

/// The path that a probe asks for.
fn probe<'a>(manifest: &'a str, key: &str) -> &'a str {
    let (_, probe) = manifest.split_once(&format!("{key}:")).expect("the manifest has it");
    let (_, path) = probe.split_once("path: ").expect("a probe has a path");
    path.split([',', ' ']).next().expect("there is a word")
}

/// Brings a version of the `ConfigMap`, as the kubelet does: everything by way of one symlink, which is swapped.
fn mounted(directory: &Path, version: &str, config: &str) {
    fs::create_dir_all(directory.join(version)).expect("the directory is ours");
    fs::write(directory.join(version).join("recluster.toml"), config).expect("the directory is ours");
    symlink(version, directory.join("..data_tmp")).expect("the directory is ours");
    fs::rename(directory.join("..data_tmp"), directory.join("..data")).expect("the directory is ours");
    // It is there already in a later version.
    let _ = symlink("..data/recluster.toml", directory.join("recluster.toml"));
}

/// The answer to a request from within the pod's network; what went wrong, where there was none.
fn ask(pod: &Master, port: u16, path: &str) -> String {
    let network = format!("--net=/proc/{}/ns/net", pod.process().pid());
    let mut python = Command::new("nsenter");
    python.args([&network, "python3", "-c", ASK, &format!("http://127.0.0.1:{port}{path}")]);
    let output = python.stderr(Stdio::inherit()).output().expect("nsenter can be run");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn pod(home: &Home, manifest: &str, config: &str) -> Master {
    for directory in ["app", "bin", "config"] {
        fs::create_dir(home.join(directory)).expect("the directory is ours");
    }
    fs::copy(fixture("server.js"), home.join("app/server.js")).expect("a fixture can be copied");
    home.copy_of(recluster(), "bin/recluster");
    symlink(&Node::under_test().path, home.join("bin/node")).expect("the directory is ours");
    mounted(&home.join("config"), "..1", config);
    let mut python = Command::new("python3");
    python.arg(fixture("pod.py")).arg(home.path());
    python.args(list(manifest, "command")).args(list(manifest, "args"));
    // As an image has them.
    python.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("PORT", "8080");
    Master::by(python, home)
}

#[test]
#[cfg_attr(not(has = "networks"), ignore = "no network and no mounts of its own can be made here")]
fn the_pod_answers_its_probes_reloads_when_its_config_map_changes_and_leaves_its_service_first() {
    let (manifest, config) = (manifest("deployment.yaml"), manifest("recluster.toml"));
    let home = Home::new();
    let mut pod = pod(&home, &manifest, &config);
    let admin = |path: &str| ask(&pod, 9464, path);
    let passes = |name: &str| admin(probe(&manifest, name)).starts_with("200 ");
    eventually("the startup probe passes", || passes("startupProbe"));
    assert!(passes("livenessProbe") && passes("readinessProbe"));
    assert!(
        admin("/metrics").contains("\nrecluster_accept_queue_length{"),
        "the metric to scale on is there"
    );
    assert!(pod.seen(&on("preload_missing")).is_empty(), "the file for the drains has its place");
    assert!(ask(&pod, 8080, "/").contains(r#""generation":"1""#));

    mounted(&home.join("config"), "..2", &config.replace(r#"workers = "max""#, "workers = 3"));
    pod.wait(on("reloaded").with("/verdict", "done"));
    assert!(admin("/metrics").contains("\nrecluster_slots 3\n"), "the new settings are in force");
    assert!(ask(&pod, 8080, "/").contains(r#""generation":"2""#));

    pod.signal(Signal::TERM);
    pod.wait(on("accepting_until_stop"));
    assert!(admin(probe(&manifest, "readinessProbe")).starts_with("503 "));
    assert!(passes("livenessProbe"), "a pod that leaves is not restarted");
    assert!(ask(&pod, 8080, "/").contains(r#""generation":"2""#), "and it still serves");
    // Another TERM cuts that short.
    eventually("it ends", || {
        pod.signal(Signal::TERM);
        !pod.process().lives()
    });
    pod.expect_end(0);
}
