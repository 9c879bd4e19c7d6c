//! What programs leave behind is sent TERM, then KILL, and is then waited for no longer.

use recluster_core::Time;

use super::*;
use crate::supervisor::fixtures;

const SECOND: Duration = Duration::from_secs(1);
/// How long the end of a group is waited for that was sent KILL.
const LAST: Duration = Duration::from_secs(10);
/// No test takes this long.
const DEADLINE: Duration = Duration::from_secs(60);

fn settings() -> Settings {
    Settings {
        timeout: 30 * SECOND,
        stop_timeout: 20 * SECOND,
        kill_timeout: 5 * SECOND,
        end_timeout: LAST,
        ..Settings::default()
    }
}

/// One worker's rest, to which this is done next, and the number of its group.
fn one(next: impl Fn(Instant) -> Step) -> (Leftovers, BTreeSet<i32>, Instant) {
    let (mut leftovers, child, now) = (Leftovers::default(), fixtures::child(7), Instant::now());
    let living = BTreeSet::from([child.pid()]);
    let (worker, next) = (child.about(), next(now));
    leftovers.waited_for.push(Leftover { worker, child, since: now, next, is_known: false, spared: 0 });
    (leftovers, living, now)
}

fn sent(leftovers: &Leftovers) -> Option<core::Signal> {
    leftovers.waited_for[0].child.process.sent
}

#[test]
fn what_is_left_gets_the_time_of_the_worker() {
    let (now, settings) = (Instant::now(), settings());
    let clock = Clock::starting(now);
    let step = |state, phase, sent| Step::after_end(state, phase, sent, &settings, clock, now);
    let until = Time::after(9 * SECOND);
    let running = Phase::Running;
    assert_eq!(step(None, running, None), Some(Step::Term(now + 30 * SECOND)));
    assert_eq!(step(None, Phase::Stopping, None), Some(Step::Term(now + 20 * SECOND)));
    assert_eq!(step(Some(State::Ready { since: until }), Phase::Released, None), None, "left alone");
    let draining = Some(State::Draining { until });
    assert_eq!(step(draining, running, None), Some(Step::Term(now + 9 * SECOND)));
    assert_eq!(step(draining, Phase::Released, None), Some(Step::Term(now + 9 * SECOND)));
    let termed = Some(core::Signal::Term);
    assert_eq!(step(draining, running, termed), Some(Step::Kill(now + 14 * SECOND)), "not sent TERM twice");
    let terminating = Some(State::Terminating { until });
    assert_eq!(step(terminating, running, termed), Some(Step::Kill(now + 9 * SECOND)));
    let killed = Some(core::Signal::Kill);
    assert_eq!(step(Some(State::Killed { until }), running, killed), Some(Step::Forget(now + LAST)));
}

#[test]
fn a_group_that_was_not_told_to_go_is_told_unless_it_is_left_alone() {
    let now = Instant::now();
    let times = (Clock::starting(now), now);
    let mut leftovers = Leftovers::default();
    leftovers.take(fixtures::child(7), (None, Phase::Released), &settings(), times);
    assert!(leftovers.is_empty(), "left alone");
    leftovers.take(fixtures::child(8), (None, Phase::Running), &settings(), times);
    assert_eq!(sent(&leftovers), Some(core::Signal::Term), "its drain signal is TERM");
    assert_eq!(leftovers.waited_for[0].next, Step::Kill(now + 35 * SECOND));
    let mut told = fixtures::child(9);
    told.process.told = true;
    let mut leftovers = Leftovers::default();
    leftovers.take(told, (None, Phase::Running), &settings(), times);
    assert_eq!(sent(&leftovers), None, "it was told already");
}

#[test]
fn a_kill_timeout_that_is_too_long_for_the_clock_is_a_long_one() {
    let (mut leftovers, living, now) = one(Step::Term);
    assert_eq!(
        leftovers.look(&living, &Settings { kill_timeout: Duration::MAX, ..settings() }, now).len(),
        1
    );
    assert_eq!(leftovers.waited_for[0].next, Step::Kill(now + FAR_AWAY));
}

