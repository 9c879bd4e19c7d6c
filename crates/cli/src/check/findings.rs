//! What `check` finds, in the order in which `run` would find it.

use std::path::PathBuf;

use recluster::admin::Admin;
use recluster::{Checked, StartError};

use super::hooks;
use super::node::{Node, Syntax};
use crate::args::Run;
use crate::claim::{Standing, Wanted};
use crate::config::Settings;
use crate::describe::{describe, with_inherited};
use crate::error::Error;
use crate::exit_code::ExitStatus;
use crate::inherited::Inherited;
use crate::log::Journal;
use crate::pidfile::Pidfile;

/// What was found.
#[derive(Debug)]
pub(super) struct Findings<'a> {
    pub(super) run: &'a Run,
    pub(super) settings: &'a Settings,
    /// The name, and where the control socket would be.
    pub(super) wanted: Wanted,
    /// A cluster of that name, or with that socket, runs already.
    pub(super) is_running: bool,
    /// The server file, resolved.
    pub(super) server: Option<PathBuf>,
    pub(super) runs: Option<Runs>,
    pub(super) node: Option<Node>,
    /// What is worth knowing, and no reason not to start.
    pub(super) notes: Vec<String>,
    /// Why `run` would not start, in the order in which it would find out.
    pub(super) problems: Vec<Error>,
}

/// How the server file is run.
#[derive(Debug)]
pub(super) struct Runs {
    /// In words, with the reason.
    pub(super) how: String,
    /// What it runs under, if it is not run as it is.
    pub(super) under: Option<&'static str>,
}

impl<'a> Findings<'a> {
    pub(super) fn of(run: &'a Run, settings: &'a Settings) -> Self {
        Self {
            run,
            settings,
            wanted: Wanted::by(run),
            is_running: false,
            server: None,
            runs: None,
            node: None,
            notes: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// The name, the control socket and the files.
    pub(super) fn look_around(&mut self) {
        match self.wanted.check() {
            Ok(Standing::Free) => {}
            Ok(Standing::Nowhere) => {
                self.wanted.control = None;
                self.notes.push("no directory can be written to, so there is no control socket".to_owned());
            }
            Ok(Standing::Running) => {
                let name = &self.wanted.name;
                self.notes.push(format!("the cluster {name} is running: that is the one to reload"));
                self.is_running = true;
                // The pidfile and the addresses are that cluster's.
                return;
            }
            Err(error) => self.problems.push(error),
        }
        let around = &self.run.around;
        let pidfile = around.pidfile.as_deref().map_or(Ok(()), Pidfile::check).map_err(Error::from);
        let files = [pidfile, Journal::check(around)];
        self.problems.extend(files.into_iter().filter_map(Result::err));
    }

    /// The commands that are run when something happens.
    pub(super) async fn look_at_hooks(&mut self) {
        for hook in &self.run.around.on {
            self.notes.extend(hooks::look_at(hook).await);
        }
    }

    /// The admin listener, unless it is that of the cluster that runs.
    async fn look_at_admin(&mut self) {
        if let Some(options) = self.run.admin.options().filter(|_| !self.is_running) {
            self.problems.extend(Admin::check(&options).await.err().map(Error::from));
        }
    }

    /// Whether the options agree; the addresses, the server file, and node.
    pub(super) async fn look_at_cluster(&mut self, inherited: Inherited) {
        self.look_at_admin().await;
        let addresses = match with_inherited(describe(self.run), inherited) {
            Ok(addresses) => addresses,
            Err(error) => return self.problems.push(error),
        };
        // What is wrong with the server file does not hide what is wrong with an address, nor the other way round.
        let program = match describe(self.run).check() {
            Ok(program) => Some(program),
            Err(error @ StartError::Program(_)) => {
                self.problems.push(error.into());
                None
            }
            Err(error) => return self.problems.push(error.into()),
        };
        if !self.is_running {
            self.problems.extend(addresses.check_addresses().await.err().map(Error::from));
        }
        if let Some(program) = program {
            self.look_at_program(program).await;
        }
    }

    async fn look_at_program(&mut self, program: Checked) {
        self.server = Some(program.server.clone());
        self.runs = Some(Runs { how: program.how, under: program.under });
        self.notes.extend(program.caveats);
        let Some(binary) = program.node else { return };
        let node = Node::ask(binary, self.run).await;
        if node.version.is_none() {
            self.notes.push(format!("{} does not say its version", node.binary.display()));
        }
        self.notes.extend(node.is_too_old());
        if let Some(version) = node.cannot_run(&program.server, &program.node_args, self.run) {
            self.problems.push(Error::TypeScript { version });
            self.node = Some(node);
            return;
        }
        match node.syntax(&program.server, &program.node_args, self.run).await {
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
