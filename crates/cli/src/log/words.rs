//! Events as text: which worker, what happened, and why.

use std::collections::BTreeSet;
use std::process;
use std::time::Duration;

use recluster::{Address, Event, Failure, Held, Level, RecycleReason, Verdict, Worker};
use serde::{Deserialize, Serialize};

use super::ended::{ended, unkillable};
use super::{changes, lost, starts};
use crate::args::Verbosity;

/// Puts events into words one after the other, and remembers what a later one needs.
#[derive(Debug, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Narrator {
    /// The master's process id.
    pid: u32,
    /// Where servers listen, in the order in which they began to.
    addresses: Vec<String>,
    /// Those at which the cluster served when a start or a reload was done.
    served: Vec<String>,
    /// What the master has bound before any worker asked, in the order in which workers number it.
    #[serde(with = "recluster::host::addresses")]
    bound: Vec<Address>,
    /// The hint that was said last: workers that fail alike need it once, and whoever reads the verdict once more.
    hint: Option<String>,
    /// The workers that cannot be killed, or of which something cannot.
    unkillable: BTreeSet<u64>,
}

const NOT_STORED: &str = "wanted its descriptors kept (FDSTORE), which is not done here: they were closed";

/// How workers number the first socket that the master has bound.
const FIRST_BOUND: i32 = 3;

impl Default for Narrator {
    fn default() -> Self {
        Self::new(process::id())
    }
}

impl Narrator {
    pub(super) fn new(pid: u32) -> Self {
        Self {
            pid,
            addresses: Vec::new(),
            served: Vec::new(),
            bound: Vec::new(),
            hint: None,
            unkillable: BTreeSet::new(),
        }
    }

    /// The event as one line.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the rest has its words elsewhere")]
    pub(super) fn words(&mut self, event: &Event) -> String {
        self.remember(event);
        match event {
            Event::GenerationBegan { generation } => self.line(format!("generation {generation} begins")),
            Event::Started { generation, workers } => self.line(self.started(*generation, *workers)),
            Event::StartFailed { failure } => self.line(start_failed(failure)),
            Event::Superseded { generation } => self.line(superseded(*generation)),
            Event::Reloaded { generation, verdict } => self.line(reloaded(*generation, verdict)),
            Event::Upgraded { from, to, rested } => self.line(upgraded(from, to, *rested)),
            Event::UpgradeFailed { reason } => self.line(not_upgraded(reason)),
            Event::Scaled { from, to } => self.line(format!("scaled from {from} to {to} workers")),
            Event::ReplaceFailed { failure } => {
                self.line(format!("a worker could not be renewed and goes on as it is: {}", why(failure)))
            }
            Event::Stopping => self.line("the cluster stops"),
            Event::HookFailed { on, hook, reason } => self.line(hook_failed(on, hook, reason)),
            Event::Panicked { part, reason, place, calls, phase, workers, ends, begins_anew } => {
                let (place, ends) = (place.as_deref(), (*ends, *begins_anew));
                self.line(panicked(part, reason, place, ends) + &last_words(calls, *phase, workers))
            }
            Event::Over => self.line(self.end()),
            Event::Bound { name, address } => self.line(bound(name.as_deref(), address)),
            Event::Caveat { caveat } => self.line(caveat),
            Event::ListenUnused { addresses } => self.line(unused(addresses)),
            Event::ListenIgnored { addresses, reason } => self.line(ignored(addresses, reason)),
            Event::Online { worker } => about(worker, "is online"),
            Event::Listening { worker, address } => about(worker, &format!("listens on {address}")),
            Event::Closed { address } => self.line(format!("{address} is closed, no worker uses it")),
            Event::FileRestored { address } => self.line(file_restored(address)),
            Event::FileLost { address, is_taken } => self.line(file_lost(address, *is_taken)),
            Event::Ready { worker } => about(worker, "is ready"),
            Event::Serving { worker, serving, of } => {
                about(worker, &format!("serves, {serving} of {of} in generation {}", worker.generation))
            }
            Event::Message { worker, bytes, .. } => {
                about(worker, &format!("sent a message of {bytes} bytes"))
            }
            Event::Disconnect { worker } => about(worker, "closed its channel"),
            Event::Draining { worker, timeout } => about(worker, &format!("drains, {timeout:.0?} at most")),
            Event::Exit { worker, .. } => about(worker, &ended(event)),
            Event::Late { worker } => about(worker, "is not ready in time; nothing waits for it"),
            Event::Overdue { worker, due, signal, held } => {
                about(worker, &overdue(due, signal, held.as_ref()))
            }
            Event::OutOfTime { worker, due, kill_timeout, held } => {
                about(worker, &out_of_time(due, *kill_timeout, held.as_ref()))
            }
            Event::KeepAliveTooLong { worker, keep_alive, timeout } => {
                about(worker, &keep_alive_too_long(*keep_alive, *timeout))
            }
            Event::Unkillable { worker, process, state, traced_by, of_user } => {
                about(worker, &unkillable((worker.pid, *process), *state, (*traced_by, *of_user)))
            }
            Event::LeftBehind { worker, timeout } => about(worker, &left_behind(*timeout)),
            Event::Respawning { worker, delay } => about(worker, &respawning(*delay)),
            Event::Failed { failure } => self.failed(failure),
            Event::AddressTaken { worker, reason } => about(worker, &address_taken(reason)),
            Event::Backgrounded { worker, reason } => about(worker, &format!("has ended: {reason}")),
            Event::CutOff { worker, reason } => about(worker, &cut_off(reason)),
            Event::Moved { generation, gone, server } => self.line(moved(*generation, gone, server)),
            Event::AcceptingUntilStop { accepting } => self.line(accepting_until_stop(*accepting)),
            Event::MessagesLost { messages } => self.line(messages_lost(*messages)),
            Event::MessageUnheard { worker, kind } => about(worker, &unheard(kind)),
            Event::MessageSkipped { worker, bytes, ended } => about(worker, &skipped(*bytes, *ended)),
            Event::LinesLost { worker, stream, lines } => about(worker, &lost::lines(*stream, *lines)),
            Event::Recycling { worker, excess } => about(worker, &recycling(*excess)),
            Event::Unhealthy { worker, reason } => about(worker, &unhealthy(reason)),
            Event::Hung { worker, silent } => about(worker, &hung(*silent)),
            Event::NotStored { worker } => about(worker, NOT_STORED),
            _ => self.other_words(event),
        }
    }

