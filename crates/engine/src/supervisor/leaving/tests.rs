//! Each part of the supervisor is left, and taken over, and left again: all is as it was.

use std::time::{Duration, Instant};

use recluster_core::{Exit, Generation, Phase, Settings, State, WorkerId};
use rustix::process::Signal;
use tokio::sync::{broadcast, mpsc};

use crate::config::output::Output;
use crate::config::variable::Variables;
use crate::process::awaited::Awaited;
use crate::process::event::Event as Heard;
use crate::process::exit;
use crate::process::hands::{Chore, Hands};
use crate::process::oom_kills::OomKills;
use crate::process::outlets::Outlets;
use crate::report::event::Event;
use crate::report::verdict::Verdict;
use crate::report::worker::Worker;
use crate::sink::Sink;
use crate::supervisor::audience::Audience;
use crate::supervisor::caches::Caches;
use crate::supervisor::callers::Callers;
use crate::supervisor::changes::Changes;
use crate::supervisor::child::Numbering;
use crate::supervisor::fixtures;
use crate::supervisor::generations::Generations;
use crate::supervisor::hooks::Hooks;
use crate::supervisor::leftovers::Leftovers;
use crate::supervisor::policy::{Clock, Policy};
use crate::supervisor::spec::{Draft, Spec};
use crate::supervisor::timers::{Timer, Timers};
use crate::supervisor::workers::Workers;
use crate::upgrade::fixtures::{inherited, said};
use crate::upgrade::{AdoptError, Inheritance, SaveError, Saving};

mod format;

const ONE: WorkerId = WorkerId::from_number(1);
const TWO: WorkerId = WorkerId::from_number(2);

/// A part is saved, adopted from that, and saved again.
fn again<T>(
    part: &T,
    save: impl Fn(&T, &mut Saving) -> Result<(), SaveError>,
    adopt: impl FnOnce(&mut Inheritance) -> Result<T, AdoptError>,
) -> T {
    let saved = |part: &T| {
        let mut saving = Saving::new("it");
        save(part, &mut saving).unwrap();
        saving
    };
    let adopted = adopt(&mut inherited(saved(part))).unwrap();
    let (before, after) = (said(saved(part)), said(saved(&adopted)));
    assert!(!before.0.is_empty());
    assert_eq!(before, after);
    adopted
}

fn spec() -> (Spec, crate::process::program::ResolvedProgram) {
    let mut draft = Draft::new("/bin/sh".into());
    draft.program.args = vec!["-c".into(), ":".into()];
    draft.check(&crate::config::balance::Balance::default()).unwrap()
}

#[test]
fn the_policy_goes_on_with_its_deadlines() {
    let began = Instant::now();
    let mut policy = fixtures::policy(Settings { workers: 1, ..Settings::default() }, began);
    for event in [recluster_core::Event::Online(ONE), recluster_core::Event::Ready(ONE)] {
        policy.tell(event);
    }
    assert!(matches!(policy.save(&mut Saving::new("it")), Err(SaveError::Refused(_))), "events wait");
    while policy.next_action(began).is_some() {}
    let adopted = again(&policy, Policy::save, Policy::adopt);
    assert_eq!(adopted.deadline(), policy.deadline());
    assert_eq!((adopted.handled(), adopted.phase()), (policy.handled(), Phase::Starting));
}

#[test]
fn each_generation_goes_on_with_its_program() {
    let (mut spec, program) = spec();
    spec.config = recluster_core::Config::new(Settings { workers: 7, ..Settings::default() }).unwrap();
    let mut generations = Generations::new(spec, program);
    generations.new_caveats(Generation::FIRST, true);
    let adopted = again(&generations, Generations::save, |left| {
        Generations::adopt(fixtures::spec(Settings::default()), left)
    });
    assert_eq!(adopted.spec().settings().workers, 7);
    let program =
        |generations: &Generations| format!("{:?}", generations.program(Generation::FIRST).unwrap());
    assert_eq!(program(&adopted), program(&generations));
    generations.specify(None, Variables::default()).unwrap();
    assert!(matches!(generations.save(&mut Saving::new("it")), Err(SaveError::Refused(_))));
}

#[test]
fn what_was_counted_and_told_goes_on() {
    let now = Instant::now();
    let mut timers = Timers::default();
    timers.set(Timer::Recycle, now + Duration::from_secs(9));
    timers.set(Timer::Watchdog(TWO), now);
    let adopted = again(&timers, Timers::save, Timers::adopt);
    assert_eq!(adopted.next(), timers.next());
    let mut caches = Caches::default();
    caches.is_news("full");
    caches.is_to_write(ONE, 1, |_| true);
    assert!(!again(&caches, Caches::save, Caches::adopt).is_news("full"));
    let mut callers = Callers::default();
    callers.conclude(Some(2), Verdict::Done, now);
    assert_eq!(again(&callers, Callers::save, Callers::adopt).concluded(), 1);
    let mut changes = Changes::default();
    changes.note(crate::config::watched::Kind::Source, vec!["/srv/a".into()], 1);
    again(&changes, Changes::save, |left| {
        let mut changes = Changes::default();
        changes.go_on(left).map(|()| changes)
    });
    again(&OomKills::watch(), OomKills::save, OomKills::adopt);
    let audience = Audience::new(broadcast::Sender::new(8), None);
    let worker = Worker { id: 1, slot: 0, generation: 1, pid: Some(7) };
    audience.emit(Event::Spawned { worker });
    audience.emit(Event::Ready { worker });
    audience.emit(Event::Draining { worker, timeout: Duration::from_secs(9) });
    let adopted = again(&audience, Audience::save, |left| {
        let mut audience = Audience::new(broadcast::Sender::new(8), None);
        audience.go_on(left).map(|()| audience)
    });
    adopted.emit(Event::Exit { worker, exit: Exit::Code(0), expected: true, oom_killed: false });
    let counts = adopted.counts();
    assert_eq!((counts.ready.count(), counts.drains["done"].count()), (1, 1));
}

