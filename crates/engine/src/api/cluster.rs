//! [`Cluster`]: the handle by which a program talks to its cluster.

use std::sync::Arc;

use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::api::builder::ClusterBuilder;
use crate::config::scale::Scale;
use crate::config::variable::Variables;
use crate::config::which::Which;
use crate::guard::{Panicked, Part, guarded_task};
use crate::process::ring::Ring;
use crate::report::counts::{Health, Measured};
use crate::report::error::{Gone, ReloadError, ReplaceError, ScaleError, SendError};
use crate::report::event::Event;
use crate::report::events::Events;
use crate::report::status::Status;
use crate::report::verdict::{Failure, Replaced, Told, Verdict};
use crate::report::worker::Worker;
use crate::sink::Sink;
use crate::supervisor::audience::HostMessage;
use crate::supervisor::input::{Input, Progress, Reloaded, Request};
use crate::supervisor::spec::Look;

/// A running cluster. Cheap to clone; dropping the last handle stops nothing.
#[derive(Clone, Debug)]
pub struct Cluster {
    pub(crate) inputs: mpsc::UnboundedSender<Input>,
    pub(crate) events: broadcast::WeakSender<Arc<Event>>,
    pub(crate) progress: watch::Receiver<Progress>,
    /// The last lines of workers.
    pub(crate) ring: Ring,
    /// Says how the cluster would be configured now.
    pub(crate) look: Option<Look>,
    /// Workers that a master has left which was killed.
    pub(crate) survivors: Arc<[u32]>,
}

/// How a cluster ended.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_enums, reason = "a cluster ends in these ways")]
pub enum Ending {
    /// It was stopped, terminated or released, and no worker is left.
    Asked,
    /// Its first start failed.
    StartFailed(Failure),
    /// It was stopped, terminated or released, and the kernel does not let these workers end, or processes that they have
    /// started: they lived on for ten seconds after SIGKILL.
    Unkillable(Vec<Worker>),
    /// A part of the engine has panicked, and all workers were ended; or the runtime that it ran on is gone, with which Node workers
    /// end by themselves.
    Lost,
}

impl Cluster {
    /// Begins the description of a cluster that runs `server`: a Node.js file (`.js .cjs .mjs .ts .mts .cts`)
    /// or an executable.
    pub fn builder(server: impl Into<std::path::PathBuf>) -> ClusterBuilder {
        ClusterBuilder::new(server.into())
    }

    /// Waits until every slot has had a serving worker.
    ///
    /// # Errors
    ///
    /// The failure, if the first start was given up; `Err(None)` if the cluster was told to end before.
    pub async fn started(&self) -> Result<(), Option<Failure>> {
        let mut progress = self.progress.clone();
        let seen = progress.wait_for(|p| p.started || p.failed.is_some() || p.over).await;
        match seen {
            Ok(p) if p.started => Ok(()),
            Ok(p) => Err(p.failed.clone()),
            Err(_) => Err(None),
        }
    }

    /// Replaces every worker by a new generation and waits for the verdict.
    ///
    /// # Errors
    ///
    /// When the new code was rolled back or stopped part-way, with the reason, or when the cluster ended first. After
    /// a rollback what served before serves on; after a stop part-way, in every slot either the old or the new code.
    pub async fn reload(&self) -> Result<(), ReloadError> {
        self.reload_with(Variables::default()).await
    }

    /// Somebody asks for the reload that has just been asked for. It is not done twice, but a [service
    /// manager](crate::ServiceManager) that has asked hears of it.
    pub fn confirm_reload(&self) -> Result<(), Gone> {
        self.tell(Request::ConfirmReload)
    }

    /// Asks for a reload and does not wait; its verdict is an event.
    pub fn request_reload(&self) -> Result<(), Gone> {
        self.request_reload_with(Variables::default())
    }

    /// As [`reload`](Self::reload), with these variables in the environment of the new workers, before all others of their
    /// names. They stay for later generations; after a rollback they are forgotten.
    ///
    /// # Errors
    ///
    /// As those of [`reload`](Self::reload). It is refused as well where all that was set at reloads would be too much.
    pub async fn reload_with(&self, variables: Variables) -> Result<(), ReloadError> {
        ReloadError::unless_done(self.ask_reload(None, variables)?.await.map_err(|_| Gone)?.verdict)
    }

    /// Asks for a [reload with variables](Self::reload_with) and does not wait; its verdict is an event.
    pub fn request_reload_with(&self, variables: Variables) -> Result<(), Gone> {
        self.tell(Request::Reload { with: None, set: variables, reply: None })
    }

    /// Renews one worker within its generation, new first. A worker that is gone or leaving is left alone.
    pub fn replace(&self, worker: u64) -> Result<(), Gone> {
        self.tell(Request::Replace(worker))
    }

    /// Renews one worker within its generation, new first, and waits until the new one serves.
    ///
    /// # Errors
    ///
    /// When there is no such worker, when what was to replace it did not come to serve, so that the old one goes on, or when
    /// something else takes the place of this: a reload, a stop.
    pub async fn renew(&self, which: Which) -> Result<Replaced, ReplaceError> {
        self.ask(|reply| Request::Renew(which, reply)).await?
    }

    /// Changes the number of slots; returns the new number. There is always at least one.
    ///
    /// # Errors
    ///
    /// When a cluster may not have so many, or this one is about to end, or has ended.
    pub async fn scale(&self, scale: Scale) -> Result<u32, ScaleError> {
        self.ask(|reply| Request::Scale(scale, reply)).await?
    }

