//! What signals to the master mean.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use rustix::process::Signal;
use tokio::signal::unix::{self, SignalKind};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    Reload,
    Stop,
    Terminate,
    MoreWorkers,
    FewerWorkers,
    ReopenLog,
}

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

/// A signal that was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) name: &'static str,
    pub(crate) wish: Wish,
}

/// The signals that the master listens to.
#[derive(Debug)]
pub(crate) struct Signals {
    streams: Vec<(unix::Signal, Heard)>,
    /// Never read. It is here because a process can be started with SIGCHLD ignored: the kernel then reaps the workers,
    /// and their exit statuses are lost. Installing a handler undoes that.
    _children: unix::Signal,
}

impl Signals {
    /// Installs handlers for all of them: from now on they are queued, and have no other effect.
    pub(crate) fn install() -> io::Result<Self> {
        let listen = |(signal, name, wish): (Signal, _, _)| {
            let stream = unix::signal(SignalKind::from_raw(signal.as_raw()))?;
            Ok((stream, Heard { name, wish }))
        };
        let streams = MEANINGS.into_iter().map(listen).collect::<io::Result<_>>()?;
        Ok(Self { streams, _children: unix::signal(SignalKind::child())? })
    }

    /// The next signal. Several of one kind in quick succession may be heard as one.
    pub(crate) async fn next(&mut self) -> Heard {
        poll_fn(|context| {
            for (stream, heard) in &mut self.streams {
                if stream.poll_recv(context).is_ready() {
                    return Poll::Ready(*heard);
                }
            }
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{getpid, kill_process};

    use super::*;

    #[tokio::test]
    async fn each_signal_is_heard_as_what_it_means() {
        let mut signals = Signals::install().unwrap();
        for (signal, name, wish) in MEANINGS {
            kill_process(getpid(), signal).unwrap();
            assert_eq!(signals.next().await, Heard { name, wish });
        }
    }
}
