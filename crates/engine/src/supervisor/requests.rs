//! One arm for each request of those who hold a handle of the cluster.

use std::collections::BTreeMap;
use std::time::Instant;

use recluster_core as core;
use recluster_core::{Config, Phase, SlotId, WorkerId};
use recluster_wire::Json;
use recluster_wire::node::Payload;
use rustix::process::Signal;
use tokio::sync::oneshot;

use crate::config::scale::Scale;
use crate::config::variable::Variables;
use crate::config::which::Which;
use crate::dataplane::{Command, Handle};
use crate::process::program::ResolvedProgram;
use crate::report::counts::{Flow, Health, Measured};
use crate::report::error::{Gone, ReplaceError, ScaleError, SendError};
use crate::report::event::Event;
use crate::report::status::Status;
use crate::report::verdict::{Told, Verdict};
use crate::report::worker::Worker;
use crate::supervisor::audience::HostMessage;
use crate::supervisor::configuration;
use crate::supervisor::generations::Said;
use crate::supervisor::input::{Reloaded, Request};
use crate::supervisor::renewals::{self, Outcome};
use crate::supervisor::status::{self, Parts};
use crate::supervisor::timers::{FAR_AWAY, Timer};
use crate::supervisor::{AskedToEnd, Supervisor};

impl Supervisor {
    /// An answer that is no longer waited for is dropped: so everywhere here.
    pub(super) fn answer(&mut self, request: Request) {
        match request {
            Request::Reload { with, set, reply } => self.reload(with, set, reply),
            Request::ReapOrphans => self.spawner.reap_others(),
            Request::ConfirmReload => {
                self.herald.reload_was_asked_for(Instant::now());
                // It may be over by now, and nothing else has changed.
                self.told_manager = None;
            }
            Request::Replace(worker) => self.tell(core::Event::Replace(self.workers.numbered(worker))),
            Request::Renew(which, reply) => self.renew(which, reply),
            Request::Scale(scale, reply) => self.scale(scale, reply),
            Request::Stop => self.stop(),
            Request::Upgrade(wanted, reply) => self.upgrade(wanted, reply),
            Request::ReopenLog => self.spawner.reopen_log(),
            Request::Terminate => {
                self.asked_to_end = AskedToEnd::AtOnce;
                self.tell(core::Event::Terminate);
                let end_timeout = self.spec().settings().end_timeout;
                self.leftovers.kill(end_timeout, Instant::now());
                self.look_again();
            }
            Request::Release => self.tell(core::Event::Release),
            Request::Workers(reply) => {
                self.launches.wait(reply);
                self.answer_those_who_wait_for_launches();
            }
            Request::ActiveWorkers(reply) => {
                let _ = reply.send(self.active_workers());
            }
            Request::Status(reply) => self.picture(|status, _| drop(reply.send(status))),
            Request::Measure(reply) => {
                let counts = self.audience.counts();
                self.picture(|status, flow| drop(reply.send(Measured { status, counts, flow })));
            }
            Request::Health(reply) => {
                let _ = reply.send(self.health());
            }
            Request::Configuration(reply) => {
                let program = self.generations.latest_program(self.policy.status().generation);
                let _ = reply.send(configuration::in_force(self.spec(), program, self.policy.slots()));
            }
            Request::Disconnect(worker) => self.disconnect(worker),
            Request::Signal { worker, signal, reply } => {
                let _ = reply.send(self.signal_one(worker, signal));
            }
            Request::Resume => self.tell(core::Event::Resume),
            Request::Send { worker, said, handle, reply } => self.send(worker, said, handle, reply),
        }
    }

    /// Asks the policy for a reload, unless the cluster is about to stop or cannot be run as it is said now.
    pub(super) fn reload(
        &mut self,
        with: Option<Reloaded>,
        set: Variables,
        reply: Option<oneshot::Sender<Told>>,
    ) {
        self.herald.reload_was_asked_for(Instant::now());
        let said = if self.timers.is_set(Timer::Stop) {
            // It would not live long enough to serve.
            Err(Verdict::Abandoned)
        } else {
            let said = with.or_else(|| self.reread.as_mut().map(|reread| reread.say().map(Box::new)));
            let said = said.transpose().and_then(|said| self.generations.specify(said, set));
            said.map_err(|reason| Verdict::Refused { reason })
        };
        match said {
            Ok(Said { config, needs_restart }) => {
                let caller = reply.map(|reply| self.callers.add(reply, needs_restart));
                self.tell(core::Event::Reload { caller, config });
            }
            Err(verdict) => {
                self.emit(Event::Reloaded { generation: None, verdict: verdict.clone() });
                self.callers.conclude(None, verdict.clone(), Instant::now());
                if let Some(reply) = reply {
                    let _ = reply.send(verdict.into());
                }
            }
        }
    }

    /// Has one worker replaced within its generation, new first. What becomes of it is answered when it is known.
    fn renew(&mut self, which: Which, reply: oneshot::Sender<Outcome>) {
        let about = |worker| self.workers.about(worker);
        let found = if self.timers.is_set(Timer::Stop) {
            Err(ReplaceError::Refused("the cluster is about to end".to_owned()))
        } else {
            renewals::find(which, &self.policy.status(), |worker| about(worker)?.pid)
        };
        let known = found.and_then(|found| Ok((found, about(found.1).ok_or(Gone)?)));
        match known {
            Ok((found, about)) => {
                self.renewals.add(found, about, reply);
                self.tell(core::Event::Replace(found.1));
            }
            Err(refusal) => {
                let _ = reply.send(Err(refusal));
            }
        }
    }

