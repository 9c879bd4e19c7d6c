//! socket.io with its default transports: a session begins with several requests by HTTP, goes on by WebSocket, and works
//! only where one worker gets all of its connections.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Instant;

use recluster_e2e::{DEADLINE, Launch, Node, modules};
use serde_json::Value;

const CLIENTS: usize = 200;
const RELOADS: usize = 10;

fn cluster() -> Launch {
    Launch::fixture("sticky/socket-io.js").env("NODE_PATH", modules())
}

/// What one client went through.
#[derive(Debug, Default)]
struct Session {
    /// Which slot welcomed it, each time that it had connected.
    welcomes: Vec<String>,
    /// How often it went over to a WebSocket.
    upgrades: usize,
    /// How often its connection was lost.
    losses: usize,
    /// Which slot answered, each time that it asked.
    answers: Vec<String>,
}

/// The process with all clients.
struct Clients {
    process: Child,
    commands: ChildStdin,
    events: Receiver<Value>,
    sessions: BTreeMap<u64, Session>,
    failures: Vec<Value>,
}

impl Clients {
    fn start(cluster: SocketAddr) -> Self {
        let mut command = Node::under_test().client("sticky/socket-io-clients.js");
        command.arg(cluster.port().to_string()).env("NODE_PATH", modules());
        let mut process =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the tests need Node.js");
        let commands = process.stdin.take().expect("it is piped");
        let lines = BufReader::new(process.stdout.take().expect("it is piped")).lines();
        let (sender, events) = mpsc::channel();
        thread::spawn(move || {
            let events = lines.map_while(Result::ok).map(|line| serde_json::from_str(&line).expect("JSON"));
            // The test may end first.
            events.map(|event| sender.send(event)).find(Result::is_err);
        });
        Self { process, commands, events, sessions: BTreeMap::new(), failures: Vec::new() }
    }

    fn tell(&mut self, command: &str) {
        writeln!(self.commands, "{command}").expect("it reads its stdin until its end");
    }

    /// Listens until this holds.
    #[track_caller]
    fn wait(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let begin = Instant::now();
        while !holds(self) {
            let left = DEADLINE.saturating_sub(begin.elapsed());
            match self.events.recv_timeout(left) {
                Ok(event) => self.note(event),
                Err(error) => assert!(holds(self), "{error} before {what}; failures: {:?}", self.failures),
            }
        }
    }

    fn note(&mut self, event: Value) {
        let session = self.sessions.entry(event["client"].as_u64().expect("a number")).or_default();
        let slot = || event["slot"].as_str().expect("a slot").to_owned();
        match event["event"].as_str().expect("a name") {
            "welcome" => session.welcomes.push(slot()),
            "answered" => session.answers.push(slot()),
            "upgraded" => session.upgrades += 1,
            "disconnected" => session.losses += 1,
            _ => self.failures.push(event),
        }
    }

    /// Waits until this holds of every client.
    #[track_caller]
    fn wait_for_all(&mut self, what: &str, holds: impl Fn(&Session) -> bool) {
        self.wait(what, |clients| clients.sessions.len() == CLIENTS && clients.sessions.values().all(&holds));
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        // Both fail where it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn clients_keep_their_slot_through_reloads() {
    let server = cluster().option("--balance", "sticky").option("--timeout", "1s").option("--bake", "0s");
    let master = server.workers(3).serve();
    let mut clients = Clients::start(master.address());
    clients.tell(&format!("open {CLIENTS}"));
    for connected in 1..=RELOADS + 1 {
        clients.wait_for_all("each is connected by a WebSocket", |session| {
            session.welcomes.len() == connected && session.upgrades == connected
        });
        clients.tell("ask");
        clients.wait_for_all("each is answered", |session| session.answers.len() == connected);
        if connected <= RELOADS {
            master.reload().expect_code(0);
        }
    }
    assert!(clients.failures.is_empty(), "{:?}", clients.failures);
    for (number, session) in &clients.sessions {
        let slot = &session.welcomes[0];
        let stayed = session.welcomes.iter().chain(&session.answers).all(|other| other == slot);
        assert!(stayed && session.losses == RELOADS, "client {number}: {session:?}");
    }
    let slots: BTreeSet<_> = clients.sessions.values().map(|session| &session.welcomes[0]).collect();
    assert_eq!(slots.len(), 3, "every slot has clients");
}

/// What all this is about: a worker is asked to go on with what another one has begun.
#[test]
fn without_stickiness_sessions_break() {
    let master = cluster().option("--balance", "round-robin").serve();
    let mut clients = Clients::start(master.address());
    clients.tell("open 20");
    clients.wait("a worker knows nothing of the session", |clients| {
        let refused = |failure: &Value| {
            failure["status"] == 400
                && failure["body"].as_str().is_some_and(|body| body.contains("Session ID unknown"))
        };
        clients.failures.iter().any(refused)
    });
}
