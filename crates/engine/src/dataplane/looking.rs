//! What there is, for those who look at the cluster. They wait a moment for what Node workers say of themselves, and no longer: neither
//! for one whose loop does not turn, nor for those that were asked meanwhile for somebody else.

use std::collections::VecDeque;

use recluster_wire::node::ToWorker;
use tokio::sync::oneshot;

use super::group::Group;
use super::instead;
use super::interview::PATIENCE;
use super::messages::{Report, Tally};
use super::reactor::Timer;
use super::state::State;
use super::worker::Worker;
use crate::report::counts::Flow;
use crate::report::status::ListenerStatus;

/// Somebody looks: answers at once where no worker is to be waited for.
pub(super) fn begin(state: &mut State, reply: oneshot::Sender<Report>) {
    ask_all(state);
    let until = state.reactor.now + PATIENCE;
    state.looking.push((until, reply));
    if is_awaited(state) {
        // Those that were asked earlier are waited for until a time that was set then.
        state.reactor.set_timer(until, Timer::Looking);
    } else {
        end(state);
    }
}

/// Answers those who have waited long enough; all of them if no worker is waited for.
pub(super) fn end(state: &mut State) {
    if state.looking.is_empty() {
        return;
    }
    let (now, waits) = (state.reactor.now, is_awaited(state));
    let over: Vec<_> = state.looking.extract_if(.., |(until, _)| !waits || *until <= now).collect();
    for (_, reply) in over {
        // A caller that no longer waits does not need the answer.
        let _ = reply.send(report(state));
    }
}

/// Answers all of them with what there is.
pub(super) fn end_all(state: &mut State) {
    for (_, reply) in std::mem::take(&mut state.looking) {
        // A caller that no longer waits does not need the answer.
        let _ = reply.send(report(state));
    }
}

fn is_awaited(state: &State) -> bool {
    let now = state.reactor.now;
    state.workers.values().any(|worker| worker.interview.is_awaited(now))
}

fn ask_all(state: &mut State) {
    let State { workers, reactor, .. } = state;
    let mut violations = Vec::new();
    for worker in workers.values_mut() {
        if worker.interview.is_due(worker.standing.is_some(), reactor.now) {
            worker.interview.ask(reactor.now);
            let sent = worker.channel.send(&ToWorker::Measure);
            violations.extend(sent.err().map(|violation| (worker.id, violation)));
        }
    }
    for (id, violation) in violations {
        state.cut_off(id, &violation);
    }
}

fn report(state: &State) -> Report {
    let listeners = state.listeners.values().map(|listener| {
        let address = state.opener.address_of(listener);
        ListenerStatus {
            address: address.to_string(),
            balance: listener.balance().to_owned(),
            reason: instead::reason(listener, address, &state.config),
            handing_out: listener.group.as_ref().is_some_and(Group::is_desk_open),
        }
    });
    let told = |worker: &Worker| Some((worker.id, worker.interview.told(state.reactor.now)?));
    let said = state.workers.values().filter_map(told);
    Report {
        listeners: listeners.collect(),
        taken: state.workers.values().map(|worker| (worker.id, worker.connections())).collect(),
        said: said.collect(),
        tally: tally(state),
        flow: flow(state),
    }
}

/// What was counted until now. What living workers have said is added to what those before them had.
fn tally(state: &State) -> Tally {
    let mut tally = state.reports.tally.clone();
    for worker in state.workers.values().filter(|worker| worker.interview.answers) {
        let counted = tally.counted.entry(worker.slot).or_default();
        *counted = counted.and(&worker.interview.counted());
    }
    tally
}

