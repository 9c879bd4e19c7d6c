//! The control socket from both ends, with a cluster behind it that consists of its three channels alone.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::yield_now;
use tokio::time::timeout;

use super::protocol::{Progress, REQUEST_LIMIT, Reply, Request as Asked};
use super::{Client, ClientError, News, Server, Socket, room, seats};
use crate::api::cluster::Cluster;
use crate::config::variable::Variables;
use crate::process::ring::Ring;
use crate::report::error::ScaleError;
use crate::report::event::Event;
use crate::report::stream::Stream;
use crate::report::verdict::{Failure, Told, Verdict};
use crate::report::worker::Worker;
use crate::supervisor::input::Progress as Course;
use crate::supervisor::input::{Input, Request};

/// No test takes this long.
const DEADLINE: Duration = Duration::from_secs(30);

/// A control socket, and what would be the supervisor behind it.
struct Master {
    server: Server,
    inputs: mpsc::UnboundedReceiver<Input>,
    events: broadcast::Sender<Arc<Event>>,
    course: watch::Sender<Course>,
    path: PathBuf,
    _directory: tempfile::TempDir,
}

impl Master {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("it.sock");
        let (sender, inputs) = mpsc::unbounded_channel();
        let events = broadcast::Sender::new(16);
        let (course, progress) = watch::channel(Course::default());
        let cluster = Cluster {
            inputs: sender,
            events: events.downgrade(),
            progress,
            ring: Ring::of(vec![Stream::Stderr]),
            look: None,
            survivors: Arc::default(),
        };
        let server = Socket::bind(&path).unwrap().serve(cluster);
        Self { server, inputs, events, course, path, _directory: directory }
    }

    async fn client(&self) -> Client {
        Client::connect(&self.path).await.unwrap()
    }

    /// What the cluster is asked for next.
    async fn request(&mut self) -> Request {
        let Some(Input::Request(request)) = within(self.inputs.recv()).await else { panic!("no request") };
        request
    }

    /// Says what is written, in order, and reads until the master closes.
    async fn conversation(&self, said: &[u8]) -> String {
        let mut stream = UnixStream::connect(&self.path).await.unwrap();
        // The master may have had enough before all is said.
        let _ = stream.write_all(said).await;
        let mut heard = Vec::new();
        within(stream.read_to_end(&mut heard)).await.ok();
        String::from_utf8(heard).unwrap()
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future).await.expect("nothing happened")
}

fn worker(id: u64, generation: u64) -> Worker {
    Worker { id, slot: 0, generation, pid: Some(4711) }
}

fn failure(id: u64, generation: u64) -> Failure {
    let stderr = vec!["boom".to_owned()];
    Failure { worker: worker(id, generation), reason: "exited".to_owned(), failures: 3, stderr, hint: None }
}

#[tokio::test]
async fn several_requests_are_answered_one_after_the_other() {
    let mut master = Master::start();
    let mut client = master.client().await;
    for (asked, answer) in [(Asked::ScaleBy { workers: 2 }, 4), (Asked::ScaleTo { workers: 1 }, 1)] {
        client.send(&asked).await.unwrap();
        let Request::Scale(scale, reply) = master.request().await else { panic!() };
        assert_eq!(Asked::from(scale), asked);
        reply.send(Ok(answer)).unwrap();
        let Reply::Scaled { workers } = within(client.next()).await.unwrap() else { panic!() };
        assert_eq!(workers, answer);
    }
}

#[tokio::test]
async fn a_waiting_client_hears_of_its_own_reload() {
    let mut master = Master::start();
    let mut client = master.client().await;
    client.send(&Asked::reload(true)).await.unwrap();
    let Request::Reload { reply: Some(verdict), .. } = master.request().await else { panic!() };
    for event in [
        Event::Serving { worker: worker(1, 1), serving: 1, of: 2 },
        Event::GenerationBegan { generation: 2 },
        Event::Message { worker: worker(1, 1), bytes: 2, text: Some("{}".to_owned()) },
        Event::Serving { worker: worker(3, 2), serving: 1, of: 2 },
        Event::Failed { failure: failure(4, 2) },
    ] {
        master.events.send(Arc::new(event)).unwrap();
    }
    let needs_restart = vec!["listen".to_owned()];
    let verdict_of_it = Verdict::RolledBack { failure: failure(4, 2) };
    verdict.send(Told { verdict: verdict_of_it, needs_restart }).unwrap();

    let mut heard = Vec::new();
    for _ in 0..4 {
        heard.push(within(client.next()).await.unwrap());
    }
    let [
        Reply::Progress(Progress::Began { generation: 2 }),
        Reply::Progress(Progress::Serving { serving: 1, of: 2, .. }),
        Reply::Progress(Progress::Failed { .. }),
        Reply::Verdict { generation: Some(2), verdict: Verdict::RolledBack { failure }, needs_restart },
    ] = heard.as_slice()
    else {
        panic!("{heard:?}")
    };
    assert_eq!(failure.stderr, ["boom"]);
    assert_eq!(needs_restart, &["listen"]);
}

