//! [`Spec`]: how a cluster is to be run, as far as a reload may change it. It says everything once, and it has been
//! checked. A [`Draft`] is the same before the check, as a builder or a config file says it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use recluster_core::{Config, Settings};
use tokio::sync::Mutex;

use crate::aside::aside;
use crate::config::balance::Balance;
use crate::config::drain_signal::DrainSignal;
use crate::config::hook::Hook;
use crate::config::limits::Limits;
use crate::config::listen::Listen;
use crate::config::ready::{ReadyCheck, ReadyWhen};
use crate::config::worker_metrics::WorkerMetrics;
use crate::process::health_check::Checks;
use crate::process::launch;
use crate::process::preload::Preload;
use crate::process::program::{Program, ResolvedProgram};
use crate::process::runtime::NodeKind;
use crate::report::configuration::Configuration;
use crate::report::error::StartError;

/// How long an idle connection of a draining Node worker is spared: longer than the five seconds after which Node closes
/// one anyway, as it has announced to the client.
const IDLE_GRACE: Duration = Duration::from_secs(6);
/// How long after a check a serving worker is checked again.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// The shortest time between two checks: a process is started for each, or a connection made.
const LEAST_CHECK_INTERVAL: Duration = Duration::from_millis(10);
/// How long a check may take.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// How a cluster is to be run. It was checked: the settings agree with each other and with the kind of program.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    /// The settings of the policy.
    pub(crate) config: Config,
    pub(crate) program: Program,
    /// When a worker is ready, if that was said.
    pub(crate) ready_when: Option<ReadyWhen>,
    pub(crate) balance: Balance,
    /// The lossless drain of Node workers, if it is on.
    pub(crate) preload: Option<Preload>,
    /// How long a stop waits before it begins.
    pub(crate) accept_after_stop: Duration,
    /// What programs that are not Node are sent when they are to drain.
    pub(crate) drain_signal: DrainSignal,
    /// When workers are renewed.
    pub(crate) limits: Limits,
    /// What workers are asked to find out whether they serve.
    pub(crate) checks: Option<Checks>,
    /// Where each worker gets a listener of its own for its checks.
    pub(crate) check_listen: Option<Listen>,
    /// How long a worker may be silent.
    pub(crate) watchdog: Option<Duration>,
    /// What is done when something happens.
    pub(crate) hooks: Vec<Hook>,
    /// What was said to be otherwise, and stays as it is.
    pub(crate) needs_restart: Vec<String>,
    /// All this as it was said, for people.
    pub(crate) said: Option<Arc<Configuration>>,
}

impl Spec {
    /// The settings of the policy.
    pub(crate) fn settings(&self) -> &Settings {
        self.config.settings()
    }

    /// The same, where a reload asks for it: what is watched is the master's for as long as it lives, and so are the habits that go with
    /// it. An error says why it cannot be run so.
    pub(crate) fn watched_as(mut self: Box<Self>, before: &Self) -> Result<Box<Self>, String> {
        let (now, Settings { hold, gone_first, .. }) = (*self.settings(), *before.settings());
        if now.hold != hold {
            self.config =
                Config::new(Settings { hold, gone_first, ..now }).map_err(|error| error.to_string())?;
        }
        Ok(self)
    }

    /// When a worker that runs this program is ready.
    pub(crate) fn ready_when(&self, program: &ResolvedProgram) -> ReadyWhen {
        self.ready_when.unwrap_or_else(|| program.default_ready_when())
    }

    /// Whether this program can be run so. It is asked of what a path leads to, which may be another kind of program each
    /// time.
    pub(crate) fn suits(&self, program: &ResolvedProgram) -> Result<(), StartError> {
        let is_node = program.is_node();
        let check = self.checks.as_ref().map(|checks| &checks.check);
        if program.node_kind() == Some(NodeKind::Deno) && self.balance == Balance::Shared {
            return Err(StartError::DenoTakesNoSocket);
        }
        if !is_node && self.balance.sticky_by().is_some() {
            return Err(StartError::StickyWithoutNode);
        }
        if matches!(check, Some(ReadyCheck::Http(_))) && !is_node && self.check_listen.is_none() {
            return Err(StartError::CheckReachesNeighbours);
        }
        self.check_listen.as_ref().map_or(Ok(()), |listen| listen.suits_checks(is_node))
    }
}

