//! Builds the [`Status`] of a cluster from what the policy, the workers and the data plane know.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use recluster_core as core;
use recluster_core::{Phase, State, WorkerId};

use crate::config::balance::Balance;
use crate::dataplane::BY_ITSELF;
use crate::dataplane::messages::Report;
use crate::process::program::ResolvedProgram;
use crate::report::counts::Flow;
use crate::report::measured::{Said, SlotMeasures};
use crate::report::status::{ListenerStatus, MasterStatus, ReloadStatus, SlotStatus, Status, WorkerStatus};
use crate::socket::bind::Bound;
use crate::supervisor::callers::Callers;
use crate::supervisor::launches::Launches;
use crate::supervisor::leftovers::{Leftover, Leftovers};
use crate::supervisor::policy::Clock;
use crate::supervisor::workers::Workers;

/// What a status is built from.
#[derive(Debug)]
pub(crate) struct Parts<'a> {
    pub(crate) name: Option<&'a str>,
    pub(crate) policy: &'a core::Status,
    pub(crate) workers: &'a Workers,
    pub(crate) launches: &'a Launches,
    pub(crate) leftovers: &'a Leftovers,
    pub(crate) callers: &'a Callers,
    pub(crate) balance: &'a Balance,
    /// What the master has bound for programs.
    pub(crate) bound: &'a [Bound],
    pub(crate) program: Option<&'a ResolvedProgram>,
    pub(crate) kill_timeout: Duration,
    /// A stop was asked for, and begins when connections have been accepted for a while.
    pub(crate) awaits_stop: bool,
    pub(crate) clock: Clock,
    pub(crate) now: Instant,
    /// The program that this is.
    pub(crate) master: &'a MasterStatus,
}

impl Parts<'_> {
    /// The status, but for what the data plane knows.
    pub(crate) fn status(&self) -> Status {
        let status = self.policy;
        let slots = status.slots.iter().map(|slot| SlotStatus {
            slot: slot.slot.get(),
            active: slot.active.map(|worker| self.workers.number_of(worker)),
            restarts: slot.restarts,
            connections: None,
            in_flight: 0,
        });
        let workers = status.workers.iter().map(|worker| self.worker(worker));
        let phase = phase(status.phase, self.leftovers, self.awaits_stop);
        Status {
            name: self.name.map(ToOwned::to_owned),
            pid: std::process::id(),
            master: self.master.clone(),
            phase: phase_name(phase).to_owned(),
            generation: status.generation.get(),
            reload: status.reload.as_ref().map(|reload| ReloadStatus {
                generation: reload.generation.get(),
                serving: reload.serving,
                of: reload.of,
            }),
            last_reload: self.callers.last_reload(self.now),
            uptime_seconds: self.clock.uptime(self.now).as_secs_f64(),
            balance: self.balance.to_string(),
            sticky_by: self.balance.sticky_by().map(ToString::to_string),
            stolen: 0,
            requeued: 0,
            server: self.program.map(|program| shown(&program.server)).unwrap_or_default(),
            server_link: self.program.and_then(link),
            env: self.program.map(names).unwrap_or_default(),
            slots: slots.collect(),
            workers: workers.chain(self.left()).collect(),
            listeners: self.bound.iter().map(|bound| shared(bound, self.balance)).collect(),
        }
    }

    fn worker(&self, worker: &core::WorkerStatus) -> WorkerStatus {
        let child = self.workers.get(worker.worker);
        let place = self.launches.place(worker.worker);
        let usage = child.and_then(|child| child.process.usage());
        // A worker that was sent TERM at the beginning of its drain is not sent it again at the end.
        let is_termed = matches!(worker.state, State::Draining { .. })
            && self.workers.was_sent(worker.worker, core::Signal::Term);
        let more = if is_termed { self.kill_timeout } else { Duration::ZERO };
        let now = self.clock.time(self.now);
        WorkerStatus {
            id: place.map_or_else(|| self.workers.number_of(worker.worker), |place| place.number),
            slot: worker.slot.get(),
            generation: worker.generation.get(),
            pid: self.workers.about(worker.worker).and_then(|about| about.pid),
            state: state_name(worker.state, worker.serves).to_owned(),
            stopped: usage.is_some_and(|usage| usage.is_stopped),
            seconds_left: worker.deadline.map(|at| (at + more).since(now).as_secs_f64()),
            uptime_seconds: child.map_or(Duration::ZERO, |child| child.age(self.now)).as_secs_f64(),
            status: child.and_then(|child| child.status.clone()),
            notifications_ignored: child.map_or(0, |child| child.notify_ignored),
            held: child.and_then(|child| child.held.clone()),
            memory_bytes: usage.map(|usage| usage.memory),
            cpu_seconds: usage.map(|usage| usage.cpu_seconds),
            connections: None,
            node: None,
            http: None,
        }
    }

    fn left(&self) -> impl Iterator<Item = WorkerStatus> {
        let waited_for = self.leftovers.known().map(|leftover| self.leftover(leftover, "leftover"));
        let unkillable = self.leftovers.unkillable().iter();
        waited_for
            .chain(unkillable.map(|leftover| self.leftover(leftover, state_name(State::Unkillable, false))))
    }

    /// A worker of which only other processes of its group are left.
    fn leftover(&self, leftover: &Leftover, state: &str) -> WorkerStatus {
        let Leftover { worker, child, .. } = leftover;
        let left = leftover.signal_due().map(|at| at.saturating_duration_since(self.now));
        WorkerStatus {
            id: worker.id,
            slot: worker.slot,
            generation: worker.generation,
            pid: worker.pid,
            state: state.to_owned(),
            stopped: false,
            seconds_left: left.map(|left| left.as_secs_f64()),
            uptime_seconds: child.age(self.now).as_secs_f64(),
            status: child.status.clone(),
            notifications_ignored: child.notify_ignored,
            held: None,
            memory_bytes: None,
            cpu_seconds: None,
            connections: None,
            node: None,
            http: None,
        }
    }
}

