//! What the data plane leaves to the program after this one, as plain data, and how that goes on with it. Each part says in its own `saved`,
//! or beside itself, what it leaves.
//!
//! What is not left is found again: a descriptor that is watched anew says so if it is ready, and every listener, every channel and every
//! timer is looked at once. How many looks may be taken at workers' loops, and what is known of these, begins anew.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::channel::{Limits, READ_BYTES};
use super::idle::Looks;
use super::keeping;
use super::later::Later;
use super::listener::Listener;
use super::listener::saved::SavedListener;
use super::listeners::Opener;
use super::listeners::saved::SavedOpener;
use super::messages::{Billed, Config, Routes, Setup};
use super::names::Names;
use super::passing::{Given, Passed, Passing, Taking};
use super::peeks::{Peeks, SavedPeeks};
use super::reactor::Reactor;
use super::reports::{Reports, SavedReports};
use super::state::State;
use super::worker::Worker;
use super::worker::saved::SavedWorker;
use crate::config::balance::{Balance, PeekLimits, StickyBy};
use crate::config::messages::Messages;
use crate::sink::Sink;
use crate::upgrade::{AdoptError, Inheritance, SaveError, Saving};

/// The name of the part.
const PART: &str = "dataplane";

/// What the program before has left of its data plane, with all that it needs.
#[derive(Debug)]
pub(crate) struct Left {
    saved: SavedState,
    given: Given,
}

/// All of it.
#[derive(Debug, Serialize, Deserialize)]
struct SavedState {
    config: SavedConfig,
    reports: SavedReports,
    workers: Vec<SavedWorker>,
    listeners: Vec<SavedListener>,
    opener: SavedOpener,
    peeks: SavedPeeks,
    routes: Routes,
    later: Later,
    passed: Passed,
}

