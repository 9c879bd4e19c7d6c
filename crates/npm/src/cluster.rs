//! A cluster as JavaScript sees it: each method is one request to the engine.
//!
//! An answer that is there at once is returned. One that takes longer comes as a note with the ticket of its request.
#![expect(clippy::needless_pass_by_value, reason = "JavaScript gives strings away")]

use std::fmt::{self, Display};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use napi::bindgen_prelude::{Buffer, Either, Function};
use napi::{Error, Result};
use napi_derive::napi;
use recluster::admin::Admin;
use recluster::host::{DatagramKind, Handle, HandleKind, HostMessage, Surroundings};
use recluster::{Cluster, Gone, Scale, ScaleError, SendError};
use serde_json::{Value, json};
use tokio::runtime::Handle as Runtime;

use crate::latest::Latest;
use crate::notes::{self, Note, Notes};
use crate::plan::Plan;
use crate::{engine, sys};

/// A running cluster.
#[napi]
pub struct NativeCluster(AssertUnwindSafe<Parts>);

/// Notes that were taken.
#[napi(object)]
#[expect(missing_debug_implementations, reason = "a Buffer of Node's has none")]
pub struct Taken {
    /// A JSON array.
    pub notes: String,
    /// The messages that are values in V8's format. Notes name them by their places.
    pub values: Vec<Buffer>,
}

struct Parts {
    cluster: Cluster,
    notes: Arc<Notes>,
    latest: Arc<Latest>,
    runtime: Runtime,
    /// It was started by a thread that may end before the process.
    ends_with_thread: bool,
    /// The address of the admin listener, where other machines may reach it.
    exposed: Option<String>,
}

/// Starts a cluster. `wake` is called, without arguments, when there are notes to take. If it ends with this thread, it is
/// stopped then; with the process its workers end by themselves.
#[napi(catch_unwind)]
pub fn start(plan: String, wake: Function<'_, (), ()>, ends_with_thread: bool) -> Result<NativeCluster> {
    let plan = Plan::parse(&plan).map_err(thrown)?;
    let admin = plan.admin().map_err(thrown)?;
    let builder = plan.builder().map_err(thrown)?;
    let notes = Arc::new(Notes::new(wake.build_threadsafe_function().weak::<true>().build()?));
    // Nobody is asked before `settle` has been called.
    let latest = Latest::held();
    let (queue, asked, answers) = (Arc::clone(&notes), Arc::clone(&notes), Arc::clone(&latest));
    let builder = builder
        .host(move |what| queue.leave(Note::Event(what)))
        .latest(move || answers.ask(|| asked.leave(Note::Asked)));
    let runtime = engine::runtime().map_err(thrown)?;
    // First what can be taken: without its address no worker is started.
    let admin = admin.map(|options| runtime.block_on(Admin::bind(options))).transpose().map_err(thrown)?;
    let cluster = runtime.block_on(builder.start()).map_err(thrown)?;
    let exposed = admin.as_ref().filter(|admin| admin.is_exposed()).map(|admin| admin.address().to_string());
    if let Some(Err(error)) = admin.map(|admin| admin.serve(cluster.clone())) {
        // Nobody is to have a cluster that was refused.
        let _ = cluster.request_terminate();
        return Err(thrown(error));
    }
    Ok(NativeCluster(AssertUnwindSafe(Parts { cluster, notes, latest, runtime, ends_with_thread, exposed })))
}

#[napi]
impl NativeCluster {
    /// The address of the admin listener, where other machines may reach it.
    #[napi(catch_unwind)]
    pub fn exposed(&self) -> Option<String> {
        self.0.exposed.clone()
    }

    /// All notes that wait, oldest first. The descriptors that they name are the taker's.
    #[napi(catch_unwind)]
    pub fn take(&self) -> Taken {
        let (notes, values) = self.0.notes.take();
        Taken { notes: notes.to_string(), values: values.into_iter().map(Buffer::from).collect() }
    }

    /// Waits until what was asked before has been begun: workers that are started at once have been, with what the plan says
    /// of their start.
    #[napi(catch_unwind)]
    pub fn settle(&self, plan: Option<String>) -> Result<()> {
        // A cluster that is over has nothing left to begin.
        let _ = self.0.latest.hold(surroundings(plan)?, || self.0.cluster.workers_blocking());
        Ok(())
    }

    /// Answers a note that asks: workers are started with what the plan says of their start, or as their generation began.
    #[napi(catch_unwind)]
    pub fn answer(&self, plan: Option<String>) -> Result<()> {
        self.0.latest.answer(surroundings(plan)?);
        Ok(())
    }

    /// Replaces every worker by what this plan says. The answer is the verdict.
    #[napi(catch_unwind)]
    pub fn reload(&self, ticket: u32, plan: String) -> Result<()> {
        let builder = Plan::parse(&plan).map_err(thrown)?.builder().map_err(thrown)?;
        let verdict = self.0.cluster.begin_reload(Some(builder));
        self.reply(ticket, async {
            let verdict = match verdict {
                Ok(verdict) => verdict.await,
                Err(gone) => Err(gone.into()),
            };
            verdict.map(|()| Value::Null).map_err(|error| notes::describe(&error))
        });
        Ok(())
    }

    /// Changes the number of slots. The answer is the new number.
    #[napi(catch_unwind)]
    pub fn scale(&self, ticket: u32, slots: u32) {
        let cluster = self.0.cluster.clone();
        self.reply(ticket, async move {
            cluster.scale(Scale::To(slots)).await.map(Value::from).map_err(unscaled)
        });
    }