/// Adds what the data plane knows, and returns what of that is no part of a status. The first workers of the status are these.
pub(crate) fn add_report(status: &mut Status, workers: &[WorkerId], report: Report) -> Flow {
    for (id, worker) in workers.iter().zip(&mut status.workers) {
        worker.connections = report.taken.get(id).copied().flatten();
        let said = report.said.get(id);
        (worker.node, worker.http) = (said.map(Said::node), said.and_then(Said::http));
    }
    let nodes = measures_by_slot(status, workers, &report);
    (status.stolen, status.requeued) = (report.tally.stolen, report.tally.requeued);
    for slot in &mut status.slots {
        let now = workers.iter().zip(&status.workers).filter(|(_, worker)| worker.slot == slot.slot);
        let past = report.tally.past.get(&slot.slot).copied().unwrap_or(Some(0));
        // A worker may say any number. Those that have no channel any more are part of the past.
        let counts = now.filter_map(|(id, _)| report.taken.get(id));
        slot.connections = counts.fold(past, |sum, count| Some(sum?.saturating_add((*count)?)));
        slot.in_flight = report.flow.in_flight.get(&slot.slot).copied().unwrap_or(0);
    }
    let known = report.listeners;
    status.listeners.retain(|listener| known.iter().all(|other| other.address != listener.address));
    status.listeners.extend(known);
    Flow { nodes, ..report.flow }
}

/// What the Node workers of each slot have said, and counted.
fn measures_by_slot(status: &Status, workers: &[WorkerId], report: &Report) -> BTreeMap<u32, SlotMeasures> {
    let said = workers.iter().zip(&status.workers).filter_map(|(id, worker)| {
        let said = report.said.get(id)?;
        Some((worker.id, said))
    });
    let said: BTreeMap<u64, &Said> = said.collect();
    let known = status.slots.iter().filter_map(|slot| {
        let counted = *report.tally.counted.get(&slot.slot)?;
        let active = slot.active.and_then(|active| said.get(&active));
        Some((slot.slot, SlotMeasures { said: active.map(|said| Said::clone(said)), counted }))
    });
    known.collect()
}

/// A socket that the master has bound for programs, which accept by themselves.
fn shared(bound: &Bound, wanted: &Balance) -> ListenerStatus {
    let reason = (*wanted != Balance::Shared).then(|| BY_ITSELF.to_owned());
    let (address, balance) = (bound.address.to_string(), Balance::Shared.to_string());
    ListenerStatus { address, balance, reason, handing_out: false }
}

/// The names of what a program is given.
fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn link(program: &ResolvedProgram) -> Option<String> {
    // As people write it, without a `.` in it.
    let named: PathBuf = program.named_server.components().collect();
    (named != program.server).then(|| shown(&named))
}

fn names(program: &ResolvedProgram) -> Vec<String> {
    program.given.iter().map(|name| name.to_string_lossy().into_owned()).collect()
}