    fn other_words(&self, event: &Event) -> String {
        if let Some((worker, words)) = starts::of_worker(event) {
            return about(worker, &words);
        }
        let words = changes::words(event).or_else(|| starts::words(event));
        self.line(words.unwrap_or_else(|| lost::of_log(event)))
    }

    fn end(&self) -> &'static str {
        if self.unkillable.is_empty() {
            "no worker is left, the cluster has ended"
        } else {
            "the cluster has ended, but for what cannot be killed"
        }
    }

    fn failed(&mut self, failure: &Failure) -> String {
        if failure.hint.is_none() || failure.hint == self.hint {
            return what(failure);
        }
        self.hint.clone_from(&failure.hint);
        why(failure)
    }

    fn remember(&mut self, event: &Event) {
        if let Event::GenerationBegan { .. } = event {
            self.hint = None;
        } else if let Event::AddressTaken { reason, .. } | Event::Backgrounded { reason, .. } = event {
            self.hint = Some(reason.clone());
        } else if let Event::Bound { address, .. } = event {
            self.bound.push(address.clone());
            self.addresses.push(address.to_string());
        } else if let Event::Listening { address, .. } = event {
            let text = address.to_string();
            if !self.is_bound(address) && !self.addresses.contains(&text) {
                self.addresses.push(text);
            }
        } else if let Event::ListenUnused { addresses } = event {
            let unused: Vec<String> = addresses.iter().map(Address::to_string).collect();
            self.addresses.retain(|address| !unused.contains(address));
        } else if let Event::Started { .. } | Event::Reloaded { verdict: Verdict::Done, .. } = event {
            self.served.clone_from(&self.addresses);
        } else if let Event::Closed { address } | Event::FileLost { address, .. } = event {
            let address = address.to_string();
            self.addresses.retain(|other| *other != address);
        } else if let Event::Unkillable { worker, .. } = event {
            self.unkillable.insert(worker.id);
        } else if let Event::Exit { worker, .. } = event {
            self.unkillable.remove(&worker.id);
        }
    }

    /// Whether clients may still ask at an address that this event says is closed: it was served, and a reload has left it.
    pub(super) fn leaves_clients(&self, event: &Event) -> bool {
        matches!(event, Event::Closed { address } if self.served.contains(&address.to_string()))
    }

    /// Whether a worker speaks of what the master has bound: by its number, or by other words for all addresses of the machine.
    fn is_bound(&self, address: &Address) -> bool {
        (FIRST_BOUND..).zip(&self.bound).any(|(number, bound)| {
            *address == Address::Fd(number) || *address == *bound || are_everywhere(address, bound)
        })
    }

    /// A line about the cluster as a whole.
    pub(super) fn line(&self, words: impl AsRef<str>) -> String {
        format!("[{}] {}", self.pid, words.as_ref())
    }

    fn started(&self, generation: u64, workers: u32) -> String {
        let who =
            if workers == 1 { "1 worker serves".to_owned() } else { format!("{workers} workers serve") };
        let place = if self.addresses.is_empty() {
            String::new()
        } else {
            format!(" on {}", self.addresses.join(", "))
        };
        format!("{who} generation {generation}{place}")
    }
}

