//! Fast requests beside blocking ones, open loop: a request begins when the plan says so, however many have not been
//! answered yet, and its latency counts from that moment. What a client would have waited for is never left out because
//! the clients before it waited too.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::client;
use crate::fault::{Fault, Faults, count};
use crate::plan::{Kind, Planned};

/// How long a client waits for its answer and for the end of its connection.
const PATIENCE: Duration = Duration::from_secs(10);
/// From the making of the pacer to the first moment of the plan.
const HEADWAY: Duration = Duration::from_millis(20);

/// What the clients saw. Latencies are those of the fast requests, in microseconds.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Requests that were begun.
    fast: usize,
    blocking: usize,
    /// By its kind, how often something went wrong, for a request of either kind.
    errors: Faults,
    p50_us: u64,
    p90_us: u64,
    p99_us: u64,
    max_us: u64,
    /// How late these clients themselves began, which is a part of the latencies.
    late_p99_us: u64,
}

/// What became of a request.
#[derive(Debug)]
struct Outcome {
    kind: Kind,
    /// From the planned moment until the client began.
    late: Duration,
    /// From the planned moment until the answer was whole.
    latency: Result<Duration, Fault>,
}

/// Makes all requests of the plan.
pub(crate) async fn run(server: SocketAddr, plan: Vec<Planned>) -> Result<Report> {
    let mut due = pace(plan)?;
    let mut requests = JoinSet::new();
    while let Some((moment, kind)) = due.recv().await {
        requests.spawn(request(server, moment, kind));
    }
    Ok(report(&requests.join_all().await))
}

/// Names each request when its moment has come. A thread does it, because the runtime's clock ticks once a millisecond,
/// and many requests are answered faster than that.
fn pace(plan: Vec<Planned>) -> Result<mpsc::UnboundedReceiver<(Instant, Kind)>> {
    let (due, receiver) = mpsc::unbounded_channel();
    let begin = Instant::now() + HEADWAY;
    let pacer = move || {
        for planned in plan {
            let moment = begin + planned.at;
            thread::sleep(moment.saturating_duration_since(Instant::now()));
            if due.send((moment, planned.kind)).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().name("pacer".to_owned()).spawn(pacer).context("failed to start a thread")?;
    Ok(receiver)
}

async fn request(server: SocketAddr, moment: Instant, kind: Kind) -> Outcome {
    let late = moment.elapsed();
    let path = match kind {
        Kind::Fast => "/",
        Kind::Blocking => "/block",
    };
    let text = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
    let asked = async {
        let answered = client::ask(server, &text).await?;
        let latency = moment.elapsed();
        answered.close().await.map(|()| latency)
    };
    let latency = tokio::time::timeout(PATIENCE, asked).await.unwrap_or(Err(Fault::Timeout));
    Outcome { kind, late, latency }
}

fn report(outcomes: &[Outcome]) -> Report {
    let mut errors = Faults::new();
    for fault in outcomes.iter().filter_map(|outcome| outcome.latency.err()) {
        count(&mut errors, fault);
    }
    let fast = || outcomes.iter().filter(|outcome| outcome.kind == Kind::Fast);
    let latencies = in_order(fast().filter_map(|outcome| outcome.latency.ok()));
    Report {
        fast: fast().count(),
        blocking: outcomes.len() - fast().count(),
        errors,
        p50_us: percentile(&latencies, 50),
        p90_us: percentile(&latencies, 90),
        p99_us: percentile(&latencies, 99),
        max_us: percentile(&latencies, 100),
        late_p99_us: percentile(&in_order(outcomes.iter().map(|outcome| outcome.late)), 99),
    }
}

/// In microseconds, the shortest first.
fn in_order(durations: impl Iterator<Item = Duration>) -> Vec<u64> {
    let mut micros: Vec<u64> =
        durations.map(|duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)).collect();
    micros.sort_unstable();
    micros
}

/// The least of the values that so many percent do not exceed; 0 where there is none.
fn percentile(in_order: &[u64], percent: usize) -> u64 {
    let rank = (in_order.len() * percent).div_ceil(100);
    in_order.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::plan::{Rates, plan};
    use crate::server::{self, PID};

    fn ten_and_five() -> Vec<Planned> {
        let rate = |number| NonZeroU32::new(number).expect("a rate");
        let rates = Rates { fast: rate(100), blocking: rate(50) };
        plan(rates, Duration::from_millis(100), 1)
    }

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let values: Vec<u64> = (1..=200).collect();
        assert_eq!(
            (percentile(&values, 50), percentile(&values, 99), percentile(&values, 100)),
            (100, 198, 200)
        );
        assert_eq!((percentile(&[5], 1), percentile(&[5], 99), percentile(&[], 50)), (5, 5, 0));
    }

    #[tokio::test]
    async fn every_planned_request_is_made_and_answered() {
        let server =
            server::start(1, &format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{PID}"), false).await;
        let report = run(server, ten_and_five()).await.expect("a report");
        assert_eq!((report.fast, report.blocking), (10, 5));
        assert!(report.errors.is_empty(), "{:?}", report.errors);
        assert!(0 < report.p50_us && report.p50_us <= report.p99_us && report.p99_us <= report.max_us);
    }

    #[tokio::test]
    async fn who_waits_delays_nobody_and_is_counted_from_its_moment() {
        let plan = ten_and_five();
        let fast = plan.iter().find(|planned| planned.kind == Kind::Fast).expect("a fast one");
        let wait = plan[plan.len() - 1].at.saturating_sub(fast.at);
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{PID}");
        // It answers nobody before all have come: a closed loop would wait for ever.
        let server = server::start(plan.len(), &answer, false).await;
        let report = run(server, plan).await.expect("a report");
        assert!(report.errors.is_empty(), "{:?}", report.errors);
        assert!(u128::from(report.max_us) >= wait.as_micros(), "{} of {wait:?}", report.max_us);
    }

    #[tokio::test]
    async fn a_request_without_a_good_answer_is_an_error() {
        let server = server::start(1, "HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n", false).await;
        let report = run(server, ten_and_five()).await.expect("a report");
        assert_eq!(report.errors, Faults::from([("status".to_owned(), 15)]));

        let server = server::start(1, "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n12", false).await;
        let report = run(server, ten_and_five()).await.expect("a report");
        assert_eq!(report.errors, Faults::from([("closed".to_owned(), 15)]));
        assert_eq!(report.p99_us, 0);
    }
}
