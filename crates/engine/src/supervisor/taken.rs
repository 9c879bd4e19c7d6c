//! Who has the address that a dead worker did not get: another worker of the cluster, the master, or somebody else.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::Duration;
use std::{slice, thread};

use crate::process::family::Families;
use crate::process::runtime::NodeKind;
use crate::report::worker::{Address, Worker};
use crate::socket::bind::FIRST_LISTENER;
use crate::socket::holder::{Holder, Wanted, listening, runs_node};
use crate::socket::probe::obstacle;

/// How long it may be looked for a stranger who has an address: nothing else is done meanwhile.
const SEARCH: Duration = Duration::from_millis(200);
/// How many places are named where it is not known which one was wanted.
const MOST_PLACES: usize = 3;

/// A file system has not yet answered what is at a path.
static IS_LOOKING: AtomicBool = AtomicBool::new(false);

/// What is known of the cluster whose worker has died.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) living: Vec<Worker>,
    /// Workers that have ended, but for the one that is spoken of. Processes that they have started may live.
    pub(crate) ended: Vec<Worker>,
    /// Which program for node the workers run, if they do.
    pub(crate) kind: Option<NodeKind>,
    pub(crate) slots: u32,
    /// What the master has bound for the workers.
    pub(crate) bound: Vec<Address>,
    /// What it has given to one of them each, for its checks.
    pub(crate) given: Vec<SocketAddr>,
}

/// A worker whose process has the address.
#[derive(Clone, Copy, Debug)]
struct Owner {
    worker: Worker,
    lives: bool,
}

/// What is in the way at a path that a worker has named. Its file system may not answer: one thread at a time waits for that.
fn obstacle_in_time(path: &Path) -> Option<String> {
    if IS_LOOKING.swap(true, Ordering::AcqRel) {
        return None;
    }
    let ((tell, told), path) = (sync_channel(1), path.to_owned());
    let look = move || {
        // Nobody may hear it any more.
        let _ = tell.send(obstacle(&path));
        IS_LOOKING.store(false, Ordering::Release);
    };
    if thread::Builder::new().name("recluster-path".to_owned()).spawn(look).is_err() {
        IS_LOOKING.store(false, Ordering::Release);
    }
    told.recv_timeout(SEARCH).ok().flatten()
}

impl Cluster {
    /// Who has it, and what to do. `said` is what the worker said of it. The caller waits for the answer.
    pub(crate) fn who_has(&self, said: &str) -> Option<String> {
        self.who_has_within(SEARCH, said)
    }

    /// The same, where a stranger is looked for as long as this.
    fn who_has_within(&self, patience: Duration, said: &str) -> Option<String> {
        let families = Families::now();
        let Some(wanted) = Wanted::in_words(said) else { return self.who_has_something(&families) };
        let sockets = wanted.sockets();
        let own = processes(&families, &[&self.living, &self.ended]);
        let own: Vec<u32> = [std::process::id()].into_iter().chain(own).collect();
        if let Some(holder) = sockets.holder_among(&own).or_else(|| sockets.holder(patience)) {
            return Some(self.has_it(&wanted, &holder, &families));
        }
        if let Wanted::Path(path) = &wanted
            && let Some(what) = obstacle_in_time(path)
        {
            return Some(format!("{wanted} is taken: {what}"));
        }
        // What nobody has was no address.
        let something = sockets.is_empty().then(|| self.who_has_something(&families)).flatten();
        let nobody =
            || format!("{wanted} is taken, by whom cannot be seen from here: root sees it by `ss -lnp`");
        Some(something.unwrap_or_else(nobody))
    }

    fn has_it(&self, wanted: &Wanted, holder: &Holder, families: &Families) -> String {
        if holder.is_this_process() && self.hands_over() {
            return format!("{wanted} is taken: {holder}, and hands it over {TAKE_IT}");
        }
        match self.owner_of(holder, families) {
            None => format!("{wanted} is taken: {holder}"),
            Some(Owner { worker, lives: true }) => {
                let advice = self.advice(holder, slice::from_ref(wanted));
                format!("{wanted} is taken by {}: {advice}", named(worker, holder))
            }
            Some(Owner { worker, lives: false }) => format!(
                "{wanted} is taken by what worker {} of this cluster has left behind {}: a server has to end with the process \
                 that recluster has started",
                worker.id,
                holder.in_brackets()
            ),
        }
    }