/// How a cluster is to be run, unchecked.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) program: Program,
    pub(crate) settings: Settings,
    /// Default: the drain timeout of the settings, or their stop timeout if that is shorter.
    pub(crate) stop_timeout: Option<Duration>,
    /// The drain timeout of a program for node, in the place of that of the settings.
    pub(crate) node_timeout: Option<Duration>,
    /// Default: by the kind of program.
    pub(crate) ready_when: Option<ReadyWhen>,
    pub(crate) drain_http: bool,
    pub(crate) worker_metrics: WorkerMetrics,
    pub(crate) idle_grace: Duration,
    pub(crate) accept_after_stop: Duration,
    pub(crate) drain_signal: DrainSignal,
    pub(crate) limits: Limits,
    pub(crate) ready_check: Option<ReadyCheck>,
    pub(crate) check_interval: Duration,
    pub(crate) check_timeout: Duration,
    pub(crate) check_listen: Option<Listen>,
    pub(crate) watchdog: Option<Duration>,
    pub(crate) hooks: Vec<Hook>,
    pub(crate) needs_restart: Vec<String>,
    pub(crate) said: Option<Arc<Configuration>>,
}

impl Draft {
    /// Runs this server file, and everything else by default.
    pub(crate) fn new(server: PathBuf) -> Self {
        Self {
            program: Program::new(server),
            settings: Settings::default(),
            stop_timeout: None,
            node_timeout: None,
            ready_when: None,
            drain_http: true,
            worker_metrics: WorkerMetrics::default(),
            idle_grace: IDLE_GRACE,
            accept_after_stop: Duration::ZERO,
            drain_signal: DrainSignal::default(),
            limits: Limits::default(),
            ready_check: None,
            check_interval: CHECK_INTERVAL,
            check_timeout: CHECK_TIMEOUT,
            check_listen: None,
            watchdog: None,
            hooks: Vec::new(),
            needs_restart: Vec::new(),
            said: None,
        }
    }

    /// Checks everything that can be known before anything is started. The program is resolved for the check; what it was
    /// resolved to is returned beside the spec.
    pub(crate) fn check(self, balance: &Balance) -> Result<(Spec, ResolvedProgram), StartError> {
        // What contradicts itself is refused before the program is looked for.
        self.config(self.settings.timeout)?;
        if self.ready_check.is_some() && self.check_interval < LEAST_CHECK_INTERVAL {
            return Err(StartError::CheckInterval { interval: self.check_interval });
        }
        let resolved = self.program.resolve()?;
        self.program.privileges.check()?;
        self.of(resolved, balance)
    }

    /// The same for a program that is resolved already. Nothing of it is looked for: what runs need not be there any more.
    pub(crate) fn of(
        self,
        resolved: ResolvedProgram,
        balance: &Balance,
    ) -> Result<(Spec, ResolvedProgram), StartError> {
        let timeout = self.node_timeout.filter(|_| resolved.is_node()).unwrap_or(self.settings.timeout);
        let mut settings = self.settings;
        // Two workers of a slot cannot have one port.
        settings.gone_first = settings.hold && launch::inspector_of(&resolved).is_some();
        let config = Self { settings, ..self.clone() }.config(timeout)?;
        let counts = balance.has_workers_accept();
        let preload =
            Preload { idle_grace: self.idle_grace, timeout, counts, metrics: self.worker_metrics.into() };
        let (every, timeout) = (self.check_interval, self.check_timeout);
        let checks = self.ready_check.map(|check| Checks { check, every, timeout });
        let spec = Spec {
            config,
            program: self.program,
            ready_when: self.ready_when,
            balance: balance.clone(),
            preload: self.drain_http.then_some(preload),
            accept_after_stop: self.accept_after_stop,
            drain_signal: self.drain_signal,
            limits: self.limits,
            checks,
            check_listen: self.check_listen,
            watchdog: self.watchdog,
            hooks: self.hooks,
            needs_restart: self.needs_restart,
            said: self.said,
        };
        spec.suits(&resolved)?;
        Ok((spec, resolved))
    }

