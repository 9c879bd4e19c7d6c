//! What is left of a cluster of which a part has panicked: nothing, and that is said.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use recluster_core::WorkerId;
use rustix::net::SocketAddrUnix;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::unix::AsyncFd;
use tokio::net::UnixDatagram;
use tokio::time::timeout;

use super::*;
use crate::config::service_manager::ServiceManager;
use crate::process;
use crate::report::event::Exit;
use crate::report::events::Heard;
use crate::sys;

/// No test takes this long.
const DEADLINE: Duration = Duration::from_secs(60);
const REASON: &str = "the test has panicked on purpose";

/// Two workers that serve and run this script.
async fn running(script: &str, change: impl FnOnce(ClusterBuilder) -> ClusterBuilder) -> (Cluster, Events) {
    let builder = Cluster::builder("/bin/sh").args(["-c", script]).workers(2).bake(Duration::ZERO);
    let cluster = change(builder).start().await.unwrap();
    let events = cluster.subscribe();
    timeout(DEADLINE, cluster.started()).await.unwrap().unwrap();
    (cluster, events)
}

const SLEEPS: &str = "exec sleep 1000";

/// Readable when this process has ended.
fn end_of(pid: u32) -> AsyncFd<std::os::fd::OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    sys::readable(pidfd_open(pid, PidfdFlags::empty()).unwrap()).unwrap()
}

async fn ends_of_workers(cluster: &Cluster) -> Vec<AsyncFd<std::os::fd::OwnedFd>> {
    let workers = cluster.workers().await.unwrap();
    workers.iter().map(|worker| end_of(worker.pid.unwrap())).collect()
}

async fn has_ended(end: AsyncFd<std::os::fd::OwnedFd>) {
    drop(timeout(DEADLINE, end.readable()).await.unwrap().unwrap());
}

/// All that happens until the end, which does come; last of all the ending.
async fn until_over(cluster: &Cluster, mut events: Events) -> (Vec<Event>, Ending) {
    timeout(DEADLINE, async {
        let mut happened = Vec::new();
        while let Some(Heard::Event(event)) = events.next().await {
            happened.push(event);
        }
        (happened, cluster.wait().await)
    })
    .await
    .unwrap()
}

fn is_lost(happened: &[Event], ending: &Ending, name: &str, why: &str) {
    assert!(matches!(ending, Ending::Lost), "{ending:?}");
    let is_told = |event: &Event| matches!(event, Event::Panicked { part, reason, ends: true, .. } if *part == name && reason == why);
    assert!(happened.iter().any(is_told), "{happened:?}");
    assert!(matches!(happened.last(), Some(Event::Over)), "{happened:?}");
}

fn exits(happened: &[Event]) -> Vec<Exit> {
    let exit = |event: &Event| if let Event::Exit { exit, .. } = event { Some(*exit) } else { None };
    happened.iter().filter_map(exit).collect()
}

#[tokio::test]
async fn a_part_that_panics_ends_the_cluster() {
    let (cluster, events) = running(SLEEPS, |builder| builder).await;
    cluster.beside("the part", async { panic!("{REASON}") }).await;
    let (happened, ending) = until_over(&cluster, events).await;
    is_lost(&happened, &ending, "the part", REASON);
    assert_eq!(exits(&happened), [Exit::Signal(15); 2]);
    cluster.request_stop().unwrap_err();
}

#[tokio::test]
async fn a_supervisor_that_panics_ends_its_workers_and_says_where_it_was() {
    let (cluster, events) = running(SLEEPS, |builder| builder.reread(|| panic!("{REASON}"))).await;
    let ends = ends_of_workers(&cluster).await;
    timeout(DEADLINE, cluster.reload()).await.unwrap().unwrap_err();
    let (happened, ending) = until_over(&cluster, events).await;
    is_lost(&happened, &ending, "the supervisor", REASON);
    let is_here = |event: &Event| {
        let Event::Panicked { place: Some(place), calls, phase, workers, .. } = event else { return false };
        place.contains("cluster/tests.rs:")
            && !calls.is_empty()
            && *phase == Some("running")
            && workers.len() == 2
    };
    assert!(happened.iter().any(is_here), "{happened:?}");
    assert_eq!(ends.len(), 2);
    for end in ends {
        has_ended(end).await;
    }
}

#[tokio::test]
async fn what_term_does_not_end_is_killed_with_all_of_its_group() {
    let base = tempfile::tempdir().unwrap();
    let pids = base.path().join("pids");
    // Each has a child that ignores TERM as it does itself.
    let script = format!("trap '' TERM; sleep 1000 & echo $! >> {}; while :; do wait; done", pids.display());
    let soon = |builder: ClusterBuilder| builder.kill_timeout(Duration::from_millis(100));
    let (cluster, events) = running(&script, soon).await;
    let mut ends = ends_of_workers(&cluster).await;
    ends.extend(children(&pids).await);
    assert_eq!(ends.len(), 4);
    cluster.fail("the part", REASON.to_owned());
    let (happened, ending) = until_over(&cluster, events).await;
    is_lost(&happened, &ending, "the part", REASON);
    assert_eq!(exits(&happened), [Exit::Signal(9); 2]);
    for end in ends {
        has_ended(end).await;
    }
}

