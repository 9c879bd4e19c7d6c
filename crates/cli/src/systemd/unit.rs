//! The text of the units: a service that runs a cluster, and the sockets that systemd holds for it.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use recluster::{Limit, Listen, SocketUnit};

use super::quote;

/// How long commands of hooks may go on at the end, and what a busy machine adds to every time.
const SPARE: Duration = Duration::from_secs(15);
/// A port below this one is for the privileged.
const FIRST_FREE_PORT: u16 = 1024;
/// How many files the master and its workers may have open, at least.
const OPEN_FILES: u64 = 65_536;
const NO_LIMIT: &str = "infinity";
/// How many listening sockets systemd keeps while no master lives: as many as a master has kept at most.
const KEPT_SOCKETS: &str = "1024";

/// What works with Node, whose compiler needs memory that is written and run (so there is no `MemoryDenyWriteExecute`), and which is to
/// hear of a call that is not allowed instead of being killed for it.
const HARDENING: &str = "\
NoNewPrivileges=yes
ProtectSystem=strict
PrivateTmp=yes
PrivateDevices=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
";

/// What a unit is made of.
#[derive(Debug)]
pub(super) struct Unit {
    /// What the service and its directory in /run are called.
    pub(super) name: String,
    /// The command, and what is run with it.
    pub(super) recluster: PathBuf,
    pub(super) words: Vec<OsString>,
    pub(super) directory: PathBuf,
    /// None: a user that systemd makes.
    pub(super) user: Option<String>,
    /// Variables beside those that systemd sets.
    pub(super) environment: Vec<(OsString, OsString)>,
    /// The control socket; none where there is to be none.
    pub(super) control: Option<PathBuf>,
    /// It is where the unit's own directory in /run is.
    pub(super) has_own_directory: bool,
    pub(super) listen: Vec<Listen>,
    /// What workers are allowed.
    pub(super) limits: Vec<Limit>,
    /// Directories that are written to.
    pub(super) writes: Vec<PathBuf>,
    /// Compiled code is kept where systemd says.
    pub(super) has_cache: bool,
    /// The server, or what it needs, is below a home directory.
    pub(super) is_at_home: bool,
    /// How long a generation, and a stop, may take.
    pub(super) start: Duration,
    pub(super) stop: Duration,
}

impl Unit {
    /// The service.
    pub(super) fn service(&self) -> String {
        let socket = self.socket().is_some().then(|| format!("{}.socket", self.name));
        let mut text = format!("[Unit]\nDescription={}\n", self.name.replace('%', "%%"));
        text += "After=network-online.target\nWants=network-online.target\n";
        if let Some(socket) = &socket {
            text += &line("Requires", socket);
            text += &line("After", socket);
        }
        text += "\n[Service]\nType=notify\n";
        text += &line("ExecStart", &self.command(&self.words));
        if let Some(control) = &self.control {
            let words = ["reload", "--control"].map(OsString::from).into_iter().chain([control.into()]);
            text += &line("ExecReload", &self.command(&words.collect::<Vec<_>>()));
        }
        // The rest of the line is the path.
        text += &line("WorkingDirectory", &self.directory.to_string_lossy().replace('%', "%%"));
        for (name, value) in &self.environment {
            text += &line(
                "Environment",
                &quote::word(&[name, value].map(OsString::as_os_str).join(OsStr::new("="))),
            );
        }
        // Before 254 systemd does not say it by itself.
        text += &line("Environment", &format!("FDSTORE={KEPT_SOCKETS}"));
        text += &self.of_user();
        text += &self.of_life();
        text + "\n" + HARDENING + &self.of_files() + "\n[Install]\nWantedBy=multi-user.target\n"
    }

