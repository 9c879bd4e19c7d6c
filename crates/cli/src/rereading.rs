//! With which settings a cluster runs, and what the config file says of it by now.

use recluster::ClusterBuilder;
use recluster::configuration::Configuration;
use recluster::control::Socket;
use tokio::sync::mpsc;

use crate::config::{CommandLine, Reread, Settings, changes_at_reload};
use crate::describe::describe;
use crate::log::Note;
use crate::name::Name;

/// A cluster that says with which settings it runs, and reads the config file again.
pub(crate) fn configured(
    builder: ClusterBuilder,
    line: CommandLine,
    settings: Settings,
    place: Place,
    notes: mpsc::UnboundedSender<Note>,
) -> ClusterBuilder {
    builder
        .configuration(place.add_to(settings.told()))
        .configuration_now(look(line.clone(), place.clone()))
        .reread(reread(line, settings, place, notes))
}

/// Reads the config file again when a reload begins, and logs which settings change now and which need a restart.
fn reread(
    line: CommandLine,
    running: Settings,
    place: Place,
    notes: mpsc::UnboundedSender<Note>,
) -> impl FnMut() -> Result<ClusterBuilder, String> + Send {
    move || {
        let Reread { run, settings, changed } = line.reread(&running).map_err(|error| error.to_string())?;
        let in_force = place.add_to(settings.told_in_force(&running));
        let (changed, needs_restart): (Vec<_>, Vec<_>) =
            changed.into_iter().partition(|key| changes_at_reload(key));
        if !(changed.is_empty() && needs_restart.is_empty()) {
            // The log is gone only when the cluster is over.
            let _ = notes.send(Note::Configured { changed, needs_restart: needs_restart.clone() });
        }
        Ok(describe(&run).needs_restart(needs_restart).configuration(in_force))
    }
}

/// What the config file, the command line and the environment say now, for whoever asks how that differs.
fn look(line: CommandLine, place: Place) -> impl Fn() -> Result<Configuration, String> + Send + Sync {
    move || {
        let said = line.read().map_err(|error| error.to_string())?;
        Ok(place.add_to(said.settings.told()))
    }
}

/// Where the cluster is found, which nobody needs to say.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    name: String,
    control: String,
}

impl Place {
    pub(crate) fn new(name: &Name, socket: Option<&Socket>) -> Self {
        let control = socket.map_or("none".to_owned(), |socket| socket.path().display().to_string());
        Self { name: name.to_string(), control }
    }

    fn add_to(&self, mut said: Configuration) -> Configuration {
        said.work_out("name", &self.name);
        said.work_out("control", &self.control);
        said
    }
}
