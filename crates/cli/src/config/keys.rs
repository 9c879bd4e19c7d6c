//! What may stand in the file: the arguments of `run`, as clap knows them.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command, Id, ValueHint};

use crate::args;
use crate::nearest;

/// The option that names the file.
pub(super) const CONFIG: &str = "config";
/// The argument that a cluster cannot do without.
pub(super) const SERVER: &str = "server";
/// What stands before the server's own arguments.
pub(super) const SERVERS_OWN: &str = "--";
/// The table of variables for the workers, the one key that is no argument of `run`.
pub(crate) const ENV: &str = "env";
/// What an address is called in the help. A unix socket's has a path in it.
const ADDRESS: &str = "ADDR";

/// The arguments of `run`, to be asked about one by one.
#[derive(Debug)]
pub(crate) struct Keys {
    run: Command,
    /// Which variable says the same, by the id of the argument.
    variables: BTreeMap<Id, String>,
}

impl Keys {
    pub(crate) fn of_run() -> Self {
        Self::of(args::definition_of_run())
    }

    /// The keys that the arguments of a command make.
    pub(super) fn of(command: Command) -> Self {
        let variable =
            |arg: &Arg| Some((arg.get_id().clone(), arg.get_env()?.to_string_lossy().into_owned()));
        let variables = command.get_arguments().filter_map(variable).collect();
        // A value is checked alone: neither the environment nor a missing argument matters for that.
        let alone = |arg: Arg| arg.env(Resettable::Reset).required(false);
        Self { run: command.no_binary_name(true).mut_args(alone), variables }
    }

    pub(super) fn args(&self) -> impl Iterator<Item = &Arg> {
        self.run.get_arguments().filter(|arg| arg.get_id() != CONFIG)
    }

    pub(super) fn find(&self, key: &str) -> Option<&Arg> {
        self.args().find(|arg| key_of(arg) == key)
    }

    /// The environment variable that says the same as an argument.
    pub(super) fn variable(&self, arg: &Arg) -> Option<&str> {
        self.variables.get(arg.get_id()).map(String::as_str)
    }

    /// The key that was probably meant.
    pub(super) fn nearest(&self, key: &str) -> Option<String> {
        nearest::to(key, self.args().map(key_of).chain([ENV]))
    }

    /// Whether two arguments exclude each other. Clap keeps that with the argument that declares it.
    pub(super) fn contradict(&self, a: &Arg, b: &Arg) -> bool {
        let rules_out = |a: &Arg, b: &Arg| {
            self.run.get_arg_conflicts_with(a).iter().any(|conflict| conflict.get_id() == b.get_id())
        };
        rules_out(a, b) || rules_out(b, a)
    }

    /// Why this argument does not take this value, if it does not.
    pub(super) fn refusal(&self, arg: &Arg, value: &str) -> Option<String> {
        let separator = arg.is_last_set().then(|| OsString::from(SERVERS_OWN));
        let typed = separator.into_iter().chain(as_typed(arg, value.as_ref()));
        let error = self.run.clone().try_get_matches_from(typed).err()?;
        if error.kind() == ErrorKind::ValueValidation {
            return error.source().map(ToString::to_string);
        }
        // Other errors are not about the value: missing arguments are found when the whole command line is parsed.
        let is_about_it = error.kind() == ErrorKind::InvalidValue;
        is_about_it.then(|| match error.get(ContextKind::ValidValue) {
            Some(ContextValue::Strings(valid)) if !valid.is_empty() => {
                format!("write one of {}", valid.join(", "))
            }
            Some(_) | None => "it must not be empty".to_owned(),
        })
    }
}

/// What an argument is called in the file.
pub(crate) fn key_of(arg: &Arg) -> &str {
    arg.get_long().unwrap_or(arg.get_id().as_str())
}

/// How a value of an argument is typed. A switch that is off is not typed at all.
pub(super) fn as_typed(arg: &Arg, value: &OsStr) -> Option<OsString> {
    match (arg.get_long(), is_switch(arg)) {
        (None, _) => Some(value.to_owned()),
        (Some(long), true) => (value == "true").then(|| format!("--{long}").into()),
        (Some(long), false) => {
            let mut typed = OsString::from(format!("--{long}="));
            typed.push(value);
            Some(typed)
        }
    }
}

/// Whether an argument takes no value.
pub(crate) fn is_switch(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::SetTrue)
}

/// Whether an argument may be given several times.
pub(super) fn is_list(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Append)
}

/// Whether an argument's values are `on` and `off`.
pub(super) fn is_on_off(arg: &Arg) -> bool {
    let values = arg.get_possible_values();
    values.len() == 2 && ["on", "off"].iter().all(|word| values.iter().any(|value| value.get_name() == *word))
}

/// A value of a file in this directory: relative paths in it begin there.
pub(super) fn rooted(arg: &Arg, value: &str, directory: &Path) -> OsString {
    if is_path(arg, value) {
        return directory.join(value).into();
    }
    let is_before = |before: &str| before.is_empty() || before.ends_with('=') && !before.starts_with('/');
    match value.split_once("unix:").filter(|(before, _)| is_address(arg) && is_before(before)) {
        Some((name, path)) => {
            let mut address = OsString::from(format!("{name}unix:"));
            address.push(directory.join(path));
            address
        }
        None => value.into(),
    }
}

/// Whether it is written in octal digits.
pub(super) fn is_octal(arg: &Arg) -> bool {
    arg.get_value_names().is_some_and(|names| names.iter().any(|name| name == "MODE"))
}

fn is_path(arg: &Arg, value: &str) -> bool {
    let hint = arg.get_value_hint();
    hint == ValueHint::AnyPath
        // The hint of options that also take words.
        || hint == ValueHint::FilePath && !is_word(arg, value)
        // A name alone is looked up in PATH.
        || hint == ValueHint::CommandName && value.contains('/')
}

/// Whether it is one of the words that the help names beside what is meant by capitals, as in `PATH|none`.
fn is_word(arg: &Arg, value: &str) -> bool {
    let names = arg.get_value_names().unwrap_or_default();
    value.chars().all(|letter| letter.is_ascii_lowercase())
        && names.iter().any(|name| name.split('|').any(|word| word == value))
}

fn is_address(arg: &Arg) -> bool {
    arg.get_value_names().is_some_and(|names| names.iter().any(|name| name.as_str() == ADDRESS))
}