#[tokio::test]
async fn hooks_go_on_unless_one_of_them_is_at_work() {
    let (sender, mut chores) = mpsc::unbounded_channel();
    let hands = Hands::new(None, Awaited::default(), Sink::new(move |chore: Chore| drop(sender.send(chore))));
    let list = ["crashed=exec:true".parse().unwrap()];
    let hooks = || Hooks::new(&list, None, hands.clone(), Sink::new(|_| {}));
    let before = hooks();
    let worker = Worker { id: 1, slot: 0, generation: 1, pid: None };
    before.hear(&Event::Respawning { worker, delay: Duration::ZERO }, Default::default);
    again(&before, Hooks::save, |left| {
        let mut hooks = hooks();
        hooks.go_on(left).map(|()| hooks)
    });
    before.hear(
        &Event::Exit { worker, exit: Exit::Code(1), expected: false, oom_killed: false },
        Default::default,
    );
    let refused = before.save(&mut Saving::new("it")).unwrap_err();
    assert_eq!(refused.to_string(), "a hook runs");
    drop(chores.recv().await);
}

/// Two workers are taken over from another program: one lives, and one has ended meanwhile.
#[tokio::test]
async fn workers_go_on_and_their_ends_are_seen() {
    let (awaited, events) = (Awaited::default(), Sink::new(|_| {}));
    let mut workers = Workers::new(Numbering::default());
    let mut child = fixtures::child_that_runs(7, "read -r _ </dev/null; exec sleep 1000");
    child.process.tail.push(b"it begins\n");
    child.status = Some("warms up".to_owned());
    workers.insert(ONE, child);
    workers.insert(TWO, fixtures::child(2));
    let three = Worker { id: 3, slot: 1, generation: 1, pid: None };
    workers.still_born(WorkerId::from_number(3), three, "no memory".to_owned());
    let mut saving = Saving::new("it");
    workers.save(&mut saving).unwrap();
    let before = said(saving);
    let (mut saving, outlets) = (Saving::new("it"), Outlets::start(Output::default(), 1, true, None, events));
    let outlets = outlets.unwrap();
    workers.save(&mut saving).unwrap();
    exit::save_passages(&[], &mut saving).unwrap();
    let mut inheritance = inherited(saving);
    let (mut adopted, living) = Workers::adopt(Numbering::default(), &awaited, &mut inheritance).unwrap();
    let (sender, mut heard) = mpsc::unbounded_channel();
    let heard_by = Sink::new(move |event| drop(sender.send(event)));
    let mut watched = Vec::new();
    for (worker, it) in living {
        watched.push((worker, it.watched, it.child.process.tail.clone()));
        adopted.insert(worker, it.child);
    }
    let watching = exit::adopt(watched, &outlets, &heard_by, &mut inheritance).unwrap().watching;
    let mut saving = Saving::new("it");
    adopted.save(&mut saving).unwrap();
    assert_eq!(said(saving), before);
    watching.into_iter().for_each(exit::Watching::begin);
    assert!(matches!(heard.recv().await, Some(Heard::Ended(TWO))));
    let child = adopted.bury(TWO).unwrap();
    assert_eq!(child.process.exit(), Exit::Code(0));
    child.process.reap();
    let child = adopted.get(ONE).unwrap();
    assert_eq!(child.process.tail.lines(), ["it begins"]);
    child.process.signal_alone(Signal::KILL).unwrap();
    assert!(matches!(heard.recv().await, Some(Heard::Ended(ONE))));
    let child = adopted.bury(ONE).unwrap();
    assert_eq!(child.process.exit(), Exit::Signal(libc::SIGKILL));
    child.process.reap();
    let gone = workers.get(ONE).unwrap().process.signal_alone(Signal::KILL);
    assert_eq!(gone.unwrap_err().raw_os_error(), Some(libc::ESRCH), "it was reaped");
}

#[test]
fn what_is_left_behind_goes_on() {
    let (now, settings) = (Instant::now(), Settings::default());
    let mut leftovers = Leftovers::default();
    let state = (
        Some(State::Terminating { until: recluster_core::Time::after(Duration::from_secs(60)) }),
        Phase::Running,
    );
    let child = fixtures::child_that_runs(7, "sleep 1000 & exit 0");
    leftovers.take(child, state, &settings, (Clock::starting(now), now));
    let adopted = again(&leftovers, Leftovers::save, |left| Leftovers::adopt(&Awaited::default(), left));
    assert!(!adopted.is_empty());
    leftovers.kill(Duration::ZERO, now);
}
