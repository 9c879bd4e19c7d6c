//! What a generation runs. A [`Program`] is what the user configured. A [`ResolvedProgram`] is the same with every symlink
//! resolved, as of the moment when a generation began. So a release directory that is swapped by symlink takes effect with a
//! reload, and never with a respawn.

use std::collections::BTreeMap;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use recluster_wire::env::{Serialization, is_withheld};
use rustix::process::geteuid;

use serde::{Deserialize, Serialize};

use crate::config::compile_cache::CompileCache;
use crate::config::env_file;
use crate::config::ready::ReadyWhen;
use crate::config::variable::{InstanceEnv, Variables, check_variable};
use crate::config::working_directory::directory_for;
use crate::process::compile_cache::Kept;
use crate::process::privileges::Privileges;
use crate::process::runtime::{self, Because, Judgement, NodeKind, Runtime};
use crate::process::shebang::{Beginning, MARKED, Shebang};
use crate::process::stdio::Stdio;
use crate::report::error::ProgramError;
use crate::upgrade::plain;

/// How much compiled code is kept, in bytes: a large application has some 50 MB.
const COMPILE_CACHE_SIZE: u64 = 256 << 20;
/// The name of node's binary, where none is named.
const NODE: &str = "node";
/// Where the kernel lists the formats that were registered with it.
const BINARY_FORMATS: &str = "/proc/sys/fs/binfmt_misc";

/// The program as the user configured it, unresolved.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Program {
    /// The server file, absolute, symlinks and all.
    #[serde(with = "plain")]
    server: PathBuf,
    /// The directory that the workers run in, as the user knows it, symlinks and all.
    #[serde(with = "plain")]
    pub(super) directory: PathBuf,
    #[serde(with = "plain")]
    pub(crate) args: Vec<OsString>,
    /// The binary of node or one of its kin, if one was named: a path, or a name to look up in `PATH`.
    #[serde(with = "plain")]
    pub(crate) node: Option<PathBuf>,
    #[serde(with = "plain")]
    pub(crate) node_args: Vec<OsString>,
    #[serde(with = "plain")]
    pub(crate) env: BTreeMap<OsString, OsString>,
    /// Files of variables, absolute, symlinks and all. What [`env`](Self::env) says comes before them.
    #[serde(with = "plain")]
    env_files: Vec<PathBuf>,
    /// What reloads have set. Only what the first line of a script sets comes before it.
    pub(crate) set_at_reloads: Variables,
    /// Replaces the master's own environment.
    #[serde(with = "plain")]
    pub(crate) environment: Option<BTreeMap<OsString, OsString>>,
    /// Where a worker finds its slot, beside `WORKER_ID`.
    pub(crate) instance_env: Option<InstanceEnv>,
    pub(crate) privileges: Privileges,
    pub(crate) stdio: [Stdio; 3],
    /// A worker leads a process group of its own; else it stays in the master's.
    pub(crate) own_group: bool,
    /// Run it under node, whatever it looks like.
    pub(crate) under_node: bool,
    /// How messages are written on the channel of a worker that is Node.
    pub(crate) serialization: Serialization,
    /// Where workers that are Node keep compiled code.
    pub(crate) compile_cache: Option<CompileCache>,
    /// How much of it, in bytes.
    pub(crate) compile_cache_size: u64,
}

/// What a generation runs: fixed when it began.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ResolvedProgram {
    /// What it was resolved from.
    pub(crate) said: Arc<Program>,
    pub(crate) runtime: Runtime,
    #[serde(with = "plain")]
    pub(crate) server: PathBuf,
    /// The server file as it was given.
    #[serde(with = "plain")]
    pub(crate) named_server: PathBuf,
    #[serde(with = "plain")]
    pub(crate) directory: PathBuf,
    /// The directory as it was given.
    #[serde(with = "plain")]
    pub(crate) named_directory: PathBuf,
    #[serde(with = "plain")]
    pub(crate) args: Vec<OsString>,
    /// The master's environment without the variables that are about the master, and with what the user added.
    #[serde(with = "plain")]
    pub(crate) env: BTreeMap<OsString, OsString>,
    /// The names of those that the user added.
    #[serde(with = "plain")]
    pub(crate) given: Vec<OsString>,
    /// Where a worker finds its slot, beside `WORKER_ID`.
    pub(crate) instance_env: Option<InstanceEnv>,
    pub(crate) privileges: Privileges,
    pub(crate) stdio: [Stdio; 3],
    /// A worker leads a process group of its own; else it stays in the master's.
    pub(crate) own_group: bool,
    /// How messages would be written on the channel of a worker that is Node.
    pub(crate) written: Serialization,
    /// Where workers that are Node keep compiled code, if there is such a place.
    pub(crate) compile_cache: Option<Kept>,
}