    /// The sockets that systemd is to hold, if it can hold some.
    pub(super) fn socket(&self) -> Option<String> {
        let units: Vec<SocketUnit> =
            self.listen.iter().map(Listen::socket_unit).filter(|unit| unit.port != Some(0)).collect();
        let first = units.first()?;
        let mut text =
            format!("[Unit]\nDescription=Sockets of {}\n\n[Socket]\n", self.name.replace('%', "%%"));
        for unit in &units {
            text += &line(unit.listen, &unit.address.replace('%', "%%"));
        }
        if units.iter().any(|unit| unit.only_v6) {
            text += "BindIPv6Only=ipv6-only\n";
        }
        text += &line(
            "Backlog",
            &units.iter().map(|unit| unit.backlog).max().unwrap_or(first.backlog).to_string(),
        );
        if let Some(mode) = units.iter().find_map(|unit| unit.mode) {
            text += &line("SocketMode", &format!("{mode:04o}"));
        }
        Some(text + "\n[Install]\nWantedBy=sockets.target\n")
    }

    fn command(&self, words: &[OsString]) -> String {
        let all = std::iter::once(self.recluster.clone().into_os_string()).chain(words.iter().cloned());
        quote::command(&all.collect::<Vec<_>>())
    }

    fn of_user(&self) -> String {
        let ports = self.listen.iter().filter_map(|listen| listen.socket_unit().port);
        let is_privileged = ports.into_iter().any(|port| port != 0 && port < FIRST_FREE_PORT);
        let capability = if is_privileged { "CAP_NET_BIND_SERVICE" } else { "" };
        let user = match &self.user {
            Some(user) => line("User", user),
            None => line("DynamicUser", "yes"),
        };
        user + &line("AmbientCapabilities", capability) + &line("CapabilityBoundingSet", capability)
    }

    /// How it is started again, watched and ended.
    fn of_life(&self) -> String {
        [
            line("TimeoutStartSec", &seconds(self.start + SPARE)),
            line("TimeoutStopSec", &seconds(self.stop + SPARE)),
            // The master alone is told to stop, and lets its workers finish.
            line("KillMode", "mixed"),
            line("FileDescriptorStoreMax", KEPT_SOCKETS),
            line("Restart", "on-failure"),
            // What another start would not change.
            line("RestartPreventExitStatus", "2 126 127"),
            // A master that hangs does not hear a signal that can be caught.
            line("WatchdogSec", "30"),
            line("WatchdogSignal", "SIGKILL"),
            self.of_limits(),
        ]
        .concat()
    }

    /// The master can give workers no limit that is above its own. Its own is never below what it has otherwise.
    fn of_limits(&self) -> String {
        let (files, others): (Vec<&Limit>, Vec<&Limit>) =
            self.limits.iter().partition(|limit| limit.name() == "nofile");
        let files = files.iter().map(|limit| limit.hard()).chain([Some(OPEN_FILES)]);
        let files = files.max_by_key(|hard| hard.unwrap_or(u64::MAX)).flatten();
        let files = files.map_or(NO_LIMIT.to_owned(), |files| files.to_string());
        let others: BTreeSet<String> = others
            .iter()
            .filter(|limit| limit.hard() != Some(0))
            .map(|limit| format!("Limit{}", limit.name().to_uppercase()))
            .collect();
        let others = others.iter().map(|key| line(key, NO_LIMIT));
        std::iter::once(line("LimitNOFILE", &files)).chain(others).collect()
    }

    fn of_files(&self) -> String {
        let own = self
            .has_own_directory
            .then(|| line("RuntimeDirectory", &self.name) + &line("RuntimeDirectoryMode", "0700"));
        let cache = self.has_cache.then(|| line("CacheDirectory", &self.name));
        let home = line("ProtectHome", if self.is_at_home { "read-only" } else { "yes" });
        // One that is not there is no matter.
        let optional = |path: &PathBuf| [OsStr::new("-"), path.as_os_str()].join(OsStr::new(""));
        let writes = self.writes.iter().map(|path| line("ReadWritePaths", &quote::word(&optional(path))));
        [Some(home), own, cache].into_iter().flatten().chain(writes).collect()
    }
}

fn line(key: &str, value: &str) -> String {
    format!("{key}={value}\n")
}

/// Whole seconds, no fewer.
fn seconds(span: Duration) -> String {
    (span.as_secs() + u64::from(span.subsec_nanos() > 0)).to_string()
}