    /// The settings of the policy, with this drain timeout.
    fn config(&self, timeout: Duration) -> Result<Config, StartError> {
        let stop_timeout = self.stop_timeout.unwrap_or(self.settings.stop_timeout.min(timeout));
        Ok(Config::new(Settings { timeout, stop_timeout, ..self.settings })?)
    }
}

/// Says anew, when a reload is asked for, how the cluster is to be run; or why it cannot be run so.
pub(crate) struct Reread(Box<dyn FnMut() -> Result<Spec, String> + Send>);

impl Reread {
    pub(crate) fn new(say: impl FnMut() -> Result<Spec, String> + Send + 'static) -> Self {
        Self(Box::new(say))
    }

    pub(crate) fn say(&mut self) -> Result<Spec, String> {
        (self.0)()
    }
}

impl fmt::Debug for Reread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reread")
    }
}

/// Says how a cluster would be configured if it were started now, and changes nothing.
#[derive(Clone)]
pub(crate) struct Look {
    say: Arc<dyn Fn() -> Result<Configuration, String> + Send + Sync>,
    /// Held by the one who looks: many who ask read one file after the other.
    turn: Arc<Mutex<()>>,
}

impl Look {
    pub(crate) fn new(say: impl Fn() -> Result<Configuration, String> + Send + Sync + 'static) -> Self {
        Self { say: Arc::new(say), turn: Arc::default() }
    }

    /// Looks, on a thread that may wait for a disk.
    pub(crate) async fn say(&self) -> Result<Configuration, String> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let say = Arc::clone(&self.say);
        let look = aside(move || {
            let said = say();
            drop(turn);
            said
        });
        look.await.unwrap_or_else(|error| Err(error.to_string()))
    }
}

