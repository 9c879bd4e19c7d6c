//! What the supervisor answers to those who hold a handle of the cluster.

use std::time::Instant;

use recluster_core as core;
use recluster_core::{Phase, WorkerId};
use rustix::process::Signal;

use tokio::sync::oneshot;

use crate::config::scale::Scale;
use crate::dataplane::Command;
use crate::report::error::SendError;
use crate::report::event::Event;
use crate::report::verdict::Verdict;
use crate::supervisor::input::{Reloaded, Request};
use crate::supervisor::timers::Timer;
use crate::supervisor::{FAR_AWAY, Supervisor};

impl Supervisor {
    pub(crate) fn answer(&mut self, request: Request) {
        match request {
            Request::Reload(with, reply) => self.reload(with, reply),
            Request::Replace(worker) => self.tell(core::Event::Replace(self.numbered(worker))),
            Request::Scale(scale, reply) => {
                let slots = u32::try_from(self.policy.status().slots.len()).unwrap_or(u32::MAX);
                let wanted = match scale {
                    Scale::To(number) => number,
                    Scale::By(change) => slots.saturating_add_signed(change),
                };
                self.tell(core::Event::Scale(wanted));
                let now = u32::try_from(self.policy.status().slots.len()).unwrap_or(u32::MAX);
                // Whoever no longer waits for an answer does not need it; so for all answers.
                let _ = reply.send(now);
            }
            Request::Stop => self.stop(),
            Request::Terminate => {
                self.tell(core::Event::Terminate);
                self.kill_remains();
            }
            Request::Release => self.tell(core::Event::Release),
            Request::Workers(reply) => {
                let _ = reply.send(self.live_workers());
            }
            Request::ActiveWorkers(reply) => {
                let _ = reply.send(self.active_workers());
            }
            Request::Status(reply) => self.answer_status(reply),
            Request::Disconnect(worker) => self.disconnect(worker),
            Request::Signal { worker, signal, reply } => {
                let _ = reply.send(self.signal_one(worker, signal));
            }
            Request::Resume => self.tell(core::Event::Resume),
            Request::Send { worker, json, handle, reply } => match recluster_wire::Json::parse(&json) {
                Ok(json) => {
                    let worker = self.numbered(worker);
                    self.dataplane.tell(Command::Send { worker, json, handle, reply });
                }
                Err(_) => {
                    let _ = reply.send(Err(SendError::NoWorker(worker)));
                }
            },
        }
    }

    /// Begins to stop, at once or when the time is over for which it is to go on accepting. Asked a second time, it does
    /// not begin anew.
    fn stop(&mut self) {
        let accepting = self.shell.spec.accept_after_stop;
        if accepting.is_zero() || self.policy.phase() != Phase::Running {
            self.timers.clear(Timer::Stop);
            self.tell(core::Event::Stop);
        } else if !self.timers.is_set(Timer::Stop) {
            let far_away = || Instant::now() + FAR_AWAY;
            self.timers.set(Timer::Stop, Instant::now().checked_add(accepting).unwrap_or_else(far_away));
            self.audience.emit(Event::AcceptingUntilStop { accepting });
        }
    }

    /// Asks the policy for a reload, unless the cluster is about to stop or cannot be run as it is said now.
    fn reload(&mut self, with: Option<Reloaded>, reply: Option<oneshot::Sender<Verdict>>) {
        let said = if self.timers.is_set(Timer::Stop) {
            // It would not live long enough to serve.
            Err(Verdict::Abandoned)
        } else {
            self.reread(with).map_err(|reason| Verdict::Refused { reason })
        };
        match said {
            Ok(config) => {
                let caller = reply.map(|reply| self.callers.add(reply));
                self.tell(core::Event::Reload { caller, config });
            }
            Err(verdict) => {
                self.audience.emit(Event::Reloaded { generation: None, verdict: verdict.clone() });
                // Whoever no longer waits does not need the answer.
                let _ = reply.map(|reply| reply.send(verdict));
            }
        }
    }

    /// Which worker has this number.
    fn numbered(&self, number: u64) -> WorkerId {
        let known = self.children.iter().find(|(_, child)| child.number == number);
        known.map_or(WorkerId::from_number(number), |(&worker, _)| worker)
    }

    /// Sends a signal to a worker's own process; whether it was sent.
    fn signal_one(&self, number: u64, signal: i32) -> bool {
        let Some(child) = self.children.get(&self.numbered(number)) else { return false };
        match Signal::from_named_raw(signal) {
            Some(signal) => child.process.signal_alone(signal).is_ok(),
            // Zero asks whether it lives.
            None => signal == 0,
        }
    }

    /// A worker is to disconnect because its user says so.
    fn disconnect(&self, number: u64) {
        let worker = self.numbered(number);
        let preload = self.shell.spec.preload;
        let told = self.children.get(&worker).and_then(|child| child.preload);
        let grace = preload.filter(|_| told.is_some()).map(|preload| preload.grace(preload.timeout));
        self.dataplane.tell(Command::Disconnect { worker, grace });
    }
}
