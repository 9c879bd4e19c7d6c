//! The service manager that has started this process, as systemd does: where it listens, and what it expects.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

use recluster_wire::env::{FDSTORE, NOTIFY_SOCKET, SYSTEMD_EXEC_PID, WATCHDOG_PID, WATCHDOG_USEC};
use rustix::net::SocketAddrUnix;

/// A service manager that is told how the cluster does, in the words of `sd_notify`.
///
/// It hears `READY=1` when the first generation serves, `RELOADING=1` and `READY=1` around each reload, `STOPPING=1`, a line of
/// `STATUS=`, `EXTEND_TIMEOUT_USEC=` while a start, a reload or a stop takes its time, and `WATCHDOG=1` if it wants to. One that
/// has room for it (`FDSTORE` in the environment) keeps the listening sockets, so that they outlive this process; the next one gives
/// them to the cluster by [`adopt`](crate::ClusterBuilder::adopt).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceManager {
    pub(crate) socket: SocketAddrUnix,
    /// It ends a process of which it has not heard for so long.
    pub(crate) watchdog: Option<Duration>,
    /// It takes another process for the one that serves.
    pub(crate) knows_another: bool,
    /// The process ends with the cluster.
    pub(crate) hears_of_stop: bool,
    /// How many sockets it keeps; none where it has not said that it does.
    pub(crate) store: Option<usize>,
}

impl ServiceManager {
    /// The one that the environment of this process speaks of: `NOTIFY_SOCKET` is a path or `@` and an abstract name.
    /// `WATCHDOG_USEC` counts where `WATCHDOG_PID` says nothing, or names this process.
    pub fn of_process() -> Option<Self> {
        Self::by(|name| env::var_os(name), std::process::id())
    }

    /// Says nothing of a stop of the cluster: this process goes on. (A manager that hears `STOPPING=1` ends a process that does
    /// not end by itself.)
    #[must_use]
    pub fn outlives_cluster(mut self) -> Self {
        self.hears_of_stop = false;
        self
    }

    /// Has it keep no sockets: the next process would not take them back.
    #[must_use]
    pub fn keeps_no_sockets(mut self) -> Self {
        self.store = None;
        self
    }

    fn by(variable: impl Fn(&str) -> Option<OsString>, pid: u32) -> Option<Self> {
        let number = |name| variable(name)?.to_str()?.parse::<u64>().ok();
        let is_mine = variable(WATCHDOG_PID).is_none() || number(WATCHDOG_PID) == Some(pid.into());
        Some(Self {
            socket: address(&variable(NOTIFY_SOCKET)?)?,
            watchdog: number(WATCHDOG_USEC).filter(|&usec| usec > 0 && is_mine).map(Duration::from_micros),
            knows_another: number(SYSTEMD_EXEC_PID).is_some_and(|started| started != u64::from(pid)),
            hears_of_stop: true,
            store: number(FDSTORE).and_then(|most| usize::try_from(most).ok()).filter(|&most| most > 0),
        })
    }
}

/// The protocol knows nothing else: a relative path would mean another file in each directory.
fn address(named: &OsStr) -> Option<SocketAddrUnix> {
    match named.as_bytes() {
        [b'@', name @ ..] if !name.is_empty() => SocketAddrUnix::new_abstract_name(name).ok(),
        path @ [b'/', _, ..] => SocketAddrUnix::new(path).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PID: u32 = 4711;

    fn by(variables: &[(&str, &str)]) -> Option<ServiceManager> {
        let get =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        ServiceManager::by(get, PID)
    }

    fn socket(named: &str) -> Option<SocketAddrUnix> {
        by(&[("NOTIFY_SOCKET", named)]).map(|manager| manager.socket)
    }

    #[test]
    fn it_listens_at_a_path_or_an_abstract_name() {
        assert_eq!(by(&[]), None);
        assert_eq!(socket("/run/systemd/notify"), SocketAddrUnix::new("/run/systemd/notify").ok());
        assert_eq!(socket("@org/systemd"), SocketAddrUnix::new_abstract_name(b"org/systemd").ok());
        let long = format!("/{}", "x".repeat(108));
        for nonsense in ["", "@", "/", "notify", "./notify", "vsock:2:1234", "/with\0nul", &long] {
            assert_eq!(socket(nonsense), None, "{nonsense:?}");
        }
    }

    #[test]
    fn its_watchdog_is_for_this_process_or_not() {
        let watchdog = |variables: &[(&str, &str)]| {
            by(&[&[("NOTIFY_SOCKET", "/n")], variables].concat()).unwrap().watchdog
        };
        let minute = Some(Duration::from_secs(60));
        assert_eq!(watchdog(&[("WATCHDOG_USEC", "60000000")]), minute);
        assert_eq!(watchdog(&[("WATCHDOG_USEC", "60000000"), ("WATCHDOG_PID", "4711")]), minute);
        for other in ["4712", "", "x"] {
            assert_eq!(watchdog(&[("WATCHDOG_USEC", "60000000"), ("WATCHDOG_PID", other)]), None, "{other}");
        }
        for nonsense in ["0", "", "-1", "1s", "99999999999999999999"] {
            assert_eq!(watchdog(&[("WATCHDOG_USEC", nonsense)]), None, "{nonsense}");
        }
    }

    #[test]
    fn it_may_take_another_process_for_this_one() {
        let knows_another = |variables: &[(&str, &str)]| {
            by(&[&[("NOTIFY_SOCKET", "/n")], variables].concat()).unwrap().knows_another
        };
        assert!(!knows_another(&[]) && !knows_another(&[("SYSTEMD_EXEC_PID", "4711")]));
        assert!(knows_another(&[("SYSTEMD_EXEC_PID", "4700")]));
        assert!(!knows_another(&[("SYSTEMD_EXEC_PID", "*")]), "systemd's own tests say so");
    }

    #[test]
    fn it_keeps_sockets_where_it_says_so() {
        let store = |most| by(&[("NOTIFY_SOCKET", "/n"), ("FDSTORE", most)]).unwrap().store;
        assert_eq!((store("7"), store("0"), store("-1"), store("")), (Some(7), None, None, None));
        assert_eq!(by(&[("NOTIFY_SOCKET", "/n")]).unwrap().store, None);
        let keeps = by(&[("NOTIFY_SOCKET", "/n"), ("FDSTORE", "7")]).unwrap();
        assert_eq!(keeps.keeps_no_sockets().store, None);
    }

    #[test]
    fn whoever_outlives_its_cluster_says_nothing_of_its_stop() {
        let manager = by(&[("NOTIFY_SOCKET", "/n")]).unwrap();
        assert!(manager.hears_of_stop);
        assert!(!manager.outlives_cluster().hears_of_stop);
    }
}