impl Program {
    pub(crate) fn new(server: PathBuf) -> Self {
        let directory = directory_for(&server);
        Self {
            server: directory.join(server),
            directory,
            args: Vec::new(),
            node: None,
            node_args: Vec::new(),
            env: BTreeMap::new(),
            env_files: Vec::new(),
            set_at_reloads: Variables::default(),
            environment: None,
            instance_env: None,
            privileges: Privileges::default(),
            stdio: [Stdio::Null, Stdio::Inherit, Stdio::Tail],
            own_group: true,
            under_node: false,
            serialization: Serialization::default(),
            compile_cache: None,
            compile_cache_size: COMPILE_CACHE_SIZE,
        }
    }

    /// The directory that the server file is in.
    pub(crate) fn directory_of_server(&self) -> &Path {
        self.server.parent().unwrap_or(&self.server)
    }

    /// Has workers run in this directory; a server file that was named is where it was.
    pub(crate) fn set_directory(&mut self, directory: PathBuf) {
        self.directory = self.directory.join(directory);
    }

    /// Has workers given the variables of one more file, named from the directory of this program.
    pub(crate) fn add_env_file(&mut self, file: &Path) {
        self.env_files.push(self.directory.join(file));
    }

    /// The variables that workers are given beside those of the master, as the files are now.
    fn given(&self) -> Result<BTreeMap<OsString, OsString>, ProgramError> {
        let mut given = BTreeMap::new();
        for file in &self.env_files {
            given.extend(env_file::read(file)?);
        }
        for (name, value) in &self.env {
            check_variable(name)?;
            given.insert(name.clone(), value.clone());
        }
        given.extend(self.set_at_reloads.iter().map(|(name, value)| (name.into(), value.into())));
        Ok(given)
    }

    /// The environment of workers, but for what each has of its own; and the names of what was added to the master's.
    pub(crate) fn variables(&self) -> Result<(BTreeMap<OsString, OsString>, Vec<OsString>), ProgramError> {
        let given = self.given()?;
        let mut env = self.environment.clone().unwrap_or_else(|| env::vars_os().collect());
        env.retain(|name, _| !is_withheld(name));
        self.privileges.introduce(&mut env);
        let names = given.keys().cloned().collect();
        env.extend(given);
        Ok((env, names))
    }

    /// Resolves everything as it is now.
    pub(crate) fn resolve(&self) -> Result<ResolvedProgram, ProgramError> {
        let unusable = |source| ProgramError::Directory { path: self.directory.clone(), source };
        let directory = fs::canonicalize(&self.directory).map_err(unusable)?;
        if !directory.is_dir() {
            return Err(unusable(io::Error::from_raw_os_error(libc::ENOTDIR)));
        }
        let server = self.resolve_server()?;
        let (mut env, given) = self.variables()?;
        let judgement = if self.under_node {
            Judgement::Node(Because::Said, None)
        } else {
            Judgement::of(&server, &self.server, self.node.is_some())
        };
        let runtime = match judgement {
            Judgement::Node(because, shebang) => {
                self.check_readable(&server)?;
                self.node_runtime(because, shebang, &mut env)?
            }
            Judgement::Itself(beginning) => self.executable(&server, beginning)?,
        };
        let compile_cache = self.compile_cache(&env);
        Ok(ResolvedProgram {
            said: Arc::new(self.clone()),
            runtime,
            server,
            named_server: self.server.clone(),
            directory,
            named_directory: self.directory.clone(),
            args: self.args.clone(),
            env,
            given,
            instance_env: self.instance_env.clone(),
            privileges: self.privileges.clone(),
            stdio: self.stdio.clone(),
            own_group: self.own_group,
            written: self.serialization,
            compile_cache,
        })
    }

    fn compile_cache(&self, env: &BTreeMap<OsString, OsString>) -> Option<Kept> {
        let directory = self.compile_cache.as_ref()?.directory(&self.directory, env)?;
        let uid = self.privileges.uid.unwrap_or_else(|| geteuid().as_raw());
        Some(Kept { directory, most: self.compile_cache_size, uid })
    }

