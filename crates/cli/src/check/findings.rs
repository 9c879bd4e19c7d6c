//! What `check` finds, in the order in which `run` would find it.

use std::path::PathBuf;

use super::node::{Node, Syntax};
use super::place::{self, Place};
use crate::args::Run;
use crate::config::Settings;
use crate::describe::describe;
use crate::error::Error;
use crate::exit_code::ExitStatus;
use crate::name::Name;
use crate::pidfile::{Pidfile, PidfileError};

/// What was found.
#[derive(Debug)]
pub(super) struct Findings<'a> {
    pub(super) run: &'a Run,
    pub(super) settings: &'a Settings,
    pub(super) name: Name,
    /// Where the control socket would be.
    pub(super) control: Option<PathBuf>,
    /// A cluster of that name, or with that socket, runs already.
    pub(super) is_running: bool,
    /// The server file, resolved.
    pub(super) server: Option<PathBuf>,
    pub(super) node: Option<Node>,
    /// What is worth knowing, and no reason not to start.
    pub(super) notes: Vec<String>,
    /// Why `run` would not start, in the order in which it would find out.
    pub(super) problems: Vec<Error>,
}

impl<'a> Findings<'a> {
    pub(super) fn of(run: &'a Run, settings: &'a Settings) -> Self {
        let name = run.around.name.clone().unwrap_or_else(|| Name::of_server(&run.server));
        let (control, is_running, server, node) = (None, false, None, None);
        Self {
            run,
            settings,
            name,
            control,
            is_running,
            server,
            node,
            notes: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// The control socket and the files.
    pub(super) async fn look_around(&mut self) {
        let around = &self.run.around;
        self.control = place::control(around.control.as_ref(), &self.name);
        if let Some(path) = &self.control {
            match place::look(path).await {
                Ok(Place::Free) => {}
                Ok(Place::Alive) => self.is_running = true,
                Err(error) => self.problems.push(error.into()),
            }
        }
        if self.is_running {
            self.notes.push(format!("the cluster {} is running: that is the one to reload", self.name));
            // The pidfile is that cluster's.
            return;
        }
        let pidfile = around.pidfile.as_deref().map(|path| {
            let writable = place::look_at_file(path);
            Pidfile::check(path)?;
            writable.map_err(|source| PidfileError::System { path: path.to_owned(), source })
        });
        let log_file = around.log_file.as_deref().map(|path| {
            place::look_at_file(path).map_err(|source| Error::Log { path: Some(path.to_owned()), source })
        });
        let problems = [pidfile.map(|looked| looked.map_err(Error::from)), log_file];
        self.problems.extend(problems.into_iter().flatten().filter_map(Result::err));
    }

    /// Whether the options agree; the server file, and node.
    pub(super) async fn look_at_cluster(&mut self) {
        let program = match describe(self.run).check() {
            Ok(program) => program,
            Err(error) => return self.problems.push(error.into()),
        };
        self.server = Some(program.server.clone());
        let Some(binary) = program.node else { return };
        let node = Node::ask(binary, self.run).await;
        if node.version.is_none() {
            self.notes.push(format!("{} does not say its version", node.binary.display()));
        }
        match node.syntax(&program.server, self.run).await {
            Syntax::Right => {}
            Syntax::Wrong(reason) => self.problems.push(Error::Syntax { reason }),
            Syntax::Unknown(why) => {
                self.notes.push(format!("the server file's syntax was not checked: {why}"));
            }
        }
        self.node = Some(node);
    }

    /// As that of `run`, which would have stopped at the first problem.
    pub(super) fn exit_status(&self) -> ExitStatus {
        self.problems.first().map_or(ExitStatus::Success, Error::exit_status)
    }
}