/// What waits, and where. Two sockets at one address are told as one.
fn flow(state: &State) -> Flow {
    let mut flow = Flow::default();
    for worker in state.workers.values() {
        let sent = worker.in_flight.len();
        let pending = state.listeners.values().filter_map(|listener| listener.pending.get(&worker.id));
        let all = pending.map(VecDeque::len).fold(sent, usize::saturating_add);
        *flow.in_flight.entry(worker.slot).or_default() += all as u64;
    }
    for listener in state.listeners.values() {
        let Some(queue) = listener.queue() else { continue };
        *flow.queues.entry(state.opener.address_of(listener).to_string()).or_default() += queue;
    }
    flow
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use recluster_wire::node::{FromWorker, Measures, Requests, Spans};

    use super::super::fixtures::{FarEnd, Harness, id};
    use super::super::messages::Command;
    use super::*;
    use crate::config::balance::Balance;

    const QUESTION: &str = r#"{"cmd":"NODE_RECLUSTER_MEASURE"}"#;
    const SECOND: Duration = Duration::from_secs(1);

    /// A worker that answers questions.
    fn answering(harness: &mut Harness, number: u64, slot: u32) -> FarEnd {
        let far = harness.serving(number, slot);
        harness.worker(number).interview.answers = true;
        far
    }

    fn look(harness: &mut Harness) -> oneshot::Receiver<Report> {
        let (reply, answer) = oneshot::channel();
        harness.obey(Command::Report(reply));
        answer
    }

    /// What it has counted: so many requests, the last of which have taken longer than ten seconds.
    fn says(harness: &mut Harness, number: u64, requests: u64) {
        let mut spans = Spans { sum: requests, ..Spans::default() };
        spans.buckets[13] = requests;
        let http = Some(Requests { codes: [0, requests, 0, 0, 0, 0], spans });
        harness.hear(number, FromWorker::Measures(Box::new(Measures { http, ..Measures::default() })));
        harness.turn();
    }

    fn requests(report: &Report, slot: u32) -> u64 {
        report.tally.counted[&slot].http.expect("they are counted").codes[1]
    }

    #[test]
    fn who_looks_waits_for_the_workers_that_are_asked() {
        let mut harness = Harness::new(Balance::RoundRobin);
        let _other = harness.serving(1, 0);
        let mut answer = look(&mut harness);
        assert!(answer.try_recv().is_ok(), "nobody answers, so nobody is asked");
        let (mut far, mut second) = (answering(&mut harness, 2, 1), answering(&mut harness, 3, 2));
        let (mut answer, mut beside) = (look(&mut harness), look(&mut harness));
        assert_eq!([far.lines(), second.lines()], [[QUESTION], [QUESTION]]);
        harness.pass(Duration::from_millis(3));
        says(&mut harness, 2, 7);
        assert!(answer.try_recv().is_err(), "one is missing");
        says(&mut harness, 3, 8);
        let report = answer.try_recv().expect("all have answered");
        assert!(beside.try_recv().is_ok());
        assert_eq!([requests(&report, 1), requests(&report, 2)], [7, 8]);
        assert_eq!(report.said[&id(2)].lag, Duration::from_millis(3));
        assert!(!report.said.contains_key(&id(1)));
    }

    #[test]
    fn a_worker_is_asked_about_once_a_second_and_only_if_somebody_looks() {
        let mut harness = Harness::new(Balance::RoundRobin);
        let mut far = answering(&mut harness, 1, 0);
        drop(look(&mut harness));
        says(&mut harness, 1, 1);
        for _ in 0..8 {
            assert!(look(&mut harness).try_recv().is_ok(), "what is known is new enough");
            harness.pass(SECOND / 10);
        }
        assert_eq!(far.lines(), [QUESTION]);
        harness.pass(SECOND * 3600);
        assert_eq!(far.lines(), [""; 0]);
        drop(look(&mut harness));
        assert_eq!(far.lines(), [QUESTION]);
    }

    #[test]
    fn a_worker_that_does_not_answer_is_waited_for_once_and_its_lag_is_known_meanwhile() {
        let mut harness = Harness::new(Balance::RoundRobin);
        let mut far = answering(&mut harness, 1, 0);
        drop(look(&mut harness));
        says(&mut harness, 1, 1);
        harness.pass(SECOND);
        let mut answer = look(&mut harness);
        harness.pass(SECOND / 20);
        assert!(answer.try_recv().is_err());
        harness.pass(SECOND / 20);
        assert_eq!(answer.try_recv().unwrap().said[&id(1)].lag, SECOND / 10);
        harness.pass(SECOND * 2);
        let report = look(&mut harness).try_recv().expect("it is not waited for again");
        assert_eq!(report.said[&id(1)].lag, SECOND * 2 + SECOND / 10);
        assert_eq!(far.lines(), [QUESTION, QUESTION], "nor asked");
        says(&mut harness, 1, 1);
        let mut answer = look(&mut harness);
        says(&mut harness, 1, 1);
        assert_eq!(answer.try_recv().unwrap().said[&id(1)].lag, Duration::ZERO);
    }

    #[test]
    fn nobody_waits_for_those_whom_the_next_one_has_asked() {
        let mut harness = Harness::new(Balance::RoundRobin);
        let mut hung = answering(&mut harness, 1, 0);
        let mut first = look(&mut harness);
        harness.pass(SECOND / 20);
        let mut also_hung = answering(&mut harness, 2, 1);
        let mut second = look(&mut harness);
        assert_eq!([hung.lines(), also_hung.lines()], [[QUESTION], [QUESTION]]);
        harness.pass(SECOND / 20);
        assert!(first.try_recv().is_ok(), "it has waited long enough");
        assert!(second.try_recv().is_err());
        harness.pass(SECOND / 20);
        assert!(second.try_recv().is_ok());
    }

    #[test]
    fn one_that_is_gone_is_not_waited_for() {
        let mut harness = Harness::new(Balance::RoundRobin);
        let _far = answering(&mut harness, 1, 0);
        let mut answer = look(&mut harness);
        harness.obey(Command::Ended(id(1)));
        harness.turn();
        assert!(answer.try_recv().is_ok());
    }

    #[test]
    fn one_that_has_not_been_ready_is_not_asked_and_one_that_drains_is() {
        let mut harness = Harness::new(Balance::RoundRobin);
        let mut far = answering(&mut harness, 1, 0);
        harness.set_standing(1, None);
        assert!(look(&mut harness).try_recv().is_ok());
        assert_eq!(far.lines(), [""; 0]);
        says(&mut harness, 1, 1);
        harness.pass(SECOND);
        drop(look(&mut harness));
        assert_eq!(far.lines(), [QUESTION]);
    }

    #[test]
    fn counts_of_a_slot_never_fall_whatever_workers_say_and_however_many_there_were() {
        let mut harness = Harness::new(Balance::RoundRobin);
        let _first = answering(&mut harness, 1, 0);
        says(&mut harness, 1, 5);
        says(&mut harness, 1, 3);
        assert_eq!(requests(&look(&mut harness).try_recv().unwrap_or_else(|_| ended(&mut harness)), 0), 5);
        harness.obey(Command::Ended(id(1)));
        let _second = answering(&mut harness, 2, 0);
        says(&mut harness, 2, 2);
        let mut answer = look(&mut harness);
        says(&mut harness, 2, u64::MAX);
        assert_eq!(requests(&answer.try_recv().unwrap(), 0), u64::MAX);
    }

    /// What there is when those who are waited for have had their time.
    fn ended(harness: &mut Harness) -> Report {
        harness.pass(SECOND);
        look(harness).try_recv().expect("nobody is waited for")
    }

    #[test]
    fn the_slowest_requests_are_those_of_the_last_seconds() {
        let mut harness = Harness::new(Balance::RoundRobin);
        let _far = answering(&mut harness, 1, 0);
        let mut p99 = |requests| {
            let mut answer = look(&mut harness);
            says(&mut harness, 1, requests);
            let told = answer.try_recv().unwrap().said[&id(1)].p99;
            harness.pass(SECOND * 5);
            told
        };
        assert_eq!([p99(0), p99(1), p99(1), p99(2)], [None, Some(10.0), None, Some(10.0)]);
    }
}
