//! What a worker is started with may have changed since its generation began, where a program that embeds the engine says so: it
//! is asked before each start.

use std::sync::Arc;
use std::{env, fmt, fs};

use recluster_wire::env::is_withheld;

use crate::process::program::{Program, ResolvedProgram};
use crate::process::runtime::Runtime;

type Ask = dyn Fn() -> Option<Arc<Program>> + Send + Sync;

/// Whom to ask.
#[derive(Clone)]
pub(crate) struct Latest(Arc<Ask>);

impl fmt::Debug for Latest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Latest")
    }
}

impl Latest {
    pub(crate) fn new(ask: impl Fn() -> Option<Arc<Program>> + Send + Sync + 'static) -> Self {
        Self(Arc::new(ask))
    }

    /// What a worker is started with now, whose generation began with this. Waits for the answer.
    pub(crate) fn of(&self, program: &Arc<ResolvedProgram>) -> Arc<ResolvedProgram> {
        match (self.0)() {
            Some(now) => Arc::new(program.started_as(&now)),
            None => Arc::clone(program),
        }
    }
}

impl ResolvedProgram {
    /// The same server, started with what this program says of everything else but its node and what it adds to the environment:
    /// those stay as they were when the generation began.
    fn started_as(&self, now: &Program) -> Self {
        let mut env = now.environment.clone().unwrap_or_else(|| env::vars_os().collect());
        env.retain(|name, _| !is_withheld(name));
        now.privileges.introduce(&mut env);
        env.extend(self.given.iter().filter_map(|name| Some((name.clone(), self.env.get(name)?.clone()))));
        let mut runtime = self.runtime.clone();
        if let Runtime::Node { args, .. } = &mut runtime {
            args.truncate(args.len().saturating_sub(self.said.node_args.len()));
            args.extend(now.node_args.iter().cloned());
        }
        let mut directory = self.directory.clone();
        if now.directory != self.named_directory {
            // Where it leads nowhere, the start fails and names it.
            directory = fs::canonicalize(&now.directory).unwrap_or_else(|_| now.directory.clone());
        }
        Self {
            said: Arc::clone(&self.said),
            runtime,
            server: self.server.clone(),
            named_server: self.named_server.clone(),
            directory,
            named_directory: now.directory.clone(),
            args: now.args.clone(),
            env,
            given: self.given.clone(),
            instance_env: self.instance_env.clone(),
            privileges: now.privileges.clone(),
            stdio: now.stdio.clone(),
            own_group: self.own_group,
            written: now.serialization,
            compile_cache: self.compile_cache.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn a_start_is_as_is_said_now_and_of_the_server_of_its_generation() {
        let dir = tempfile::tempdir().unwrap();
        let server = dir.path().join("server.js");
        fs::write(&server, "").unwrap();
        let mut said = Program::new(server.clone());
        said.node = Some(PathBuf::from("/bin/sh"));
        said.node_args = vec!["--old".into()];
        said.environment =
            Some(BTreeMap::from([("A".into(), "1".into()), ("NODE_UNIQUE_ID".into(), "7".into())]));
        said.env.insert("ADDED".into(), "by the generation".into());
        let program = said.resolve().unwrap();
        let mut now = Program::new(PathBuf::from("/elsewhere/server.js"));
        now.node_args = vec!["--new".into(), "--newer".into()];
        now.args = vec!["one".into()];
        now.environment = Some(BTreeMap::from([("A".into(), "2".into()), ("ADDED".into(), "now".into())]));
        now.set_directory(dir.path().to_owned());
        let started = program.started_as(&now);
        assert_eq!(
            (&started.server, &started.directory),
            (&program.server, &fs::canonicalize(dir.path()).unwrap())
        );
        assert_eq!(started.args, ["one"]);
        let Runtime::Node { args, .. } = &started.runtime else { panic!() };
        assert_eq!(args, &["--new", "--newer"]);
        let env: Vec<_> = started
            .env
            .iter()
            .map(|(name, value)| format!("{}={}", name.display(), value.display()))
            .collect();
        assert_eq!(env, ["A=2", "ADDED=by the generation"]);
    }
}
