//! Connections that are opened, asked once, and kept: how many of them each worker has.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::client::{self, Answered};
use crate::fault::{Fault, Faults, count};

/// How long a client waits for its answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Descriptors beside those of the connections.
const OTHER_DESCRIPTORS: u64 = 32;
const REQUEST: &str = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";

/// What the clients saw.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// By its pid, the connections of each worker that has any.
    workers: BTreeMap<u32, u32>,
    /// By its kind, how often something went wrong.
    errors: Faults,
}

/// Raises the limit of descriptors as far as so many connections need it.
pub(crate) fn allow_descriptors(connections: u32) -> Result<()> {
    let needed = u64::from(connections) + OTHER_DESCRIPTORS;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    if let Some(most) = maximum.filter(|&most| most < needed) {
        bail!(
            "{connections} connections need {needed} descriptors, and the hard limit is {most} (ulimit -Hn)"
        );
    }
    let limit = Rlimit { current: Some(needed), maximum };
    setrlimit(Resource::Nofile, limit).context("failed to raise the limit of descriptors")
}

/// Opens all connections, so many at once, and closes them when the last one has had its answer.
pub(crate) async fn run(server: SocketAddr, connections: u32, at_once: NonZeroU32) -> Report {
    let mut left = connections;
    let mut opening = JoinSet::new();
    let mut held = Vec::new();
    let mut errors = Faults::new();
    loop {
        while left > 0 && opening.len() < at_once.get() as usize {
            opening.spawn(open(server));
            left -= 1;
        }
        match opening.join_next().await {
            Some(Ok(Ok(answered))) => held.push(answered),
            Some(Ok(Err(fault))) => count(&mut errors, fault),
            // A client neither panics nor is it cancelled.
            Some(Err(_)) => {}
            None => break,
        }
    }
    let mut workers = BTreeMap::new();
    for answered in &held {
        *workers.entry(answered.pid).or_default() += 1;
        if !answered.is_held() {
            count(&mut errors, Fault::Closed);
        }
    }
    Report { workers, errors }
}

async fn open(server: SocketAddr) -> Result<Answered, Fault> {
    timeout(PATIENCE, client::ask(server, REQUEST)).await.unwrap_or(Err(Fault::Timeout))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::{self, PID};

    const THREE: NonZeroU32 = NonZeroU32::new(3).expect("not 0");

    fn answer() -> String {
        format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{PID}")
    }

    #[tokio::test]
    async fn connections_are_counted_for_who_has_answered() {
        // It answers when three have come: so many are opened at once.
        let server = server::start(3, &answer(), true).await;
        let report = run(server, 30, THREE).await;
        assert_eq!(report.workers, BTreeMap::from([(PID, 30)]));
        assert!(report.errors.is_empty(), "{:?}", report.errors);
    }

    #[tokio::test]
    async fn without_a_good_answer_it_is_an_error() {
        let server = server::start(1, "HTTP/1.1 503 Oh\r\nContent-Length: 0\r\n\r\n", true).await;
        let report = run(server, 5, THREE).await;
        assert_eq!(report.workers, BTreeMap::new());
        assert_eq!(report.errors, Faults::from([("status".to_owned(), 5)]));
    }

    #[test]
    fn more_descriptors_than_there_may_be_are_refused_in_one_line() {
        let limit = getrlimit(Resource::Nofile);
        if limit.maximum.is_some_and(|most| most < u64::from(u32::MAX)) {
            let error = allow_descriptors(u32::MAX).expect_err("so many there are not");
            assert!(error.to_string().contains("ulimit -Hn"), "{error}");
        }
        allow_descriptors(10).expect("so many there are");
    }
}
