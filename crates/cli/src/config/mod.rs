//! The config file: the options of `run` by their long names, for what neither the command line nor the environment says.
//!
//! An option is defined once, as an argument of `run` (in `args`). A key of the file is the option of that name, and what
//! it says is put on the command line as if it had been typed there. So every option of `run`, new
//! ones included, can be written in the file, is parsed by the same rules and refused with the same words.

pub(crate) mod contents;
mod error;
pub(crate) mod file;
pub(crate) mod keys;
mod place;
mod settings;

use std::collections::BTreeMap;
use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use clap::ArgMatches;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use recluster::logical_directory;
use serde::{Deserialize, Serialize};

use self::contents::{Contents, Given};
pub(crate) use self::error::Error;
use self::file::File;
use self::keys::{CONFIG, Keys, SERVER, SERVERS_OWN};
pub(crate) use self::settings::{Origin, Setting, Settings, changes_at_reload};
use crate::args::{self, Command, Run, WatchAt};

/// Where the options of `run` begin: behind the program's name and the command.
const FIRST_OPTION: usize = 2;

/// What is to be done.
#[derive(Debug)]
pub(crate) struct Invocation {
    pub(crate) command: Command,
    /// The settings of the cluster that is to be started, each with its origin. Empty where none is started.
    pub(crate) settings: Settings,
    /// What was said of it.
    pub(crate) said: Said,
}

/// All that the command line and the config file say of a cluster, for a program that goes on with it whatever they say by then. Empty
/// where none is started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Said {
    /// The command line, with what the file adds to it: text, and where there is none, bytes.
    words: Vec<Word>,
    /// The variables of the file.
    env: BTreeMap<String, String>,
}

/// What the system calls a word or a path: text, and where there is none, bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Word {
    Text(String),
    Bytes(Vec<u8>),
}

impl From<&OsStr> for Word {
    fn from(word: &OsStr) -> Self {
        word.to_str()
            .map_or_else(|| Self::Bytes(word.as_bytes().to_owned()), |text| Self::Text(text.to_owned()))
    }
}

impl From<&Word> for OsString {
    fn from(word: &Word) -> Self {
        match word {
            Word::Text(text) => text.into(),
            Word::Bytes(bytes) => Self::from_vec(bytes.clone()),
        }
    }
}

impl Said {
    pub(crate) fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// The same again. The file is not looked at.
    pub(crate) fn read(&self) -> Result<Invocation, Error> {
        let matches = parse(&self.words.iter().map(OsString::from).collect::<Vec<_>>())?;
        let mut command = args::typed(&matches)?;
        let mut settings = Settings::default();
        if let (Some(run), Some((_, matches))) = (command.run_mut(), matches.subcommand()) {
            settings = Settings::new(None, &Keys::of_run(), matches, &[], &[]);
            settings.have_defaults(args::development::defaults(run));
            run.env = self.env.clone();
        }
        Ok(Invocation { command, settings, said: self.clone() })
    }
}

/// What a cluster is to be now.
#[derive(Debug)]
pub(crate) struct Reread {
    pub(crate) run: Run,
    pub(crate) settings: Settings,
    /// The keys whose values differ from those at the start; [`changes_at_reload`] says which of them a reload changes.
    pub(crate) changed: Vec<String>,
}

/// What this process was started with: its arguments and, as their defaults, its environment. With the file, which may
/// change, they make an [`Invocation`].
#[derive(Clone, Debug)]
pub(crate) struct CommandLine {
    args: Vec<OsString>,
    /// The working directory.
    directory: PathBuf,
    given: ArgMatches,
    /// What the cluster watches that was started by it.
    watches: Option<Vec<WatchAt>>,
}

impl CommandLine {
    /// The command line of this process. Ends the process where it asks for help, or is wrong: status 2.
    pub(crate) fn of_process() -> Self {
        Self::new(env::args_os().collect(), logical_directory()).unwrap_or_else(|error| error.exit())
    }

    /// A command line with this working directory.
    pub(crate) fn new(args: Vec<OsString>, directory: PathBuf) -> Result<Self, clap::Error> {
        let args = args::with_command(args);
        let given = match args::matches(&args) {
            // What is missing here may be in the file.
            Err(error) if error.kind() == ErrorKind::MissingRequiredArgument => {
                args::definition().ignore_errors(true).try_get_matches_from(&args)
            }
            read => read,
        }?;
        Ok(Self { args, directory, given, watches: None })
    }

