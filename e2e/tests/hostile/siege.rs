//! One siege: a cluster among whose workers some are hostile, clients of every kind, and a log that nobody reads. Meanwhile it is
//! looked whether the master answers and the good workers serve; then it is ended.

use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use recluster_e2e::{Connection, DEADLINE, Home, Launch, Master, eventually, get, remark};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use serde_json::Value;

use crate::attack::{Attack, By};
use crate::clients::{Crowd, Door};
use crate::figures::Figures;

/// What a master may use at most, whatever is done to it, in kilobytes.
const BUDGET: u64 = 64 * 1024;
/// How many good workers there are.
const GOOD: u32 = 2;
/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(100);

/// How a siege ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    Term,
    /// By a client of the control socket that is obeyed, with its row.
    Asked(&'static Attack),
}

/// How large a siege is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    /// How many hostile workers; each row has at least one where this is more than there are rows.
    pub(crate) workers: usize,
    pub(crate) control_clients: usize,
    pub(crate) connections: usize,
    /// The pause between two clients of one kind that come and go.
    pub(crate) pause: Duration,
    /// Whether the good workers must serve meanwhile. Those that are replaced all the time need not.
    pub(crate) is_served: bool,
    pub(crate) span: Duration,
}

/// Options of a siege beside the usual ones; one without a value has an empty one.
pub(crate) type Options = &'static [(&'static str, &'static str)];

/// One siege at a time: each of them is enough for a machine.
static TURN: Mutex<()> = Mutex::new(());

/// Besieges a master with all of these rows at once, and returns what was measured.
pub(crate) fn besiege(rows: &[&'static Attack], scale: Scale, options: Options, end: End) -> Figures {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    have_all_descriptors();
    let orders: Vec<Value> = rows.iter().filter_map(|row| row.order()).collect();
    let step = orders.len().div_ceil(scale.workers.max(1)).max(1);
    let chosen: Vec<Value> = match orders.as_slice() {
        [] => Vec::new(),
        some => some.iter().step_by(step).cycle().take(scale.workers).cloned().collect(),
    };
    let (_unread, log) = io::pipe().expect("a pipe");
    let (stdout, output) = io::pipe().expect("a pipe");
    // The log, which would say the port of the kernel's choice, is not read, and stdout no more than it says that.
    let place = Home::new();
    let admin = place.join("admin.sock");
    let mut launch = Launch::besieged(&chosen, GOOD)
        .impatient()
        .stderr(OwnedFd::from(log))
        .stdout(OwnedFd::from(output))
        .option("--ready-when", "started")
        .option("--watchdog", "1h")
        .option("--admin", &format!("unix:{}", admin.display()))
        .option("--stop-timeout", "1s")
        .option("--exit-grace", "1s")
        .flag("--keep-trying");
    for (name, value) in options {
        launch = if value.is_empty() { launch.flag(name) } else { launch.option(name, value) };
    }
    let mut master = launch.start();
    let mut stdout = BufReader::new(stdout);
    let address = address_of(&mut stdout);
    let of = |is: fn(&By) -> bool| rows.iter().copied().filter(|row| is(&row.by)).collect::<Vec<_>>();
    let control = of(|by| matches!(by, By::Control { .. }));
    let at_admin = of(|by| matches!(by, By::Admin { .. }));
    let network = of(|by| matches!(by, By::Network { .. }));
    let crowds = (
        Crowd::gather(Door::Unix(master.control().to_owned()), control, scale.control_clients, scale.pause),
        Crowd::gather(Door::Unix(admin.clone()), at_admin, scale.control_clients, scale.pause),
        Crowd::gather(Door::Server(address), network, scale.connections, scale.pause),
    );
    let mut figures = watch(&master, &admin, scale.is_served.then_some(address), scale.span);
    finish(&mut master, end, &mut figures);
    drop(crowds);
    figures
}

/// Both the test and its cluster have many.
fn have_all_descriptors() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("a soft limit can be raised");
}

/// Where the good workers listen: they say it on their stdout.
fn address_of(stdout: &mut impl BufRead) -> SocketAddr {
    let mut lines =
        stdout.split(b'\n').map(|line| String::from_utf8_lossy(&line.expect("it can be read")).into_owned());
    let line = lines.find(|line| line.contains("listens ")).expect("a good worker listens");
    let json = line.split_once('{').map(|(_, json)| format!("{{{json}")).expect("an object");
    let address: Value = serde_json::from_str(&json).expect("an address as JSON");
    let port = address.get("port").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok());
    SocketAddr::from(([127, 0, 0, 1], port.expect("a port")))
}