fn file_restored(address: &Address) -> String {
    format!("the file of {address} was removed, and is there again")
}

fn file_lost(address: &Address, is_taken: bool) -> String {
    let what = if is_taken { "something of others is in its place" } else { "it cannot be put back" };
    format!("no client reaches {address} any more: its file was removed, and {what}")
}

fn hook_failed(on: &str, hook: &str, reason: &str) -> String {
    format!("the hook for {on} failed ({hook}): {reason}")
}

fn start_failed(failure: &Failure) -> String {
    format!("the first start is given up: {}", why(failure))
}

fn not_upgraded(reason: &str) -> String {
    format!("no other program has taken over: {reason}")
}

fn upgraded(from: &str, to: &str, rested: Duration) -> String {
    let rested = rested.as_millis();
    format!(
        "recluster {to} has taken over from {from}: the workers go on, and the master rested for {rested} ms"
    )
}

fn superseded(generation: u64) -> String {
    format!("generation {generation} gives way to a newer reload")
}

fn panicked(part: &str, reason: &str, place: Option<&str>, ends: (bool, bool)) -> String {
    let then = match ends {
        (_, true) => "the master begins anew",
        (true, false) => "the cluster ends",
        (false, false) => "nothing else ends",
    };
    let place = place.map(|place| format!(" (at {place})")).unwrap_or_default();
    format!("{part} has panicked, which is a fault of recluster, and {then}: {reason}{place}")
}

/// What there was when a part has panicked.
fn last_words(calls: &[String], phase: Option<&str>, workers: &[Worker]) -> String {
    let called = if calls.is_empty() { String::new() } else { format!("; called by {}", calls.join(" < ")) };
    let phase = phase.map(|phase| format!("; the cluster was {phase}")).unwrap_or_default();
    let worker = |Worker { id, slot, generation, pid, .. }: &Worker| {
        let pid = pid.map(|pid| format!(", pid {pid}")).unwrap_or_default();
        format!("{id} (slot {slot}, generation {generation}{pid})")
    };
    let named: Vec<String> = workers.iter().map(worker).collect();
    let workers =
        if named.is_empty() { String::new() } else { format!(", with workers {}", named.join(", ")) };
    called + &phase + &workers
}

