//! The commands that talk to a running cluster. What was asked for goes to stdout, everything else to stderr; with
//! `--json` the master's replies go to stdout as they come.

pub(crate) mod output;
mod progress;
mod status;
mod table;

use std::env;
use std::path::{Path, PathBuf};

use recluster::control::protocol::{Reply, Request};
use recluster::control::{Client, ClientError, find};

use self::output::{print, print_json};
use self::progress::Screen;
pub(crate) use self::status::status;
use crate::args::{Ask, ControlAt, Reload, ScaleArgs, Target};
use crate::error::Error;
use crate::exit_code::ExitStatus;
use crate::name::Name;

/// `reload`: asks for one, and shows how it goes until the verdict is there.
pub(crate) async fn reload(args: Reload) -> Result<ExitStatus, Error> {
    let (mut client, _) = connect(&args.target).await?;
    if args.no_wait {
        let reply = client.ask(&Request::Reload { wait: false }).await?;
        let Reply::Accepted = reply else { return Err(unexpected(reply)) };
        return finish(&reply, &args.target);
    }
    client.send(&Request::Reload { wait: true }).await?;
    if args.target.json { relay(&mut client).await } else { watch(&mut client).await }
}

/// Prints what the master says of a reload until the verdict is there.
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

/// Shows what the master says of a reload until the verdict is there.
async fn watch(client: &mut Client) -> Result<ExitStatus, Error> {
    let mut screen = Screen::on_stderr();
    loop {
        match client.next().await.inspect_err(|_| screen.settle())? {
            Reply::Progress(progress) => screen.progress(&progress),
            Reply::Verdict { generation, verdict } => {
                screen.verdict(generation, &verdict);
                return Ok(progress::exit_status(&verdict));
            }
            other @ (Reply::Accepted
            | Reply::Status(_)
            | Reply::Scaled { .. }
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

/// `terminate`: the same, without patience.
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

/// Finds the cluster that is meant and connects to it; also tells where it is.
async fn connect(target: &Target) -> Result<(Client, PathBuf), Error> {
    let path = locate(target)?;
    Ok((Client::connect(&path).await?, path))
}

fn locate(target: &Target) -> Result<PathBuf, Error> {
    let by_environment =
        || env::var_os("RECLUSTER_CONTROL").filter(|path| !path.is_empty()).map(PathBuf::from);
    let control = match (&target.control, &target.name) {
        (Some(path), _) => Some(path.clone()),
        (None, Some(_)) => None,
        (None, None) => by_environment(),
    };
    match control {
        Some(path) if path == Path::new(ControlAt::OFF) => Err(Error::ControlOff),
        Some(path) => Ok(path),
        None => Ok(find(target.name.as_ref().map(Name::as_str))?),
    }
}

/// What a reply means that does not answer what was asked.
fn unexpected(reply: Reply) -> Error {
    match reply {
        Reply::Refused { reason } => Error::Refused(reason),
        Reply::Progress(_)
        | Reply::Verdict { .. }
        | Reply::Accepted
        | Reply::Status(_)
        | Reply::Scaled { .. }
        | Reply::Ended => ClientError::Nonsense(None).into(),
    }
}