#[tokio::test]
async fn a_client_that_does_not_wait_is_answered_at_once() {
    let mut master = Master::start();
    let mut client = master.client().await;
    client.send(&Asked::reload(false)).await.unwrap();
    let _runs = begins(&mut master).await;
    assert!(matches!(within(client.next()).await, Ok(Reply::Accepted)));
}

/// A reload has been asked for, and what follows at once has followed. Returns where its verdict goes.
async fn begins(master: &mut Master) -> oneshot::Sender<Told> {
    let Request::Reload { with: None, reply: Some(verdict), .. } = master.request().await else { panic!() };
    let Request::ActiveWorkers(reply) = master.request().await else { panic!() };
    reply.send(Vec::new()).unwrap();
    verdict
}

#[tokio::test]
async fn a_client_that_does_not_wait_hears_of_a_reload_that_cannot_begin() {
    let refused = || Verdict::Refused { reason: "no such key".to_owned() };
    let verdicts = [(refused(), "no such key"), (Verdict::Abandoned, "the cluster is about to end")];
    for (verdict, reason) in verdicts {
        let mut master = Master::start();
        let mut client = master.client().await;
        client.send(&Asked::reload(false)).await.unwrap();
        let Request::Reload { with: None, reply: Some(reply), .. } = master.request().await else { panic!() };
        reply.send(verdict.into()).unwrap();
        let Request::ActiveWorkers(reply) = master.request().await else { panic!() };
        reply.send(Vec::new()).unwrap();
        let Reply::Refused { reason: said } = within(client.next()).await.unwrap() else { panic!() };
        assert_eq!(said, reason);
    }
}

#[tokio::test]
async fn a_cluster_that_is_about_to_end_is_not_scaled() {
    let mut master = Master::start();
    let mut client = master.client().await;
    client.send(&Asked::ScaleTo { workers: 5 }).await.unwrap();
    let Request::Scale(_, reply) = master.request().await else { panic!() };
    reply.send(Err(ScaleError::Ending)).unwrap();
    let Reply::Refused { reason } = within(client.next()).await.unwrap() else { panic!() };
    assert_eq!(reason, "the cluster is about to end, and starts no worker any more");
}

#[tokio::test]
async fn whoever_runs_the_master_can_see_who_asks() {
    let mut master = Master::start();
    let mut client = master.client().await;
    let env = Variables::new([("TOKEN", "hunter2")]).unwrap();
    client.send(&Asked::Reload { wait: false, env: env.clone() }).await.unwrap();
    let Request::Reload { set, reply: _runs, .. } = master.request().await else { panic!() };
    assert_eq!(set, env);
    let Request::ActiveWorkers(reply) = master.request().await else { panic!() };
    reply.send(Vec::new()).unwrap();
    within(client.next()).await.unwrap();
    let Some(News::Asked(asked)) = within(master.server.told()).await else { panic!("nobody asked") };
    let ourselves = i32::try_from(std::process::id()).unwrap();
    assert_eq!(
        (asked.request, asked.env, asked.pid),
        (Asked::reload(false), vec!["TOKEN".to_owned()], Some(ourselves))
    );
    assert_eq!(asked.uid, rustix::process::getuid().as_raw());
}

#[tokio::test]
async fn a_client_that_leaves_is_no_longer_waited_for() {
    let mut master = Master::start();
    let mut client = master.client().await;
    client.send(&Asked::reload(true)).await.unwrap();
    let Request::Reload { reply: Some(mut verdict), .. } = master.request().await else { panic!() };
    drop(client);
    within(verdict.closed()).await;
    let mut other = master.client().await;
    other.send(&Asked::reload(false)).await.unwrap();
    let _runs = begins(&mut master).await;
    assert!(matches!(within(other.next()).await, Ok(Reply::Accepted)));
}

#[tokio::test]
async fn the_end_is_said_before_the_name_is_free_and_shown_after() {
    let mut master = Master::start();
    let mut client = master.client().await;
    client.send(&Asked::Stop).await.unwrap();
    assert!(matches!(master.request().await, Request::Stop));
    master.course.send(Course { over: true, ..Course::default() }).unwrap();
    assert!(matches!(within(client.next()).await, Ok(Reply::Ended)));
    assert!(master.path.exists());
    within(async { tokio::join!(master.server.close(), client.closed()) }).await;
    assert!(!master.path.exists());
}

