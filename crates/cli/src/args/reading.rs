//! Reading the command line with its variables, and saying what was probably meant where something is wrong.

use std::ffi::{OsStr, OsString};

use clap::builder::{Resettable, StyledStr};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgMatches, Command};

use super::tips::{about, command_of, joined, tip};

/// Takes the variables away that are set and empty: as everywhere, that is as if they were not set.
pub(super) fn without_empty_variables(
    command: Command,
    value: impl Fn(&OsStr) -> Option<OsString> + Copy,
) -> Command {
    let is_empty = move |arg: &Arg| arg.get_env().and_then(value).is_some_and(|value| value.is_empty());
    let kept = move |arg: Arg| if is_empty(&arg) { arg.env(Resettable::Reset) } else { arg };
    command.mut_args(kept).mut_subcommands(move |command| without_empty_variables(command, value))
}

/// Reads a command line, which has a command.
pub(super) fn matches(definition: &Command, args: &[OsString]) -> Result<ArgMatches, clap::Error> {
    let mut built = definition.clone();
    built.try_get_matches_from_mut(args).map_err(|error| match joined(&error, &built, args) {
        // What is wrong with the value is said then.
        Some(joined) if definition.clone().try_get_matches_from(&joined).is_err() => {
            matches(definition, &joined).err().unwrap_or(error)
        }
        Some(_) | None => explained(error, &built, args),
    })
}

fn explained(mut error: clap::Error, definition: &Command, args: &[OsString]) -> clap::Error {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the other errors say what is wrong")]
    match error.kind() {
        ErrorKind::ValueValidation | ErrorKind::InvalidValue => {
            if let Some(variable) = variable_of(&error, definition, args) {
                let arg = about(&error, ContextKind::InvalidArg).unwrap_or_default();
                let place = format!("{arg}' from the environment variable '{variable}");
                error.insert(ContextKind::InvalidArg, ContextValue::String(place));
            }
        }
        ErrorKind::UnknownArgument => {
            if let Some(tip) = tip(&error, definition, args) {
                let tips = vec![StyledStr::from(tip.words)];
                error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tips));
                if tip.is_sure
                    && error.remove(ContextKind::SuggestedArg).is_some()
                    && let Some(command) = command_of(definition, args)
                {
                    error.insert(ContextKind::Usage, ContextValue::StyledStr(command.clone().render_usage()));
                }
            }
        }
        _ => {}
    }
    error
}

/// The variable that a wrong value comes from: without it the value is not there.
fn variable_of(error: &clap::Error, definition: &Command, args: &[OsString]) -> Option<String> {
    let wrong = |error: &clap::Error| {
        [ContextKind::InvalidArg, ContextKind::InvalidValue].map(|kind| about(error, kind))
    };
    let command = command_of(definition, args)?;
    let [shown, _] = wrong(error);
    let arg = command.get_arguments().find(|arg| Some(arg.to_string()) == shown)?;
    let variable = arg.get_env()?.to_string_lossy().into_owned();
    let alone =
        definition.clone().mut_subcommands(|command| command.mut_args(|arg| arg.env(Resettable::Reset)));
    let typed = alone.try_get_matches_from(args).err();
    (typed.as_ref().map(wrong) != Some(wrong(error))).then_some(variable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition() -> Command {
        let workers = Arg::new("workers").long("workers").value_parser(clap::value_parser!(u32));
        let run = Command::new("run").arg(workers.env("PATH"));
        Command::new("x").subcommand(run)
    }

    fn refusal(definition: &Command, line: &[&str]) -> String {
        let args: Vec<OsString> = line.iter().map(Into::into).collect();
        let error = matches(definition, &args).unwrap_err().to_string();
        error.lines().next().unwrap_or_default().to_owned()
    }

    /// `PATH` is set wherever tests run, and is no number.
    #[test]
    fn a_wrong_value_is_said_to_be_of_its_variable() {
        let refused = refusal(&definition(), &["x", "run"]);
        let place = "for '--workers <workers>' from the environment variable 'PATH': invalid digit";
        assert!(refused.contains(place), "{refused}");
        let typed = refusal(&definition(), &["x", "run", "--workers", "y"]);
        assert!(typed.contains("'y' for '--workers <workers>': invalid digit"), "{typed}");
    }

    #[test]
    fn an_empty_variable_is_none() {
        let args = ["x".into(), "run".into()];
        for (value, is_read) in [(Some(""), false), (Some("2"), true), (None, true)] {
            let definition = without_empty_variables(definition(), |_| value.map(OsString::from));
            assert_eq!(matches(&definition, &args).is_err(), is_read, "{value:?}");
        }
    }
}
