//! Another program takes the place of this one, under its workers: it is found, it rehearses with what it would be left, everything comes to
//! rest for a moment, and this process becomes it. Where that cannot be, everything goes on as before.

use std::sync::Arc;
use std::time::{Duration, Instant};

use recluster_core::Phase;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{mpsc, oneshot};
use tokio::task::yield_now;

use crate::process::binary::Program;
use crate::process::successor::{NOT_HERE, Successor, Unable, VERSION, Wanted};
use crate::report::event::Event;
use crate::supervisor::Supervisor;
use crate::supervisor::input::{Input, Step};
use crate::supervisor::succession::{Act, Answer};
use crate::supervisor::timers::Timer;
use crate::upgrade::{SaveError, Saving};

/// For how long nothing is accepted at most, before it is called off.
const REST: Duration = Duration::from_millis(100);

impl Supervisor {
    /// Has another program take this one's place, or says why it does not.
    pub(super) fn upgrade(&mut self, wanted: Wanted, reply: oneshot::Sender<Answer>) {
        let is_alone = Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread;
        // While this process becomes another one, no task may go on.
        let Some(successor) = self.successor.clone().filter(|_| is_alone) else {
            let _ = reply.send(Err(NOT_HERE.to_owned()));
            return;
        };
        let binary = wanted.binary.clone();
        if self.succession.begin(wanted, reply, Instant::now()) {
            let inputs = self.inputs.clone();
            tokio::spawn(async move {
                let found = successor.find(binary).await.map(Arc::new);
                // It fails when the cluster is over.
                let _ = inputs.send(Input::Upgrade(Step::Found(found)));
            });
        }
    }

    /// Something that was waited for is there.
    pub(super) fn upgrade_goes_on(&mut self, step: Step) {
        let now = Instant::now();
        match step {
            Step::Found(Ok(program)) => self.succession.is_found(program, now),
            Step::Rehearsed(program, Ok(version)) => {
                self.succession.has_rehearsed(program, version, VERSION, now);
            }
            Step::Found(Err(reason)) | Step::Rehearsed(_, Err(reason)) => self.upgrade_fails(reason),
        }
    }

    fn upgrade_fails(&mut self, reason: String) {
        self.emit(Event::UpgradeFailed { reason: reason.clone() });
        self.succession.answer(Err(reason));
    }

    /// Does the next step, if it can be done now. Returns where this process has not become another one.
    pub(super) async fn pursue_upgrade(&mut self, inbox: &mut mpsc::UnboundedReceiver<Input>) {
        let (Some(act), Some(successor)) = (self.succession.due(Instant::now()), self.successor.clone())
        else {
            return;
        };
        self.timers.clear(Timer::Upgrade);
        if let Some(obstacle) = self.obstacle() {
            self.succession.put_off(&obstacle, true, Instant::now());
        } else if let Some(hindrance) = self.hindrance() {
            self.succession.put_off(&hindrance, false, Instant::now());
        } else {
            let outlets = self.spawner.outlets().clone();
            outlets.save_ahead();
            let done = match act {
                Act::Rehearse(program) => self.rehearse(program, &successor),
                Act::Become(program) => self.come_to_rest_and_become(&program, &successor, inbox).await,
            };
            match done {
                Ok(()) => {}
                Err(SaveError::Refused(reason)) => {
                    self.succession.put_off(&reason, false, Instant::now());
                }
                Err(error) => self.upgrade_fails(error.to_string()),
            }
            outlets.go_on();
        }
        if let Some(at) = self.succession.next() {
            self.timers.set(Timer::Upgrade, at);
        }
    }

    /// Returns where this process has not become the program, and everything goes on.
    async fn come_to_rest_and_become(
        &mut self,
        program: &Program,
        successor: &Successor,
        inbox: &mut mpsc::UnboundedReceiver<Input>,
    ) -> Result<(), SaveError> {
        successor.has_said_all()?;
        let since = Instant::now();
        let saved = self.come_to_rest(since, inbox).await;
        let became = saved.and_then(|saving| self.become_it(program, successor, saving, since));
        self.dataplane.go_on();
        became
    }

