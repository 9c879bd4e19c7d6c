//! `systemd`: the units by which systemd runs a cluster with these options. They are printed, or written where systemd looks for them.

mod places;
mod quote;
mod unit;

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::mem;
use std::path::{Path, PathBuf};
use std::time::Duration;

use recluster::{Checked, CompileCache};
use serde_json::json;

use self::places::{check_for_stranger, is_at_home, written};
use self::unit::Unit;
use crate::args::{CacheIn, ControlAt, Run, SYSTEMDS_OWN, Systemd};
use crate::claim::Wanted;
use crate::client::output::{print, print_json};
use crate::config::{CommandLine, Origin, Settings};
use crate::describe::{describe, stop_takes};
use crate::error::Error;
use crate::exit_code::ExitStatus;

/// Who says so is a user that systemd makes.
const DYNAMIC: &str = "dynamic";
/// What systemd gives a service as its `PATH`.
const USUAL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Prints the units, or writes them.
pub(crate) fn systemd(
    args: &mut Systemd,
    settings: &Settings,
    line: &CommandLine,
) -> Result<ExitStatus, Error> {
    let unit = unit(args, settings, line)?;
    let files = unit.files();
    if let Some(directory) = &args.install {
        install(&files, directory, args.force)?;
        print(&unit.next_steps(&files, directory))?;
    } else if args.json {
        let files: serde_json::Map<_, _> =
            files.into_iter().map(|(name, text)| (name, json!(text))).collect();
        print_json(&json!({ "unit": unit.name, "files": files }))?;
    } else {
        let texts = files.iter().map(|(name, text)| format!("# {name}\n{text}"));
        print(&texts.collect::<Vec<_>>().join("\n"))?;
    }
    Ok(ExitStatus::Success)
}

/// What is refused whoever asks is refused first.
fn unit(args: &mut Systemd, settings: &Settings, line: &CommandLine) -> Result<Unit, Error> {
    check_account(settings)?;
    // systemd gives the master what it needs for these; this process gives none.
    let limits = mem::take(&mut args.run.privileges.rlimit);
    let checked = describe(&args.run).check()?;
    args.run.privileges.rlimit = limits;
    Unit::of(args, settings, line, &checked)
}

/// Writes all of them, or none: what is there already and differs is left alone, unless it may be written over.
fn install(files: &[(String, String)], directory: &Path, force: bool) -> Result<(), Error> {
    let mut missing = Vec::new();
    for (name, text) in files {
        let path = directory.join(name);
        match fs::read(&path) {
            Ok(there) if there == text.as_bytes() => {}
            Ok(_) if !force => return Err(Error::UnitExists { path }),
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(Error::Unit { path, source });
            }
            Ok(_) | Err(_) => missing.push((path, text)),
        }
    }
    for (path, text) in missing {
        fs::write(&path, text).map_err(|source| Error::Unit { path, source })?;
    }
    Ok(())
}

impl Unit {
    fn of(args: &Systemd, settings: &Settings, line: &CommandLine, checked: &Checked) -> Result<Self, Error> {
        let run = &args.run;
        let name = Wanted::by(run).name.as_str().to_owned();
        let recluster = env::current_exe().map_err(Error::Executable)?;
        let directory = line.directory().to_owned();
        let own = PathBuf::from("/run").join(&name);
        let control = match &run.around.control {
            Some(ControlAt::Off) => None,
            Some(ControlAt::Path(path)) => Some(directory.join(path)),
            None => Some(own.join("control.sock")),
        };
        let mut environment = variables(settings, checked);
        if let (None, Some(control)) = (&run.around.control, &control) {
            environment.push(("RECLUSTER_CONTROL".into(), control.into()));
        }
        let user = user(args.run_as.as_deref());
        let (own_places, writes): (Vec<_>, Vec<_>) = written(run, control.as_deref(), &directory)
            .into_iter()
            .partition(|place| place.directory.starts_with(&own));
        if user.is_none() {
            check_for_stranger(&writes)?;
        }
        let mut writes: Vec<PathBuf> = writes.into_iter().map(|place| place.directory).collect();
        writes.sort();
        writes.dedup();
        let programs = [Some(&recluster), Some(&directory), Some(&checked.server), checked.node.as_ref()];
        let read = places::read(run, &directory);
        let places = programs.into_iter().flatten().chain(&settings.file).chain(&read).chain(&writes);
        let is_at_home = places.into_iter().any(|path| is_at_home(path));
        Ok(Self {
            recluster,
            words: words(line.words()),
            user,
            environment,
            control,
            has_own_directory: own_places.iter().any(|place| place.option.is_some()),
            listen: run.running.listen.clone(),
            limits: run.privileges.rlimit.clone(),
            writes,
            has_cache: run.running.compile_cache == CacheIn::Place(CompileCache::Usual),
            is_at_home,
            start: start_takes(run),
            stop: stop_takes(run, checked),
            name,
            directory,
        })
    }

