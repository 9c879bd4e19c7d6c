//! What only a program that embeds the library can ask for, with real workers.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use recluster::control::Socket;
use recluster::{Address, Cluster, ClusterBuilder, Ending, Event, Events, Failure, Heard, Worker};
use recluster_e2e::{DEADLINE, Finished, Home, Node, Process, Response, command, fixture, get};
use rustix::process::Signal;
use serde_json::json;

/// A cluster of one of the fixtures, whose workers serve as soon as they listen.
fn cluster(server: &str) -> ClusterBuilder {
    Cluster::builder(fixture(server))
        .node(&Node::under_test().path)
        .bake(Duration::ZERO)
        .respawn(Duration::from_millis(50))
}

/// Waits for anything, within the deadline.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, what).await.expect("it should not take so long")
}

/// The first event from now on that this function makes something of.
async fn next<T>(events: &mut Events, wanted: impl Fn(&Event) -> Option<T>) -> T {
    soon(async {
        loop {
            match events.next().await {
                Some(Heard::Event(event)) => {
                    if let Some(found) = wanted(&event) {
                        return found;
                    }
                }
                Some(Heard::Missed(_)) => {}
                None => unreachable!("the cluster is over before the event"),
            }
        }
    })
    .await
}

async fn started(cluster: &Cluster) {
    soon(cluster.started()).await.expect("a good server starts");
}

async fn active(cluster: &Cluster) -> Vec<Worker> {
    let active = cluster.active_workers().await.expect("the cluster lives");
    active.into_iter().flatten().collect()
}

/// One request, made by a thread of its own so that the cluster goes on.
async fn ask(address: SocketAddr) -> Response {
    let answer = tokio::task::spawn_blocking(move || get(address, "/"));
    soon(answer).await.expect("no panic").expect("an answer")
}

fn tcp(event: &Event) -> Option<SocketAddr> {
    if let Event::Listening { address: Address::Tcp(address), .. } = event { Some(*address) } else { None }
}

fn serving(event: &Event) -> Option<Worker> {
    if let Event::Serving { worker, .. } = event { Some(*worker) } else { None }
}

fn exited(event: &Event) -> Option<Worker> {
    if let Event::Exit { worker, .. } = event { Some(*worker) } else { None }
}

fn said(event: &Event) -> Option<String> {
    if let Event::Message { text, .. } = event { text.clone() } else { None }
}

fn given_up(event: &Event) -> Option<Failure> {
    if let Event::ReplaceFailed { failure } = event { Some(failure.clone()) } else { None }
}

#[tokio::test]
async fn one_worker_can_be_renewed_and_the_new_one_comes_first() {
    let cluster = cluster("server.js").workers(2).start().await.expect("it starts");
    started(&cluster).await;
    let before = active(&cluster).await;
    let mut events = cluster.subscribe();
    cluster.replace(before[0].id).expect("the cluster lives");
    // Whichever comes first.
    let first = next(&mut events, |event| serving(event).map(Ok).or_else(|| exited(event).map(Err))).await;
    let renewed = first.expect("the new one serves before the old one goes");
    assert_eq!((renewed.slot, renewed.generation), (before[0].slot, before[0].generation));
    assert_eq!(next(&mut events, exited).await.id, before[0].id);
    let after = active(&cluster).await;
    assert_eq!((after[0].id, after[1].id), (renewed.id, before[1].id));
    soon(cluster.terminate()).await.expect("the cluster lives");
}

#[tokio::test]
async fn a_worker_that_cannot_be_renewed_stays() {
    let home = Home::new();
    let gate = home.write("gate", "");
    let cluster = cluster("gate.js").env("GATE", &gate).attempts(2).start().await.expect("it starts");
    started(&cluster).await;
    let before = active(&cluster).await;
    std::fs::remove_file(&gate).expect("the directory is ours");
    let mut events = cluster.subscribe();
    cluster.replace(before[0].id).expect("the cluster lives");
    assert_eq!(next(&mut events, given_up).await.failures, 2);
    assert_eq!(active(&cluster).await, before);
    soon(cluster.terminate()).await.expect("the cluster lives");
}

#[tokio::test]
async fn released_workers_go_on_serving_and_are_not_replaced() {
    let builder = cluster("server.js").workers(1);
    let mut events = builder.subscribe();
    let cluster = builder.start().await.expect("it starts");
    let address = next(&mut events, tcp).await;
    started(&cluster).await;
    cluster.release().expect("the cluster lives");
    assert_eq!(cluster.status().await.expect("the cluster lives").phase, "released");
    assert_eq!(ask(address).await.text("slot"), "0");
    cluster.reload().await.expect_err("nothing is supervised any more");
    soon(cluster.stop()).await.expect("the cluster lives");
    assert!(matches!(soon(cluster.wait()).await, Ending::Asked));
}