    /// The same once a cluster was started so: what that watches, and what follows from it, needs a restart.
    pub(crate) fn started(self, run: &Run) -> Self {
        Self { watches: Some(run.following.watch.clone()), ..self }
    }

    /// What was typed behind the command.
    pub(crate) fn words(&self) -> &[OsString] {
        self.args.get(FIRST_OPTION..).unwrap_or_default()
    }

    /// The working directory, by the name that it was entered by.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether the answer is to be JSON.
    pub(crate) fn wants_json(&self) -> bool {
        let given = self.given.subcommand().map(|(_, given)| given);
        given.is_some_and(|given| matches!(given.try_get_one("json"), Ok(Some(true))))
    }

    /// Says what to do, by the command line, the environment and, for a command that has one, the file as it is now.
    pub(crate) fn read(&self) -> Result<Invocation, Error> {
        match self.given.subcommand() {
            Some((_, given)) if given.try_contains_id(CONFIG).is_ok() => self.read_with_file(given),
            Some(_) | None => {
                let command = args::typed(&parse(&self.args)?)?;
                Ok(Invocation { command, settings: Settings::default(), said: Said::default() })
            }
        }
    }

    /// Reads the file again, for a cluster that was started with these settings.
    pub(crate) fn reread(&self, running: &Settings) -> Result<Reread, Error> {
        let Invocation { command, settings, .. } = self.read()?;
        let run = command.into_run().ok_or(Error::NotACluster)?;
        let changed = settings.changed_since(running);
        Ok(Reread { run, settings, changed })
    }

    fn read_with_file(&self, given: &ArgMatches) -> Result<Invocation, Error> {
        let keys = Keys::of_run();
        let file = File::find(given, &self.directory)?;
        let contents = file.as_ref().map(|file| Contents::of(file, &keys)).transpose()?.unwrap_or_default();
        if let Some(file) = file.as_ref().filter(|_| !is_given(given, SERVER) && !contents.has(SERVER)) {
            return Err(Error::NoServer { path: file.shown.clone() });
        }
        let Contents { options, env } = contents;
        let used: Vec<Given> =
            options.into_iter().filter(|option| !self.overrules(given, option, &keys)).collect();
        let words = self.with(&used);
        let matches = parse(&words)?;
        let mut command = args::typed_for(&matches, self.watches.as_deref())?;
        let mut settings = Settings::default();
        let mut said =
            Said { words: words.iter().map(|word| word.as_os_str().into()).collect(), env: BTreeMap::new() };
        if let (Some(run), Some((_, matches))) = (command.run_mut(), matches.subcommand()) {
            settings = Settings::new(file.map(|file| file.path), &keys, matches, &used, &env);
            settings.have_defaults(args::development::defaults(run));
            run.env =
                env.into_iter().map(|variable| (variable.name, variable.value)).collect::<BTreeMap<_, _>>();
            said.env = run.env.clone();
        }
        Ok(Invocation { command, settings, said })
    }

    /// Whether the command line or the environment says this, or something that rules it out.
    fn overrules(&self, given: &ArgMatches, option: &Given, keys: &Keys) -> bool {
        let is_for_server = option.arg.is_last_set() && self.args.iter().any(|arg| arg == SERVERS_OWN);
        let mut ruled_out_by = keys.args().filter(|arg| keys.contradict(arg, &option.arg));
        is_for_server
            || is_given(given, option.arg.get_id().as_str())
            || ruled_out_by.any(|arg| is_given(given, arg.get_id().as_str()))
    }

    /// The command line with what the file adds to it.
    fn with(&self, used: &[Given]) -> Vec<OsString> {
        let mut args = self.args.clone();
        let (for_server, ours): (Vec<_>, Vec<_>) = used.iter().partition(|option| option.arg.is_last_set());
        let ours = ours.into_iter().flat_map(Given::as_typed);
        args.splice(FIRST_OPTION..FIRST_OPTION, ours.collect::<Vec<_>>());
        if !for_server.is_empty() {
            args.push(SERVERS_OWN.into());
            args.extend(for_server.into_iter().flat_map(Given::as_typed));
        }
        args
    }
}

fn parse(args: &[OsString]) -> Result<ArgMatches, Error> {
    Ok(args::matches(args)?)
}

/// Whether the command line or the environment says something about this.
fn is_given(given: &ArgMatches, id: &str) -> bool {
    matches!(given.value_source(id), Some(ValueSource::CommandLine | ValueSource::EnvVariable))
}

#[cfg(test)]
mod tests;
