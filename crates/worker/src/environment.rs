//! The environment of this process, read once. Children of a worker inherit it, and nothing in it is for them: sockets
//! and watchdog are for one pid, and the channel's descriptor does not reach them.

use std::time::Duration;

use recluster_wire::env;

/// The most sockets that are taken; a greater number is a mistake.
const MAX_SOCKETS: u32 = 1024;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Environment {
    pub(crate) slot: Option<u32>,
    pub(crate) generation: Option<u64>,
    pub(crate) workers: Option<u32>,
    pub(crate) channel_fd: Option<u32>,
    /// Numbers and names, in their order.
    pub(crate) sockets: Vec<(u32, Option<String>)>,
    pub(crate) notify_socket: Option<String>,
    pub(crate) watchdog: Option<Duration>,
}

impl Environment {
    pub(crate) fn of_process() -> Self {
        Self::read(|name| std::env::var(name).ok(), std::process::id())
    }

    fn read(get: impl Fn(&str) -> Option<String>, pid: u32) -> Self {
        let number = |name| get(name)?.parse::<u64>().ok();
        let small = |name| number(name).and_then(|number| u32::try_from(number).ok());
        let of_others = |name| number(name).is_some_and(|for_pid| for_pid != u64::from(pid));
        let watchdog = number(env::WATCHDOG_USEC).filter(|&usec| usec > 0).map(Duration::from_micros);
        let is_mine = number(env::LISTEN_PID) == Some(u64::from(pid));
        let count = small(env::LISTEN_FDS).filter(|&count| is_mine && count <= MAX_SOCKETS).unwrap_or(0);
        let names = get(env::LISTEN_FDNAMES).unwrap_or_default();
        let names = names.split(':').map(|name| Some(name.to_owned()).filter(|name| !name.is_empty()));
        Self {
            slot: small(env::WORKER_ID),
            generation: number(env::GENERATION),
            workers: small(env::WORKERS),
            channel_fd: small(env::RECLUSTER_CHANNEL_FD),
            sockets: (env::FIRST_FD..env::FIRST_FD + count)
                .zip(names.chain(std::iter::repeat(None)))
                .collect(),
            notify_socket: get(env::NOTIFY_SOCKET).filter(|path| path.len() > 1),
            watchdog: watchdog.filter(|_| !of_others(env::WATCHDOG_PID)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Environment {
        let get = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Environment::read(get, 4711)
    }

    #[test]
    fn a_worker_reads_what_the_master_writes() {
        use recluster_wire::env::{Activation, Given, GivenAddress, Links, WorkerEnv};
        let given = |name: &str, path: &str| Given {
            name: name.parse().ok(),
            address: GivenAddress::Unix(path.into()),
        };
        let activation = Activation { sockets: vec![given("http", "/a"), given("", "/b")], generation: 7 };
        let links =
            Links { channel_fd: Some(5), notify_socket: Some("/n"), watchdog: Some(Duration::from_secs(2)) };
        let place = WorkerEnv { slot: 1, generation: 7, workers: 4, node: None };
        let mut variables = activation.variables();
        let rest = place.variables().into_iter().chain(links.variables());
        variables.extend(rest.map(|(name, value)| (name.to_owned(), value)));
        variables.push(("LISTEN_PID".into(), "4711".into()));
        variables.push(("WATCHDOG_PID".into(), "4711".into()));
        let variables: Vec<_> =
            variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let expected = Environment {
            slot: Some(1),
            generation: Some(7),
            workers: Some(4),
            channel_fd: Some(5),
            sockets: vec![(3, Some("http".into())), (4, Some("unknown".into()))],
            notify_socket: Some("/n".into()),
            watchdog: Some(Duration::from_secs(2)),
        };
        assert_eq!(read(&variables), expected);
    }

    #[test]
    fn without_a_master_there_is_nothing() {
        assert_eq!(read(&[]), Environment::default());
    }

    #[test]
    fn what_is_for_another_process_is_not_for_this_one() {
        let sockets = [("LISTEN_FDS", "2"), ("LISTEN_PID", "4712")];
        assert_eq!(read(&sockets).sockets, []);
        assert_eq!(read(&sockets[..1]).sockets, [], "systemd always says for whom they are");
        let watchdog = [("WATCHDOG_USEC", "1000"), ("WATCHDOG_PID", "4712")];
        assert_eq!(read(&watchdog).watchdog, None);
        assert_eq!(
            read(&watchdog[..1]).watchdog,
            Some(Duration::from_millis(1)),
            "but here it may be left out"
        );
    }

    #[test]
    fn names_may_be_fewer_or_more_than_sockets() {
        let two = [("LISTEN_FDS", "2"), ("LISTEN_PID", "4711"), ("LISTEN_FDNAMES", "a")];
        assert_eq!(read(&two).sockets, [(3, Some("a".into())), (4, None)]);
        let one = [("LISTEN_FDS", "1"), ("LISTEN_PID", "4711"), ("LISTEN_FDNAMES", "a:b")];
        assert_eq!(read(&one).sockets, [(3, Some("a".into()))]);
    }

    #[test]
    fn nonsense_is_nothing() {
        let nonsense = [
            ("WORKER_ID", "-1"),
            ("RECLUSTER_GENERATION", ""),
            ("RECLUSTER_CHANNEL_FD", "99999999999"),
            ("LISTEN_FDS", "4294967295"),
            ("LISTEN_PID", "4711"),
            ("NOTIFY_SOCKET", ""),
            ("WATCHDOG_USEC", "0"),
        ];
        assert_eq!(read(&nonsense), Environment::default());
    }
}