    /// The worker did not say which address it wanted. Another one may have bound what only it can have.
    fn who_has_something(&self, families: &Families) -> Option<String> {
        let pids = processes(families, &[&self.living]);
        if let Some((holder, places)) = listening(&pids, &self.given)
            && let Some(Owner { worker, .. }) = self.owner_of(&holder, families)
        {
            let shown: Vec<String> = places.iter().take(MOST_PLACES).map(ToString::to_string).collect();
            let advice = self.advice(&holder, &places);
            return Some(format!("{} listens on {}: {advice}", named(worker, &holder), shown.join(" and ")));
        }
        let bound: Vec<String> = self.bound.iter().map(ToString::to_string).collect();
        self.hands_over().then(|| {
            format!(
                "if it was {}: this recluster listens there, and hands it over {TAKE_IT}",
                bound.join(" or ")
            )
        })
    }

    fn hands_over(&self) -> bool {
        self.kind.is_none() && !self.bound.is_empty()
    }

    fn owner_of(&self, holder: &Holder, families: &Families) -> Option<Owner> {
        let all = [(&self.living, true), (&self.ended, false)];
        all.into_iter().find_map(|(workers, lives)| {
            let first = families.first_of(holder.pid.cast_signed(), &firsts(workers))?;
            let worker = *workers.iter().rev().find(|worker| worker.pid == Some(first.unsigned_abs()))?;
            Some(Owner { worker, lives })
        })
    }

    /// What to do where workers do not share what they listen on.
    fn advice(&self, holder: &Holder, places: &[Wanted]) -> String {
        let instead = match self.kind {
            Some(NodeKind::Node) => {
                "listen without `exclusive` and `reusePort`, in the process that recluster starts".to_owned()
            }
            Some(NodeKind::Deno) => "listen by node:http or node:net, whose servers share".to_owned(),
            Some(NodeKind::Bun) => "listen with `reusePort`".to_owned(),
            None if runs_node(holder.pid) => "run the file that node runs itself under recluster".to_owned(),
            None => {
                let listen = match places {
                    [Wanted::Port(_, _, port)] => port.to_string(),
                    [Wanted::Path(path)] => format!("unix:{}", path.display()),
                    _ => "ADDRESS".to_owned(),
                };
                format!(
                    "let recluster bind it (--listen {listen}), and the program take it as descriptor {FIRST_LISTENER} \
                     (docs/languages.md)"
                )
            }
        };
        let alone = if self.slots > 1 { ", or run one worker (--workers 1)" } else { "" };
        format!("the program binds it itself, so that workers do not share it; {instead}{alone}")
    }
}

/// The processes of these workers.
fn processes(families: &Families, workers: &[&[Worker]]) -> Vec<u32> {
    let firsts = workers.iter().flat_map(|workers| firsts(workers)).collect();
    families.of(&firsts).into_iter().map(|(pid, _)| pid.unsigned_abs()).collect()
}

/// A worker, with the process of it that has the address.
fn named(worker: Worker, holder: &Holder) -> String {
    let is_first = worker.pid == Some(holder.pid);
    let process = if is_first { format!("(pid {})", holder.pid) } else { holder.in_brackets() };
    format!("worker {} of this cluster {process}", worker.id)
}

/// How a program gets a socket that the master has bound.
const TAKE_IT: &str =
    "from descriptor 3 on: the program has to take it there and not bind it again (docs/languages.md)";