    fn become_it(
        &mut self,
        program: &Program,
        successor: &Successor,
        dataplane: Saving,
        since: Instant,
    ) -> Result<(), SaveError> {
        let mut saving = self.save_all(successor, dataplane)?;
        // The service manager hears of it when nothing is in the way any more.
        let held = successor.hold()?;
        self.herald.reload_was_asked_for(Instant::now());
        // It may be over at once, and nothing else has changed.
        self.told_manager = None;
        self.herald.save(&mut saving)?;
        match successor.become_it(program, saving, since, self.spawner.launcher(), &held) {
            Unable::Now(reason) => return Err(SaveError::Refused(reason)),
            Unable::Ever(reason) => self.upgrade_fails(reason),
        }
        Ok(())
    }

    /// Has the program try, with what it would be left at this moment. Nothing rests for it, so what is said by one part may not go with
    /// what another one says: each is read by itself.
    fn rehearse(&mut self, program: Arc<Program>, successor: &Arc<Successor>) -> Result<(), SaveError> {
        // What it has open may be closed by now, and be something else.
        let dataplane = self.dataplane.preview(REST)?.without_descriptors();
        let mut saving = self.save_all(successor, dataplane)?;
        self.herald.save(&mut saving)?;
        let (saving, successor) = (saving.without_descriptors(), Arc::clone(successor));
        let (inputs, hands) = (self.inputs.clone(), self.spawner.hands());
        self.succession.rehearses();
        tokio::spawn(async move {
            let rehearsed = successor.rehearse(&program, saving, &hands).await;
            // It fails when the cluster is over.
            let _ = inputs.send(Input::Upgrade(Step::Rehearsed(program, rehearsed)));
        });
        Ok(())
    }

    /// What is in the way of an upgrade, and may last.
    fn obstacle(&self) -> Option<String> {
        let reason = match self.policy.phase() {
            Phase::Starting => "the first start is not complete yet",
            Phase::Stopping | Phase::Terminating | Phase::Over => "the cluster is about to end",
            Phase::Running | Phase::Released if self.timers.is_set(Timer::Stop) => {
                "the cluster is about to end"
            }
            Phase::Running | Phase::Released if self.policy.status().reload.is_some() => {
                "a reload is going on"
            }
            Phase::Running | Phase::Released if self.renewals.are_waited_for() => {
                "a worker is being replaced"
            }
            Phase::Running | Phase::Released => return None,
        };
        Some(reason.to_owned())
    }

    /// What is in the way at this moment.
    fn hindrance(&self) -> Option<String> {
        let reason = if self.panicked.is_some() {
            "a part of recluster has panicked"
        } else if !self.launches.are_over() {
            "a worker is being started"
        } else if self.exits_awaited > 0 {
            "a worker has closed its channel, and may be about to end"
        } else if self.told.left.is_looked_for() {
            "it is being looked for what a worker has left in the background"
        } else {
            return self.obstacle();
        };
        Some(reason.to_owned())
    }

    /// Nothing is accepted, read or written any more; everything that has happened is dealt with, and people have heard of it.
    async fn come_to_rest(
        &mut self,
        since: Instant,
        inbox: &mut mpsc::UnboundedReceiver<Input>,
    ) -> Result<Saving, SaveError> {
        let refused = |reason: &str| Err(SaveError::Refused(reason.to_owned()));
        let until = since + REST;
        if !self.spawner.outlets().rest(until) {
            return refused("nobody reads what workers write");
        }
        loop {
            if let Some(hindrance) = self.hindrance() {
                return Err(SaveError::Refused(hindrance));
            }
            let Some(patience) = until.checked_duration_since(Instant::now()) else {
                return refused("too much is going on");
            };
            let saving = self.dataplane.rest(patience)?;
            if inbox.is_empty() && !self.dataplane.is_behind() && self.audience.is_heard() {
                return Ok(saving);
            }
            // What follows may have to wait for it.
            self.dataplane.go_on();
            yield_now().await;
            while let Ok(input) = inbox.try_recv() {
                self.handle(input);
                self.act().await;
            }
        }
    }

    /// All that is left, with this of the data plane, but for what the service manager is told.
    fn save_all(&self, successor: &Successor, dataplane: Saving) -> Result<Saving, SaveError> {
        let mut saving = successor.saving()?;
        saving.merge(dataplane)?;
        self.save(&mut saving)?;
        saving.fits()?;
        Ok(saving)
    }
}