/// The verbosity from which on an event is written.
pub(super) fn needs(event: &Event) -> Verbosity {
    match event {
        // What it was answering is lost.
        Event::Exit { expected: true, .. } if event.level() == Level::Warn => Verbosity::Normal,
        Event::Exit { expected: false, .. }
        | Event::Failed { .. }
        | Event::AddressTaken { .. }
        | Event::Backgrounded { .. }
        | Event::ListenIgnored { .. }
        | Event::CutOff { .. }
        | Event::FileLost { .. }
        | Event::PreloadMissing { .. }
        | Event::Moved { .. }
        | Event::Unhealthy { .. }
        | Event::Hung { .. }
        | Event::Unkillable { .. }
        | Event::Panicked { .. }
        | Event::StartFailed { .. }
        | Event::ReplaceFailed { .. }
        | Event::LinesLost { .. }
        | Event::HookFailed { .. }
        | Event::WorkerLogFailed { .. }
        | Event::WorkerLogResumed { .. }
        | Event::MessageSkipped { ended: false, .. }
        | Event::Overdue { due: "ready", .. }
        | Event::Reloaded {
            verdict: Verdict::RolledBack { .. } | Verdict::StoppedPartWay { .. } | Verdict::Refused { .. },
            ..
        } => Verbosity::Quiet,
        Event::GenerationBegan { generation: 1 }
        | Event::Spawned { .. }
        | Event::Online { .. }
        | Event::Listening { .. }
        | Event::Closed { .. }
        | Event::FileRestored { .. }
        | Event::Ready { .. }
        | Event::Serving { .. }
        | Event::Message { .. }
        | Event::MessagesLost { .. }
        | Event::MessageSkipped { ended: true, .. }
        | Event::Disconnect { .. }
        | Event::Draining { .. }
        | Event::Stopping
        | Event::Exit { expected: true, .. } => Verbosity::Verbose,
        Event::GenerationBegan { .. }
        | Event::Overdue { .. }
        | Event::Respawning { .. }
        | Event::Started { .. }
        | Event::Superseded { .. }
        | Event::Reloaded { verdict: Verdict::Done | Verdict::Abandoned, .. }
        | Event::Scaled { .. }
        | Event::Over
        | _ => Verbosity::Normal,
    }
}

/// When something comes.
fn soon(delay: Duration) -> String {
    match delay.as_millis() {
        0 => "at once".to_owned(),
        millis @ 1..1000 => format!("in {millis} ms"),
        _ => format!("in {:.1} s", delay.as_secs_f64()),
    }
}

/// A slot has a serving worker again.
pub(super) fn serves_again(worker: &Worker, after: Duration) -> String {
    let seconds = after.as_secs_f64();
    about(worker, &format!("serves again, {seconds:.1} s after the last one of its slot was gone"))
}

/// A line about one worker: `[PID] worker ID (slot SLOT) …`.
fn about(worker: &Worker, words: &str) -> String {
    let pid = worker.pid.map_or("-".to_owned(), |pid| pid.to_string());
    format!("[{pid}] worker {} (slot {}) {words}", worker.id, worker.slot)
}

fn respawning(delay: Duration) -> String {
    format!("must be replaced, respawning {}", soon(delay))
}

fn address_taken(reason: &str) -> String {
    format!("did not get its address: {reason}")
}

fn cut_off(reason: &str) -> String {
    format!("was cut off, it broke the rules of its channel: {reason}")
}

fn accepting_until_stop(accepting: Duration) -> String {
    format!("the stop begins in {accepting:.0?}, connections are accepted until then")
}

fn messages_lost(messages: u64) -> String {
    format!("{messages} messages of workers are missing here: they came too fast")
}

fn unheard(kind: &str) -> String {
    format!(
        "sends messages that nobody here hears, `{kind}`; a library that talks to a Node primary needs the npm package or a \
         setting: docs/libraries-with-a-master.md"
    )
}

fn skipped(bytes: u64, ended: bool) -> String {
    if ended {
        format!("sent a message of {bytes} bytes, which is too long for this log and is missing here")
    } else {
        format!("sends a message that does not end; its first {bytes} bytes were skipped, and so is the rest")
    }
}

/// Which worker failed, and what happened to it.
fn what(failure: &Failure) -> String {
    let count = match failure.failures {
        0 | 1 => String::new(),
        failures => format!(", failure {failures} of its slot"),
    };
    about(&failure.worker, &format!("{}{count}", failure.reason))
}

/// The same, and what to do about it.
fn why(failure: &Failure) -> String {
    let hint = failure.hint.as_ref().map(|hint| format!(" (hint: {hint})")).unwrap_or_default();
    what(failure) + &hint
}

