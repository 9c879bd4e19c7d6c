//! How a test says which cluster it wants.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use command_fds::{CommandFdExt, FdMapping};

use crate::command::{Finished, Running};
use crate::home::Home;
use crate::master::Master;
use crate::node::Node;
use crate::{command, fixture};

/// The options that say when the master gives up on something.
const PATIENCE: [&str; 5] =
    ["--ready-timeout", "--timeout", "--stop-timeout", "--exit-grace", "--kill-timeout"];

/// A cluster that is about to be started: `recluster run` with its options and environment.
///
/// Two workers under the Node under test, everything logged as JSON, short spans for the bake and the respawns, so that
/// no test waits for them, and an hour for everything that the master gives up on, so that a slow machine changes
/// nothing: an option that is set again replaces these.
#[derive(Debug)]
pub struct Launch {
    server: PathBuf,
    home: Home,
    directory: Option<PathBuf>,
    options: BTreeMap<&'static str, Option<String>>,
    node_args: Vec<String>,
    args: Vec<OsString>,
    env: Vec<(String, OsString)>,
    unset: Vec<&'static str>,
    sockets: Vec<OwnedFd>,
    listens: Vec<String>,
    hooks: Vec<String>,
    discoverable: bool,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    starter: Option<PathBuf>,
    program: Option<PathBuf>,
}

impl Launch {
    /// A cluster of one of the files in `fixtures/`.
    pub fn fixture(name: &str) -> Self {
        Self::of(fixture(name))
    }

    /// A cluster of any server file.
    pub fn of(server: impl Into<PathBuf>) -> Self {
        let launch = Self {
            server: server.into(),
            home: Home::new(),
            directory: None,
            options: BTreeMap::new(),
            node_args: Vec::new(),
            args: Vec::new(),
            env: Vec::new(),
            unset: Vec::new(),
            sockets: Vec::new(),
            listens: Vec::new(),
            hooks: Vec::new(),
            discoverable: false,
            stdout: None,
            stderr: None,
            starter: None,
            program: None,
        };
        launch
            .workers(2)
            .option("--bake", "200ms")
            .option("--respawn", "100ms")
            .option("--log-format", "json")
            .option("--node", &Node::under_test().path)
            .flag("-v")
            .patient()
    }

    fn patient(self) -> Self {
        PATIENCE.into_iter().fold(self, |launch, name| launch.option(name, "1h"))
    }

    /// Leaves all times that the master gives up after as they are for its users.
    #[must_use]
    pub fn impatient(self) -> Self {
        PATIENCE.into_iter().fold(self, Self::without)
    }

    /// The directory that control sockets and files go to; several masters may share one.
    #[must_use]
    pub fn home(mut self, home: &Home) -> Self {
        self.home = home.clone();
        self
    }

    /// A config file in the cluster's directory, which a reload reads again: a time that is short only from then on does
    /// not run out during the start. The harness's own options of these names are taken back.
    #[must_use]
    pub fn config(mut self, text: &str) -> Self {
        for line in text.lines() {
            let name = line.split('=').next().unwrap_or_default().trim();
            self.options.retain(|option, _| option.strip_prefix("--") != Some(name));
        }
        let path = self.home.configure(text);
        self.option("--config", &path.to_string_lossy())
    }

    /// Another server file.
    #[must_use]
    pub fn server(mut self, server: impl Into<PathBuf>) -> Self {
        self.server = server.into();
        self
    }

    /// How many slots.
    #[must_use]
    pub fn workers(self, workers: u32) -> Self {
        self.option("--workers", &workers.to_string())
    }

    /// The master accepts, and hands connections over.
    #[must_use]
    pub fn handing_over(self) -> Self {
        self.option("--balance", "round-robin")
    }

    /// With an admin listener at a port of the kernel's choice ([`Master::admin`](crate::Master::admin)).
    #[must_use]
    pub fn with_admin(self) -> Self {
        self.option("--admin", "127.0.0.1:0")
    }

    /// An option with its value.
    #[must_use]
    pub fn option(mut self, name: &'static str, value: &str) -> Self {
        if name == "--ready-check" {
            // Said without a check it is refused.
            self.options.entry("--check-timeout").or_insert_with(|| Some("1h".to_owned()));
        }
        self.options.insert(name, Some(value.to_owned()));
        self
    }

    /// One more thing that is done when something happens.
    #[must_use]
    pub fn hook(mut self, hook: &str) -> Self {
        self.hooks.push(hook.to_owned());
        self
    }

    /// An option without a value.
    #[must_use]
    pub fn flag(mut self, name: &'static str) -> Self {
        self.options.insert(name, None);
        self
    }

    /// Takes an option back, one of the harness's own for instance.
    #[must_use]
    pub fn without(mut self, name: &'static str) -> Self {
        self.options.remove(name);
        self
    }