/// The first processes of these workers.
fn firsts(workers: &[Worker]) -> BTreeSet<i32> {
    workers.iter().filter_map(|worker| worker.pid).map(u32::cast_signed).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::net::TcpListener;
    use std::os::fd::OwnedFd;
    use std::os::unix::process::CommandExt as _;
    use std::path::Path;
    use std::process::{Child, Command};

    use super::*;

    /// A process in a group of its own that listens, as a program does which binds its sockets itself.
    struct Server {
        process: Child,
        port: u16,
    }

    impl Server {
        fn start() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            let mut command = Command::new("/bin/sleep");
            command.arg("1000000").stdin(OwnedFd::from(listener)).process_group(0);
            Self { process: command.spawn().unwrap(), port }
        }

        fn worker(&self, id: u64) -> Worker {
            Worker { id, slot: 0, generation: 1, pid: Some(self.process.id()) }
        }

        /// In the words of a program that names the port.
        fn says(&self) -> String {
            format!("listen tcp 127.0.0.1:{}: bind: address already in use", self.port)
        }
    }

    impl Drop for Server {
        fn drop(&mut self) {
            self.process.kill().unwrap();
            self.process.wait().unwrap();
        }
    }

    /// Longer than a busy machine takes to look at all processes.
    const PATIENCE: Duration = Duration::from_secs(60);

    const SILENT: &str = "OSError: [Errno 98] Address already in use";

    fn cluster(living: Vec<Worker>, ended: Vec<Worker>) -> Cluster {
        Cluster { living, ended, kind: None, slots: 2, bound: Vec::new(), given: Vec::new() }
    }

    #[test]
    fn a_sibling_that_has_the_address_is_named_with_what_to_do() {
        let server = Server::start();
        let Server { process, port } = &server;
        let mut cluster = cluster(vec![server.worker(7)], Vec::new());
        let who = format!("worker 7 of this cluster (pid {})", process.id());
        let advice = |instead: &str| {
            format!(
                "the program binds it itself, so that workers do not share it; {instead}, or run one worker (--workers 1)"
            )
        };
        let listen = advice(&format!(
            "let recluster bind it (--listen {port}), and the program take it as descriptor 3 (docs/languages.md)"
        ));
        assert_eq!(cluster.who_has(&server.says()), Some(format!("port {port} is taken by {who}: {listen}")));
        assert_eq!(cluster.who_has(SILENT), Some(format!("{who} listens on port {port}: {listen}")));
        let advised = |cluster: &Cluster, words: &str| {
            cluster.who_has(&server.says()).is_some_and(|said| said.ends_with(words))
        };
        cluster.kind = Some(NodeKind::Node);
        assert!(advised(
            &cluster,
            &advice("listen without `exclusive` and `reusePort`, in the process that recluster starts")
        ));
        cluster.kind = Some(NodeKind::Deno);
        assert!(advised(&cluster, &advice("listen by node:http or node:net, whose servers share")));
        (cluster.kind, cluster.slots) = (Some(NodeKind::Bun), 1);
        assert!(advised(&cluster, "; listen with `reusePort`"), "an old and a new worker are two as well");
    }

    #[test]
    fn a_path_is_advised_as_it_is_to_be_written_and_node_is_known_by_its_binary() {
        let directory = tempfile::tempdir().unwrap();
        let advice = |program: &Path, path: &Path| {
            let listener = std::os::unix::net::UnixListener::bind(path).unwrap();
            let mut command = Command::new(program);
            command.arg("1000000").stdin(OwnedFd::from(listener)).process_group(0);
            let server = Server { process: command.spawn().unwrap(), port: 0 };
            drop(command);
            let all = cluster(vec![server.worker(7)], Vec::new());
            all.who_has(&format!("bind EADDRINUSE {}", path.display())).unwrap()
        };
        let binary = directory.path().join("node");
        // In a process of its own: a descriptor for writing that another test's child holds would make it busy.
        assert!(Command::new("cp").arg("/bin/sleep").arg(&binary).status().unwrap().success());
        let [one, two] = ["one.sock", "two.sock"].map(|name| directory.path().join(name));
        let said = advice(Path::new("/bin/sleep"), &one);
        assert!(said.contains(&format!("(--listen unix:{})", one.display())), "{said}");
        let said = advice(&binary, &two);
        assert!(said.contains("run the file that node runs itself under recluster"), "{said}");
    }

    #[test]
    fn what_a_worker_has_left_behind_is_told_from_workers_and_from_others() {
        let server = Server::start();
        let said = |ended| cluster(Vec::new(), ended).who_has_within(PATIENCE, &server.says()).unwrap();
        let left = said(vec![server.worker(3)]);
        assert!(
            left.contains("is taken by what worker 3 of this cluster has left behind (process "),
            "{left}"
        );
        let other = said(Vec::new());
        assert!(other.starts_with(&format!("port {} is taken: process ", server.port)), "{other}");
        assert!(!other.contains("cluster"), "{other}");
        assert_eq!(cluster(Vec::new(), vec![server.worker(3)]).who_has(SILENT), None);
    }

    #[test]
    fn what_the_master_hands_over_is_not_to_be_bound_again() {
        let ours = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = ours.local_addr().unwrap();
        let mut cluster = Cluster { bound: vec![Address::Tcp(address)], ..cluster(Vec::new(), Vec::new()) };
        let taken = cluster.who_has(&format!("bind {address}: address already in use")).unwrap();
        assert!(taken.contains("this recluster has it") && taken.ends_with(TAKE_IT), "{taken}");
        let guessed = cluster.who_has(SILENT).unwrap();
        assert_eq!(
            guessed,
            format!("if it was {address}: this recluster listens there, and hands it over {TAKE_IT}")
        );
        cluster.kind = Some(NodeKind::Node);
        assert_eq!(cluster.who_has(SILENT), None);
    }

    #[test]
    fn whom_nobody_can_see_is_said() {
        let said = cluster(Vec::new(), Vec::new()).who_has("bind EADDRINUSE /nowhere/it.sock");
        assert_eq!(
            said.as_deref(),
            Some("/nowhere/it.sock is taken, by whom cannot be seen from here: root sees it by `ss -lnp`")
        );
    }
    #[test]
    fn what_is_in_the_way_of_a_unix_socket_is_said() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("it.sock");
        fs::write(&path, "").unwrap();
        let said = cluster(Vec::new(), Vec::new()).who_has(&format!("bind EADDRINUSE {}", path.display()));
        let what = "a file is there, and no socket: remove it, or name another path";
        assert_eq!(said, Some(format!("{} is taken: {what}", path.display())));
    }
}
