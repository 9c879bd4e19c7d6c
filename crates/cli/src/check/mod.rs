//! `check`: whether `run` would start a cluster, and with which settings. It looks in the order in which `run` does,
//! asks the same code, finds all that is wrong at once, and changes nothing: no file is written and no worker is started.

mod findings;
mod hooks;
mod node;
mod report;

use self::findings::Findings;
use crate::args;
use crate::client::output::{print, print_json};
use crate::config::Settings;
use crate::error::Error;
use crate::exit_code::ExitStatus;
use crate::inherited::Inherited;

/// Looks at everything and says what it is.
pub(crate) async fn check(
    args: args::Check,
    settings: &Settings,
    inherited: Inherited,
) -> Result<ExitStatus, Error> {
    let mut findings = Findings::of(&args.run, settings);
    findings.look_around();
    findings.look_at_cluster(inherited).await;
    findings.look_at_hooks().await;
    if args.json {
        print_json(&report::json(&findings))?;
    } else {
        print(&report::text(&findings))?;
    }
    for problem in &findings.problems {
        problem.report(false);
    }
    Ok(findings.exit_status())
}

#[cfg(test)]
mod tests;
