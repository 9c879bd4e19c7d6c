//! Not one request is lost: the loss meter against the built command, for a minute. `bench/loss` measures longer, and
//! shows with the reference that this load would tell.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use recluster_e2e::{Node, modules, recluster};
use recluster_loss::{Chaos, Contender, Kind, Mix, Outcome, Server, Settings, Trial};

/// With fewer requests, that none was lost would mean little.
const FEWEST: u64 = 500;

/// One run at a time: each takes the whole machine.
static MACHINE: Mutex<()> = Mutex::new(());

/// Reloads a server under the full mix of clients.
#[track_caller]
fn loses_nothing(server: Server, options: &[&str], chaos: Chaos) {
    let _alone = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    let settings = Settings {
        node: PathBuf::from(&Node::under_test().path),
        recluster: recluster().to_owned(),
        modules: modules().to_owned(),
        server,
        workers: 2,
        // No worker may need it: one that is ended at its timeout loses what it has.
        timeout: Duration::from_secs(600),
        options: options
            .iter()
            .map(|option| (*option).to_owned())
            .chain(["--bake=200ms".to_owned()])
            .collect(),
        journal: false,
        watched: false,
    };
    let trial = Trial {
        mix: Mix::default(),
        think: Duration::from_millis(1),
        reloads: 3,
        requests: FEWEST,
        pause: Duration::from_millis(500),
        chaos,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let outcome = runtime.block_on(trial.run(Contender::Ours, &settings));
    judge(&outcome.expect("the cluster should be measured"));
}

#[track_caller]
fn judge(outcome: &Outcome) {
    let Outcome { server, tally, .. } = outcome;
    let losses: Vec<_> = tally.losses().collect();
    assert!(losses.is_empty(), "{} of {} requests were lost: {losses:#?}", losses.len(), tally.sent());
    assert!(tally.sent() >= FEWEST, "only {} requests were made", tally.sent());
    for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Http2 || *server == Server::Http2) {
        assert!(tally.of(kind).answered > 0, "no {kind} client was ever answered");
    }
}

#[test]
fn http_round_robin() {
    loses_nothing(Server::Http, &["--balance=round-robin"], Chaos::default());
}

#[test]
fn http_kernel_amid_rollbacks_overlapping_reloads_and_scaling() {
    let chaos = Chaos { rollback: true, overlap: true, scale: true, kill: false, watch: false };
    loses_nothing(Server::Http, &["--balance=kernel"], chaos);
}

#[test]
#[cfg_attr(not(has = "script"), ignore = "script is not installed")]
fn http_while_everybody_looks() {
    loses_nothing(Server::Http, &[], Chaos { watch: true, ..Chaos::default() });
}

#[test]
fn http_sticky_by_address() {
    loses_nothing(Server::Http, &["--balance=sticky"], Chaos::default());
}

#[test]
fn http_sticky_by_header() {
    loses_nothing(Server::Http, &["--balance=sticky", "--sticky-by=header:x-client"], Chaos::default());
}

#[test]
fn http2_shared() {
    loses_nothing(Server::Http2, &["--balance=shared"], Chaos::default());
}

#[test]
fn https_one_by_one() {
    loses_nothing(Server::Https, &["--surge=1"], Chaos::default());
}

#[test]
fn fastify_amid_rollbacks_overlapping_reloads_and_scaling() {
    let chaos = Chaos { rollback: true, overlap: true, scale: true, kill: false, watch: false };
    loses_nothing(Server::Fastify, &[], chaos);
}