    /// Under the binary that the user has named; else under that of the first line, if it is there; else under node.
    fn node_runtime(
        &self,
        because: Because,
        shebang: Option<Shebang>,
        env: &mut BTreeMap<OsString, OsString>,
    ) -> Result<Runtime, ProgramError> {
        let by_first_line = shebang.as_ref().filter(|_| matches!(because, Because::FirstLine(_)));
        if by_first_line.is_some_and(|shebang| shebang.obstacle == Some(MARKED)) {
            return Err(self.not_runnable(io::Error::new(io::ErrorKind::InvalidData, MARKED)));
        }
        let path = env.get(OsStr::new("PATH"));
        let (binary, name) = match (&self.node, by_first_line) {
            (Some(node), _) => self.find_node(node, path)?,
            (None, Some(shebang)) => self.find_node(&shebang.interpreter, path).or_else(|error| {
                let is_node = NodeKind::Node.is_named_by(shebang);
                if is_node { self.find_node(Path::new(NODE), path) } else { Err(error) }
            })?,
            (None, None) => self.find_node(Path::new(NODE), path)?,
        };
        let kind = NodeKind::of(&name, &binary);
        let default = || kind.default_args().iter().map(OsString::from).collect();
        let mut args: Vec<OsString> = match shebang.filter(|shebang| kind.is_named_by(shebang)) {
            Some(shebang) => {
                env.extend(shebang.env);
                if shebang.args.is_empty() { default() } else { shebang.args }
            }
            None => default(),
        };
        args.extend(self.node_args.iter().cloned());
        Ok(Runtime::Node { kind, binary, name, args, because })
    }

    fn executable(&self, server: &Path, beginning: Beginning) -> Result<Runtime, ProgramError> {
        if !is_executable(server) {
            let reason = "not executable, and nothing says that node runs it: neither an ending (.js, .mjs, .cjs, \
                          .ts), nor its first line, nor --node";
            return Err(self.not_runnable(io::Error::new(io::ErrorKind::PermissionDenied, reason)));
        }
        // What the kernel would refuse. Other files are left to it, since it may know formats that are not known here.
        let obstacle = match &beginning {
            Beginning::Text if !has_registered_ending(server) => {
                Some("it is text, and a script must begin with a line such as #!/bin/sh")
            }
            Beginning::Script(shebang) => shebang.obstacle,
            Beginning::Text | Beginning::Other => None,
        };
        if let Some(reason) = obstacle {
            return Err(self.not_runnable(io::Error::new(io::ErrorKind::InvalidData, reason)));
        }
        let script = match beginning {
            Beginning::Script(shebang) => Some(shebang),
            Beginning::Text | Beginning::Other => None,
        };
        Ok(Runtime::Executable { name: self.server.clone(), script })
    }

    fn resolve_server(&self) -> Result<PathBuf, ProgramError> {
        let server = fs::canonicalize(&self.server).map_err(|error| match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) => ProgramError::NotFound { path: self.server.clone() },
            Some(_) | None => self.not_runnable(error),
        })?;
        let reason = match fs::metadata(&server).map_err(|error| self.not_runnable(error))? {
            about if about.is_dir() => "it is a directory; name the server file in it",
            // Opening a pipe could wait for ever.
            about if !about.is_file() => "it is no regular file",
            _ => return Ok(server),
        };
        Err(self.not_runnable(io::Error::other(reason)))
    }

    fn check_readable(&self, server: &Path) -> Result<(), ProgramError> {
        fs::File::open(server).map(drop).map_err(|error| self.not_runnable(error))
    }

    fn not_runnable(&self, source: io::Error) -> ProgramError {
        ProgramError::NotRunnable { path: self.server.clone(), source }
    }

    /// The binary, resolved, and its name.
    fn find_node(&self, name: &Path, path: Option<&OsString>) -> Result<(PathBuf, PathBuf), ProgramError> {
        let missing = || ProgramError::NodeNotFound { node: name.to_owned() };
        let found = if name.as_os_str().as_bytes().contains(&b'/') {
            Some(self.executable_at(name)?)
        } else {
            let own = env::var_os("PATH");
            path.or(own.as_ref()).and_then(|path| {
                env::split_paths(path)
                    .map(|entry| self.directory.join(entry).join(name))
                    .find(|path| is_executable(path))
            })
        };
        let found = found.ok_or_else(missing)?;
        let binary = fs::canonicalize(&found).map_err(|_| missing())?;
        Ok((binary, name.to_owned()))
    }

    /// The binary that was named by its path.
    fn executable_at(&self, node: &Path) -> Result<PathBuf, ProgramError> {
        let path = self.directory.join(node);
        let node = node.to_owned();
        let source = match fs::metadata(&path) {
            Ok(meta) if meta.is_dir() => io::Error::other("it is a directory"),
            Ok(_) if is_executable(&path) => return Ok(path),
            Ok(_) => io::Error::other("it is not executable"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ProgramError::NodeNotFound { node });
            }
            Err(error) => error,
        };
        Err(ProgramError::NodeNotRunnable { node, source })
    }
}