    /// Changes the number of slots. The new one is known, and answered, when the policy has been told.
    fn scale(&mut self, scale: Scale, reply: oneshot::Sender<Result<u32, ScaleError>>) {
        match self.slots_after(scale) {
            Ok(wanted) => {
                self.tell(core::Event::Scale(wanted));
                self.scaled.push(reply);
            }
            Err(refusal) => {
                let _ = reply.send(Err(refusal));
            }
        }
    }

    /// How many slots there would be. The policy takes none for one.
    fn slots_after(&self, scale: Scale) -> Result<u32, ScaleError> {
        let ends = !matches!(self.policy.phase(), Phase::Starting | Phase::Running);
        if ends || self.timers.is_set(Timer::Stop) {
            return Err(ScaleError::Ending);
        }
        let workers = match scale {
            Scale::To(number) => number,
            Scale::By(change) => self.policy.slots().saturating_add_signed(change),
        };
        if workers > Config::MOST_WORKERS { Err(ScaleError::TooMany { workers }) } else { Ok(workers) }
    }

    /// Begins to stop, at once or when the time is over for which it is to go on accepting. Asked a second time, it does
    /// not begin anew.
    fn stop(&mut self) {
        self.asked_to_end = self.asked_to_end.max(AskedToEnd::InOrder);
        let accepting = self.spec().accept_after_stop;
        if accepting.is_zero() || self.policy.phase() != Phase::Running {
            self.timers.clear(Timer::Stop);
            self.tell(core::Event::Stop);
        } else if !self.timers.is_set(Timer::Stop) {
            let now = Instant::now();
            self.timers.set(Timer::Stop, now.checked_add(accepting).unwrap_or_else(|| now + FAR_AWAY));
            self.tell_of_stop();
            self.emit(Event::AcceptingUntilStop { accepting });
        }
    }

    /// The active worker of each slot.
    fn active_workers(&self) -> Vec<Option<Worker>> {
        let slots: BTreeMap<SlotId, Option<WorkerId>> =
            self.policy.status().slots.into_iter().map(|slot| (slot.slot, slot.active)).collect();
        slots.into_values().map(|active| active.and_then(|worker| self.workers.about(worker))).collect()
    }

    /// What is known at once, without a look at any process.
    fn health(&self) -> Health {
        let policy = self.policy.status();
        let phase = status::phase(policy.phase, &self.leftovers, self.timers.is_set(Timer::Stop));
        let active = policy.slots.iter().filter(|slot| slot.active.is_some()).count();
        Health { phase: status::phase_name(phase), slots: policy.slots.len(), active }
    }

    /// Answers when the data plane has told what it knows. The loop does not wait for that.
    fn picture(&self, answer_with: impl FnOnce(Status, Flow) + Send + 'static) {
        let policy = self.policy.status();
        // What Node workers have asked for, the data plane knows.
        let is_node = self.generations.program(policy.generation).is_some_and(ResolvedProgram::is_node);
        let bound = if is_node { &[] } else { self.spawner.bound() };
        let parts = Parts {
            name: self.name.as_deref(),
            policy: &policy,
            workers: &self.workers,
            launches: &self.launches,
            leftovers: &self.leftovers,
            callers: &self.callers,
            balance: &self.balance,
            bound,
            program: self.generations.program(policy.generation),
            kill_timeout: self.spec().settings().kill_timeout,
            awaits_stop: self.timers.is_set(Timer::Stop),
            clock: self.policy.clock(),
            now: Instant::now(),
            master: &self.master,
        };
        let mut status = parts.status();
        let mut queues: BTreeMap<String, u64> =
            bound.iter().filter_map(|bound| Some((bound.address.to_string(), bound.queue()?))).collect();
        let workers: Vec<WorkerId> = policy.workers.iter().map(|worker| worker.worker).collect();
        let (ask, answer) = oneshot::channel();
        self.dataplane.tell(Command::Report(ask));
        tokio::spawn(async move {
            let mut flow = Flow::default();
            if let Ok(report) = answer.await {
                flow = status::add_report(&mut status, &workers, report);
            }
            flow.queues.append(&mut queues);
            answer_with(status, flow);
        });
    }

    /// A worker is to disconnect because its user says so.
    fn disconnect(&self, number: u64) {
        let worker = self.workers.numbered(number);
        let told = self.workers.get(worker).and_then(|child| child.preload);
        let preload = self.spec().preload.filter(|_| told.is_some());
        let grace = preload.map(|preload| preload.grace(preload.timeout, false));
        self.dataplane.tell(Command::Disconnect { worker, grace });
    }

    fn signal_one(&self, number: u64, signal: i32) -> bool {
        let Some(child) = self.workers.get(self.workers.numbered(number)) else { return false };
        match Signal::from_named_raw(signal) {
            Some(signal) => child.process.signal_alone(signal).is_ok(),
            // Zero asks whether it lives.
            None => signal == 0,
        }
    }

    fn send(
        &self,
        number: u64,
        said: HostMessage,
        handle: Option<Handle>,
        reply: oneshot::Sender<Result<(), SendError>>,
    ) {
        let said = match said {
            HostMessage::Json(text) => Json::parse(&text).map(Payload::Json).ok(),
            HostMessage::Advanced(value) => Some(Payload::Advanced(value.into())),
        };
        let worker = self.workers.numbered(number);
        match said {
            Some(said) => self.dataplane.tell(Command::Send { worker, said, handle, reply }),
            None => {
                let _ = reply.send(Err(SendError::NoWorker(number)));
            }
        }
    }
}
