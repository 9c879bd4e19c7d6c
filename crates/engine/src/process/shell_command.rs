//! A command that is run to its end, such as a check. It is reaped through its pidfd. If its caller gives up, the command and
//! all that it has started are killed.

use std::io;
use std::os::fd::OwnedFd;
use std::process::Command;

use recluster_core::Exit;
use rustix::process::{Pid, Signal, WaitIdOptions, kill_process_group};
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;

use crate::process::exit::{UNKNOWN_STATUS, exit_of, open_pidfds};
use crate::process::hands::Hands;
use crate::process::target::Target;
use crate::sys;

const ENDED_NOW: WaitIdOptions = WaitIdOptions::EXITED.union(WaitIdOptions::NOHANG);

/// What becomes of processes of a command's group that outlive its first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// They are the command's business.
    Lives,
    /// They are killed.
    Dies,
}

/// Runs a command to its end in a process group of its own. Dropping the future kills the group.
pub(crate) async fn run_to_end(mut command: Command, rest: Rest, hands: &Hands) -> io::Result<Exit> {
    sys::forget_signals(&mut command);
    let (mut child, claim) = hands.start(command).await?;
    let pid = Pid::from_child(&child);
    let (pidfd, watched) = match open_pidfds(pid).and_then(|(pidfd, end)| Ok((pidfd, sys::readable(end)?))) {
        Ok(pidfds) => pidfds,
        Err(error) => {
            // A process that cannot be watched must not live.
            let _ = (kill_process_group(pid, Signal::KILL), child.kill());
            let _ = child.wait();
            return Err(error);
        }
    };
    let mut group = Group(Some((Target::new(pid, pidfd, true).claimed(claim), watched)));
    group.ended(rest).await
}

/// A command that runs, and what it has started; and a pidfd that shows its end. None once it is reaped, or a task has taken
/// over.
struct Group(Option<(Target, AsyncFd<OwnedFd>)>);

impl Group {
    async fn ended(&mut self, rest: Rest) -> io::Result<Exit> {
        if let Some((_, end)) = &self.0 {
            let _ready = end.readable().await?;
        }
        let reaped = self.0.take().map(|(target, _)| {
            // The group has its number until its first process is reaped.
            if rest == Rest::Dies {
                target.send(Signal::KILL);
            }
            target.wait(ENDED_NOW)
        });
        Ok(reaped.transpose()?.flatten().map_or(Exit::Code(UNKNOWN_STATUS), |status| exit_of(&status)))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let Some((target, end)) = self.0.take() else { return };
        target.send(Signal::KILL);
        // Its end may take long: a task reaps it.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                let _ready = end.readable().await;
                let _ = target.wait(ENDED_NOW);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;
    use std::process::Stdio;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::timeout;

    use super::*;
    use crate::process::awaited::Awaited;
    use crate::process::hands::Chore;
    use crate::sink::Sink;

    /// This thread itself.
    fn own() -> Hands {
        Hands::new(None, Awaited::default(), Sink::new(|chore: Chore| chore()))
    }

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).stdin(Stdio::null());
        command
    }

    #[tokio::test]
    async fn the_end_of_a_command_is_told() {
        assert_eq!(run_to_end(shell("exit 3"), Rest::Lives, &own()).await.unwrap(), Exit::Code(3));
        assert_eq!(run_to_end(shell("kill -9 $$"), Rest::Dies, &own()).await.unwrap(), Exit::Signal(9));
        let missing = run_to_end(Command::new("/nowhere/check"), Rest::Lives, &own()).await.unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }

    /// All processes of the command hold the other end of a socket, which is at its end when all of them are gone.
    #[tokio::test]
    async fn a_command_that_is_given_up_is_ended_with_its_children() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let mut command = shell("sleep 1000 & echo there; wait");
        command.stdout(OwnedFd::from(theirs));
        let hands = own();
        let mut running = Box::pin(run_to_end(command, Rest::Lives, &hands));
        ours.set_nonblocking(true).unwrap();
        let mut said = tokio::net::UnixStream::from_std(ours.try_clone().unwrap()).unwrap();
        let mut there = [0; 6];
        tokio::select! {
            ended = &mut running => panic!("{ended:?}"),
            read = said.read_exact(&mut there) => assert_eq!(read.unwrap(), 6),
        }
        drop(running);
        let rest = timeout(Duration::from_secs(30), said.read(&mut there)).await.unwrap();
        assert_eq!(rest.unwrap(), 0);
        assert_eq!(ours.read(&mut there).unwrap(), 0);
    }

    /// What is left holds the other end of a socket.
    #[tokio::test]
    async fn what_a_command_leaves_in_the_background_lives_or_dies_with_it() {
        for rest in [Rest::Dies, Rest::Lives] {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let mut command = shell("exec 3<&0; (read line <&3; echo $line) & exit 3");
            command.stdin(OwnedFd::from(theirs.try_clone().unwrap())).stdout(OwnedFd::from(theirs));
            assert_eq!(run_to_end(command, rest, &own()).await.unwrap(), Exit::Code(3));
            ours.set_nonblocking(true).unwrap();
            let mut far = tokio::net::UnixStream::from_std(ours).unwrap();
            // Whoever is dead reads nothing.
            let _ = far.write_all(b"here\n").await;
            let mut said = String::new();
            let _ = timeout(Duration::from_secs(30), far.read_to_string(&mut said)).await.unwrap();
            assert_eq!(said == "here\n", rest == Rest::Lives, "{said}");
        }
    }
}