fn watch(master: &Master, admin: &Path, address: Option<SocketAddr>, span: Duration) -> Figures {
    let mut figures = Figures::default();
    let begun = Instant::now();
    let mut minutes = 0;
    while begun.elapsed() < span || figures.is_empty() {
        let asked = Instant::now();
        let status = ask(master, &mut figures);
        figures.answered(asked.elapsed());
        assert_eq!(status.get("reply").and_then(Value::as_str), Some("status"), "{status}");
        if let Some(address) = address {
            assert_eq!(get(address, "/").expect("a good worker serves").status, 200);
        }
        figures.uses(begun.elapsed(), kilobytes(master, "VmRSS"));
        // A long siege that fails has said what it had measured.
        if begun.elapsed().as_secs() / 60 > minutes {
            minutes = begun.elapsed().as_secs() / 60;
            remark(&format!("after {minutes} min: {}", figures.so_far()));
        }
        std::thread::park_timeout(PAUSE);
    }
    // Whoever comes when all seats are taken by those who wait may be sent away.
    eventually("the admin listener answers", || {
        let answer = Connection::open_unix(admin).and_then(|mut client| client.get("/livez"));
        answer.is_ok_and(|answer| answer.status == 200)
    });
    // The command itself gives up after ten seconds, which a busy machine may need.
    eventually("the command `status` is answered", || {
        let said = master.client(&["status", "--json"]).stdout;
        let pid = serde_json::from_str(&said).map(|status: Value| status.get("pid").and_then(Value::as_u64));
        pid.ok().flatten() == Some(master.process().pid().into())
    });
    let peak = kilobytes(master, "VmHWM");
    figures.peak(peak);
    assert!(peak < BUDGET, "the master has used {peak} kB, of which it may use {BUDGET}");
    figures
}

/// Asks for the status as any client does.
fn ask(master: &Master, figures: &mut Figures) -> Value {
    let answer = || -> io::Result<String> {
        let mut stream = UnixStream::connect(master.control())?;
        stream.set_read_timeout(Some(DEADLINE))?;
        // A master that refuses at once may have closed by now: it has said why.
        let _ = stream.write_all(b"{\"version\":1,\"request\":\"status\"}\n");
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        Ok(line)
    };
    // Whoever comes when all places are taken by silent clients has the place of the one that came first. On a busy machine that may be
    // this one, before it has said a word. Once it has, a master that closed would reset the connection.
    let begun = Instant::now();
    let line = loop {
        match answer() {
            Ok(line) if line.is_empty() && begun.elapsed() < DEADLINE => figures.unheard(),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset && begun.elapsed() < DEADLINE => {
                figures.unread();
            }
            answer => break answer.expect("the master answers"),
        }
    };
    serde_json::from_str(&line).expect("the answer is JSON")
}

fn finish(master: &mut Master, end: End, figures: &mut Figures) {
    let begun = Instant::now();
    match end {
        End::Term => master.signal(Signal::TERM),
        End::Asked(row) => {
            let mut stream = UnixStream::connect(master.control()).expect("the master listens");
            for text in row.sends {
                stream.write_all(recluster_e2e::written(text, 0).as_bytes()).expect("the master reads");
            }
            let mut answer = String::new();
            // A refusal would be said at once.
            BufReader::new(stream).read_line(&mut answer).expect("the master answers");
            assert!(answer.contains("ended"), "{answer}");
        }
    }
    figures.obeyed(stops(master).then(|| begun.elapsed()));
    let status = master.wait_end();
    assert_eq!(status.code(), Some(0), "{status}");
    figures.ended(begun.elapsed());
}

/// Waits until the master says that it stops. False if it has ended meanwhile.
fn stops(master: &Master) -> bool {
    let begun = Instant::now();
    while master.process().lives() && begun.elapsed() < DEADLINE {
        let Ok(mut stream) = UnixStream::connect(master.control()) else { return false };
        let mut line = String::new();
        let asked = stream.write_all(b"{\"version\":1,\"request\":\"status\"}\n");
        if asked.is_ok() && BufReader::new(stream).read_line(&mut line).is_ok() && line.contains("stopping") {
            return true;
        }
    }
    false
}

fn kilobytes(master: &Master, name: &str) -> u64 {
    master.process().status_line(name).trim_end_matches(" kB").parse().expect("a number of kilobytes")
}
