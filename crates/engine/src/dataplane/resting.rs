//! The data plane at rest, while the supervisor may have another program take the place of this one: nothing is accepted, read or written,
//! and no timer is looked at. What happens meanwhile waits in the kernel, and is found when it goes on.

use std::os::fd::OwnedFd;
use std::sync::mpsc::Receiver;

use super::commands::obey;
use super::looking;
use super::messages::{Command, Resting};
use super::saved;
use super::state::State;

/// Saves what there is, answers, and waits until it is told to go on.
pub(super) fn rest(state: &mut State, commands: &Receiver<Command>, reply: &Resting) {
    looking::end_all(state);
    let (saving, _memories): (_, Vec<OwnedFd>) = match saved::save(state) {
        Ok((saving, memories)) => (Ok(saving), memories),
        Err(error) => (Err(error), Vec::new()),
    };
    let is_refused = saving.is_err();
    // Who no longer waits has called it off.
    if reply.send(saving).is_err() || is_refused {
        return;
    }
    let mut told = Vec::new();
    loop {
        match commands.recv() {
            Ok(Command::GoOn) => break,
            // To rest again is to go on for one turn.
            Ok(command @ (Command::Finish | Command::Rest(_))) => {
                told.push(command);
                break;
            }
            Ok(command) => told.push(command),
            Err(_) => {
                state.finished = true;
                return;
            }
        }
    }
    for command in told {
        obey(state, command);
    }
}
