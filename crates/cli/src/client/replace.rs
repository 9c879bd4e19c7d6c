//! `replace`: one worker gives way to another of the same code.

use std::io::{self, Write as _};

use recluster::Which;
use recluster::control::Client;
use recluster::control::protocol::{Reply, Request};
use recluster::{Replaced, Status, Worker};

use super::connect::{connect, unexpected};
use super::output::{print, print_json};
use crate::args::{ReplaceArgs, WorkerAt};
use crate::error::Error;
use crate::exit_code::ExitStatus;
use crate::paint::printable;

/// Has the worker replaced, and waits until the new one serves.
pub(crate) async fn replace(args: ReplaceArgs) -> Result<ExitStatus, Error> {
    let ReplaceArgs { worker, target } = args;
    let (mut client, _) = connect(&target).await?;
    let which = meant(worker, &mut client).await?;
    client.send(&Request::Replace { which }).await?;
    let reply = client.next().await?;
    let is_done = matches!(reply, Reply::Replaced(_));
    #[expect(clippy::wildcard_enum_match_arm, reason = "none of the others answers what was asked")]
    match &reply {
        Reply::Replaced(_) | Reply::ReplaceFailed { .. } if target.json => {
            print_json(&reply)?;
        }
        Reply::Replaced(Replaced { worker, by }) => {
            print(&format!("{} is replaced by {}\n", named(worker), named(by)))?;
        }
        Reply::ReplaceFailed { failure } => {
            let hint = failure.hint.as_ref().map(|hint| format!(" (hint: {hint})")).unwrap_or_default();
            let line = printable(&format!("{failure}{hint}; the old worker goes on"));
            // Without a stderr there is nobody to tell.
            let _ = writeln!(io::stderr(), "{line}");
        }
        _ => return Err(unexpected(reply)),
    }
    Ok(if is_done { ExitStatus::Success } else { ExitStatus::NotServing })
}

/// Which worker a number means: the master says what slots and what workers there are.
async fn meant(worker: WorkerAt, client: &mut Client) -> Result<Which, Error> {
    let number = match worker {
        WorkerAt::Known(which) => return Ok(which),
        WorkerAt::Number(number) => number,
    };
    let reply = client.ask(&Request::Status).await?;
    let Reply::Status(status) = reply else { return Err(unexpected(reply)) };
    which(number, &status)
}

/// A slot or a process by its number. Where it could be both, whoever asks has to say so.
fn which(number: u32, status: &Status) -> Result<Which, Error> {
    let is_slot = status.slots.iter().any(|slot| slot.slot == number);
    let is_pid = status.workers.iter().any(|worker| worker.pid == Some(number));
    match (is_slot, is_pid) {
        (true, true) => Err(Error::SlotOrPid { number }),
        (true, false) => Ok(Which::Slot(number)),
        (false, _) => Ok(Which::Pid(number)),
    }
}

fn named(Worker { id, slot, pid, .. }: &Worker) -> String {
    let pid = pid.map(|pid| format!(", pid {pid}")).unwrap_or_default();
    format!("worker {id} (slot {slot}{pid})")
}
