//! A fleet behind a load balancer: `HAProxy` or nginx, with the configs of `contrib`, in front of three machines, each in a network of its own. One
//! leaves and comes back with a new version, and all reload at once: no client loses a request. `bench/fleet` has the rest.

use std::process::Command;

use recluster_e2e::{Node, loss_load, recluster, repository};

#[test]
#[cfg_attr(not(has = "networks"), ignore = "no network and no mounts of its own can be made here")]
#[cfg_attr(not(has = "haproxy"), ignore = "haproxy is not installed")]
fn behind_haproxy_machines_come_and_go_and_reload_without_a_lost_request() {
    loses_nothing("haproxy");
}

#[test]
#[cfg_attr(not(has = "networks"), ignore = "no network and no mounts of its own can be made here")]
#[cfg_attr(not(has = "nginx"), ignore = "nginx is not installed")]
fn behind_nginx_machines_come_and_go_and_reload_without_a_lost_request() {
    loses_nothing("nginx");
}

#[track_caller]
fn loses_nothing(balancer: &str) {
    let mut fleet = Command::new(repository().join("bench/fleet"));
    fleet.args(["--short", "--balancer", balancer, "--node", &Node::under_test().path]);
    fleet.arg("--recluster").arg(recluster()).arg("--load").arg(loss_load());
    let output = fleet.output().expect("python3 can be run");
    let told =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
}