#[tokio::test]
async fn idle_clients_do_not_delay_the_end() {
    let master = Master::start();
    let mut client = master.client().await;
    within(master.server.close()).await;
    assert!(matches!(within(client.next()).await, Err(ClientError::WentAway)));
}

#[tokio::test]
async fn a_cluster_that_is_over_refuses() {
    let mut master = Master::start();
    master.inputs.close();
    let mut client = master.client().await;
    let Reply::Refused { reason } = within(client.ask(&Asked::Status)).await.unwrap() else { panic!() };
    assert_eq!(reason, "the cluster has ended");
}

#[tokio::test]
async fn nonsense_gets_one_line_and_the_door() {
    let master = Master::start();
    let endless = vec![b'x'; 16 * REQUEST_LIMIT];
    let cases: [(&[u8], &str); 5] = [
        (b"hello\nhello\n", "not a request: expected value at line 1 column 1"),
        (b"\0\xff\n", "not a request: expected value at line 1 column 1"),
        (
            b"{\"version\":1,\"request\":\"dance\"}\n",
            "not a request: unknown variant `dance`, expected one of ",
        ),
        (
            b"{\"version\":9}\n",
            "the request is of version 9 of the control protocol, this master speaks version 1",
        ),
        (&endless, "a request is at most 262144 bytes long"),
    ];
    for (said, reason) in cases {
        let heard = master.conversation(said).await;
        assert_eq!(heard.lines().count(), 1, "{heard}");
        assert!(heard.starts_with(&format!("{{\"reply\":\"refused\",\"reason\":\"{reason}")), "{heard}");
    }
}

#[tokio::test]
async fn speaking_while_an_answer_is_due_ends_the_conversation() {
    let master = Master::start();
    let request = b"{\"version\":1,\"request\":\"stop\"}\n".repeat(2);
    let heard = master.conversation(&request).await;
    assert_eq!(
        heard,
        "{\"reply\":\"refused\",\"reason\":\"one request at a time: the last one is not answered yet\"}\n"
    );
}

/// Answers those who ask for a number of workers, and nobody else.
fn scaled_at_once(mut inputs: mpsc::UnboundedReceiver<Input>) {
    tokio::spawn(async move {
        let mut unanswered = Vec::new();
        while let Some(input) = inputs.recv().await {
            if let Input::Request(Request::Scale(_, reply)) = input {
                let _ = reply.send(Ok(1));
            } else {
                unanswered.push(input);
            }
        }
    });
}

#[tokio::test]
async fn clients_that_ask_for_nothing_are_in_nobody_s_way() {
    let Master { server, inputs, path, _directory, events: _events, course: _course } = Master::start();
    let _server = server;
    scaled_at_once(inputs);
    let mut silent = Vec::new();
    for _ in 0..3 {
        for _ in 0..100 {
            silent.push(UnixStream::connect(&path).await.unwrap());
        }
        // Those that have left are not counted.
        silent.truncate(200);
        let mut client = Client::connect(&path).await.unwrap();
        let reply = within(client.ask(&Asked::ScaleTo { workers: 1 })).await.unwrap();
        assert!(matches!(reply, Reply::Scaled { workers: 1 }), "{reply:?}");
    }
}

#[tokio::test]
async fn a_client_too_many_that_waits_is_told_so_and_others_are_answered() {
    let Master { server, inputs, path, _directory, events: _events, course: _course } = Master::start();
    let _server = server;
    scaled_at_once(inputs);
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..49 {
        let mut client = Client::connect(&path).await.unwrap();
        client.send(&Asked::reload(true)).await.unwrap();
        waiting.spawn(async move { client.next().await });
    }
    // Nobody else has an answer yet.
    let Some(Ok(Ok(Reply::Refused { reason }))) = within(waiting.join_next()).await else { panic!() };
    assert_eq!(reason, "too many clients wait at once");
    let mut other = Client::connect(&path).await.unwrap();
    let reply = within(other.ask(&Asked::ScaleTo { workers: 1 })).await;
    assert!(matches!(reply, Ok(Reply::Scaled { workers: 1 })), "{reply:?}");
}