/// How it works. Whether there is a host program is known.
#[derive(Debug, Serialize, Deserialize)]
struct SavedConfig {
    balance: SavedBalance,
    peek_bytes: usize,
    peek_timeout: Duration,
    peek_connections: usize,
    workers_accept: bool,
    messages: SavedMessages,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum SavedBalance {
    RoundRobin,
    Shared,
    Kernel,
    /// By what `--sticky-by` says.
    Sticky(String),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SavedMessages {
    Heard,
    Logged,
    Unheard,
}

/// Saves all of it, and changes nothing. The memories have to stay open for as long as what is left may be used.
pub(super) fn save(state: &State) -> Result<(Saving, Vec<OwnedFd>), SaveError> {
    if state.is_stopping {
        return Err(SaveError::Refused("everything stops".to_owned()));
    }
    let mut saving = Saving::new(env!("CARGO_PKG_VERSION"));
    let mut passing = Passing::new(&mut saving);
    let workers = state.workers.values().map(|worker| worker.save(&mut passing));
    let workers = workers.collect::<Result<_, SaveError>>()?;
    let listeners = state.listeners.values().map(|listener| listener.save(&mut passing));
    let listeners = listeners.collect::<Result<_, SaveError>>()?;
    let opener = state.opener.save(&mut passing)?;
    let peeks = state.peeks.save(&mut passing)?;
    let Passing { passed, memories, .. } = passing;
    let saved = SavedState {
        config: SavedConfig::of(&state.config),
        reports: state.reports.save(),
        workers,
        listeners,
        opener,
        peeks,
        routes: state.routes.clone(),
        later: state.later.clone(),
        passed,
    };
    saving.put(PART, &saved)?;
    state.listeners.values().for_each(|listener| keeping::arrive(listener, &mut saving));
    Ok((saving, memories))
}

/// Whether another program's data plane could be gone on with, by all that it says. Its descriptors are not looked at.
pub(crate) fn rehearse(inheritance: &mut Inheritance) -> Result<(), AdoptError> {
    let saved: SavedState = inheritance.needed(PART)?;
    saved.config.inherit(false).map(drop)
}

impl Left {
    /// What was left. After this only a shortage can be in the way.
    pub(crate) fn take(inheritance: &mut Inheritance) -> Result<Self, AdoptError> {
        let saved: SavedState = inheritance.needed(PART)?;
        let given = Given::take(&saved.passed, inheritance)?;
        Ok(Self { saved, given })
    }
}

impl State {
    /// Goes on with what was left, if anything was.
    pub(super) fn build(
        setup: Setup,
        left: Option<Left>,
        facts: Sink<Billed>,
        reactor: Reactor,
    ) -> Result<Self, AdoptError> {
        match left {
            Some(left) => Self::inherit(left, setup, facts, reactor),
            None => Ok(Self::new(setup, facts, reactor)),
        }
    }

    /// Goes on with what was left. Nothing is accepted, read or written before the first turn.
    fn inherit(
        left: Left,
        setup: Setup,
        facts: Sink<Billed>,
        mut reactor: Reactor,
    ) -> Result<Self, AdoptError> {
        let Left { saved, given } = left;
        let mut taking = Taking::new(given);
        let config = saved.config.inherit(setup.config.is_hosted)?;
        let limits = Limits::of(&config);
        let mut names = Names::default();
        setup.files.iter().for_each(|file| names.add(file, &mut reactor));
        let mut listeners = BTreeMap::new();
        for listener in saved.listeners {
            let listener = Listener::inherit(listener, &mut taking, &mut reactor)?;
            listener.file.iter().for_each(|file| names.add(file, &mut reactor));
            listeners.insert(listener.id, listener);
        }
        let mut workers = BTreeMap::new();
        for worker in saved.workers {
            let worker = Worker::inherit(worker, limits, &mut taking, &mut reactor)?;
            workers.insert(worker.id, worker);
        }
        let opener = Opener::new(setup.inherited, setup.lender, setup.pool, setup.keeps);
        let opener = opener.inherit(saved.opener, &mut taking, &mut reactor)?;
        let peeks = Peeks::inherit(saved.peeks, config.peek, &mut taking, &mut reactor)?;
        // Nothing can fail any more.
        listeners.values().filter_map(|listener| listener.file.as_ref()).for_each(|file| file.keep());
        Ok(Self {
            config,
            reports: Reports::inherit(saved.reports, facts),
            workers,
            listeners,
            names,
            opener,
            peeks,
            looks: Looks::new(reactor.now),
            routes: saved.routes,
            is_stopping: false,
            scratch: vec![0; READ_BYTES],
            settling: Vec::new(),
            looking: Vec::new(),
            later: saved.later.inherit(&mut reactor),
            resting: None,
            finished: false,
            reactor,
        })
    }
}

impl SavedConfig {
    fn of(config: &Config) -> Self {
        let PeekLimits { bytes, timeout, connections } = config.peek;
        Self {
            balance: match &config.balance {
                Balance::RoundRobin => SavedBalance::RoundRobin,
                Balance::Shared => SavedBalance::Shared,
                Balance::Kernel => SavedBalance::Kernel,
                Balance::Sticky(by) => SavedBalance::Sticky(by.to_string()),
            },
            peek_bytes: bytes,
            peek_timeout: timeout,
            peek_connections: connections,
            workers_accept: config.workers_accept,
            messages: match config.messages {
                Messages::Heard => SavedMessages::Heard,
                Messages::Logged => SavedMessages::Logged,
                Messages::Unheard => SavedMessages::Unheard,
            },
        }
    }

    fn inherit(self, is_hosted: bool) -> Result<Config, AdoptError> {
        let balance = match self.balance {
            SavedBalance::RoundRobin => Balance::RoundRobin,
            SavedBalance::Shared => Balance::Shared,
            SavedBalance::Kernel => Balance::Kernel,
            SavedBalance::Sticky(by) => Balance::Sticky(
                by.parse::<StickyBy>().map_err(|error| AdoptError::Contradiction(error.to_string()))?,
            ),
        };
        let messages = match self.messages {
            SavedMessages::Heard => Messages::Heard,
            SavedMessages::Logged => Messages::Logged,
            SavedMessages::Unheard => Messages::Unheard,
        };
        let (bytes, timeout, connections) = (self.peek_bytes, self.peek_timeout, self.peek_connections);
        let peek = PeekLimits { bytes, timeout, connections };
        Ok(Config { balance, peek, workers_accept: self.workers_accept, is_hosted, messages })
    }
}

#[cfg(test)]
mod tests;