#[test]
fn it_is_sent_term_then_kill_and_then_forgotten() {
    let (mut leftovers, living, now) = one(|now| Step::Term(now + 10 * SECOND));
    let look = |leftovers: &mut Leftovers, after| leftovers.look(&living, &settings(), now + after);
    assert!(look(&mut leftovers, Duration::ZERO).is_empty(), "it may end at once");
    assert_eq!(leftovers.known().count(), 0);
    assert_eq!(leftovers.look_due(now), Some(now + SOON));
    let told = look(&mut leftovers, SECOND);
    assert!(matches!(told[..], [Event::LeftBehind { timeout, .. }] if timeout == 9 * SECOND), "{told:?}");
    assert!(look(&mut leftovers, SECOND).is_empty(), "told once");
    assert_eq!(leftovers.look_due(now + SECOND), Some(now + SECOND + LOOK));
    assert_eq!(leftovers.look_due(now + 9 * SECOND + LOOK), Some(now + 9 * SECOND + 2 * LOOK));

    let told = look(&mut leftovers, 10 * SECOND);
    assert!(matches!(told[..], [Event::Overdue { due: "rest", signal: "SIGTERM", .. }]), "{told:?}");
    assert_eq!(sent(&leftovers), Some(core::Signal::Term));
    assert_eq!(leftovers.known().next().unwrap().signal_due(), Some(now + 15 * SECOND));

    let told = look(&mut leftovers, 15 * SECOND);
    assert!(matches!(told[..], [Event::Overdue { due: "rest", signal: "SIGKILL", .. }]), "{told:?}");
    assert_eq!(sent(&leftovers), Some(core::Signal::Kill));
    assert!(look(&mut leftovers, 16 * SECOND).is_empty());
    assert!(!leftovers.is_empty());
    assert_eq!(leftovers.look_due(now), Some(now + SOON));
    assert!(look(&mut leftovers, 15 * SECOND + LAST).is_empty());
    assert!(leftovers.is_empty(), "it is waited for no longer");
}

#[test]
fn a_group_that_has_ended_is_reaped_and_is_no_news() {
    let (mut leftovers, _, now) = one(|now| Step::Term(now + SECOND));
    assert!(leftovers.look(&BTreeSet::new(), &settings(), now + 2 * SECOND).is_empty());
    assert!(leftovers.is_empty());
    assert_eq!(leftovers.look_due(now), None);
}

#[test]
fn a_stop_hurries_and_never_gives_more_time() {
    let due = |step: fn(Instant) -> Step| {
        let (mut leftovers, _, now) = one(step);
        leftovers.hurry(&settings(), Clock::starting(now), now);
        let next = leftovers.waited_for[0].next;
        let (Step::Term(at) | Step::Kill(at) | Step::Forget(at)) = next;
        (next, at - now)
    };
    assert!(matches!(due(|now| Step::Term(now + 60 * SECOND)), (Step::Term(_), at) if at == 20 * SECOND));
    assert!(matches!(due(|now| Step::Kill(now + 60 * SECOND)), (Step::Kill(_), at) if at == 25 * SECOND));
    assert!(matches!(due(|now| Step::Term(now + SECOND)), (Step::Term(_), SECOND)));
    assert!(matches!(due(|now| Step::Forget(now + LAST)), (Step::Forget(_), LAST)));
}

#[test]
fn a_termination_kills_at_once_and_once() {
    let (mut leftovers, living, now) = one(|now| Step::Term(now + 10 * SECOND));
    leftovers.kill(LAST, now);
    assert_eq!(sent(&leftovers), Some(core::Signal::Kill));
    leftovers.kill(LAST, now + SECOND);
    assert!(leftovers.look(&living, &settings(), now + LAST).is_empty());
    assert!(leftovers.is_empty(), "a second termination does not wait longer");
}

