//! The signals to the master, and what each of them means.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::thread;
use std::time::Instant;

use nix::sys::signal::{self, SigSet};
use rustix::process::Signal;
use tokio::signal::unix::{self, SignalKind};
use tokio::time::{Sleep, sleep_until};

use crate::wishes::{Wish, Wishes};

/// Every signal that means something, and what.
const MEANINGS: [(Signal, &str, Wish); 8] = [
    (Signal::HUP, "SIGHUP", Wish::Reload),
    (Signal::USR2, "SIGUSR2", Wish::Reload),
    (Signal::TERM, "SIGTERM", Wish::Stop),
    (Signal::INT, "SIGINT", Wish::Stop),
    (Signal::QUIT, "SIGQUIT", Wish::Terminate),
    (Signal::TTIN, "SIGTTIN", Wish::MoreWorkers),
    (Signal::TTOU, "SIGTTOU", Wish::FewerWorkers),
    (Signal::USR1, "SIGUSR1", Wish::ReopenLog),
];

/// What the kernel sends a process that uses its terminal from the background.
const OF_TERMINALS: [signal::Signal; 2] = [signal::Signal::SIGTTIN, signal::Signal::SIGTTOU];

/// The stack of a thread that only takes signals.
const STACK_BYTES: usize = 64 * 1024;

/// Whether the signal of this name asks for a reload.
pub(crate) fn asks_for_reload(name: &str) -> bool {
    MEANINGS.iter().any(|(_, known, wish)| *known == name && *wish == Wish::Reload)
}

/// What the master hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// A signal, and what it comes to after those before it.
    Signal { name: &'static str, wish: Wish },
    /// A stop was asked for a while ago: another signal would insist on it now.
    StopSettled,
    /// Some child has ended.
    ChildEnded,
}

/// The signals that the master listens to.
#[derive(Debug)]
pub(crate) struct Signals {
    streams: Vec<(unix::Signal, &'static str, Wish)>,
    wishes: Wishes,
    /// Sleeps until the next deadline of the wishes. It is kept: the runtime lets a sleep end only after it has looked for
    /// signals, but one that begins too late ends at once.
    clock: Option<Pin<Box<Sleep>>>,
    /// It is of use even if nobody listens: a process can be started with SIGCHLD ignored. The kernel then reaps the
    /// workers, and their exit statuses are lost. Installing a handler undoes that.
    children: unix::Signal,
}

impl Signals {
    /// Installs handlers for all of them: from now on they are queued, and have no other effect. They are heard also where
    /// whoever started this process has blocked them.
    pub(crate) fn install() -> io::Result<Self> {
        let listen = |(signal, name, wish): (Signal, _, _)| {
            let stream = unix::signal(SignalKind::from_raw(signal.as_raw()))?;
            Ok((stream, name, wish))
        };
        let streams = MEANINGS.into_iter().map(listen).collect::<io::Result<_>>()?;
        let wishes = Wishes::default();
        let children = unix::signal(SignalKind::child())?;
        listen_apart()?;
        let mut ours = SigSet::all();
        for signal in OF_TERMINALS {
            ours.remove(signal);
        }
        // What has waited comes now, when there are handlers.
        ours.thread_unblock()?;
        Ok(Self { streams, wishes, clock: None, children })
    }

    /// The next signal. Several of one kind in quick succession may be heard as one. Nothing is lost if this is dropped.
    pub(crate) async fn next(&mut self) -> Heard {
        loop {
            if self.clock.is_none() {
                self.clock = self.wishes.deadline().map(|at| Box::pin(sleep_until(at.into())));
            }
            tokio::select! {
                // Signals come before the clock, see `Wishes::pass`.
                biased;
                (name, wish) = arrival(&mut self.streams) => {
                    return Heard::Signal { name, wish: self.wishes.hear(wish, Instant::now()) };
                }
                () = elapsed(self.clock.as_mut()) => {
                    self.clock = None;
                    if self.wishes.pass(Instant::now()) {
                        return Heard::StopSettled;
                    }
                }
                _ = self.children.recv() => return Heard::ChildEnded,
            }
        }
    }