#[tokio::test]
async fn a_service_manager_hears_of_the_end_and_is_told_that_the_master_lives_meanwhile() {
    let base = tempfile::tempdir().unwrap();
    let at = base.path().join("manager");
    let heard = UnixDatagram::bind(&at).unwrap();
    let manager = ServiceManager {
        socket: SocketAddrUnix::new(&at).unwrap(),
        watchdog: Some(Duration::from_millis(200)),
        knows_another: false,
        store: None,
        hears_of_stop: true,
    };
    // They do not end before they are killed.
    let pids = base.path().join("pids");
    let script = format!("trap '' TERM; echo $$ >> {}; exec sleep 600", pids.display());
    let change = |builder: ClusterBuilder| builder.kill_timeout(60 * DEADLINE).service_manager(manager);
    let (cluster, events) = running(&script, change).await;
    assert_eq!(children(&pids).await.len(), 2);
    cluster.fail("the part", REASON.to_owned());
    let stopping = format!("STOPPING=1\nSTATUS=the cluster ends, since the part has panicked: {REASON}\n");
    while next(&heard).await != stopping {}
    let (mut beats, mut extensions) = (0, 0);
    while beats < 2 || extensions < 1 {
        match next(&heard).await.as_str() {
            "WATCHDOG=1\n" => beats += 1,
            "EXTEND_TIMEOUT_USEC=30000000\n" => extensions += 1,
            other => panic!("it was said already: {other}"),
        }
    }
    cluster.request_terminate().unwrap();
    let (happened, ending) = until_over(&cluster, events).await;
    is_lost(&happened, &ending, "the part", REASON);
    assert_eq!(exits(&happened), [Exit::Signal(9); 2]);
}

async fn next(heard: &UnixDatagram) -> String {
    let mut bytes = [0; 4096];
    let length = timeout(DEADLINE, heard.recv(&mut bytes)).await.unwrap().unwrap();
    String::from_utf8_lossy(&bytes[..length]).into_owned()
}

/// The two that are named in this file, when they are.
async fn children(pids: &Path) -> Vec<AsyncFd<std::os::fd::OwnedFd>> {
    let named = async {
        loop {
            let named = fs::read_to_string(pids).unwrap_or_default();
            if named.lines().count() == 2 && named.ends_with('\n') {
                return named;
            }
            tokio::task::yield_now().await;
        }
    };
    let named = timeout(DEADLINE, named).await.unwrap();
    named.lines().map(|pid| end_of(pid.parse().unwrap())).collect()
}

#[tokio::test]
async fn workers_of_a_released_cluster_are_left_alone() {
    let (cluster, events) = running(SLEEPS, |builder| builder).await;
    let workers = cluster.workers().await.unwrap();
    cluster.release().unwrap();
    cluster.fail("the part", REASON.to_owned());
    let (happened, ending) = until_over(&cluster, events).await;
    is_lost(&happened, &ending, "the part", REASON);
    assert_eq!(exits(&happened), []);
    for worker in workers {
        let pid = Pid::from_raw(i32::try_from(worker.pid.unwrap()).unwrap()).unwrap();
        assert!(matches!(
            rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::NOHANG),
            Ok(None)
        ));
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty()).unwrap();
    }
}

#[tokio::test]
async fn workers_end_also_where_whoever_is_told_of_it_panics() {
    let fails = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&fails);
    let tell = move |_| assert!(!seen.load(Ordering::Relaxed), "{REASON}");
    let (cluster, _) = running(SLEEPS, |builder| builder.host(tell)).await;
    let ends = ends_of_workers(&cluster).await;
    fails.store(true, Ordering::Relaxed);
    cluster.fail("the part", REASON.to_owned());
    assert!(matches!(timeout(DEADLINE, cluster.wait()).await.unwrap(), Ending::Lost));
    for end in ends {
        has_ended(end).await;
    }
}

#[tokio::test]
async fn a_conversation_that_panics_is_told_and_all_else_goes_on() {
    let (cluster, mut events) = running(SLEEPS, |builder| builder).await;
    let part = Part::dispensable("a conversation");
    guarded_task(part, cluster.panicked(), async { panic!("{REASON}") }).await;
    let told = timeout(DEADLINE, async {
        loop {
            if let Some(Heard::Event(Event::Panicked { part, ends, .. })) = events.next().await {
                return (part, ends);
            }
        }
    });
    assert_eq!(told.await.unwrap(), ("a conversation", false));
    assert_eq!(cluster.workers().await.unwrap().len(), 2);
    cluster.request_terminate().unwrap();
    assert!(matches!(timeout(DEADLINE, cluster.wait()).await.unwrap(), Ending::Asked));
}

#[tokio::test]
async fn a_worker_of_which_nobody_hears_any_more_is_replaced_and_nothing_else() {
    let (cluster, mut events) = running(SLEEPS, |builder| builder).await;
    let before = cluster.workers().await.unwrap();
    let part = Part::dispensable("what checks a worker");
    let panic = Panicked { part, reason: REASON.to_owned(), place: None, calls: Vec::new() };
    // The policy counts workers as the cluster does, which has had no other.
    let worker = WorkerId::from_number(before[0].id);
    cluster.inputs.send(Input::Process(process::event::Event::Unheard(worker, panic))).unwrap();
    let mut told = None;
    let replaced = async {
        while let Some(Heard::Event(event)) = events.next().await {
            if let Event::Panicked { part, ends, .. } = event {
                told = Some((part, ends));
            } else if let Event::Serving { worker, .. } = event
                && worker.id > before[1].id
            {
                return worker.slot;
            }
        }
        panic!("it is not replaced")
    };
    assert_eq!(timeout(DEADLINE, replaced).await.unwrap(), before[0].slot);
    assert_eq!(told, Some(("what checks a worker", false)));
    let living = cluster.workers().await.unwrap();
    assert!(living.iter().any(|worker| worker.id == before[1].id), "the other one was left alone");
    cluster.request_terminate().unwrap();
    assert!(matches!(timeout(DEADLINE, cluster.wait()).await.unwrap(), Ending::Asked));
}