#[test]
fn a_time_that_is_too_long_for_the_clock_is_a_long_one_at_the_end_as_well() {
    let now = Instant::now();
    assert_eq!(Step::forgotten_after(Duration::MAX, now), Step::Forget(now + FAR_AWAY));
}

/// What was sent KILL and lives on in this state, because the test has not really sent it.
fn lives_on(script: &str, state: char) -> (Leftovers, BTreeSet<i32>, Instant) {
    let (mut leftovers, child, now) =
        (Leftovers::default(), fixtures::child_that_runs(7, script), Instant::now());
    let group = child.pid();
    while unkillable::in_group(group).is_none_or(|remnant| remnant.state != state) {
        assert!(now.elapsed() < DEADLINE, "it does not come to be {state}");
        std::thread::yield_now();
    }
    leftovers.keep(child, now);
    leftovers.waited_for[0].next = Step::forgotten_after(LAST, now);
    (leftovers, BTreeSet::from([group]), now)
}

fn end(mut leftovers: Leftovers) {
    for mut leftover in leftovers.waited_for.drain(..).chain(leftovers.unkillable.drain(..)) {
        leftover.child.process.kill_and_reap();
    }
}

#[test]
fn what_waits_in_the_kernel_is_given_up_and_told_until_it_ends() {
    let (mut leftovers, living, now) = lives_on("exec sleep 1000", 'S');
    let group = living.first().unwrap().unsigned_abs();
    assert!(leftovers.look(&living, &settings(), now + 9 * SECOND).is_empty());
    let told = leftovers.look(&living, &settings(), now + LAST);
    let is_told = |event: &Event| matches!(event, Event::Unkillable { process, state: Some('S'), .. } if *process == Some(group));
    assert!(told.len() == 1 && is_told(&told[0]), "{told:?}");
    assert!(leftovers.is_empty(), "nothing waits for it");
    assert_eq!(leftovers.unkillable().iter().map(|left| left.worker.pid).collect::<Vec<_>>(), [Some(group)]);
    assert!(leftovers.look(&living, &settings(), now + 2 * LAST).is_empty(), "told once");
    assert_eq!(leftovers.unkillable().len(), 1);
    leftovers.unkillable[0].child.process.signal(core::Signal::Kill);
    assert!(leftovers.look(&BTreeSet::new(), &settings(), now + 2 * LAST).is_empty());
    assert!(leftovers.unkillable().is_empty(), "it has ended");
}

#[test]
fn what_runs_is_about_to_end_and_is_given_up_only_when_it_has_run_for_a_minute() {
    let (mut leftovers, living, now) = lives_on("while :; do :; done", 'R');
    let mut at = now;
    for spared in 1..=MOST_SPARED {
        at += LAST;
        assert!(leftovers.look(&living, &settings(), at).is_empty());
        assert_eq!(leftovers.waited_for[0].next, Step::Forget(at + LAST), "{spared}");
    }
    let told = leftovers.look(&living, &settings(), at + LAST);
    assert!(matches!(told[..], [Event::Unkillable { state: Some('R'), .. }]), "{told:?}");
    assert!(leftovers.is_empty() && leftovers.unkillable().len() == 1);
    end(leftovers);
}

#[test]
fn after_a_panic_groups_are_sent_each_signal_once_and_reaped_when_they_have_ended() {
    let (mut leftovers, living, _) = lives_on("exec sleep 1000", 'S');
    leftovers.signal(core::Signal::Term);
    assert_eq!(sent(&leftovers), Some(core::Signal::Term));
    leftovers.reap(&living);
    assert!(!leftovers.is_empty());
    leftovers.signal(core::Signal::Kill);
    leftovers.signal(core::Signal::Term);
    assert_eq!(sent(&leftovers), Some(core::Signal::Kill));
    leftovers.reap(&BTreeSet::new());
    assert!(leftovers.is_empty());
}