    /// One argument for node itself.
    #[must_use]
    pub fn node_arg(mut self, arg: &str) -> Self {
        self.node_args.push(arg.to_owned());
        self
    }

    /// One argument for the server.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// One more address for the master to listen on.
    #[must_use]
    pub fn listen(mut self, address: &str) -> Self {
        self.listens.push(address.to_owned());
        self
    }

    /// A variable of the master's environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// A variable that the master does not have.
    #[must_use]
    pub fn unset(mut self, name: &'static str) -> Self {
        self.unset.push(name);
        self
    }

    /// A socket that the master is started with, as a service manager does it: the first one is descriptor 3.
    #[must_use]
    pub fn socket(mut self, socket: impl Into<OwnedFd>) -> Self {
        self.sockets.push(socket.into());
        self
    }

    /// Another working directory than its own.
    #[must_use]
    pub fn directory(mut self, directory: &Path) -> Self {
        self.directory = Some(directory.to_owned());
        self
    }

    /// Another stdout for the master than the one that the harness reads.
    #[must_use]
    pub fn stdout(mut self, stdout: impl Into<OwnedFd>) -> Self {
        self.stdout = Some(stdout.into());
        self
    }

    /// Another stderr for the master than the one that the harness reads: the test hears no event then.
    #[must_use]
    pub fn stderr(mut self, stderr: impl Into<OwnedFd>) -> Self {
        self.stderr = Some(stderr.into());
        self
    }

    /// Leaves it to the command where the control socket is. Otherwise each master has one of its own in its
    /// directory, and whatever else runs on the machine does not matter.
    #[must_use]
    pub fn discoverable(mut self) -> Self {
        self.discoverable = true;
        self
    }

    /// This fixture, a program in Python, starts the command that is written behind it.
    #[must_use]
    pub fn started_by(mut self, name: &str) -> Self {
        self.starter = Some(fixture(name));
        self
    }

    /// This program is started, and not the command under test.
    #[must_use]
    pub fn program(mut self, path: impl Into<PathBuf>) -> Self {
        self.program = Some(path.into());
        self
    }

    /// Starts it.
    pub fn start(mut self) -> Master {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let home = self.home.clone();
        let control = (!self.discoverable).then(|| home.join(&format!("control-{number}.sock")));
        if let Some(control) = &control {
            self = self.option("--control", &control.to_string_lossy());
        }
        let outputs = [self.stdout.take(), self.stderr.take()];
        Master::start(self.command(), home, control, outputs)
    }

    /// Starts it and waits until every slot serves.
    #[track_caller]
    pub fn serve(self) -> Master {
        let master = self.start();
        master.wait(crate::on("started"));
        master
    }

    /// Starts it where it is expected to end by itself, and waits for that.
    #[track_caller]
    pub fn refused(self) -> Finished {
        // The directory must outlive the command.
        let _home = self.home.clone();
        Running::start(self.command()).finish()
    }

    fn command(self) -> Command {
        let mut command = command(self.home.path());
        if let Some(program) = &self.program {
            command = instead(program, &command);
        }
        if let Some(starter) = self.starter {
            let mut python = Command::new("python3");
            python.arg(starter);
            command = behind(python, &command);
        }
        if !self.sockets.is_empty() {
            command = activating(&command, self.sockets);
        }
        command.current_dir(self.directory.as_deref().unwrap_or(self.home.path())).arg("run");
        for (name, value) in self.options {
            command.arg(name).args(value);
        }
        for hook in self.hooks {
            command.arg("--on").arg(hook);
        }
        for address in self.listens {
            command.arg("--listen").arg(address);
        }
        for arg in self.node_args {
            command.arg(format!("--node-arg={arg}"));
        }
        command.arg(self.server).arg("--").args(self.args).envs(self.env);
        for name in self.unset {
            command.env_remove(name);
        }
        command
    }
}

/// The same command with sockets. `LISTEN_PID` is the process that they are meant for, which only that process knows
/// in advance.
fn activating(command: &Command, sockets: Vec<OwnedFd>) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"LISTEN_PID=$$ exec "$0" "$@""#]);
    let mut shell = behind(shell, command);
    shell.env("LISTEN_FDS", sockets.len().to_string());
    let mappings = (3..).zip(sockets).map(|(child_fd, parent_fd)| FdMapping { parent_fd, child_fd });
    shell.fd_mappings(mappings.collect()).expect("each number is given once");
    shell
}

/// The same with another program.
fn instead(program: &Path, command: &Command) -> Command {
    let mut other = Command::new(program);
    other.args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => other.env(name, value),
            None => other.env_remove(name),
        };
    }
    other
}

/// The command behind the arguments of another one.
fn behind(mut starter: Command, command: &Command) -> Command {
    starter.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => starter.env(name, value),
            None => starter.env_remove(name),
        };
    }
    starter
}
