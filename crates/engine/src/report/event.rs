//! The events of a cluster: one [`Event`] for each thing that happened, in order.
//!
//! Events are plain data and serialise to JSON objects with the field `event` as their tag; the command's
//! `--log-format json` prints exactly these.

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Serialize, Serializer};

pub use crate::report::worker::RecycleReason;
pub use recluster_core::Exit;

use crate::report::stream::Stream;
use crate::report::verdict::{Failure, Verdict};
use crate::report::worker::{Address, Held, Worker, exit_map};

/// How many events a slow subscriber may lag behind before it loses the oldest.
pub(crate) const EVENT_BACKLOG: usize = 1024;
/// How many events may wait before messages of applications are dropped: a worker that sends without end must not push
/// other events out of the backlog.
pub(crate) const MESSAGE_BACKLOG: usize = 512;
/// How many bytes of messages may wait before further ones are dropped.
pub(crate) const MESSAGE_BYTES: usize = 16 << 20;

/// Something that happened in a cluster.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// A generation begins: the first start, or a reload.
    GenerationBegan {
        /// Which; counts from 1.
        generation: u64,
    },
    /// The master listens on an address that it was given, before any worker is there.
    Bound {
        /// Its name.
        name: Option<String>,
        /// The address; a port of the kernel's choice is known.
        address: Address,
    },
    /// The first generation serves, and none of its workers listens where the master does.
    ListenUnused {
        /// The addresses, as in [`Event::Bound`].
        addresses: Vec<Address>,
    },
    /// Connections wait at addresses of the master's, and the workers' program takes none. Told once of each generation.
    ListenIgnored {
        /// The addresses, as in [`Event::Bound`].
        addresses: Vec<Address>,
        /// Why, and what to do, for people.
        reason: String,
    },
    /// A feature does not work for this kind of server.
    Caveat {
        /// What, for people.
        caveat: Cow<'static, str>,
    },
    /// A worker's process was started.
    Spawned {
        /// The worker.
        worker: Worker,
    },
    /// The program of a worker does not run seconds after its start began: the kernel still waits for a file. Until it goes on, or the
    /// start is given up, nothing else is started.
    StartHangs {
        /// The worker, which has no pid yet.
        worker: Worker,
        /// The program's file: node, or the server itself.
        program: String,
        /// The directory that it is to run in.
        directory: String,
        /// How long its start has taken so far.
        #[serde(serialize_with = "seconds", rename = "waited_seconds")]
        waited: Duration,
    },
    /// A worker is to listen for a debugger at another port than its slot's, since that is taken still: an old worker has it,
    /// or another process.
    InspectorMoved {
        /// The worker.
        worker: Worker,
        /// The port that it is told.
        port: u16,
        /// The port of its slot.
        taken: u16,
    },
    /// A worker's first message came.
    Online {
        /// The worker.
        worker: Worker,
    },
    /// A server in a worker listens.
    Listening {
        /// The worker.
        worker: Worker,
        /// Where.
        address: Address,
    },
    /// A socket where servers listened is closed, because no worker uses it any more.
    Closed {
        /// Where.
        address: Address,
    },
    /// The file of a unix socket had been removed, and leads to the socket again.
    FileRestored {
        /// The socket.
        address: Address,
    },
    /// The file of a unix socket was removed and cannot be put back: no client reaches the socket.
    FileLost {
        /// The socket.
        address: Address,
        /// Something of others is at its path, and is left alone.
        is_taken: bool,
    },
    /// A worker may serve.
    Ready {
        /// The worker.
        worker: Worker,
    },
    /// A worker was ready and has lived for the bake time.
    Serving {
        /// The worker.
        worker: Worker,
        /// How many slots have a serving worker of its generation.
        serving: u32,
        /// Of how many.
        of: u32,
    },
    /// A worker sent a message of its application.
    Message {
        /// The worker.
        worker: Worker,
        /// How long it is, in bytes.
        bytes: u64,
        /// The message, as the JSON text that the worker sent, where [subscribers act on it](crate::Messages::Heard). It is not
        /// serialised: an application's messages may hold secrets.
        #[serde(skip)]
        text: Option<String>,
    },
    /// A worker's channel closed. Its process may still live.
    Disconnect {
        /// The worker.
        worker: Worker,
    },
    /// A worker is asked to finish what it has and exit.
    Draining {
        /// The worker.
        worker: Worker,
        /// How long it may take.
        #[serde(serialize_with = "seconds", rename = "timeout_seconds")]
        timeout: Duration,
    },
    /// A worker's process ended.
    Exit {
        /// The worker.
        worker: Worker,
        /// How.
        #[serde(serialize_with = "exit_map")]
        exit: Exit,
        /// Whether it was asked to end.
        expected: bool,
        /// Whether the kernel has killed it, or what it ran (a status of 137), for want of memory: of its control group, or of the
        /// machine.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        oom_killed: bool,
    },
    /// A worker is not ready in time. It is left alone: the cluster keeps trying, and no reload waits for it.
    Late {
        /// The worker.
        worker: Worker,
    },
    /// A worker's deadline passed, and it is sent a signal.
    Overdue {
        /// The worker.
        worker: Worker,
        /// What it was late for: `ready`, `drain`, `exit` or `kill`; `surplus`: it is of an old generation beyond those that
        /// may drain at once; `rest`: it is gone itself, but processes of its group are not.
        due: &'static str,
        /// The signal's name.
        signal: &'static str,
        /// What a draining worker still had, where that is known.
        #[serde(skip_serializing_if = "Option::is_none")]
        held: Option<Held>,
    },
    /// A draining worker's patience ended. It was let go by SIGTERM, or it runs what its application has for that signal,
    /// and it is not sent SIGTERM again: SIGKILL follows.
    OutOfTime {
        /// The worker.
        worker: Worker,
        /// What it was late for: `drain`, `exit` or `surplus`, as in [`Event::Overdue`].
        due: &'static str,
        /// How long until then.
        #[serde(serialize_with = "seconds", rename = "kill_timeout_seconds")]
        kill_timeout: Duration,
        /// What a Node worker still had, where that is known.
        #[serde(skip_serializing_if = "Option::is_none")]
        held: Option<Held>,
    },
    /// A server keeps idle connections for longer than its worker may drain, so that a reload may close one that was
    /// promised to stay open.
    KeepAliveTooLong {
        /// The worker.
        worker: Worker,
        /// The server's `keepAliveTimeout`.
        #[serde(serialize_with = "seconds", rename = "keep_alive_seconds")]
        keep_alive: Duration,
        /// The drain timeout.
        #[serde(serialize_with = "seconds", rename = "timeout_seconds")]
        timeout: Duration,
    },
    /// A worker's own process has ended, and others of its group go on.
    LeftBehind {
        /// The worker.
        worker: Worker,
        /// How long they may, until they are sent a signal.
        #[serde(serialize_with = "seconds", rename = "timeout_seconds")]
        timeout: Duration,
    },
    /// A worker, or a process that it has left behind, lives on seconds after SIGKILL: the kernel does not let it end, or it has become
    /// another user's. Nothing waits for it any more. If a worker ends after all while the cluster runs, [`Event::Exit`] follows.
    Unkillable {
        /// The worker.
        worker: Worker,
        /// The process that lives on: the worker's, or one of its group. None where the worker's start never came to an end.
        process: Option<u32>,
        /// Its state, or that of the thread that keeps it, as `proc(5)` names it: `D` waits in the kernel for a disk, a file
        /// system or a frozen cgroup; `Z` has ended, and whoever traces it has not noticed.
        state: Option<char>,
        /// The process that traces it.
        traced_by: Option<u32>,
        /// The user that it runs as, where the master may not send it signals.
        of_user: Option<u32>,
    },
    /// A worker must be replaced, and another will be started in its slot.
    Respawning {
        /// The worker that is replaced.
        worker: Worker,
        /// How long until then.
        #[serde(serialize_with = "seconds", rename = "delay_seconds")]
        delay: Duration,
    },
    /// A worker has ended, and none is started in its slot before a file changes or a reload is asked for.
    Held {
        /// The worker.
        worker: Worker,
    },
    /// A worker has ended, and it did not get an address. Told once of each generation.
    AddressTaken {
        /// The worker.
        worker: Worker,
        /// Who has the address, and what to do, for people.
        reason: String,
    },
    /// A worker has ended by itself, and what it has started lives on in the background. Told once of each generation.
    Backgrounded {
        /// The worker.
        worker: Worker,
        /// Which process, and what to do, for people.
        reason: String,
    },
    /// A worker of a generation on trial did not come to serve.
    Failed {
        /// What happened.
        failure: Failure,
    },
    /// The file that lets Node workers drain without loss could not be written: they drain as Node does.
    PreloadMissing {
        /// Why.
        reason: String,
    },
    /// Workers keep no compiled code, although they were to. Told once of each reason.
    CompileCacheOff {
        /// The worker that said so.
        worker: Worker,
        /// Why, in its words.
        reason: String,
    },
    /// Files have changed that are watched, and a reload follows.
    FilesChanged {
        /// Some of them.
        files: Vec<String>,
        /// How many others.
        more: usize,
    },
    /// Files that are to be watched are not all seen, or not at once.
    WatchLimited {
        /// Why, and what follows, for people.
        reason: String,
    },
    /// A generation's files are there no more: its workers are started from where its paths lead now.
    Moved {
        /// Which.
        generation: u64,
        /// What is gone: the server file, the working directory or node.
        gone: String,
        /// The server file that there is now.
        server: String,
    },
    /// A stop was asked for; until it begins, the cluster goes on accepting.
    AcceptingUntilStop {
        /// How long.
        #[serde(serialize_with = "seconds", rename = "accepting_seconds")]
        accepting: Duration,
    },
    /// A worker exceeds a limit and is replaced; the new one starts first.
    Recycling {
        /// The worker.
        worker: Worker,
        /// Which limit.
        #[serde(flatten)]
        excess: RecycleReason,
    },
    /// A serving worker failed its check several times in a row and is replaced; the new one starts first.
    Unhealthy {
        /// The worker.
        worker: Worker,
        /// How the last check failed.
        reason: String,
    },
    /// A worker asked the master to keep descriptors for it. The master does not do that: they were closed.
    NotStored {
        /// The worker.
        worker: Worker,
    },
    /// A worker has sent no watchdog notification in time, and is ended.
    Hung {
        /// The worker.
        worker: Worker,
        /// How long it sent none.
        #[serde(serialize_with = "seconds", rename = "silent_seconds")]
        silent: Duration,
    },
    /// A worker broke the rules of its channel and was cut off.
    CutOff {
        /// The worker.
        worker: Worker,
        /// Which rule.
        reason: String,
    },
    /// The first start is complete: every slot has a serving worker.
    Started {
        /// Its generation.
        generation: u64,
        /// How many slots.
        workers: u32,
    },
    /// The first start failed; the cluster ends.
    StartFailed {
        /// Why.
        failure: Failure,
    },
    /// A reload gave way to a newer one.
    Superseded {
        /// The generation that was being started.
        generation: u64,
    },
    /// A reload ended.
    Reloaded {
        /// The generation that was being started; none where the reload never began.
        generation: Option<u64>,
        /// How it ended.
        #[serde(flatten)]
        verdict: Verdict,
    },
    /// The number of slots changed.
    Scaled {
        /// Before.
        from: u32,
        /// Now.
        to: u32,
    },
    /// Replacing one worker was given up; the old one goes on.
    ReplaceFailed {
        /// Why.
        failure: Failure,
    },
    /// Messages of applications were not passed on, because a subscriber was too slow. No other event is lost for them.
    MessagesLost {
        /// How many messages.
        messages: u64,
    },
    /// A worker's application sends messages on which nobody acts ([`Messages`](crate::Messages)). Told once for each of the
    /// first eight kinds.
    MessageUnheard {
        /// The first worker that sent one.
        worker: Worker,
        /// What messages of this kind call themselves: their `topic`, `type`, `cmd` or the like, else their first key.
        kind: String,
    },
    /// A message of a worker's application is too long to be kept, and is not passed on. The worker goes on. Told once of
    /// each worker, and once more of a message without an end.
    MessageSkipped {
        /// The worker.
        worker: Worker,
        /// How long the message is, as far as it has come.
        bytes: u64,
        /// Whether it has ended.
        ended: bool,
    },
    /// Lines that a worker wrote to its stdout or stderr were not passed on, because the reader was too slow.
    LinesLost {
        /// The worker.
        worker: Worker,
        /// Where it wrote them.
        stream: Stream,
        /// How many lines.
        lines: u64,
    },
    /// The cluster begins to stop: it was asked to, or its first start was given up.
    Stopping,
    /// A hook did not do what it was to do when something happened.
    HookFailed {
        /// What it was to be told of.
        on: &'static str,
        /// Which hook, without what may be secret of it.
        hook: String,
        /// Why not.
        reason: String,
    },
    /// The file that has what the workers of a slot write is not as it should be.
    WorkerLogFailed {
        /// The slot.
        slot: u32,
        /// The file.
        path: PathBuf,
        /// What failed: `write`, and lines are lost until it works again; `reopen`, and the old file is written on; `rotate`, and it
        /// grows.
        failed: &'static str,
        /// Why.
        error: String,
    },
    /// The file of a slot can be written again.
    WorkerLogResumed {
        /// The slot.
        slot: u32,
        /// How many lines were lost meanwhile.
        lines: u64,
    },
    /// Another program has taken the master's place, under its workers.
    Upgraded {
        /// The version of the master before.
        from: String,
        /// The version of the one now.
        to: String,
        /// For how long the master rested. Connections that it accepts itself have waited in the kernel.
        #[serde(serialize_with = "seconds", rename = "rested_seconds")]
        rested: Duration,
    },
    /// No other program has taken the master's place, which goes on.
    UpgradeFailed {
        /// Why not.
        reason: String,
    },
    /// A part of the engine has panicked, which is a fault of ours.
    Panicked {
        /// Which part.
        part: &'static str,
        /// What it has panicked with.
        reason: String,
        /// Where in our source that was, if that is known.
        place: Option<String>,
        /// The functions that led there, the innermost first.
        calls: Vec<String>,
        /// What the cluster was doing, where it ends.
        #[serde(rename = "cluster_was")]
        phase: Option<&'static str>,
        /// The workers that lived then, 64 at most.
        workers: Vec<Worker>,
        /// The cluster ends: workers answer what they have, and are ended by SIGTERM and SIGKILL if they take too long. Otherwise only that
        /// client's connection ends, or that worker is replaced.
        ends: bool,
        /// The master begins anew, with the same sockets and new workers, and those that there were answer what they have.
        begins_anew: bool,
    },
    /// The cluster has ended; no event follows.
    Over,
}

fn seconds<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(span.as_secs_f64())
}

#[cfg(test)]
mod tests;
