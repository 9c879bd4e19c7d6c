//! The commands that talk to a running cluster. What was asked for goes to stdout, everything else to stderr; with
//! `--json` the master's replies go to stdout as they come.

mod columns;
mod config;
pub(crate) mod connect;
mod events;
mod logs;
pub(crate) mod output;
mod progress;
mod replace;
pub(crate) mod screen;
mod status;
pub(crate) mod table;
mod upgrade;

use std::env;

use recluster::Variables;
use recluster::control::Client;
use recluster::control::protocol::{Reply, Request};

pub(crate) use self::config::config;
use self::connect::{connect, unexpected};
pub(crate) use self::events::events;
pub(crate) use self::logs::logs;
use self::output::{print, print_json};
use self::progress::Screen;
pub(crate) use self::replace::replace;
pub(crate) use self::status::status;
pub(crate) use self::upgrade::upgrade;
use crate::args::{Ask, Reload, ScaleArgs, Target};
use crate::error::Error;
use crate::exit_code::ExitStatus;

/// `reload`: asks for one, and shows how it goes until the verdict is there.
pub(crate) async fn reload(args: Reload) -> Result<ExitStatus, Error> {
    let env = variables(&args.env)?;
    let (mut client, _) = connect(&args.target).await?;
    if args.no_wait {
        let reply = client.ask(&Request::Reload { wait: false, env }).await?;
        let Reply::Accepted = reply else { return Err(unexpected(reply)) };
        return finish(&reply, &args.target);
    }
    client.send(&Request::Reload { wait: true, env }).await?;
    if args.target.json { relay(&mut client).await } else { watch(&mut client).await }
}

/// The variables that were written as `NAME=VALUE`, or as the `NAME` of one in our own environment.
fn variables(written: &[String]) -> Result<Variables, Error> {
    let read = |written: &String| match written.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => match env::var(written) {
            Ok(value) => Ok((written.clone(), value)),
            Err(_) => Err(Error::NoVariable { name: written.clone() }),
        },
    };
    Ok(Variables::new(written.iter().map(read).collect::<Result<Vec<_>, _>>()?)?)
}

/// Prints the master's replies to a reload, up to the verdict.
async fn relay(client: &mut Client) -> Result<ExitStatus, Error> {
    loop {
        let reply = client.next().await?;
        if let Reply::Refused { .. } = reply {
            return Err(unexpected(reply));
        }
        print_json(&reply)?;
        if let Reply::Verdict { verdict, .. } = reply {
            return Ok(progress::exit_status(&verdict));
        }
    }
}

/// Shows the progress of a reload, up to the verdict.
async fn watch(client: &mut Client) -> Result<ExitStatus, Error> {
    let mut screen = Screen::on_stderr();
    loop {
        match client.next().await.inspect_err(|_| screen.settle())? {
            Reply::Progress(progress) => screen.progress(&progress),
            Reply::Verdict { generation, verdict, needs_restart } => {
                screen.verdict(generation, &verdict);
                screen.needs_restart(&needs_restart);
                return Ok(progress::exit_status(&verdict));
            }
            other @ (Reply::Accepted
            | Reply::Status(_)
            | Reply::Configuration { .. }
            | Reply::Event(_)
            | Reply::EventsEnd
            | Reply::Streams { .. }
            | Reply::Line(_)
            | Reply::LinesMissed { .. }
            | Reply::LinesEnd
            | Reply::Replaced(_)
            | Reply::ReplaceFailed { .. }
            | Reply::Scaled { .. }
            | Reply::Upgraded { .. }
            | Reply::Upgradable { .. }
            | Reply::NotUpgraded { .. }
            | Reply::Ended
            | Reply::Refused { .. }) => return Err(unexpected(other)),
        }
    }
}

/// `scale`: changes the number of slots and prints the new one.
pub(crate) async fn scale(args: ScaleArgs) -> Result<ExitStatus, Error> {
    let (mut client, _) = connect(&args.target).await?;
    let reply = client.ask(&args.scale.into()).await?;
    let Reply::Scaled { workers } = reply else { return Err(unexpected(reply)) };
    if args.target.json {
        print_json(&reply)?
    } else {
        print(&format!("{workers}\n"))?
    };
    Ok(ExitStatus::Success)
}

/// `stop`: waits until every worker has finished and the master has ended.
pub(crate) async fn stop(args: Ask) -> Result<ExitStatus, Error> {
    end(&args.target, Request::Stop).await
}

/// `terminate`: kills every worker at once, and waits until the master has ended.
pub(crate) async fn terminate(args: Ask) -> Result<ExitStatus, Error> {
    end(&args.target, Request::Terminate).await
}

async fn end(target: &Target, request: Request) -> Result<ExitStatus, Error> {
    let (mut client, _) = connect(target).await?;
    client.send(&request).await?;
    let reply = client.next().await?;
    let Reply::Ended = reply else { return Err(unexpected(reply)) };
    // What follows, such as a new cluster of the same name, must not meet the rest of this one.
    client.closed().await;
    finish(&reply, target)
}

/// What was asked for is done.
fn finish(reply: &Reply, target: &Target) -> Result<ExitStatus, Error> {
    if target.json {
        print_json(reply)?;
    }
    Ok(ExitStatus::Success)
}