/// A client whose answer is longer than what the kernel takes, and who does not read it.
async fn deaf_to_a_long_answer(master: &mut Master) -> Client {
    let mut client = master.client().await;
    client.send(&Asked::reload(true)).await.unwrap();
    let Request::Reload { reply: Some(verdict), .. } = master.request().await else { panic!() };
    // So much is left whatever the kernel takes.
    let taken = std::fs::read_to_string("/proc/sys/net/core/wmem_default");
    let taken = taken.ok().and_then(|bytes| bytes.trim().parse::<usize>().ok()).unwrap_or(1 << 18);
    let needs_restart = vec!["x".repeat(taken + (1 << 20))];
    verdict.send(Told { verdict: Verdict::Done, needs_restart }).unwrap();
    client
}

#[tokio::test]
async fn answers_that_are_not_read_have_a_bound_together() {
    let mut master = Master::start();
    let mut deaf = Vec::new();
    for _ in 0..4 {
        deaf.push(deaf_to_a_long_answer(&mut master).await);
    }
    // An answer that finds no room ends its conversation: it is cut off in its middle.
    let mut last = deaf_to_a_long_answer(&mut master).await;
    assert!(within(last.next()).await.is_err());
    let first = within(deaf.remove(0).next()).await;
    assert!(matches!(first, Ok(Reply::Verdict { .. })), "what had room is written whole");
}

#[tokio::test]
async fn the_last_answers_are_written_though_a_client_has_given_way() {
    let mut master = Master::start();
    let mut silent = Vec::new();
    for _ in 0..127 {
        silent.push(UnixStream::connect(&master.path).await.unwrap());
    }
    let mut slow = deaf_to_a_long_answer(&mut master).await;
    let mut one_more = master.client().await;
    one_more.send(&Asked::ScaleTo { workers: 1 }).await.unwrap();
    let Request::Scale(_, reply) = master.request().await else { panic!() };
    reply.send(Ok(1)).unwrap();
    assert!(matches!(within(one_more.next()).await, Ok(Reply::Scaled { .. })));
    let (answer, ()) = within(async { tokio::join!(slow.next(), master.server.close()) }).await;
    assert!(matches!(answer, Ok(Reply::Verdict { .. })), "{answer:?}");
}

#[tokio::test]
async fn where_nobody_listens_there_is_no_cluster() {
    let master = Master::start();
    master.server.close().await;
    assert!(matches!(Client::connect(&master.path).await, Err(ClientError::NoCluster { .. })));
}

/// Who waits or follows keeps the place.
const _: () = assert!(room::WAITING + room::FOLLOWING + 16 == seats::SEATS);

#[tokio::test]
async fn many_follow_and_others_are_answered_all_the_same() {
    let master = Master::start();
    let mut followers = Vec::new();
    for _ in 0..64 {
        let mut client = master.client().await;
        client.send(&Asked::Events { follow: true, last: None }).await.unwrap();
        followers.push(client);
    }
    master.events.send(Arc::new(Event::GenerationBegan { generation: 7 })).unwrap();
    for follower in &mut followers {
        let Reply::Event(event) = within(follower.next()).await.unwrap() else { panic!() };
        assert_eq!((&event["generation"], &event["level"]), (&7.into(), &"info".into()));
    }
    let one_more = master.client().await.ask(&Asked::Events { follow: false, last: None }).await.unwrap();
    assert!(matches!(one_more, Reply::Refused { .. }), "{one_more:?}");
    let Master { inputs, path, .. } = master;
    scaled_at_once(inputs);
    let scaled = Client::connect(&path).await.unwrap().ask(&Asked::ScaleTo { workers: 1 }).await.unwrap();
    assert!(matches!(scaled, Reply::Scaled { .. }), "{scaled:?}");
}

#[tokio::test]
async fn a_slow_follower_is_told_how_much_it_has_missed() {
    const ALL: u64 = 5000;
    let master = Master::start();
    let mut client = master.client().await;
    client.send(&Asked::Events { follow: true, last: None }).await.unwrap();
    master.events.send(Arc::new(Event::GenerationBegan { generation: 1 })).unwrap();
    assert!(matches!(within(client.next()).await.unwrap(), Reply::Event(_)));
    for id in 0..ALL {
        master
            .events
            .send(Arc::new(Event::CutOff { worker: worker(id, 1), reason: "x".repeat(500) }))
            .unwrap();
        within(async {
            while !master.events.is_empty() {
                yield_now().await;
            }
        })
        .await;
    }
    let Master { events, .. } = master;
    drop(events);
    let (mut heard, mut missed) = (0, 0);
    while let Reply::Event(event) = within(client.next()).await.unwrap() {
        match event.get("events") {
            Some(events) => missed += events.as_u64().unwrap(),
            None => heard += 1,
        }
    }
    assert_eq!(heard + missed, ALL);
    assert!(missed > 0, "more than what is kept and what a socket holds");
}
