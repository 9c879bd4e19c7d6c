//! A mix of clients against the endpoints of one server, until it is told to stop.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::Client;
use crate::clients;
use crate::endpoint::{Connector, Endpoint};
use crate::tally::Tally;
use crate::{Kind, Mix};

/// Clients at work.
#[derive(Debug)]
pub struct Load {
    tally: Arc<Mutex<Tally>>,
    stop: watch::Sender<bool>,
    clients: JoinSet<()>,
    began: Instant,
}

impl Load {
    /// Starts the clients. The clients of a kind are spread over the endpoints where their protocol is spoken; a kind that
    /// no endpoint understands has no clients. `think` is the pause after each answer of those kinds that make none by
    /// themselves.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn start(mix: &Mix, endpoints: &[Endpoint], connector: &Connector, think: Duration) -> Self {
        let mut load = Self {
            tally: Arc::default(),
            stop: watch::Sender::new(false),
            clients: JoinSet::new(),
            began: Instant::now(),
        };
        for kind in Kind::ALL {
            let endpoints = endpoints.iter().filter(|endpoint| endpoint.speaks(kind)).cycle();
            for endpoint in endpoints.take(mix.count(kind)) {
                let client = load.client(kind, endpoint, connector, think);
                load.clients.spawn(clients::run(client));
            }
        }
        load
    }

    /// How many requests have ended, one way or another.
    pub fn requests(&self) -> u64 {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).sent()
    }

    /// How many requests of this kind were answered.
    pub fn answered(&self, kind: Kind) -> u64 {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).of(kind).answered
    }

    /// How long it has gone on.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Sends nothing more, waits for the answers to what was sent, and tells what became of everything.
    pub async fn finish(mut self) -> Tally {
        self.stop.send_replace(true);
        while let Some(ended) = self.clients.join_next().await {
            if let Err(error) = ended {
                // A client that ended before its time would make the count look better than it is.
                std::panic::resume_unwind(error.into_panic());
            }
        }
        std::mem::take(&mut *self.tally.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn client(&self, kind: Kind, endpoint: &Endpoint, connector: &Connector, think: Duration) -> Client {
        Client {
            kind,
            endpoint: endpoint.clone(),
            connector: connector.clone(),
            tally: Arc::clone(&self.tally),
            stop: self.stop.subscribe(),
            began: self.began,
            random: fastrand::Rng::new(),
            think,
        }
    }
}