/// The word for a worker's state.
pub(crate) fn state_name(state: State, serves: bool) -> &'static str {
    match state {
        State::Starting { .. } => "starting",
        State::Ready { .. } if serves => "serving",
        State::Ready { .. } => "ready",
        State::Draining { .. } => "draining",
        State::Terminating { .. } => "terminating",
        State::Killed { .. } => "killed",
        State::Unkillable => "unkillable",
    }
}

/// The phase of the cluster, of which the policy does not know all. `awaits_stop` as in [`Parts`].
pub(crate) fn phase(policy: Phase, leftovers: &Leftovers, awaits_stop: bool) -> Phase {
    // It is not over before they are gone.
    let waits = policy == Phase::Over && !leftovers.is_empty();
    let awaits_stop = policy == Phase::Running && awaits_stop;
    if waits || awaits_stop { Phase::Stopping } else { policy }
}

/// The word for a phase.
pub(crate) fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Starting => "starting",
        Phase::Running => "running",
        Phase::Stopping => "stopping",
        Phase::Terminating => "terminating",
        Phase::Released => "released",
        Phase::Over => "over",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use recluster_core::{Event, Exit, Settings};

    use super::*;
    use crate::dataplane::messages::Tally;
    use crate::supervisor::fixtures;
    use crate::supervisor::policy::Policy;

    const WORKER: WorkerId = WorkerId::from_number(1);
    const SECOND: Duration = Duration::from_secs(1);

    /// A cluster of one worker, that has number 7.
    struct Cluster {
        policy: Policy,
        workers: Workers,
        leftovers: Leftovers,
        awaits_stop: bool,
        began: Instant,
    }

    impl Cluster {
        fn new() -> Self {
            let began = Instant::now();
            let mut workers = Workers::default();
            workers.insert(WORKER, fixtures::child(7));
            let policy = fixtures::policy(Settings::default(), began);
            Self { policy, workers, leftovers: Leftovers::default(), awaits_stop: false, began }
        }

        fn tell(&mut self, events: &[Event], seconds: u32) -> Status {
            for event in events {
                self.policy.tell(*event);
            }
            let now = self.began + seconds * SECOND;
            while self.policy.next_action(now).is_some() {}
            let parts = Parts {
                name: None,
                policy: &self.policy.status(),
                workers: &self.workers,
                launches: &Launches::default(),
                leftovers: &self.leftovers,
                callers: &Callers::default(),
                balance: &Balance::RoundRobin,
                bound: &[],
                program: None,
                kill_timeout: 5 * SECOND,
                awaits_stop: self.awaits_stop,
                clock: self.policy.clock(),
                now,
                master: &MasterStatus::default(),
            };
            parts.status()
        }
    }

    fn only(status: &Status) -> &WorkerStatus {
        assert_eq!(status.workers.len(), 1);
        &status.workers[0]
    }

    fn left(status: &Status) -> Option<Duration> {
        only(status).seconds_left.map(Duration::from_secs_f64)
    }

    #[test]
    fn a_worker_goes_down_the_list_of_its_states() {
        let mut cluster = Cluster::new();
        let status = cluster.tell(&[], 0);
        assert_eq!((status.phase.as_str(), only(&status).state.as_str()), ("starting", "starting"));
        assert_eq!((only(&status).id, left(&status)), (7, None), "its time begins with its start");
        let status = cluster.tell(&[Event::Begun(WORKER)], 0);
        assert_eq!((only(&status).state.as_str(), left(&status)), ("starting", Some(60 * SECOND)));
        let status = cluster.tell(&[Event::Online(WORKER), Event::Ready(WORKER)], 1);
        assert_eq!((only(&status).state.as_str(), left(&status)), ("ready", None));
        assert_eq!(status.slots[0].active, Some(7));
        let status = cluster.tell(&[Event::Tick], 2);
        assert_eq!((status.phase.as_str(), only(&status).state.as_str()), ("running", "serving"));
        assert_eq!(Duration::from_secs_f64(status.uptime_seconds), 2 * SECOND);
        let status = cluster.tell(&[Event::Stop], 3);
        assert_eq!((status.phase.as_str(), only(&status).state.as_str()), ("stopping", "draining"));
        assert_eq!(left(&status), Some(25 * SECOND));
        cluster.workers.get_mut(WORKER).unwrap().process.let_go();
        assert_eq!(left(&cluster.tell(&[], 3)), Some(30 * SECOND), "it was sent TERM: KILL is what follows");
        let status = cluster.tell(&[Event::Tick], 28);
        assert_eq!(only(&status).state, "terminating");
        let status = cluster.tell(&[Event::Terminate], 29);
        assert_eq!((status.phase.as_str(), only(&status).state.as_str()), ("terminating", "killed"));
    }

    #[test]
    fn it_is_stopping_from_when_a_stop_was_asked_for() {
        let mut cluster = Cluster::new();
        cluster.tell(&[Event::Online(WORKER), Event::Ready(WORKER)], 1);
        assert_eq!(cluster.tell(&[Event::Tick], 2).phase, "running");
        cluster.awaits_stop = true;
        let status = cluster.tell(&[], 3);
        assert_eq!((status.phase.as_str(), only(&status).state.as_str()), ("stopping", "serving"));
        assert_eq!(cluster.tell(&[Event::Terminate], 4).phase, "terminating");
    }

    #[test]
    fn it_is_not_over_before_what_workers_left_is_gone() {
        let mut cluster = Cluster::new();
        let child = cluster.workers.bury(WORKER).unwrap();
        let (worker, group) = (child.about(), BTreeSet::from([child.pid()]));
        let times = (cluster.policy.clock(), cluster.began);
        let settings = Settings::default();
        cluster.leftovers.take(child, (None, Phase::Stopping), &settings, times);
        let events = [Event::Stop, Event::Exited(WORKER, Exit::Code(0))];
        let status = cluster.tell(&events, 1);
        assert_eq!(status.phase, "stopping");
        assert!(status.workers.is_empty(), "it may end at once");
        cluster.leftovers.look(&group, &settings, cluster.began + SECOND);
        let status = cluster.tell(&[], 1);
        assert_eq!((only(&status).state.as_str(), only(&status).pid), ("leftover", worker.pid));
        assert_eq!(left(&status), Some(29 * SECOND));
        cluster.leftovers.look(&BTreeSet::new(), &settings, cluster.began + SECOND);
        assert_eq!(cluster.tell(&[], 2).phase, "over");
        assert_eq!(cluster.tell(&[Event::Release], 2).phase, "over");
    }

    #[test]
    fn the_data_plane_adds_connections_and_its_listeners() {
        let mut cluster = Cluster::new();
        let mut status = cluster.tell(&[], 0);
        let listener = |address: &str, balance: &str| ListenerStatus {
            address: address.to_owned(),
            balance: balance.to_owned(),
            reason: None,
            handing_out: false,
        };
        status.listeners = vec![listener("a", "shared"), listener("b", "shared")];
        let report = Report {
            listeners: vec![listener("b", "round-robin"), listener("c", "round-robin")],
            taken: BTreeMap::from([(WORKER, Some(3))]),
            said: BTreeMap::new(),
            tally: Tally {
                stolen: 1,
                requeued: 2,
                past: BTreeMap::from([(0, Some(40))]),
                ..Tally::default()
            },
            flow: Flow { in_flight: BTreeMap::from([(0, 6)]), ..Flow::default() },
        };
        let flow = add_report(&mut status, &[WORKER], report);
        assert_eq!(flow.in_flight[&0], 6);
        assert_eq!((only(&status).connections, status.slots[0].connections), (Some(3), Some(43)));
        assert_eq!(status.slots[0].in_flight, 6);
        assert_eq!((status.stolen, status.requeued), (1, 2));
        let expected =
            vec![listener("a", "shared"), listener("b", "round-robin"), listener("c", "round-robin")];
        assert_eq!(status.listeners, expected);
    }

    #[test]
    fn a_program_is_shown_with_the_link_that_leads_to_it_and_the_names_that_it_was_given() {
        let mut program = fixtures::spec(Settings::default()).program.resolve().unwrap();
        program.server = "/releases/2/server".into();
        program.named_server = "/releases/./2/server".into();
        program.given = vec!["PORT".into(), "TOKEN".into()];
        assert_eq!(shown(&program.server), "/releases/2/server");
        assert_eq!(link(&program), None, "it is no other name");
        program.named_server = "/current/./server".into();
        assert_eq!(link(&program).as_deref(), Some("/current/server"));
        assert_eq!(names(&program), ["PORT", "TOKEN"]);
    }

    #[test]
    fn a_released_cluster_says_so() {
        let mut cluster = Cluster::new();
        assert_eq!(cluster.tell(&[Event::Release], 0).phase, "released");
    }
}
