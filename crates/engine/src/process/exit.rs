//! Watching a worker's process: its pidfd shows its end, and what it writes is forwarded until then.

use std::io;
use std::os::fd::OwnedFd;

use recluster_core::{Exit, WorkerId};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, WaitIdStatus, pidfd_open};
use tokio::io::unix::AsyncFd;

use crate::guard::{Part, guarded_task};
use crate::process::event::Event;
use crate::process::outlets::Outlets;
use crate::process::passage::{self, Known, Passage};
use crate::process::source::Source;
use crate::process::stderr::Tail;
use crate::report::stream::Stream;
use crate::report::worker::Worker;
use crate::sink::Sink;
use crate::sys;
use crate::upgrade::store::{Store, Taken};
use crate::upgrade::{AdoptError, Inheritance, SaveError, Saving};

/// What people are told has panicked.
const PART: Part = Part::dispensable("what reads the output of a worker");

/// The exit status that is reported if another part of this program has reaped the process.
pub(crate) const UNKNOWN_STATUS: i32 = 255;

/// What is needed to watch a process.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) worker: WorkerId,
    /// The same, as people know it.
    pub(crate) about: Worker,
    pub(crate) pidfd: OwnedFd,
    /// What it writes to stdout and stderr, where these pass through the master.
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
    pub(crate) tail: Tail,
}

/// A process that is about to be watched.
#[derive(Debug)]
pub(crate) struct Watching {
    worker: WorkerId,
    end: AsyncFd<OwnedFd>,
    stdout: Option<Passage>,
    stderr: Option<Passage>,
    events: Sink<Event>,
}

impl Watch {
    /// Forwards what the worker writes until its process ends, reads what is left in the pipes, and then reports the end. Returns
    /// what passes.
    pub(crate) fn start(self, outlets: &Outlets, events: Sink<Event>) -> io::Result<Vec<Known>> {
        let (id, worker) = (self.worker, self.about);
        let passage = |stream, pipe: Option<OwnedFd>, tail| -> io::Result<Option<Passage>> {
            let pipe = pipe.map(sys::readable).transpose()?;
            let source = Source { id, worker, stream };
            Ok(pipe.map(|pipe| Passage::new(source, pipe, tail, outlets, events.clone())))
        };
        let stdout = passage(Stream::Stdout, self.stdout, None)?;
        let stderr = passage(Stream::Stderr, self.stderr, Some(self.tail))?;
        let watching = Watching::of(id, self.pidfd, [stdout, stderr], events)?;
        let known = watching.passages();
        watching.begin();
        Ok(known)
    }
}

impl Watching {
    /// The process behind a pidfd, with what it writes to stdout and stderr.
    pub(super) fn of(
        worker: WorkerId,
        pidfd: OwnedFd,
        [stdout, stderr]: [Option<Passage>; 2],
        events: Sink<Event>,
    ) -> io::Result<Self> {
        Ok(Self { worker, end: sys::readable(pidfd)?, stdout, stderr, events })
    }

    /// What it writes, on its way.
    pub(super) fn passages(&self) -> Vec<Known> {
        self.stdout.iter().chain(&self.stderr).map(Passage::known).collect()
    }

    /// Watches it from now on.
    pub(crate) fn begin(self) {
        let Self { worker: id, end, mut stdout, mut stderr, events } = self;
        tokio::spawn(async move {
            let tell = events.clone();
            let panicked = Sink::new(move |panic| tell.send(Event::Unheard(id, panic)));
            guarded_task(PART, panicked, async {
                loop {
                    tokio::select! {
                        _ = end.readable() => break,
                        open = Passage::pass_on(stdout.as_ref()) => if !open { stdout = None },
                        open = Passage::pass_on(stderr.as_ref()) => if !open { stderr = None },
                    }
                }
                for passage in stdout.iter().chain(&stderr) {
                    passage.take_last_words();
                }
            })
            .await;
            // An error means that there is nothing to wait for.
            let _ = end.readable().await;
            // The supervisor is gone only when the cluster is over.
            events.send(Event::Ended(id));
            // A child of the worker may still hold the pipes and write to them.
            tokio::join!(Passage::outlive(stdout), Passage::outlive(stderr));
        });
    }
}