    /// A reload has its verdict, which is known by now to whoever waits for it.
    pub(crate) fn reload_has_ended(&mut self) {
        self.wishes.reload_has_ended();
    }
}

/// Has a thread that does nothing else take the signals of terminals. This one blocks them, and so do those that it starts: one
/// that writes to a terminal in the background would be sent them by the kernel (`stty tostop`), as if somebody wished for fewer
/// workers, and would never have written. With them blocked it writes.
fn listen_apart() -> io::Result<()> {
    let mut apart = SigSet::empty();
    apart.extend(OF_TERMINALS);
    apart.thread_block()?;
    let builder = thread::Builder::new().name("recluster-signal".to_owned()).stack_size(STACK_BYTES);
    builder.spawn(move || {
        if apart.thread_unblock().is_ok() {
            loop {
                thread::park();
            }
        }
    })?;
    Ok(())
}

/// The next of these signals: its name, and what it asks for by itself.
async fn arrival(streams: &mut [(unix::Signal, &'static str, Wish)]) -> (&'static str, Wish) {
    poll_fn(|context| {
        let ready = streams
            .iter_mut()
            .find_map(|(stream, name, wish)| stream.poll_recv(context).is_ready().then_some((*name, *wish)));
        ready.map_or(Poll::Pending, Poll::Ready)
    })
    .await
}

async fn elapsed(clock: Option<&mut Pin<Box<Sleep>>>) {
    match clock {
        Some(clock) => clock.await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{getpid, kill_process};
    use tokio::sync::Mutex;

    use super::*;

    /// Signals are the whole process's, tests are threads of it.
    static PROCESS: Mutex<()> = Mutex::const_new(());

    async fn signal(to: &mut Signals, signal: Signal) -> Heard {
        kill_process(getpid(), signal).unwrap();
        next(to).await
    }

    /// Other tests have children, which end.
    async fn next(of: &mut Signals) -> Heard {
        loop {
            let heard = of.next().await;
            if heard != Heard::ChildEnded {
                return heard;
            }
        }
    }

    #[tokio::test]
    async fn each_signal_is_heard_as_what_it_means() {
        let _alone = PROCESS.lock().await;
        for (number, name, wish) in MEANINGS {
            let mut signals = Signals::install().unwrap();
            assert_eq!(signal(&mut signals, number).await, Heard::Signal { name, wish });
        }
    }

    #[tokio::test]
    async fn two_signals_of_one_moment_are_one_wish_and_a_later_one_insists() {
        let _alone = PROCESS.lock().await;
        let mut signals = Signals::install().unwrap();
        let heard = |name, wish| Heard::Signal { name, wish };
        assert_eq!(signal(&mut signals, Signal::TERM).await, heard("SIGTERM", Wish::Stop));
        assert_eq!(signal(&mut signals, Signal::INT).await, heard("SIGINT", Wish::Repeated));
        assert_eq!(next(&mut signals).await, Heard::StopSettled);
        assert_eq!(signal(&mut signals, Signal::INT).await, heard("SIGINT", Wish::Terminate));
    }

    /// The clock has run out by the time at which the second is looked for, but it came before.
    #[tokio::test]
    async fn a_loop_that_was_held_up_takes_no_signal_for_a_later_one() {
        let _alone = PROCESS.lock().await;
        let mut signals = Signals::install().unwrap();
        signal(&mut signals, Signal::TERM).await;
        tokio::select! {
            biased;
            heard = next(&mut signals) => panic!("{heard:?}"),
            () = std::future::ready(()) => {}
        }
        kill_process(getpid(), Signal::TERM).unwrap();
        let due = signals.wishes.deadline().unwrap();
        while Instant::now() < due {
            std::thread::park_timeout(due.saturating_duration_since(Instant::now()));
        }
        let repeated = Heard::Signal { name: "SIGTERM", wish: Wish::Repeated };
        assert_eq!(next(&mut signals).await, repeated);
        assert_eq!(next(&mut signals).await, Heard::StopSettled);
    }
}
