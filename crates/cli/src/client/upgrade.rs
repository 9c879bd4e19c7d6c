//! `upgrade`: another program takes the master's place, under its workers.

use std::io::{self, Write as _};
use std::path;

use recluster::control::protocol::{Reply, Request};

use super::connect::{connect, unexpected};
use super::output::{print, print_json};
use crate::args::UpgradeArgs;
use crate::error::Error;
use crate::exit_code::ExitStatus;
use crate::paint::printable;

/// Has it done, and waits for what comes of it: the new master says so.
pub(crate) async fn upgrade(args: UpgradeArgs) -> Result<ExitStatus, Error> {
    let UpgradeArgs { binary, dry_run, wait, target } = args;
    // The master has another working directory.
    let binary = binary.map(|binary| path::absolute(&binary).unwrap_or(binary));
    let (mut client, _) = connect(&target).await?;
    client.send(&Request::Upgrade { binary, dry_run, wait }).await?;
    let reply = client.next().await?;
    let is_done = matches!(reply, Reply::Upgraded { .. } | Reply::Upgradable { .. });
    #[expect(clippy::wildcard_enum_match_arm, reason = "none of the others answers what was asked")]
    match &reply {
        Reply::Upgraded { .. } | Reply::Upgradable { .. } | Reply::NotUpgraded { .. } if target.json => {
            print_json(&reply)?;
        }
        Reply::Upgraded { from, to, rested_seconds } => {
            let rested = rested_seconds * 1000.0;
            print(&format!("the master is upgraded from {from} to {to}; it rested for {rested:.1} ms\n"))?;
        }
        Reply::Upgradable { from, to } => {
            print(&format!("the master could be upgraded from {from} to {to}; nothing was changed\n"))?;
        }
        Reply::NotUpgraded { reason } => {
            let line = printable(&format!("the master was not upgraded, and goes on: {reason}"));
            // Without a stderr there is nobody to tell.
            let _ = writeln!(io::stderr(), "{line}");
        }
        _ => return Err(unexpected(reply)),
    }
    Ok(if is_done { ExitStatus::Success } else { ExitStatus::NotServing })
}