    /// The answer is the status of the whole cluster.
    #[napi(catch_unwind)]
    pub fn status(&self, ticket: u32) {
        let cluster = self.0.cluster.clone();
        self.reply(ticket, async move { cluster.status().await.map(|status| json!(status)).map_err(gone) });
    }

    /// Sends a message: the text of a JSON value, or a value in V8's format; and with it the descriptor `fd`, if there is
    /// one, which stays the caller's. The answer is that the message is on its way.
    #[napi(catch_unwind)]
    pub fn post(
        &self,
        ticket: u32,
        worker: u32,
        message: Either<String, Buffer>,
        kind: Option<String>,
        fd: Option<i32>,
    ) -> Result<()> {
        let handle = match (kind, fd) {
            (Some(kind), Some(fd)) => {
                Some(Handle { kind: kind_of(&kind)?, fd: sys::duplicate(fd).map_err(thrown)? })
            }
            _ => None,
        };
        let message = match message {
            Either::A(json) => HostMessage::Json(json),
            Either::B(value) => HostMessage::Advanced(value.into()),
        };
        let sent = self.0.cluster.post(worker.into(), message, handle);
        self.reply(ticket, async {
            let sent = match sent {
                Ok(sent) => sent.await,
                Err(gone) => Err(gone.into()),
            };
            sent.map(|()| Value::Null).map_err(unsent)
        });
        Ok(())
    }

    /// Asks a worker to disconnect, as Node's `worker.disconnect()` does.
    #[napi(catch_unwind)]
    pub fn disconnect(&self, worker: u32) {
        // The worker of a cluster that is over has disconnected.
        let _ = self.0.cluster.disconnect_worker(worker.into());
    }

    /// Sends a signal to a worker; false if it does not live.
    #[napi(catch_unwind)]
    pub fn signal(&self, worker: u32, signal: i32) -> bool {
        self.0.cluster.signal_worker(worker.into(), signal).unwrap_or(false)
    }

    /// Lets every worker finish what it has, and then the cluster end.
    #[napi(catch_unwind)]
    pub fn stop(&self) {
        // Here and below: a cluster that is over has ended already.
        let _ = self.0.cluster.request_stop();
    }

    /// Kills every worker.
    #[napi(catch_unwind)]
    pub fn terminate(&self) {
        let _ = self.0.cluster.request_terminate();
    }

    /// Ends the supervision, and leaves the workers running.
    #[napi(catch_unwind)]
    pub fn release(&self) {
        let _ = self.0.cluster.release();
    }

    /// Supervises again; false if the cluster has ended meanwhile. Workers are started with what the plan says of their start.
    #[napi(catch_unwind)]
    pub fn resume(&self, plan: Option<String>) -> Result<bool> {
        let cluster = &self.0.cluster;
        // It may be about to end: if it still answers a later request, it has got this one.
        let resume = || cluster.resume().and_then(|()| cluster.workers_blocking()).is_ok();
        Ok(self.0.latest.hold(surroundings(plan)?, resume))
    }

    fn reply(
        &self,
        ticket: u32,
        work: impl Future<Output = std::result::Result<Value, Value>> + Send + 'static,
    ) {
        let notes = Arc::clone(&self.0.notes);
        self.0.runtime.spawn(async move { notes.leave(Note::Answer { ticket, answer: work.await }) });
    }
}

impl fmt::Debug for NativeCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NativeCluster").field(&self.0.cluster).finish()
    }
}

impl Drop for NativeCluster {
    fn drop(&mut self) {
        if self.0.ends_with_thread {
            self.stop();
        }
    }
}

/// What a descriptor becomes at the worker, by the package's word for it.
fn kind_of(word: &str) -> Result<HandleKind> {
    Ok(match word {
        "net.Native" => HandleKind::NetNative,
        "net.Socket" => HandleKind::NetSocket,
        "net.Server" => HandleKind::NetServer,
        "dgram.Native" => HandleKind::DatagramNative,
        "udp4" => HandleKind::DatagramSocket(DatagramKind::Udp4),
        "udp6" => HandleKind::DatagramSocket(DatagramKind::Udp6),
        _ => return Err(thrown(format!("no kind of handle: {word}"))),
    })
}

/// What a plan says of the start of workers.
fn surroundings(plan: Option<String>) -> Result<Option<Surroundings>> {
    plan.map(|plan| Plan::parse(&plan).map_err(thrown)?.builder().map(Surroundings::from).map_err(thrown))
        .transpose()
}

fn thrown(error: impl Display) -> Error {
    Error::from_reason(error.to_string())
}

fn gone(error: Gone) -> Value {
    json!({ "code": "ERR_RECLUSTER_NOT_RUNNING", "message": error.to_string() })
}

fn unscaled(error: ScaleError) -> Value {
    let code = match error {
        ScaleError::TooMany { .. } => "ERR_OUT_OF_RANGE",
        ScaleError::Ending | ScaleError::Gone(_) | _ => "ERR_RECLUSTER_NOT_RUNNING",
    };
    json!({ "code": code, "message": error.to_string() })
}

fn unsent(error: SendError) -> Value {
    let (code, message) = match error {
        SendError::Full(_) => ("ERR_RECLUSTER_QUEUE_FULL", error.to_string()),
        SendError::Gone(_) | SendError::NoWorker(_) | SendError::NotJson(_) | SendError::JsonOnly(_) | _ => {
            ("ERR_IPC_CHANNEL_CLOSED", "Channel closed".to_owned())
        }
    };
    json!({ "code": code, "message": message })
}