/// What processes that have ended have left behind, and what they write.
#[derive(Debug)]
pub(crate) struct Outliving(Vec<Passage>);

impl Outliving {
    /// Passes on what they write from now on.
    pub(crate) fn begin(self) {
        for passage in self.0 {
            tokio::spawn(Passage::outlive(Some(passage)));
        }
    }
}

/// What is to be watched of workers that another program has started.
#[derive(Debug)]
pub(crate) struct Adopted {
    pub(crate) watching: Vec<Watching>,
    pub(crate) outliving: Outliving,
    pub(crate) passages: Vec<Known>,
}

/// The name of the part.
const PASSAGES: &str = "passages";
/// The purpose of the memory with what they have read and not passed on.
const WORDS: &str = "passages/words";

/// Leaves what workers write on its way to another program.
pub(crate) fn save_passages(passages: &[Known], saving: &mut Saving) -> Result<(), SaveError> {
    let mut store = Store::new(WORDS);
    let left = passages.iter().filter_map(|known| known.save(&mut store, saving).transpose());
    let left = left.collect::<Result<Vec<_>, SaveError>>()?;
    store.pass(saving)?;
    saving.put(PASSAGES, &left)
}

/// Whether what was left can be read.
pub(crate) fn read_passages(inheritance: &mut Inheritance) -> Result<(), AdoptError> {
    inheritance.needed::<Vec<passage::Left>>(PASSAGES).map(drop)
}

/// Goes on with what was left, once these processes are watched, each with a pidfd of it and the tail of its stderr.
pub(crate) fn adopt(
    living: Vec<(WorkerId, OwnedFd, Tail)>,
    outlets: &Outlets,
    events: &Sink<Event>,
    inheritance: &mut Inheritance,
) -> Result<Adopted, AdoptError> {
    let mut passages = Vec::new();
    let taken = Taken::of(WORDS, inheritance)?;
    for left in inheritance.needed::<Vec<passage::Left>>(PASSAGES)? {
        let Source { id, stream, .. } = left.source;
        let of = living.iter().find(|(worker, ..)| *worker == id);
        let tail = of.filter(|_| stream == Stream::Stderr).map(|(_, _, tail)| tail.clone());
        passages.push(left.adopt(tail, outlets, events.clone(), &taken, inheritance)?);
    }
    let known = passages.iter().map(Passage::known).collect();
    let mut watching = Vec::new();
    for (worker, pidfd, _) in living {
        let mut of = |stream| {
            let it = passages.iter().position(|passage| passage.is_of(worker, stream));
            it.map(|it| passages.swap_remove(it))
        };
        let passages = [of(Stream::Stdout), of(Stream::Stderr)];
        let cannot = |source| AdoptError::Duplicate { purpose: format!("the end of {worker}"), source };
        watching.push(Watching::of(worker, pidfd, passages, events.clone()).map_err(cannot)?);
    }
    Ok(Adopted { watching, outliving: Outliving(passages), passages: known })
}

/// How a process ended, from the result of waitid(2).
pub(crate) fn exit_of(status: &WaitIdStatus) -> Exit {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::Code(UNKNOWN_STATUS),
    }
}

/// Opens two pidfds of a process: one to signal and reap it, and one to wait for its end.
pub(crate) fn open_pidfds(pid: Pid) -> io::Result<(OwnedFd, OwnedFd)> {
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(why_not)?;
    let watched = pidfd.try_clone()?;
    Ok((pidfd, watched))
}

fn why_not(error: Errno) -> io::Error {
    match error {
        // The words alone ("Function not implemented") name nothing.
        Errno::NOSYS | Errno::PERM => io::Error::other(format!(
            "pidfd_open: {error}: this needs Linux 5.4 or newer, and a sandbox that allows the call"
        )),
        error => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_or_a_sandbox_without_the_call_is_told_which_one_it_is() {
        for error in [Errno::NOSYS, Errno::PERM] {
            let said = why_not(error).to_string();
            assert!(said.starts_with("pidfd_open: ") && said.contains("Linux 5.4"), "{said}");
        }
        assert_eq!(why_not(Errno::MFILE).raw_os_error(), Some(Errno::MFILE.raw_os_error()));
    }
}