impl ResolvedProgram {
    /// The variables of the workers in this slot, but for those by which each is told from others.
    pub(crate) fn env_of(&self, slot: u32) -> BTreeMap<OsString, OsString> {
        let mut env = self.env.clone();
        let instance =
            self.instance_env.as_ref().map(|variable| (variable.name().into(), slot.to_string().into()));
        env.extend(instance);
        env
    }

    pub(crate) fn default_ready_when(&self) -> ReadyWhen {
        match self.runtime {
            Runtime::Node { .. } => ReadyWhen::Listening,
            Runtime::Executable { .. } => ReadyWhen::Started,
        }
    }

    /// What of it is there no more: the server file, the directory, or the binary that runs it.
    pub(crate) fn gone(&self) -> Option<&Path> {
        let binary = match &self.runtime {
            Runtime::Node { binary, .. } => Some(binary),
            Runtime::Executable { .. } => None,
        };
        let mut paths = [&self.server, &self.directory].into_iter().chain(binary).map(PathBuf::as_path);
        paths.find(|path| is_gone(path))
    }

    /// The file that the kernel runs, or whose first line says what it runs.
    pub(crate) fn binary(&self) -> &Path {
        match &self.runtime {
            Runtime::Node { binary, .. } => binary,
            Runtime::Executable { .. } => &self.server,
        }
    }

    /// Says which of its paths such an error of its start is about.
    pub(crate) fn name_path(&self, error: io::Error) -> io::Error {
        let binary = self.binary();
        let interpreter = match &self.runtime {
            Runtime::Node { .. } => None,
            Runtime::Executable { script, .. } => script.as_ref().and_then(Shebang::program),
        };
        let is_at_fault = |path: &Path| match error.raw_os_error() {
            Some(libc::EACCES) => rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_err(),
            Some(_) | None => is_gone(path),
        };
        if !matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::EACCES)) {
            return error;
        }
        let named = if is_at_fault(&self.directory) {
            format!("the working directory {}: {error}", self.directory.display())
        } else if let Some(interpreter) = interpreter.filter(|path| is_at_fault(path)) {
            format!(
                "{}, by which the first line of {} has it run: {error}",
                interpreter.display(),
                binary.display()
            )
        } else {
            format!("{}: {error}", binary.display())
        };
        io::Error::new(error.kind(), named)
    }

    pub(crate) fn is_node(&self) -> bool {
        matches!(self.runtime, Runtime::Node { .. })
    }

    /// How messages are written on its channel.
    pub(crate) fn serialization(&self) -> Serialization {
        if self.is_node() { self.written } else { Serialization::Json }
    }

    /// The runtime, if the server file is one for node.
    pub(crate) fn node_kind(&self) -> Option<NodeKind> {
        match &self.runtime {
            Runtime::Node { kind, .. } => Some(*kind),
            Runtime::Executable { .. } => None,
        }
    }

    /// The name under which it is run.
    pub(crate) fn name(&self) -> &OsStr {
        match &self.runtime {
            Runtime::Node { name, .. } | Runtime::Executable { name, .. } => name.as_os_str(),
        }
    }

    pub(crate) fn is_typescript(&self) -> bool {
        runtime::is_typescript(&self.server)
    }
}

fn is_gone(path: &Path) -> bool {
    let error = fs::metadata(path).err().and_then(|error| error.raw_os_error());
    matches!(error, Some(libc::ENOENT | libc::ENOTDIR))
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Whether the kernel has a registered format for files with this ending (`binfmt_misc`).
fn has_registered_ending(path: &Path) -> bool {
    let Some(ending) = path.extension().and_then(OsStr::to_str) else { return false };
    let registered = format!("extension .{ending}");
    let formats = fs::read_dir(BINARY_FORMATS).into_iter().flatten().flatten();
    formats
        .filter_map(|format| fs::read_to_string(format.path()).ok())
        .any(|format| format.lines().any(|line| line == registered))
}

#[cfg(test)]
mod tests;
