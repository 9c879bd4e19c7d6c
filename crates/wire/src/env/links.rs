//! How a worker that is not Node speaks with its master: a channel, a notify socket, a watchdog.

use std::time::Duration;

/// The number of the channel in a worker that is not Node: a connected unix stream socket on which both sides speak
/// as [`node`](crate::node) says.
pub const RECLUSTER_CHANNEL_FD: &str = "RECLUSTER_CHANNEL_FD";
/// systemd: the path of the datagram socket for [`notify`](crate::notify) messages.
pub const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";
/// systemd: how long a worker may be silent, in microseconds.
pub const WATCHDOG_USEC: &str = "WATCHDOG_USEC";
/// systemd: the process that may be silent for so long. One of [`OWN_PID`](super::OWN_PID).
pub const WATCHDOG_PID: &str = "WATCHDOG_PID";

/// The ways to its master that a worker finds in its environment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Links<'a> {
    /// The number of its channel.
    pub channel_fd: Option<u32>,
    /// The path of its notify socket, or the name of an abstract one behind an `@`.
    pub notify_socket: Option<&'a str>,
    /// How long it may be silent before it counts as hung.
    pub watchdog: Option<Duration>,
}

impl Links<'_> {
    /// The variables to set, as names and values.
    ///
    /// [`WATCHDOG_PID`] is not among them: see [`OWN_PID`](super::OWN_PID).
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let channel = self.channel_fd.map(|fd| (RECLUSTER_CHANNEL_FD, fd.to_string()));
        let notify = self.notify_socket.map(|path| (NOTIFY_SOCKET, path.to_owned()));
        let watchdog = self.watchdog.map(|patience| (WATCHDOG_USEC, patience.as_micros().to_string()));
        [channel, notify, watchdog].into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_has_its_variable() {
        let links = Links {
            channel_fd: Some(5),
            notify_socket: Some("/run/recluster/app.notify"),
            watchdog: Some(Duration::from_millis(1500)),
        };
        let variables: Vec<_> =
            links.variables().into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        let expected =
            ["RECLUSTER_CHANNEL_FD=5", "NOTIFY_SOCKET=/run/recluster/app.notify", "WATCHDOG_USEC=1500000"];
        assert_eq!(variables, expected);
        assert_eq!(Links::default().variables(), []);
    }
}
