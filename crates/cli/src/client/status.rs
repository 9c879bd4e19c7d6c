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
use super::table::table;
use crate::args::StatusArgs;
use crate::error::Error;
use crate::exit_code::ExitStatus;
use crate::paint::Paint;

/// How often `--watch` looks.
const PERIOD: Duration = Duration::from_secs(1);

/// Moves the cursor to the top and clears what is below.
const CLEAR: &str = "\x1b[H\x1b[J";

/// Shows how the cluster is. With `--watch` it ends when the cluster does, or stdout is no longer read.
pub(crate) async fn status(args: StatusArgs) -> Result<ExitStatus, Error> {
    let (mut client, path) = connect(&args.target).await?;
    let view = View::of(&args, &path);
    if !args.watch {
        let status = ask(&mut client).await?;
        view.show(&status)?;
        return Ok(exit_status(&status));
    }
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let status = ask(&mut client).await?;
        if view.show(&status)? == Reader::Left {
            return Ok(exit_status(&status));
        }
    }
}

async fn ask(client: &mut Client) -> Result<Status, Error> {
    let reply = client.ask(&Request::Status).await?;
    let Reply::Status(status) = reply else { return Err(unexpected(reply)) };
    Ok(*status)
}

fn exit_status(status: &Status) -> ExitStatus {
    let serves = status.slots.iter().all(|slot| slot.active.is_some());
    if serves { ExitStatus::Success } else { ExitStatus::NotServing }
}

/// How a status is shown.
struct View {
    name: String,
    json: bool,
    paint: Paint,
    /// What is printed before each status.
    before: &'static str,
}

impl View {
    fn of(args: &StatusArgs, path: &Path) -> Self {
        let stdout = io::stdout();
        let before = match (args.watch, stdout.is_terminal()) {
            (true, true) => CLEAR,
            (true, false) => "\n",
            (false, _) => "",
        };
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Self { name, json: args.target.json, paint: Paint::for_stream(&stdout), before }
    }

    fn show(&self, status: &Status) -> Result<Reader, Error> {
        if self.json {
            return print_json(status);
        }
        print(&format!("{}{}", self.before, table(&self.name, status, self.paint)))
    }
}
