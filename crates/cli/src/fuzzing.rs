//! Decoders of the command for the fuzz targets of the repository (`fuzz/`), which are outside of this crate since libFuzzer builds
//! them in its own way. Nothing else may use it: it is no part of the interface and changes without notice.

use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use recluster::{MemoryLimit, Scale};

use crate::args::scale as workers;
use crate::config::contents::Contents;
use crate::config::file::File;
use crate::config::keys::{ENV, Keys, is_switch, key_of};
use crate::name::Name;
use crate::{duration as durations, paint, size};

/// Where the config file is that is not there.
const PLACE: &str = "/srv/recluster.toml";
/// They take long to make.
static KEYS: LazyLock<Keys> = LazyLock::new(Keys::of_run);

/// A key of the config file and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "tests write them")]
pub struct Key {
    /// Its name, behind that of its table if it is in one.
    pub path: Vec<String>,
    /// The texts that it gives.
    pub values: Vec<String>,
    /// It is true or false.
    pub is_switch: bool,
}

/// What a config file says, or what is wrong with it.
pub fn config(text: &str) -> Result<Vec<Key>, String> {
    let place = PathBuf::from(PLACE);
    let file = File { path: place.clone(), shown: place, text: text.to_owned() };
    let Contents { options, env } = Contents::of(&file, &KEYS).map_err(|error| error.to_string())?;
    let options = options.into_iter().map(|given| Key {
        path: vec![key_of(&given.arg).to_owned()],
        values: given.values.iter().map(|value| value.to_string_lossy().into_owned()).collect(),
        is_switch: is_switch(&given.arg),
    });
    let variables = env.into_iter().map(|variable| Key {
        path: vec![ENV.to_owned(), variable.name],
        values: vec![variable.value],
        is_switch: false,
    });
    Ok(options.chain(variables).collect())
}

/// A text as it is shown to people.
pub fn printable(text: &str) -> String {
    paint::printable(text)
}

/// A duration.
pub fn duration(text: &str) -> Option<Duration> {
    durations::parse(text).ok()
}

/// How much memory a worker may use, in bytes, where it is no share.
pub fn memory(text: &str) -> Option<u64> {
    match size::of_worker(text) {
        Ok(MemoryLimit::Bytes(bytes)) => Some(bytes),
        _ => None,
    }
}

/// The name of a cluster.
pub fn cluster_name(text: &str) -> Option<String> {
    text.parse::<Name>().ok().map(|name| name.to_string())
}

/// How many workers there are to be, or how many more or fewer, as one writes it.
pub fn scale(text: &str) -> Option<String> {
    workers(text).ok().map(|scale| match scale {
        Scale::To(workers) => workers.to_string(),
        Scale::By(workers) => format!("{workers:+}"),
    })
}
