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
        ErrorKind::InvalidUtf8 => {
            if let Some(words) = not_utf8(definition, args)
                && let Some(command) = command_of(definition, args)
            {
                return command.clone().error(ErrorKind::InvalidUtf8, words);
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

/// Which value has to be text and is not. Paths and what the server is given may be anything.
fn not_utf8(definition: &Command, args: &[OsString]) -> Option<String> {
    let is_wrong = |at: &usize| {
        let lossy = |(other, arg): (usize, &OsString)| {
            if other == *at { arg.clone() } else { arg.to_string_lossy().into_owned().into() }
        };
        let args: Vec<OsString> = args.iter().enumerate().map(lossy).collect();
        let read = definition.clone().try_get_matches_from(args);
        read.is_err_and(|error| error.kind() == ErrorKind::InvalidUtf8)
    };
    let unclear = args.iter().enumerate().filter(|(_, arg)| arg.to_str().is_none());
    let (at, arg) = unclear.into_iter().find(|(at, _)| is_wrong(at))?;
    let shown = arg.to_string_lossy();
    let before = at.checked_sub(1).and_then(|before| args.get(before));
    let before = before.map(|before| before.to_string_lossy()).unwrap_or_default();
    let (option, value) = match shown.split_once('=') {
        Some((option, value)) if option.starts_with("--") => (option, value),
        Some(_) | None => (&*before, &*shown),
    };
    let of = if option.starts_with('-') { format!(" of {option}") } else { String::new() };
    Some(format!("the value '{value}'{of} is not UTF-8, which it has to be"))
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
    use std::os::unix::ffi::OsStringExt as _;

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
    fn a_value_that_has_to_be_text_is_named_where_it_is_none() {
        let arg = |name| Arg::new(name).long(name);
        let run = Command::new("run")
            .arg(arg("listen").short('l'))
            .arg(arg("file").value_parser(clap::value_parser!(std::path::PathBuf)));
        let definition = Command::new("x").subcommand(run);
        let bytes = |text: &[u8]| OsString::from_vec(text.to_vec());
        for (value, words) in [
            (vec![bytes(b"--listen"), bytes(b"a\xff")], "the value 'a\u{fffd}' of --listen is not UTF-8"),
            (vec![bytes(b"--listen=a\xff")], "the value 'a\u{fffd}' of --listen is not UTF-8"),
            (vec![bytes(b"-l"), bytes(b"\xff=")], "the value '\u{fffd}=' of -l is not UTF-8"),
        ] {
            let args = ["x".into(), "run".into(), "--file".into(), bytes(b"b\xff")].into_iter().chain(value);
            let error = matches(&definition, &args.collect::<Vec<_>>()).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
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
