//! `status`: shows the status of a cluster, once or every second.

use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::time::Duration;

use recluster::Status;
use recluster::control::Client;
use recluster::control::protocol::{Reply, Request};
use tokio::time::{MissedTickBehavior, interval};

use super::connect::{connect, unexpected};
use super::output::{Reader, print, print_json};
use super::screen::{Alternate, Interrupts, picture, size};
use super::table::table;
use crate::args::StatusArgs;
use crate::error::Error;
use crate::exit_code::ExitStatus;
use crate::paint::Paint;

/// How often `--watch` looks.
const PERIOD: Duration = Duration::from_secs(1);

/// Shows how the cluster is. With `--watch` it ends when the cluster does, stdout is no longer read, or a signal says so.
pub(crate) async fn status(args: StatusArgs) -> Result<ExitStatus, Error> {
    let (mut client, path) = connect(&args.target).await?;
    let view = View::of(&args, &path);
    if !args.watch {
        let status = ask(&mut client).await?;
        view.show(&status)?;
        return Ok(exit_status(&status));
    }
    if view.json || !io::stdout().is_terminal() {
        let mut before = "";
        return watch(&mut client, |status| {
            let reader = view.show_behind(before, status);
            before = if view.json { "" } else { "\n" };
            reader
        })
        .await;
    }
    let mut interrupts = Interrupts::listen()?;
    let screen = Alternate::enter()?;
    let mut last = ExitStatus::NotServing;
    let show = |status: &Status| {
        last = exit_status(status);
        print(&picture(&view.text(status), size().map(|size| size.height)))
    };
    let ended = tokio::select! {
        ended = watch(&mut client, show) => Some(ended),
        () = interrupts.next() => None,
    };
    drop(screen);
    ended.unwrap_or(Ok(last))
}

/// Shows the status again and again, until it is no longer read.
async fn watch(
    client: &mut Client,
    mut show: impl FnMut(&Status) -> Result<Reader, Error>,
) -> Result<ExitStatus, Error> {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let status = ask(client).await?;
        if show(&status)? == Reader::Left {
            return Ok(exit_status(&status));
        }
    }
}

async fn ask(client: &mut Client) -> Result<Status, Error> {
    let reply = client.ask(&Request::Status).await?;
    let Reply::Status(status) = reply else { return Err(unexpected(reply)) };
    Ok(*status)
}

/// A cluster that is to end says so, whether its workers still serve or not: who sends it clients is to stop that.
fn exit_status(status: &Status) -> ExitStatus {
    let serves = status.slots.iter().all(|slot| slot.active.is_some());
    match status.phase.as_str() {
        "stopping" | "terminating" | "over" => ExitStatus::Stopping,
        _ if serves => ExitStatus::Success,
        _ => ExitStatus::NotServing,
    }
}

/// How a status is shown.
struct View {
    /// That of the socket's file, for a cluster that does not say what it is called.
    file: String,
    json: bool,
    paint: Paint,
}

impl View {
    fn of(args: &StatusArgs, path: &Path) -> Self {
        let file = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Self { file, json: args.target.json, paint: Paint::for_stream(&io::stdout()) }
    }

    fn show(&self, status: &Status) -> Result<Reader, Error> {
        self.show_behind("", status)
    }

    fn show_behind(&self, before: &str, status: &Status) -> Result<Reader, Error> {
        if self.json { print_json(status) } else { print(&format!("{before}{}", self.text(status))) }
    }

    /// As wide as the terminal, if stdout is one.
    fn text(&self, status: &Status) -> String {
        table(status.name.as_ref().unwrap_or(&self.file), status, self.paint, size().map(|size| size.width))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_cluster_that_ends_is_no_cluster_that_serves() {
        let exit = |phase: &str, active: Value| {
            let status = json!({
                "pid": 4700, "phase": phase, "generation": 1, "reload": null, "uptime_seconds": 1.0,
                "balance": "kernel", "workers": [], "listeners": [],
                "slots": [{ "slot": 0, "active": active, "restarts": 0, "connections": 0 }]
            });
            exit_status(&serde_json::from_value(status).unwrap())
        };
        for phase in ["stopping", "terminating", "over"] {
            for active in [json!(1), Value::Null] {
                assert_eq!(exit(phase, active), ExitStatus::Stopping, "{phase}");
            }
        }
        for phase in ["starting", "running"] {
            assert_eq!(exit(phase, json!(1)), ExitStatus::Success, "{phase}");
            assert_eq!(exit(phase, Value::Null), ExitStatus::NotServing, "{phase}");
        }
    }
}
