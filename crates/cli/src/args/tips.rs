//! What was probably meant by an argument that is not known.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command};

/// What stands before the server's own arguments.
const SERVERS_OWN: &str = "--";
/// Options of pm2, gunicorn and puma, and what they are called here.
const ELSEWHERE: [(&str, &str); 8] = [
    ("-i", "--workers"),
    ("--instances", "--workers"),
    ("--max-memory-restart", "--max-memory"),
    ("--wait-ready", "--ready-when ready"),
    ("--listen-timeout", "--ready-timeout"),
    ("--graceful-timeout", "--timeout"),
    ("-b", "--listen"),
    ("--bind", "--listen"),
];
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

/// What to write instead of an argument that is not known.
#[derive(Debug)]
pub(super) struct Tip {
    pub(super) words: String,
    /// No other option is meant, however similar its name is.
    pub(super) is_sure: bool,
}

/// The tip for a command that starts a server.
pub(super) fn tip(error: &clap::Error, definition: &Command, args: &[OsString]) -> Option<Tip> {
    let unknown = &about(error, ContextKind::InvalidArg)?;
    let command = command_of(definition, args)?;
    command.get_arguments().find(|arg| arg.is_last_set())?;
    let at = place_of(unknown, args)?;
    let sure = |words| Some(Tip { words, is_sure: true });
    if let Some((_, ours)) = ELSEWHERE.iter().find(|(theirs, _)| theirs == unknown) {
        return sure(format!("here that is '{ours}'"));
    }
    if is_nodes(unknown) {
        let typed = args.get(at)?.to_string_lossy();
        return sure(format!("an argument for node itself is written '--node-arg={typed}'"));
    }
    Some(Tip { words: for_the_server(unknown, at, definition, command, args)?, is_sure: false })
}

/// How to write it if the server is to have it.
fn for_the_server(
    unknown: &str,
    at: usize,
    definition: &Command,
    command: &Command,
    args: &[OsString],
) -> Option<String> {
    let is_ours = |arg: &str| is_option_of(command, arg);
    let rest = args.iter().skip(at).map(|arg| arg.to_string_lossy());
    let mut rest: Vec<_> = rest.take_while(|arg| !is_ours(arg)).filter(|arg| arg != SERVERS_OWN).collect();
    let given = definition.clone().ignore_errors(true).try_get_matches_from(args.get(..at)?).ok();
    let server = given.as_ref().and_then(|given| given.subcommand()?.1.get_raw("server")?.next());
    let name = command.get_name();
    let command = if name == "run" { "recluster".to_owned() } else { format!("recluster {name}") };
    let server = server.map(OsStr::to_string_lossy);
    if let Some(program) = server.as_ref().filter(|server| is_a_program_before(server, unknown)) {
        let server = if is_server_file(unknown) { unknown } else { "server.js" };
        let server = quoted(server);
        return Some(format!(
            "there is no file '{program}' here; name the server file itself: {command} {server}"
        ));
    }
    let server = server.or_else(|| {
        let at = rest.iter().position(|arg| is_server_file(arg))?;
        Some(rest.remove(at))
    });
    let server = server.map_or("SERVER".to_owned(), |server| quoted(&server));
    let rest = rest.iter().map(|arg| quoted(arg)).collect::<Vec<_>>().join(" ");
    Some(format!("to pass it to the server, write it behind '--': {command} {server} -- {rest}"))
}

/// The same command line with a negative number as the value of the option before it: clap takes it for an option.
pub(super) fn joined(error: &clap::Error, definition: &Command, args: &[OsString]) -> Option<Vec<OsString>> {
    let unknown =
        about(error, ContextKind::InvalidArg).filter(|_| error.kind() == ErrorKind::UnknownArgument)?;
    unknown.strip_prefix('-')?.chars().next().filter(char::is_ascii_digit)?;
    let at = place_of(&unknown, args)?;
    let before = at.checked_sub(1)?;
    let option = args.get(before)?.to_str().filter(|option| !option.contains('='))?;
    option_of(command_of(definition, args)?, option).filter(|option| option.get_action().takes_values())?;
    let mut joined = args.to_vec();
    let value = joined.remove(at);
    let option = joined.get_mut(before)?;
    option.push("=");
    option.push(value);
    Some(joined)
}

/// Whether this is a program and not the server file, as in `recluster node server.js` and `recluster npm start`.
fn is_a_program_before(server: &str, unknown: &str) -> bool {
    let is_word = |word: &str| !word.starts_with('-') && !word.contains('/');
    is_word(server)
        && !unknown.starts_with('-')
        && Path::new(server).extension().is_none()
        && !Path::new(server).exists()
}

/// Whether an option is one of node's own.
fn is_nodes(option: &str) -> bool {
    NODES.iter().any(|begin| option.starts_with(begin))
}

pub(super) fn command_of<'a>(definition: &'a Command, args: &[OsString]) -> Option<&'a Command> {
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
    option_of(command, arg).is_some()
}

fn option_of<'a>(command: &'a Command, arg: &str) -> Option<&'a Arg> {
    let long = arg.strip_prefix("--").map(|long| long.split('=').next().unwrap_or_default());
    let short = arg.strip_prefix('-').and_then(|rest| rest.chars().next());
    command.get_arguments().find(|known| match long {
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

pub(super) fn about(error: &clap::Error, kind: ContextKind) -> Option<String> {
    let ContextValue::String(text) = error.get(kind)? else { return None };
    Some(text.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_quoted_where_a_shell_needs_it() {
        assert_eq!(["a=b", "", "it's", "a b"].map(quoted), ["a=b", "''", r"'it'\''s'", "'a b'"]);
    }
}
