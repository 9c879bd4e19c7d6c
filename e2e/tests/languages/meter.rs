//! The loss meter at a server that knows nothing of it.

use std::net::SocketAddr;
use std::time::Duration;

use recluster_e2e::eventually;
use recluster_loss::{Cause, Connector, Endpoint, Kind, Load, Loss, Mix, Settings, Tally};
use tokio::runtime::{Builder, Runtime};

/// The pause of a client after each answer.
const THINK: Duration = Duration::from_millis(1);
/// How many answers every kind of client gets before something happens, at least.
const ANSWERS: u64 = 5;
/// The kinds of clients that any server understands, and how many there are of each.
const CLIENTS: [(Kind, usize); 5] =
    [(Kind::New, 4), (Kind::Held, 4), (Kind::KeepAlive, 4), (Kind::Pausing, 4), (Kind::Pipelined, 1)];

/// Clients of every kind.
pub(crate) fn everybody() -> Mix {
    CLIENTS.into_iter().fold(Mix::nobody(), |mix, (kind, count)| mix.with(kind, count))
}

/// The same for a server that waits for one client at a time: one that holds its connection would stop all others.
pub(crate) fn nobody_waits() -> Mix {
    everybody().with(Kind::Held, 0)
}

/// Clients at work.
pub(crate) struct Meter {
    runtime: Runtime,
    load: Load,
    mix: Mix,
}

impl Meter {
    pub(crate) fn begin(address: SocketAddr, mix: Mix) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let connector = Connector::new(&Settings::identity()).expect("the certificate of the tests");
        let inside = runtime.enter();
        let load = Load::start(&mix, &[Endpoint::plain(address.port())], &connector, THINK);
        drop(inside);
        Self { runtime, load, mix }
    }

    /// Waits until there were so many more requests, and every kind of client was answered several times more: without that
    /// the count would mean nothing.
    pub(crate) fn go_on(&self, requests: u64) {
        let goal = self.load.requests() + requests;
        let kinds = CLIENTS.into_iter().map(|(kind, _)| kind).filter(|kind| self.mix.count(*kind) > 0);
        let goals: Vec<_> = kinds.map(|kind| (kind, self.load.answered(kind) + ANSWERS)).collect();
        eventually("the load goes on", || self.load.requests() >= goal);
        for (kind, goal) in goals {
            eventually(&format!("{kind} clients are answered"), || self.load.answered(kind) >= goal);
        }
    }

    pub(crate) fn end(self) -> Metered {
        Metered { tally: self.runtime.block_on(self.load.finish()), mix: self.mix }
    }
}

/// What the clients saw.
pub(crate) struct Metered {
    pub(crate) tally: Tally,
    mix: Mix,
}

impl Metered {
    /// A row for the documentation: of each kind, how many requests were lost of how many.
    pub(crate) fn row(&self, name: &str) -> String {
        let cell = |kind| {
            let counts = self.tally.of(kind);
            if self.mix.count(kind) == 0 {
                " |".into()
            } else {
                format!(" {} / {} |", counts.lost(), counts.sent())
            }
        };
        CLIENTS.into_iter().fold(format!("| {name} |"), |row, (kind, _)| row + &cell(kind))
    }

    /// What happened to those that were lost.
    pub(crate) fn stories(&self) -> Vec<String> {
        let story = |loss: &Loss| format!("{} at {:?}: {}", loss.kind, loss.at, loss.story());
        self.tally.losses().map(story).collect()
    }

    /// What is ours: whoever came was let in.
    #[track_caller]
    pub(crate) fn always_connected(&self) {
        let refused = self.tally.losses().filter(|loss| matches!(loss.cause, Cause::Connect(_)));
        let refused: Vec<_> = refused.collect();
        assert!(refused.is_empty(), "{refused:?}");
    }
}
