//! Servers of other languages, as they are: each is started, reloaded under load, killed and stopped.
//!
//! Whatever a server does when it is told to go is its own business: a connection that it has accepted and then closes
//! without an answer is counted, and told apart from what is ours. Ours is that every connection is made: the socket is
//! open at every moment, whoever is replaced or dies.

mod programs;

use std::fmt;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};

use recluster_e2e::{Connection, Event, Home, Launch, Load, Master, Tally, eventually, fixture, on};
use rustix::process::Signal;

use self::programs::{compiled, installed, of_python};

/// How many clients there are at once.
const CLIENTS: usize = 4;
/// How many requests are made before something happens.
const REQUESTS: usize = 100;
/// How often each server is reloaded.
const RELOADS: u64 = 3;

/// What became of a request without an answer.
enum Lost {
    /// There was no connection: nobody listened.
    Unconnected(io::Error),
    /// The server had the connection. (Had it been reset in the queue, a server that ends cleanly would lose it as well.)
    Unanswered(io::Error),
}

impl fmt::Debug for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unconnected(error) => write!(f, "not connected: {error}"),
            Self::Unanswered(error) => write!(f, "not answered: {error}"),
        }
    }
}

/// A request on a connection of its own; the line of the answer that says who it was.
fn ask(address: SocketAddr) -> Result<String, Lost> {
    let mut connection = Connection::open(address).map_err(Lost::Unconnected)?;
    let sent = connection.send("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let answer = sent.and_then(|()| connection.read_to_end()).map_err(Lost::Unanswered)?;
    let line = answer.lines().find(|line| line.starts_with("generation "));
    line.map(str::to_owned).ok_or_else(|| Lost::Unanswered(io::Error::other(answer.clone())))
}

/// How many requests a server may lose by the way in which it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    /// None: it answers every connection that it has accepted.
    Cleanly,
    /// Some: it closes connections that it has accepted.
    AsItDoes,
}

/// Everything that happens to a server. `before` is called before each generation but the first.
fn trial(name: &str, launch: Launch, ends: Ends, before: impl Fn(u64)) {
    let mut master = launch.workers(2).serve();
    let tally = reloaded(&master, before);
    let Tally { answers, lost, requests } = &tally;
    eprintln!("{name}: of {requests} requests beside {RELOADS} reloads it lost {}: {lost:?}", lost.len());
    assert!(answers.len() > 1, "{answers:?}");
    assert!(ends == Ends::AsItDoes || lost.is_empty(), "{lost:?}");
    always_connected(&tally);
    always_connected(&killed(&master));
    master.signal(Signal::TERM);
    master.expect_end(0);
    assert!(master.seen(&on("overdue")).is_empty(), "it always ended in time");
}

/// Reloads it under load.
fn reloaded(master: &Master, before: impl Fn(u64)) -> Tally<Lost> {
    let address = master.bound_ip(0);
    let load = Load::begin(CLIENTS, move || ask(address));
    for generation in 2..=RELOADS + 1 {
        load.go_on(REQUESTS);
        before(generation);
        master.reload().expect_code(0);
        for old in master.wait_all(2, on("draining").generation(generation - 1)) {
            master.wait(on("exit").id(old.id()));
        }
    }
    let answer = ask(address).expect("nobody is on the way out");
    assert_eq!(answer, format!("generation {}", RELOADS + 1));
    load.end()
}

/// Kills one of its workers under load.
fn killed(master: &Master) -> Tally<Lost> {
    let address = master.bound_ip(0);
    let load = Load::begin(CLIENTS, move || ask(address));
    let victim = master.wait(on("serving").generation(RELOADS + 1));
    master.worker(&victim).signal(Signal::KILL);
    master.wait(on("respawning").id(victim.id()));
    load.go_on(REQUESTS);
    let respawned = |event: &Event| event.id() > victim.id() && event.slot() == victim.slot();
    eventually("it is back", || master.seen(&on("serving")).iter().any(respawned));
    load.end()
}

/// What is ours: whoever came was let in.
#[track_caller]
fn always_connected(tally: &Tally<Lost>) {
    let refused: Vec<_> = tally.lost.iter().filter(|lost| matches!(lost, Lost::Unconnected(_))).collect();
    assert!(refused.is_empty(), "{refused:?}");
}

/// A server with a listener, and the small application in this directory.
fn serving(server: std::path::PathBuf, args: &[&str]) -> Launch {
    let launch = Launch::of(server).listen("127.0.0.1:0").env("PYTHONPATH", fixture("languages"));
    args.iter().fold(launch, |launch, arg| launch.arg(arg))
}

fn application(name: &str) -> String {
    fixture("languages").join(name).to_string_lossy().into_owned()
}

#[test]
fn c() {
    let home = Home::new();
    if let Some(server) = compiled(&home) {
        trial("C", serving(server, &[]), Ends::Cleanly, |_| {});
    }
}

#[test]
fn uvicorn() {
    if let Some(server) = of_python("uvicorn") {
        let launch = serving(server, &["--fd", "3", "--no-access-log", "hello:app"]);
        trial("uvicorn", launch, Ends::AsItDoes, |_| {});
    }
}

/// It says by `sd_notify` that it is ready.
#[test]
fn gunicorn() {
    if let Some(server) = of_python("gunicorn") {
        let launch = serving(server, &["--workers", "1", "hello:application"]);
        trial("gunicorn", launch.option("--ready-when", "notify"), Ends::AsItDoes, |_| {});
    }
}

#[test]
fn hypercorn() {
    if let Some(server) = of_python("hypercorn") {
        let launch = serving(server, &["--bind", "fd://3", "hello:app"]);
        trial("hypercorn", launch, Ends::AsItDoes, |_| {});
    }
}

#[test]
fn puma() {
    if let Some(server) = installed("puma") {
        let launch = serving(server, &["--bind-to-activated-sockets=only", &application("hello.ru")]);
        trial("puma", launch, Ends::AsItDoes, |_| {});
    }
}

/// It finds its socket by the variable of `Server::Starter`.
#[test]
fn starlet() {
    if let Some(server) = installed("plackup") {
        let args = ["-s", "Starlet", "--max-workers=2", "-E", "production", &application("hello.psgi")];
        trial("Starlet", serving(server, &args), Ends::AsItDoes, |_| {});
    }
}

/// It takes over sockets as when its own binary is replaced. They must be those of its configuration, which is why the
/// address is known before.
#[test]
fn nginx() {
    let Some(server) = installed("nginx") else { return };
    let home = Home::new();
    let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = socket.local_addr().expect("it is bound");
    let configure = |generation: u64| {
        let prefix = home.path().display();
        let text = fs::read_to_string(fixture("languages/nginx.conf")).expect("the fixture");
        let text = text.replace("@PREFIX@", &prefix.to_string()).replace("@ADDRESS@", &address.to_string());
        home.write("nginx.conf", &text.replace("@GENERATION@", &generation.to_string()))
    };
    let configuration = configure(1).to_string_lossy().into_owned();
    let launch = Launch::of(server).socket(socket).env("NGINX", "3;").option("--drain-signal", "QUIT");
    let launch = launch.arg("-c").arg(&configuration).arg("-e").arg("stderr");
    trial("nginx", launch, Ends::AsItDoes, |generation| _ = configure(generation));
}
