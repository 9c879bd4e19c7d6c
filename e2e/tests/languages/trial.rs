//! Everything that happens to a server.

use std::net::SocketAddr;

use recluster_e2e::{Event, Launch, Load, Master, Tally, eventually, on};
use recluster_loss::Mix;
use rustix::process::Signal;

use crate::ask::{HTTP, Lost, ask};
use crate::meter::{Meter, everybody};

/// How many clients there are at once, where the meter's are not.
const CLIENTS: usize = 4;
/// How many requests are made before something happens.
const REQUESTS: usize = 100;
/// How often each server is reloaded.
const RELOADS: u64 = 3;

/// How many requests a server may lose by the way in which it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ends {
    /// None: it answers every connection that it has accepted, and warns those that are kept.
    Cleanly,
    /// Some: it closes connections that it has accepted.
    AsItDoes,
    /// Some, and those that wait in its queue: the sockets are its own.
    WithItsSockets,
}

/// A server, and what is to be expected of it.
pub(crate) struct Trial<'a> {
    name: &'a str,
    launch: Launch,
    ends: Ends,
    mix: Mix,
    request: Vec<u8>,
    before: Box<dyn Fn(u64) + 'a>,
    listens: fn(&Master) -> SocketAddr,
}

impl<'a> Trial<'a> {
    /// A server of HTTP on the first socket of the master's.
    pub(crate) fn of(name: &'a str, launch: Launch, ends: Ends) -> Self {
        Self {
            name,
            launch: launch.workers(2),
            ends,
            mix: everybody(),
            request: HTTP.to_vec(),
            before: Box::new(|_| {}),
            listens: |master| master.bound_ip(0),
        }
    }

    /// Other clients of the meter.
    pub(crate) fn clients(self, mix: Mix) -> Self {
        Self { mix, ..self }
    }

    /// Another request than that of HTTP. The meter's clients do not speak it, so simpler ones make it.
    pub(crate) fn request(self, request: Vec<u8>) -> Self {
        Self { request, mix: Mix::nobody(), ..self }
    }

    /// Does something before each generation but the first.
    pub(crate) fn before(self, before: impl Fn(u64) + 'a) -> Self {
        Self { before: Box::new(before), ..self }
    }

    /// Listens somewhere else.
    pub(crate) fn listens(self, listens: fn(&Master) -> SocketAddr) -> Self {
        Self { listens, ..self }
    }

    #[track_caller]
    pub(crate) fn run(self) {
        let mut master = self.launch.serve();
        let address = (self.listens)(&master);
        let run = Run { name: self.name, ends: self.ends, address, request: self.request };
        if self.mix == Mix::nobody() {
            run.reloaded(&master, &self.before);
        } else {
            run.metered(&master, self.mix, &self.before);
        }
        run.killed(&master);
        master.signal(Signal::TERM);
        master.expect_end(0);
        assert!(master.seen(&on("overdue")).is_empty(), "it always ended in time");
    }
}

/// A server that runs.
struct Run<'a> {
    name: &'a str,
    ends: Ends,
    address: SocketAddr,
    request: Vec<u8>,
}

impl Run<'_> {
    /// Reloads it under the load of the meter.
    #[track_caller]
    fn metered(&self, master: &Master, mix: Mix, before: &dyn Fn(u64)) {
        let meter = Meter::begin(self.address, mix);
        self.reload(master, before, || meter.go_on(REQUESTS as u64));
        let metered = meter.end();
        eprintln!("{}", metered.row(self.name));
        let stories = metered.stories();
        eprintln!("{}: {stories:#?}", self.name);
        assert!(self.ends != Ends::Cleanly || stories.is_empty(), "{} were lost", stories.len());
        if self.ends != Ends::WithItsSockets {
            metered.always_connected();
        }
    }

    /// Reloads it under a load of requests with a connection for each.
    #[track_caller]
    fn reloaded(&self, master: &Master, before: &dyn Fn(u64)) {
        let load = self.load();
        self.reload(master, before, || load.go_on(REQUESTS));
        let Tally { lost, requests, .. } = load.end();
        eprintln!("| {} | {} / {requests} | | | | |", self.name, lost.len());
        assert!(self.ends != Ends::Cleanly || lost.is_empty(), "{lost:?}");
        always_connected(&lost);
    }

    /// Each generation serves for a while, and is gone before the next but one comes.
    #[track_caller]
    fn reload(&self, master: &Master, before: &dyn Fn(u64), go_on: impl Fn()) {
        for generation in 2..=RELOADS + 1 {
            go_on();
            before(generation);
            master.reload().expect_code(0);
            for old in master.wait_all(2, on("draining").generation(generation - 1)) {
                master.wait(on("exit").id(old.id()));
            }
        }
        go_on();
        let answer = ask(self.address, &self.request).expect("nobody is on the way out");
        let last = (RELOADS + 1).to_string();
        let generation = answer.split(|c: char| !c.is_ascii_digit()).rfind(|number| !number.is_empty());
        assert_eq!(generation, Some(&*last), "{answer}");
    }

    /// Kills one of its workers under load.
    #[track_caller]
    fn killed(&self, master: &Master) {
        let load = self.load();
        let victim = master.wait(on("serving").generation(RELOADS + 1));
        master.worker(&victim).signal(Signal::KILL);
        master.wait(on("respawning").id(victim.id()));
        load.go_on(REQUESTS);
        let respawned = |event: &Event| event.id() > victim.id() && event.slot() == victim.slot();
        eventually("it is back", || master.seen(&on("serving")).iter().any(respawned));
        let lost = load.end().lost;
        if self.ends != Ends::WithItsSockets {
            always_connected(&lost);
        }
    }

    fn load(&self) -> Load<Lost> {
        let (address, request) = (self.address, self.request.clone());
        Load::begin(CLIENTS, move || ask(address, &request))
    }
}

/// What is ours: whoever came was let in.
#[track_caller]
fn always_connected(lost: &[Lost]) {
    let refused: Vec<_> = lost.iter().filter(|lost| matches!(lost, Lost::Unconnected(_))).collect();
    assert!(refused.is_empty(), "{refused:?}");
}