fn reloaded(generation: Option<u64>, verdict: &Verdict) -> String {
    let generation =
        generation.map_or("the reload".to_owned(), |generation| format!("generation {generation}"));
    match verdict {
        Verdict::Done => format!("reloaded: {generation} serves"),
        Verdict::RolledBack { failure } => {
            format!("{generation} was rolled back, the old workers serve on: {}", why(failure))
        }
        Verdict::StoppedPartWay { replaced, of, failure } => {
            format!(
                "{generation} was stopped at {replaced} of {of}, the others keep the old code: {}",
                why(failure)
            )
        }
        Verdict::Refused { reason } => format!("the reload was refused, nothing was touched: {reason}"),
        Verdict::Abandoned => format!("{generation} was abandoned, the cluster is to end"),
    }
}

/// Whether both are all addresses of the machine, of whatever family, and have the same port.
fn are_everywhere(one: &Address, other: &Address) -> bool {
    let ((Address::Tcp(one), Address::Tcp(other)) | (Address::Udp(one), Address::Udp(other))) = (one, other)
    else {
        return false;
    };
    one.port() == other.port() && one.ip().is_unspecified() && other.ip().is_unspecified()
}

fn bound(name: Option<&str>, address: &Address) -> String {
    let name = name.map(|name| format!(", named {name}")).unwrap_or_default();
    format!("listens on {address}{name}")
}

fn unused(addresses: &[Address]) -> String {
    let addresses: Vec<String> = addresses.iter().map(Address::to_string).collect();
    format!(
        "no worker listens on {}, which --listen or a service manager asked for: clients wait there in vain. A Node server gets that socket by \
         listening on the same address, or on its descriptor, and one in Rust also by the name that `--listen NAME=ADDRESS` gives it",
        addresses.join(", ")
    )
}

fn ignored(addresses: &[Address], reason: &str) -> String {
    let addresses: Vec<String> = addresses.iter().map(Address::to_string).collect();
    format!("nobody accepts on {}, where clients wait: {reason}", addresses.join(", "))
}

fn moved(generation: u64, gone: &str, server: &str) -> String {
    format!("{gone} is gone: workers of generation {generation} are started from {server} from now on")
}

fn unhealthy(reason: &str) -> String {
    format!("fails its check and is renewed: {reason}")
}

fn hung(silent: Duration) -> String {
    format!("has not said for {silent:.1?} that it lives, it is sent SIGABRT")
}

fn recycling(excess: RecycleReason) -> String {
    match excess {
        RecycleReason::Memory { bytes, limit } => {
            format!("uses {} MiB of memory, more than {} MiB, and is renewed", bytes >> 20, limit >> 20)
        }
        RecycleReason::Age { seconds } => format!("has lived for {seconds} s and is renewed"),
        _ => "is renewed".to_owned(),
    }
}

fn overdue(due: &str, signal: &str, held: Option<&Held>) -> String {
    format!("{}{}, it is sent {signal}", late(due), in_brackets(held))
}

fn out_of_time(due: &str, kill_timeout: Duration, held: Option<&Held>) -> String {
    format!("{}{}, SIGKILL follows in {kill_timeout:.0?}", late(due), in_brackets(held))
}

fn in_brackets(held: Option<&Held>) -> String {
    held.map(|held| format!(" ({held})")).unwrap_or_default()
}

fn keep_alive_too_long(keep_alive: Duration, timeout: Duration) -> String {
    format!(
        "keeps idle connections for {keep_alive:.0?} (keepAliveTimeout) but drains for {timeout:.0?} at most: a reload may close one that a client still uses (hint: a longer --timeout)"
    )
}

fn left_behind(timeout: Duration) -> String {
    format!("is gone, what it had started goes on, {timeout:.0?} at most")
}

/// The deadline that a worker has missed.
fn late(due: &str) -> &'static str {
    match due {
        "ready" => "was not ready in time",
        "drain" => "has not finished in time what it had",
        "surplus" => "is of one draining generation too many",
        "exit" => "closed its channel but did not exit",
        "kill" => "did not exit on SIGTERM",
        "rest" => "is gone, but what it had started has not ended in time",
        _ => "is late",
    }
}
