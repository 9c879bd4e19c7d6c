//! A budget for the master: whatever hostile workers, clients of the control socket, silent connections and a log that nobody reads do
//! together, it stays below 64 MB, answers `status`, its other workers serve, and it obeys TERM. Each attack is a row of [`table`].
//!
//! CI asserts memory and answers, for seconds, and no times. With `RECLUSTER_HOSTILE_SECONDS` (`scripts/hostile`) all rows are run at
//! once with their full numbers, and what was measured is printed.

mod attack;
mod clients;
mod coverage;
mod figures;
mod siege;
mod table;

use std::env;
use std::time::Duration;

use recluster_e2e::remark;
use rustix::process::{Resource, getrlimit};

use crate::attack::{Attack, By};
use crate::figures::Figures;
use crate::siege::{End, Options, Scale, besiege};
use crate::table::{ADMIN, BESIDE, CHANNEL, CONTROL, LOG, NETWORK, NOTIFY, OUTPUT, RELOADS, UPGRADES};

/// How long CI besieges a master with one group.
const SHORT: Duration = Duration::from_secs(3);
/// The pause between two clients of one kind: they are to be many, and to leave the machine some time for the master.
const PAUSE: Duration = Duration::from_millis(1);

/// Shows what was measured.
fn show(figures: &Figures) {
    remark(&figures.to_string());
    assert!(figures.all_were_read(), "a client that had asked was sent away without an answer: {figures}");
}

fn rows(groups: &[&'static [Attack]]) -> Vec<&'static Attack> {
    groups.iter().copied().flatten().collect()
}

/// A siege by one group, with a worker for each row.
fn besiege_with(group: &'static [Attack], options: Options, end: End) {
    let rows = rows(&[group]);
    let workers = rows.iter().filter(|row| row.order().is_some()).count();
    show(&besiege(&rows, short(workers), options, end));
}

/// A siege for CI.
fn short(workers: usize) -> Scale {
    let connections = some_connections();
    Scale { workers, control_clients: 300, connections, pause: PAUSE, is_served: true, span: SHORT }
}

/// As many as the limits of this machine allow, and CI needs.
fn some_connections() -> usize {
    const ENOUGH: u64 = 2000;
    let most = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    usize::try_from((most / 4).min(ENOUGH)).unwrap_or(0)
}

/// The row of a client that may end the cluster.
fn asks_for_the_end(name: &str) -> End {
    let row = CONTROL.iter().find(|row| row.name == name && row.by == By::ControlEnds);
    End::Asked(row.expect("there is such a row"))
}

#[test]
fn workers_that_say_all_that_can_be_said() {
    besiege_with(CHANNEL, &[], End::Term);
}

#[test]
fn workers_that_do_all_that_can_be_done_beside_saying_something() {
    besiege_with(BESIDE, &[], asks_for_the_end("stops"));
}

#[test]
fn workers_that_write_what_nobody_reads_but_clients_who_follow() {
    let rows = rows(&[OUTPUT, CONTROL]);
    let options = &[("--log-prefix", ""), ("--log-format", "text")];
    show(&besiege(&rows, short(OUTPUT.len()), options, End::Term));
}

#[test]
fn workers_that_notify() {
    besiege_with(NOTIFY, &[], asks_for_the_end("terminates"));
}

#[test]
fn clients_of_the_control_socket() {
    besiege_with(CONTROL, &[], End::Term);
}

#[test]
fn clients_of_the_control_socket_that_reload_again_and_again() {
    // Each is obeyed, and starts every worker anew: what keeps the machine busy is what was asked for.
    let pause = Duration::from_millis(250);
    let scale = Scale { control_clients: 60, pause, is_served: false, ..short(0) };
    show(&besiege(&rows(&[RELOADS]), scale, &[], End::Term));
}

#[test]
fn clients_of_the_control_socket_that_upgrade_again_and_again() {
    let pause = Duration::from_millis(50);
    show(&besiege(&rows(&[UPGRADES]), Scale { control_clients: 20, pause, ..short(0) }, &[], End::Term));
}

#[test]
fn clients_of_the_admin_listener() {
    besiege_with(ADMIN, &[], End::Term);
}

#[test]
fn clients_of_the_server() {
    besiege_with(NETWORK, &[], End::Term);
}

#[test]
fn clients_of_the_server_whose_first_bytes_are_awaited() {
    besiege_with(NETWORK, &[("--balance", "sticky"), ("--sticky-by", "header:X-Client")], End::Term);
}

#[test]
fn all_of_them_together() {
    let rows = rows(&[CHANNEL, BESIDE, NOTIFY, CONTROL, ADMIN, NETWORK, LOG]);
    let scale = match env::var("RECLUSTER_HOSTILE_SECONDS") {
        Err(_) => short(16),
        Ok(seconds) => {
            let span = Duration::from_secs(seconds.parse().expect("a number of seconds"));
            Scale {
                workers: 64,
                control_clients: 2000,
                connections: 10_000,
                pause: PAUSE,
                is_served: true,
                span,
            }
        }
    };
    show(&besiege(&rows, scale, &[], End::Term));
}
