//! The supervisor's picture of itself: [`Status`], put together from the policy, the processes and the dataplane.

use std::time::{Duration, Instant};

use recluster_core as core;
use recluster_core::{Phase, State, WorkerId};
use tokio::sync::oneshot;

use crate::config::balance::Balance;
use crate::dataplane::Command;
use crate::report::status::{ListenerStatus, ReloadStatus, SlotStatus, Status, WorkerStatus};
use crate::socket::bind::Bound;
use crate::supervisor::Supervisor;
use crate::supervisor::leftovers::Remains;

impl Supervisor {
    /// Answers when the dataplane has told what it has; the supervisor's loop does not wait for that.
    pub(crate) fn answer_status(&self, reply: oneshot::Sender<Status>) {
        let mut status = self.picture();
        let ids: Vec<_> = self.policy.status().workers.iter().map(|worker| worker.worker).collect();
        let (ask, answer) = oneshot::channel();
        self.dataplane.tell(Command::Report(ask));
        tokio::spawn(async move {
            if let Ok(report) = answer.await {
                for (id, worker) in ids.iter().zip(&mut status.workers) {
                    worker.connections = report.taken.get(id).copied().unwrap_or(0);
                }
                (status.stolen, status.requeued) = (report.tally.stolen, report.tally.requeued);
                for slot in &mut status.slots {
                    let now = status.workers.iter().filter(|worker| worker.slot == slot.slot);
                    let past = report.tally.past.get(&slot.slot).copied().unwrap_or(0);
                    slot.connections = past + now.map(|worker| worker.connections).sum::<u64>();
                }
                let known = report.listeners;
                status
                    .listeners
                    .retain(|listener| known.iter().all(|other| other.address != listener.address));
                status.listeners.extend(known);
            }
            // Whoever no longer waits does not need the answer.
            let _ = reply.send(status);
        });
    }

    fn picture(&self) -> Status {
        let status = self.policy.status();
        let slots = status.slots.iter().map(|slot| SlotStatus {
            slot: slot.slot.get(),
            active: slot.active.map(|worker| self.number_of(worker)),
            restarts: slot.restarts,
            connections: 0,
        });
        let workers = status.workers.iter().map(|worker| self.worker_picture(worker));
        let known = self.remains.iter().filter(|remains| remains.is_known);
        // It is not over before they are gone.
        let waits = status.phase == Phase::Over && !self.remains.is_empty();
        let phase = if waits { Phase::Stopping } else { status.phase };
        Status {
            pid: std::process::id(),
            phase: phase_name(phase).to_owned(),
            generation: status.generation.get(),
            reload: status.reload.map(|reload| ReloadStatus {
                generation: reload.generation.get(),
                serving: reload.serving,
                of: reload.of,
            }),
            uptime_seconds: self.uptime().as_secs_f64(),
            balance: self.shell.balance.to_string(),
            sticky_by: self.shell.balance.sticky_by().map(ToString::to_string),
            stolen: 0,
            requeued: 0,
            slots: slots.collect(),
            workers: workers.chain(known.map(leftover)).collect(),
            listeners: self.shell.bound.iter().map(shared).collect(),
        }
    }

    /// The number of a worker, dead or alive.
    fn number_of(&self, worker: WorkerId) -> u64 {
        self.about(worker).map_or(worker.get(), |worker| worker.id)
    }

    fn worker_picture(&self, worker: &core::WorkerStatus) -> WorkerStatus {
        let child = self.children.get(&worker.worker);
        let (memory_bytes, cpu_seconds) = child.map_or((None, None), |child| child.process.usage());
        let uptime = child.map_or(Duration::ZERO, |child| child.process.begun.elapsed());
        // Whoever was sent TERM at the beginning of its drain is not sent it again at the end.
        let is_termed = matches!(worker.state, State::Draining { .. })
            && self.was_sent(worker.worker, core::Signal::Term);
        let more = if is_termed { self.shell.spec.settings().kill_timeout } else { Duration::ZERO };
        let state = match worker.state {
            State::Starting { .. } => "starting",
            State::Ready { .. } if worker.serves => "serving",
            State::Ready { .. } => "ready",
            State::Draining { .. } => "draining",
            State::Terminating { .. } => "terminating",
            State::Killed => "killed",
        };
        WorkerStatus {
            id: self.number_of(worker.worker),
            slot: worker.slot.get(),
            generation: worker.generation.get(),
            pid: self.about(worker.worker).and_then(|about| about.pid),
            state: state.to_owned(),
            seconds_left: worker.deadline.map(|at| (at + more).since(self.now()).as_secs_f64()),
            uptime_seconds: uptime.as_secs_f64(),
            status: child.and_then(|child| child.status.clone()),
            notifications_ignored: child.map_or(0, |child| child.notify_ignored),
            held: self.held_by(worker.worker),
            memory_bytes,
            cpu_seconds,
            connections: 0,
        }
    }
}

/// A socket that the master has bound for programs, which accept by themselves.
fn shared(bound: &Bound) -> ListenerStatus {
    ListenerStatus { address: bound.address.to_string(), balance: Balance::Shared.to_string() }
}

/// A worker of which only other processes of its group are left.
fn leftover(remains: &Remains) -> WorkerStatus {
    let Remains { worker, child, .. } = remains;
    WorkerStatus {
        id: worker.id,
        slot: worker.slot,
        generation: worker.generation,
        pid: worker.pid,
        state: "leftover".to_owned(),
        seconds_left: remains
            .signal_due()
            .map(|at| at.saturating_duration_since(Instant::now()).as_secs_f64()),
        uptime_seconds: child.process.begun.elapsed().as_secs_f64(),
        status: child.status.clone(),
        notifications_ignored: child.notify_ignored,
        held: None,
        memory_bytes: None,
        cpu_seconds: None,
        connections: 0,
    }
}

fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Starting => "starting",
        Phase::Running => "running",
        Phase::Stopping => "stopping",
        Phase::Terminating => "terminating",
        Phase::Released => "released",
        Phase::Over => "over",
    }
}