    /// Their names, and what is in them.
    fn files(&self) -> Vec<(String, String)> {
        let socket = self.socket().map(|text| (format!("{}.socket", self.name), text));
        [(format!("{}.service", self.name), self.service())].into_iter().chain(socket).collect()
    }

    fn next_steps(&self, files: &[(String, String)], directory: &Path) -> String {
        let (name, control) = (&self.name, self.control.as_deref().map(Path::display));
        let units: Vec<&str> = files.iter().map(|(file, _)| file.as_str()).collect();
        let mut lines: Vec<String> =
            units.iter().map(|file| directory.join(file).display().to_string()).collect();
        lines.push("\nNow run\n".into());
        lines.push("    systemctl daemon-reload".into());
        lines.push(format!("    systemctl enable --now {}", units.join(" ")));
        lines.push("\nand then\n".into());
        if let Some(control) = control {
            lines.push(format!(
                "    systemctl reload {name}    # new code; it fails where that does not work, and the old code serves on"
            ));
            lines.push(format!("    recluster status --control {control}"));
        }
        lines.push(format!("    systemctl status {name}\n"));
        lines.join("\n")
    }
}

/// What was typed, but for what only this command understands.
fn words(typed: &[OsString]) -> Vec<OsString> {
    let mut words = Vec::new();
    let mut typed = typed.iter();
    while let Some(word) = typed.next() {
        if word == "--" {
            words.push(word.clone());
            words.extend(typed.cloned());
            break;
        }
        let text = word.to_string_lossy();
        let named = SYSTEMDS_OWN.iter().find(|(name, _)| *name == text.split('=').next().unwrap_or_default());
        match named {
            Some((_, true)) if !text.contains('=') => drop(typed.next()),
            Some(_) => {}
            None => words.push(word.clone()),
        }
    }
    words
}

/// The variables that say something of the options, and those without which the server would be another one.
fn variables(settings: &Settings, checked: &Checked) -> Vec<(OsString, OsString)> {
    let by_option = settings.list.iter().filter_map(|setting| match &setting.origin {
        Origin::Environment(name) => Some(name.as_str()),
        Origin::CommandLine | Origin::File(_) | Origin::Default(_) => None,
    });
    let names = by_option.chain(["NODE_ENV"]);
    let mut variables: Vec<(OsString, OsString)> =
        names.filter_map(|name| Some((name.into(), env::var_os(name)?))).collect();
    let directory = checked.node.as_deref().and_then(Path::parent);
    let usual = |directory: &&Path| USUAL_PATH.split(':').any(|usual| *directory == Path::new(usual));
    if let Some(directory) = directory.filter(|directory| !usual(directory)) {
        variables.push(("PATH".into(), format!("{}:{USUAL_PATH}", directory.display()).into()));
    }
    variables
}

/// The master of a unit has no right to become another user: such workers could never start.
fn check_account(settings: &Settings) -> Result<(), Error> {
    let said = settings.list.iter().filter(|setting| ["user", "group"].contains(&setting.key.as_str()));
    let refused = said.into_iter().find_map(|setting| {
        let value = setting.values.first()?.to_string_lossy().into_owned();
        Some(Error::UnitAccount { key: setting.key.clone(), value, origin: setting.origin.clone() })
    });
    refused.map_or(Ok(()), Err)
}

/// Who the service runs as; none: a user that systemd makes.
fn user(said: Option<&str>) -> Option<String> {
    let uid = rustix::process::geteuid();
    match said {
        Some(DYNAMIC) => None,
        Some(user) => Some(user.to_owned()),
        None if uid.is_root() => None,
        None => Some(name_of(uid.as_raw()).unwrap_or_else(|| uid.as_raw().to_string())),
    }
}

/// The name of a user, if the machine's own file has it.
fn name_of(uid: u32) -> Option<String> {
    let users = fs::read_to_string("/etc/passwd").ok()?;
    let mut fields = users.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let user = fields.find(|fields| fields.get(2).is_some_and(|field| *field == uid.to_string()))?;
    user.first().map(|&name| name.to_owned())
}

/// The longest that a generation may take to serve or to be given up.
fn start_takes(run: &Run) -> Duration {
    let readiness = &run.readiness;
    readiness.ready_timeout.saturating_mul(readiness.attempts.get()).saturating_add(readiness.bake)
}

#[cfg(test)]
mod tests;
