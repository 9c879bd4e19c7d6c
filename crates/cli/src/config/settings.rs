//! The settings of a cluster with their origins: what `check` shows, and what tells the changes of a changed file.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches};
use recluster::Hook;
use recluster::configuration::{self, Configuration};

use super::contents::{Given, Variable};
use super::keys::{ENV, Keys, key_of};
use super::place::Place;

/// The settings that are the master's own for as long as it lives. A reload changes every other one.
const NEEDS_A_RESTART: [&str; 27] = [
    "admin",
    "admin-host",
    "admin-token-file",
    "after-panic",
    "balance",
    "clear-screen",
    "control",
    "listen",
    "log-file",
    "log-format",
    "log-prefix",
    "name",
    "peek-bytes",
    "peek-connections",
    "peek-timeout",
    "pidfile",
    "quiet",
    "raw-stdio",
    "reload-on",
    "stderr",
    "sticky-by",
    "subreaper",
    "verbose",
    "watch",
    "worker-log",
    "worker-log-keep",
    "worker-log-size",
];

/// The option that takes hooks.
const HOOKS: &str = "on";

/// Whether a reload changes this setting.
pub(crate) fn changes_at_reload(key: &str) -> bool {
    !NEEDS_A_RESTART.contains(&key)
}

/// All settings, in the order of the help.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    /// The config file, if there is one.
    pub(crate) file: Option<PathBuf>,
    pub(crate) list: Vec<Setting>,
}

/// One setting.
#[derive(Debug)]
pub(crate) struct Setting {
    /// What it is called: an option's long name, or `env.NAME`.
    pub(crate) key: String,
    /// As it was written. Of a list there may be several, or none.
    pub(crate) values: Vec<OsString>,
    pub(crate) origin: Origin,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    CommandLine,
    /// The variable of this name.
    Environment(String),
    File(Place),
    /// The default. Where that is not a value, these are the words of the help.
    Default(Option<String>),
}

impl Settings {
    pub(super) fn new(
        file: Option<PathBuf>,
        keys: &Keys,
        matches: &ArgMatches,
        from_file: &[Given],
        env: &[Variable],
    ) -> Self {
        let options = keys.args().map(|arg| {
            let values = matches.get_raw(arg.get_id().as_str()).into_iter().flatten();
            let given = from_file.iter().find(|given| given.arg.get_id() == arg.get_id());
            let origin = match given {
                Some(given) => Origin::File(given.place.clone()),
                None => Origin::outside_of_file(arg, keys, matches),
            };
            Setting { key: key_of(arg).to_owned(), values: values.map(OsString::from).collect(), origin }
        });
        let variables = env.iter().map(|variable| Setting {
            key: format!("{ENV}.{}", variable.name),
            values: vec![variable.value.clone().into()],
            origin: Origin::File(variable.place.clone()),
        });
        Self { file, list: options.chain(variables).collect() }
    }

    /// Says what is in force of these options where nobody has said anything.
    pub(super) fn have_defaults(&mut self, defaults: Vec<(&str, String)>) {
        for (key, value) in defaults {
            let unsaid =
                |setting: &&mut Setting| setting.key == key && matches!(setting.origin, Origin::Default(_));
            if let Some(setting) = self.list.iter_mut().find(unsaid) {
                (setting.values, setting.origin) = (vec![value.into()], Origin::Default(None));
            }
        }
    }

    /// What clients of the cluster are told, without secrets.
    pub(crate) fn told(&self) -> Configuration {
        let file = self.file.as_ref().map(|path| path.display().to_string());
        Configuration::new(file, self.list.iter().map(Setting::told).collect())
    }

    /// What is in force when a reload takes these over in a cluster that was started with others.
    pub(crate) fn told_in_force(&self, started_with: &Self) -> Configuration {
        let of_start = |key: &str| started_with.list.iter().find(|old| old.key == key);
        let in_force = self.list.iter().map(|new| match of_start(&new.key) {
            Some(old) if !changes_at_reload(&new.key) => old.told(),
            Some(_) | None => new.told(),
        });
        Configuration::new(self.told().file, in_force.collect())
    }

    /// The keys whose values differ from these, whatever their origin.
    pub(super) fn changed_since(&self, old: &Self) -> Vec<String> {
        let is_new = |setting: &&Setting| old.values(&setting.key) != Some(&setting.values);
        let is_gone = |setting: &&Setting| self.values(&setting.key).is_none();
        let changed = self.list.iter().filter(is_new).chain(old.list.iter().filter(is_gone));
        changed.map(|setting| setting.key.clone()).collect()
    }

    fn values(&self, key: &str) -> Option<&Vec<OsString>> {
        self.list.iter().find(|setting| setting.key == key).map(|setting| &setting.values)
    }
}

impl Setting {
    /// As clients of the cluster are told: no variable's value, and of a hook what its failure would show in the log.
    fn told(&self) -> configuration::Setting {
        let values = self.values.iter().map(|value| value.to_string_lossy().into_owned()).collect();
        let origin = match &self.origin {
            Origin::CommandLine => configuration::Origin::CommandLine,
            Origin::Environment(name) => configuration::Origin::Environment { variable: name.clone() },
            Origin::File(place) => {
                configuration::Origin::File { path: place.path.display().to_string(), line: place.line }
            }
            Origin::Default(words) => configuration::Origin::Default { words: words.clone() },
        };
        let told = configuration::Setting::new(&self.key, values, origin, changes_at_reload(&self.key));
        match self.key.as_str() {
            _ if self.is_private() => told.shown_as(None),
            HOOKS => {
                told.shown_as(Some(self.values.iter().map(|value| label(&value.to_string_lossy())).collect()))
            }
            _ => told,
        }
    }

    /// Whether it may hold a secret, as variables do.
    pub(crate) fn is_private(&self) -> bool {
        self.key.strip_prefix(ENV).is_some_and(|rest| rest.starts_with('.'))
    }
}

impl Origin {
    fn outside_of_file(arg: &Arg, keys: &Keys, matches: &ArgMatches) -> Self {
        match matches.value_source(arg.get_id().as_str()) {
            Some(ValueSource::CommandLine) => Self::CommandLine,
            Some(ValueSource::EnvVariable) => {
                Self::Environment(keys.variable(arg).unwrap_or_default().to_owned())
            }
            Some(_) => Self::Default(None),
            None => Self::Default(default_in_words(arg)),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CommandLine => write!(f, "command line"),
            Self::Environment(name) => write!(f, "{name}"),
            Self::File(place) => write!(f, "{}:{}", place.path.display(), place.line),
            Self::Default(_) => write!(f, "default"),
        }
    }
}

/// A hook without what may be secret.
fn label(hook: &str) -> String {
    hook.parse::<Hook>().map(|hook| format!("{}={}", hook.on().name(), hook.label())).unwrap_or_default()
}

/// What the help says of a default that is not simply a value.
fn default_in_words(arg: &Arg) -> Option<String> {
    let help = arg.get_help()?.to_string();
    let (_, default) = help.split_once("[default: ")?;
    default.split_once(']').map(|(default, _)| default.to_owned())
}