    /// Drains every worker and waits until none is left.
    pub async fn stop(&self) -> Result<(), Gone> {
        self.tell(Request::Stop)?;
        self.wait().await;
        Ok(())
    }

    /// Kills every worker and waits until none is left.
    pub async fn terminate(&self) -> Result<(), Gone> {
        self.tell(Request::Terminate)?;
        self.wait().await;
        Ok(())
    }

    /// Begins a stop and does not wait; [`Cluster::wait`] does.
    pub fn request_stop(&self) -> Result<(), Gone> {
        self.tell(Request::Stop)
    }

    /// Begins a termination and does not wait; [`Cluster::wait`] does.
    pub fn request_terminate(&self) -> Result<(), Gone> {
        self.tell(Request::Terminate)
    }

    /// Supervises no more: nothing is respawned, workers are left alone and keep getting connections.
    pub fn release(&self) -> Result<(), Gone> {
        self.tell(Request::Release)
    }

    /// Waits until the cluster is over.
    pub async fn wait(&self) -> Ending {
        let mut progress = self.progress.clone();
        match progress.wait_for(|p| p.over).await {
            Ok(last) if last.panicked => Ending::Lost,
            Ok(last) => match &last.failed {
                Some(failure) => Ending::StartFailed(failure.clone()),
                None if last.unkillable.is_empty() => Ending::Asked,
                None => Ending::Unkillable(last.unkillable.clone()),
            },
            Err(_) => Ending::Lost,
        }
    }

    /// Every live worker: not yet ready, active, and on their way out.
    pub async fn workers(&self) -> Result<Vec<Worker>, Gone> {
        self.ask(Request::Workers).await
    }

    /// The active worker of each slot; `None` where a slot has none now.
    pub async fn active_workers(&self) -> Result<Vec<Option<Worker>>, Gone> {
        self.ask(Request::ActiveWorkers).await
    }

    /// A picture of the whole cluster.
    pub async fn status(&self) -> Result<Status, Gone> {
        self.ask(Request::Status).await
    }

    /// All that metrics are made of.
    pub(crate) async fn measure(&self) -> Result<Measured, Gone> {
        self.ask(Request::Measure).await
    }

    /// Whether the cluster as a whole serves. It is known at once, however many workers there are.
    pub(crate) async fn health(&self) -> Result<Health, Gone> {
        self.ask(Request::Health).await
    }

    /// Sends a message to a worker's `process.on('message')`.
    ///
    /// # Errors
    ///
    /// When it cannot be turned into JSON, or the worker has no open channel or does not read it.
    pub async fn send(&self, worker: u64, message: &impl serde::Serialize) -> Result<(), SendError> {
        let json = serde_json::to_string(message)?;
        self.post(worker, HostMessage::Json(json), None)?.await
    }

    /// The events from now on. After the end of the cluster the stream is empty.
    pub fn subscribe(&self) -> Events {
        match self.events.upgrade() {
            Some(events) => Events(events.subscribe()),
            None => Events(broadcast::Sender::new(1).subscribe()),
        }
    }

    /// Asks for a reload that is not waited for. One that cannot begin has its reason at once.
    pub(crate) async fn begin_reload_with(&self, set: Variables) -> Result<Result<(), String>, Gone> {
        let mut verdict = self.ask_reload(None, set)?;
        // What was asked for before this has been begun.
        self.active_workers().await?;
        Ok(match verdict.try_recv() {
            Ok(Told { verdict: Verdict::Refused { reason }, .. }) => Err(reason),
            Ok(Told { verdict: Verdict::Abandoned, .. }) => Err("the cluster is about to end".to_owned()),
            Ok(_) | Err(_) => Ok(()),
        })
    }

    /// Asks for a reload, to what this spec says and with these variables. The verdict comes there.
    pub(crate) fn ask_reload(
        &self,
        with: Option<Reloaded>,
        set: Variables,
    ) -> Result<oneshot::Receiver<Told>, Gone> {
        let (reply, verdict) = oneshot::channel();
        self.tell(Request::Reload { with, set, reply: Some(reply) })?;
        Ok(verdict)
    }

    /// Where those who answer for the cluster report that they have panicked: it ends then.
    pub(crate) fn panicked(&self) -> Sink<Panicked> {
        let inputs = self.inputs.clone();
        // An error says that the cluster is over already.
        Sink::new(move |panic| drop(inputs.send(Input::Panicked(panic))))
    }

    /// A part of the program around the cluster has panicked, and it is no use without that: the cluster ends as it does when a part of the
    /// engine panics.
    #[doc(hidden)]
    pub fn fail(&self, part: &'static str, reason: String) {
        self.panicked().send(Panicked { part: Part::vital(part), reason, place: None, calls: Vec::new() });
    }

    /// Does what a program does beside its cluster. A panic of it ends the cluster, as [`Cluster::fail`] does.
    #[doc(hidden)]
    pub async fn beside(&self, part: &'static str, work: impl Future<Output = ()>) {
        guarded_task(Part::vital(part), self.panicked(), work).await;
    }

    pub(crate) fn tell(&self, request: Request) -> Result<(), Gone> {
        self.inputs.send(Input::Request(request)).map_err(|_| Gone)
    }

    pub(crate) async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<T>) -> Request,
    ) -> Result<T, Gone> {
        let (reply, answer) = oneshot::channel();
        self.tell(request(reply))?;
        answer.await.map_err(|_| Gone)
    }
}

#[cfg(test)]
mod tests;
