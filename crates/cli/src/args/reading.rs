//! Reading the command line with its variables, and saying what was probably meant where something is wrong.

use std::ffi::{OsStr, OsString};

use clap::builder::{Resettable, StyledStr};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgMatches, Command};

/// What stands before the server's own arguments.
const SERVERS_OWN: &str = "--";
/// How node's own options begin that people write where ours stand.
const NODES: [&str; 17] = [
    "-r",
    "--conditions",
    "--cpu-prof",
    "--enable-source-maps",
    "--experimental-",
    "--expose-gc",
    "--heap",
    "--import",
    "--inspect",
    "--loader",
    "--max-",
    "--no-deprecation",
    "--no-warnings",
    "--openssl-",
    "--require",
    "--stack-",
    "--trace-",
];

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
    let mut definition = definition.clone();
    definition.try_get_matches_from_mut(args).map_err(|error| explained(error, &definition, args))
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
            let unknown = about(&error, ContextKind::InvalidArg).unwrap_or_default();
            if let Some(tip) = tip(&unknown, definition, args) {
                let tips = vec![StyledStr::from(tip)];
                error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tips));
                // That an option of ours sounds similar is said of those that are nobody's.
                if is_nodes(&unknown)
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

fn about(error: &clap::Error, kind: ContextKind) -> Option<String> {
    let ContextValue::String(text) = error.get(kind)? else { return None };
    Some(text.clone())
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

/// What to write instead of an argument that is not known, for a command that starts a server.
fn tip(unknown: &str, definition: &Command, args: &[OsString]) -> Option<String> {
    let command = command_of(definition, args)?;
    command.get_arguments().find(|arg| arg.is_last_set())?;
    let name = command.get_name();
    let at = place_of(unknown, args)?;
    if is_nodes(unknown) {
        let typed = args.get(at)?.to_string_lossy();
        return Some(format!("an argument for node itself is written '--node-arg={typed}'"));
    }
    let is_ours = |arg: &str| is_option_of(command, arg);
    let rest = args.iter().skip(at).map(|arg| arg.to_string_lossy());
    let mut rest: Vec<_> = rest.take_while(|arg| !is_ours(arg)).filter(|arg| arg != SERVERS_OWN).collect();
    let given = definition.clone().ignore_errors(true).try_get_matches_from(args.get(..at)?).ok();
    let server = given.as_ref().and_then(|given| given.subcommand()?.1.get_raw("server")?.next());
    let server = server.map(OsStr::to_string_lossy).or_else(|| {
        let at = rest.iter().position(|arg| is_server_file(arg))?;
        Some(rest.remove(at))
    });
    let server = server.map_or("SERVER".to_owned(), |server| quoted(&server));
    let rest = rest.iter().map(|arg| quoted(arg)).collect::<Vec<_>>().join(" ");
    let command = if name == "run" { String::new() } else { format!(" {name}") };
    Some(format!("to pass it to the server, write it behind '--': recluster{command} {server} -- {rest}"))
}

/// Whether an option is one of node's own.
fn is_nodes(option: &str) -> bool {
    NODES.iter().any(|begin| option.starts_with(begin))
}

fn command_of<'a>(definition: &'a Command, args: &[OsString]) -> Option<&'a Command> {
    args.get(1).and_then(|name| definition.find_subcommand(name))
}

/// Where an unknown argument stands.
fn place_of(unknown: &str, args: &[OsString]) -> Option<usize> {
    let is_it = |arg: &OsString| {
        let arg = arg.to_string_lossy();
        let rest = arg.strip_prefix(unknown);
        let is_short = !unknown.starts_with("--");
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('=') || is_short)
    };
    // Of two equal words the last one is too much; of two equal options the first is found first.
    if unknown.starts_with('-') { args.iter().position(is_it) } else { args.iter().rposition(is_it) }
}

fn is_option_of(command: &Command, arg: &str) -> bool {
    let long = arg.strip_prefix("--").map(|long| long.split('=').next().unwrap_or_default());
    let short = arg.strip_prefix('-').and_then(|rest| rest.chars().next());
    command.get_arguments().any(|known| match long {
        Some(long) => known.get_long() == Some(long),
        None => short.is_some() && known.get_short() == short,
    })
}

/// Whether a word looks like the server file: that may stand behind the argument that is not known.
fn is_server_file(arg: &str) -> bool {
    !arg.starts_with('-')
        && [".js", ".cjs", ".mjs", ".ts", ".cts", ".mts"].iter().any(|end| arg.ends_with(end))
}

/// An argument as it is written in a shell.
fn quoted(arg: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./:=@%+,".contains(c);
    if !arg.is_empty() && arg.chars().all(is_plain) {
        arg.to_owned()
    } else {
        format!("'{}'", arg.replace('\'', "'\\''"))
    }
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

    #[test]
    fn arguments_are_quoted_where_a_shell_needs_it() {
        assert_eq!(["a=b", "", "it's", "a b"].map(quoted), ["a=b", "''", r"'it'\''s'", "'a b'"]);
    }
}