#[tokio::test]
async fn a_released_cluster_is_over_when_its_last_worker_ends() {
    let cluster = cluster("server.js").workers(1).start().await.expect("it starts");
    started(&cluster).await;
    let worker = active(&cluster).await[0];
    cluster.release().expect("the cluster lives");
    let process = Process::open(worker.pid.expect("it runs")).expect("it lives");
    process.signal(Signal::KILL);
    assert!(matches!(soon(cluster.wait()).await, Ending::Asked));
}

/// What it leaves behind is left alone, as it was itself.
#[tokio::test]
async fn what_a_released_program_leaves_is_left_alone() {
    let builder = Cluster::builder(fixture("leaves-a-child.sh")).workers(1).bake(Duration::ZERO);
    let cluster = builder.start().await.expect("it starts");
    started(&cluster).await;
    let first = active(&cluster).await[0].pid.expect("it runs");
    let child = soon(child_of(first)).await;
    cluster.release().expect("the cluster lives");
    Process::open(first).expect("it lives").signal(Signal::KILL);
    let ending = tokio::time::timeout(DEADLINE, cluster.wait()).await;
    let lives = child.lives();
    child.signal(Signal::KILL);
    assert!(matches!(ending, Ok(Ending::Asked)), "{ending:?}");
    assert!(lives, "it ends by whatever signal it is sent");
}

/// The process that another one has started, or is about to start.
async fn child_of(parent: u32) -> Process {
    loop {
        let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
        let child = children.expect("the kernel tells").split_whitespace().next().map(str::parse);
        if let Some(Ok(child)) = child {
            return Process::open(child).expect("it lives");
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn messages_go_both_ways() {
    let cluster = cluster("echo.js").workers(1).start().await.expect("it starts");
    started(&cluster).await;
    let mut events = cluster.subscribe();
    let worker = active(&cluster).await[0];
    cluster.send(worker.id, &json!({ "answer": 42 })).await.expect("the worker reads");
    assert_eq!(next(&mut events, said).await, r#"{"heard":{"answer":42}}"#);
    cluster.send(77, &json!(1)).await.expect_err("there is no such worker");
    soon(cluster.terminate()).await.expect("the cluster lives");
}

#[tokio::test]
async fn a_first_start_that_fails_is_told() {
    let cluster = cluster("gate.js").env("GATE", "/nowhere").attempts(1).start().await.expect("it begins");
    let failure = soon(cluster.started()).await.expect_err("it cannot work").expect("with a reason");
    assert_eq!(failure.stderr, ["the gate is closed"]);
    assert!(matches!(soon(cluster.wait()).await, Ending::StartFailed(_)));
    cluster.status().await.expect_err("it is over");
}

#[tokio::test]
async fn clusters_in_one_process_are_independent_and_outlive_their_handles() {
    let one = cluster("server.js").workers(1).start().await.expect("it starts");
    let builder = cluster("server.js").workers(1);
    let mut events = builder.subscribe();
    let two = builder.start().await.expect("it starts");
    let address = next(&mut events, tcp).await;
    started(&two).await;
    drop(two);
    started(&one).await;
    soon(one.reload()).await.expect("good code");
    soon(one.stop()).await.expect("the cluster lives");
    assert_eq!(ask(address).await.text("generation"), "1");
}

/// As with the npm package, nobody has written options that could be shown.
#[tokio::test]
async fn a_program_that_tells_no_settings_is_said_to_do_so() {
    let home = Home::new();
    let cluster = cluster("server.js").workers(1).start().await.expect("it starts");
    let socket = Socket::bind(home.path().join("control/it.sock")).expect("a path of our own");
    let _server = socket.serve(cluster.clone());
    for args in [vec!["config"], vec!["config", "--diff"], vec!["config", "--json"]] {
        let mut config = command(home.path());
        config.args(args).arg("--control").arg(home.path().join("control/it.sock"));
        let asked = soon(tokio::task::spawn_blocking(|| Finished::run(config))).await.expect("no panic");
        asked.expect_code(2);
        let line = "the program that runs this cluster does not say with which settings";
        assert_eq!(asked.stderr.matches(line).count(), 1, "{asked:?}");
    }
    soon(cluster.stop()).await.expect("it lives");
}