impl fmt::Debug for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Look")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::error::ProgramError;
    use crate::supervisor::fixtures;

    fn shell() -> Draft {
        Draft::new(PathBuf::from("/bin/sh"))
    }

    #[test]
    fn a_stop_gives_no_more_time_than_a_reload_unless_it_is_said() {
        let mut draft = shell();
        draft.settings.timeout = Duration::from_secs(3);
        let (spec, _) = draft.clone().check(&Balance::default()).unwrap();
        assert_eq!(spec.settings().stop_timeout, Duration::from_secs(3));
        draft.stop_timeout = Some(Duration::from_secs(9));
        let (spec, _) = draft.check(&Balance::default()).unwrap();
        assert_eq!(spec.settings().stop_timeout, Duration::from_secs(9));
    }

    #[test]
    fn an_executable_is_ready_when_it_runs_unless_it_is_said() {
        let (spec, resolved) = shell().check(&Balance::default()).unwrap();
        assert_eq!(spec.ready_when(&resolved), ReadyWhen::Started);
        assert!(!resolved.is_node());
        let draft = Draft { ready_when: Some(ReadyWhen::Notify), ..shell() };
        let (spec, resolved) = draft.check(&Balance::default()).unwrap();
        assert_eq!(spec.ready_when(&resolved), ReadyWhen::Notify);
    }

    #[test]
    fn the_drain_timeout_of_a_program_for_node_is_for_such_a_program_alone() {
        let timeouts = |under_node| {
            let mut draft = Draft { node_timeout: Some(Duration::from_secs(3600)), ..shell() };
            draft.program.under_node = under_node;
            draft.program.node = Some("/bin/sh".into());
            let (spec, _) = draft.check(&Balance::default()).unwrap();
            (spec.settings().timeout, spec.settings().stop_timeout)
        };
        let usual = Settings::default();
        assert_eq!(timeouts(false), (usual.timeout, usual.stop_timeout));
        assert_eq!(timeouts(true), (Duration::from_secs(3600), usual.stop_timeout));
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused_before_the_program_is_looked_for() {
        let mut draft = Draft::new(PathBuf::from("/nowhere/server"));
        draft.settings.workers = 0;
        let error = draft.clone().check(&Balance::default()).unwrap_err();
        assert!(matches!(error, StartError::Config(_)), "{error}");
        draft.settings.workers = 1;
        let error = draft.check(&Balance::default()).unwrap_err();
        assert!(matches!(error, StartError::Program(_)), "{error}");
    }

    #[test]
    fn checks_leave_the_machine_time_for_something_else() {
        let check = ReadyCheck::Command("true".into());
        for (interval, is_refused) in [(0, true), (1, true), (9, true), (10, false)] {
            let interval = Duration::from_millis(interval);
            let draft = Draft { ready_check: Some(check.clone()), check_interval: interval, ..shell() };
            let error = draft.check(&Balance::default()).err();
            assert_eq!(
                matches!(error, Some(StartError::CheckInterval { .. })),
                is_refused,
                "{interval:?}: {error:?}"
            );
        }
        let draft = Draft { check_interval: Duration::ZERO, ..shell() };
        assert!(draft.check(&Balance::default()).is_ok(), "nothing is checked");
    }

    #[test]
    fn what_no_worker_could_be_given_is_refused() {
        let mut draft = shell();
        let limit = format!("nofile={}", i64::MAX);
        draft.program.privileges.limits.push(limit.parse().unwrap());
        let error = draft.check(&Balance::default()).unwrap_err();
        assert!(matches!(error, StartError::Program(ProgramError::Limit { .. })), "{error}");
    }

    #[test]
    fn an_http_check_of_an_executable_needs_a_listener_of_its_own() {
        let draft = Draft { ready_check: Some(ReadyCheck::Http("/".into())), ..shell() };
        let error = draft.clone().check(&Balance::default()).unwrap_err();
        assert!(matches!(error, StartError::CheckReachesNeighbours), "{error}");
        let draft = Draft { check_listen: Some("127.0.0.1:0".parse().unwrap()), ..draft };
        assert!(draft.check(&Balance::default()).unwrap().0.checks.is_some());
    }

    #[test]
    fn a_balance_that_the_program_cannot_have_is_refused() {
        let sticky = Balance::Sticky(crate::config::balance::StickyBy::Ip);
        let error = shell().check(&sticky).unwrap_err();
        assert!(matches!(error, StartError::StickyWithoutNode), "{error}");
    }

    #[test]
    fn deno_takes_no_shared_socket() {
        let suits = |kind, balance: Balance| {
            let (spec, program) = shell().check(&balance).unwrap();
            spec.suits(&fixtures::under(kind, program))
        };
        let error = suits(NodeKind::Deno, Balance::Shared).unwrap_err();
        assert!(matches!(error, StartError::DenoTakesNoSocket), "{error}");
        assert!(suits(NodeKind::Deno, Balance::RoundRobin).is_ok());
        assert!(suits(NodeKind::Node, Balance::Shared).is_ok());
    }

    #[test]
    fn a_spec_is_asked_for_anew_each_time() {
        let mut answers = vec![Err("second".to_owned()), Err("first".to_owned())].into_iter();
        let mut reread = Reread::new(move || answers.next_back().unwrap());
        assert_eq!(reread.say().unwrap_err(), "first");
        assert_eq!(reread.say().unwrap_err(), "second");
        assert_eq!(format!("{reread:?}"), "Reread");
    }
}
