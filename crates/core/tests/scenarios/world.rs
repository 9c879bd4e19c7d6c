//! A cluster, a clock, and everything the cluster did.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use recluster_core::{
    Action, Caller, Change, Cluster, Config, Event, Exit, Settings, SpawnFailure, State, Status, Surge, Time,
    WorkerId,
};

use crate::words::{FOR_CALLERS, Word, due, word};

/// Nothing was done of this kind.
pub(crate) const NOTHING: [&str; 0] = [];

/// Workers are named by their numbers. The questions `spawned`, `drained`, `signalled` and `notices` answer with
/// what was done since they were asked last.
pub(crate) struct World {
    pub(crate) cluster: Cluster,
    now: Time,
    workers: BTreeMap<u64, WorkerId>,
    /// Processes are not begun before the scenario says so.
    queues: bool,
    unread: Vec<Word>,
    transcript: Vec<(Time, String)>,
}

impl World {
    /// A cluster that has just begun.
    pub(crate) fn new(settings: Settings) -> Self {
        Self::with_queue(settings, false)
    }

    /// One that has just begun, and whose processes are begun when the scenario says so.
    pub(crate) fn queueing(settings: Settings) -> Self {
        Self::with_queue(settings, true)
    }

    fn with_queue(settings: Settings, queues: bool) -> Self {
        let config = Config::new(settings).expect("a scenario's settings are valid");
        let mut world = Self {
            cluster: Cluster::new(config, Time::ZERO),
            now: Time::ZERO,
            workers: BTreeMap::new(),
            queues,
            unread: Vec::new(),
            transcript: Vec::new(),
        };
        world.read_actions();
        world
    }

    /// A cluster whose workers 1 to N have served for so long, at 100 s, that no limit of the past applies.
    pub(crate) fn serving(settings: Settings) -> Self {
        let mut world = Self::new(settings);
        let workers: Vec<u64> = world.workers.keys().copied().collect();
        world.all_ready(workers);
        world.at(100);
        world.forget();
        world
    }

    /// Such a cluster, where the next processes are begun when the scenario says so.
    pub(crate) fn serving_behind_a_queue(settings: Settings) -> Self {
        let mut world = Self::serving(settings);
        world.queues = true;
        world
    }

    // What happens.

    pub(crate) fn begins(&mut self, worker: u64) {
        self.happens(Event::Begun(self.id(worker)));
    }

    pub(crate) fn ready(&mut self, worker: u64) {
        self.happens(Event::Ready(self.id(worker)));
    }

    pub(crate) fn unready(&mut self, worker: u64) {
        self.happens(Event::Unready(self.id(worker)));
    }

    pub(crate) fn all_ready(&mut self, workers: impl IntoIterator<Item = u64>) {
        for worker in workers {
            self.ready(worker);
        }
    }

    /// These workers are ready now and have lived for a bake time of a second.
    pub(crate) fn come_to_serve(&mut self, workers: impl IntoIterator<Item = u64>) {
        self.all_ready(workers);
        self.pass(Duration::from_secs(1));
    }

    pub(crate) fn retires(&mut self, worker: u64) {
        self.happens(Event::Retiring(self.id(worker)));
    }

    pub(crate) fn disconnects(&mut self, worker: u64) {
        self.happens(Event::Disconnected(self.id(worker)));
    }

    /// It ends with status 1.
    pub(crate) fn crashes(&mut self, worker: u64) {
        self.happens(Event::Exited(self.id(worker), Exit::Code(1)));
    }

    /// It ends with status 0.
    pub(crate) fn exits(&mut self, worker: u64) {
        self.happens(Event::Exited(self.id(worker), Exit::Code(0)));
    }

    pub(crate) fn cannot_spawn(&mut self, worker: u64, failure: SpawnFailure) {
        self.happens(Event::SpawnFailed(self.id(worker), failure));
    }

    pub(crate) fn reload(&mut self, caller: u64) {
        self.happens(Event::Reload { caller: Some(Caller(caller)), config: None });
    }

    /// A reload that brings other settings.
    pub(crate) fn reload_with(&mut self, caller: u64, settings: Settings) {
        let config = Config::new(settings).expect("a scenario's settings are valid");
        self.happens(Event::Reload { caller: Some(Caller(caller)), config: Some(config) });
    }

    pub(crate) fn changes(&mut self, change: Change) {
        self.happens(Event::Changed(change));
    }

    pub(crate) fn replace(&mut self, worker: u64) {
        self.happens(Event::Replace(self.id(worker)));
    }

    pub(crate) fn scale(&mut self, workers: u32) {
        self.happens(Event::Scale(workers));
    }

    pub(crate) fn happens(&mut self, event: Event) {
        self.transcript.push((self.now, format!("{event:?}")));
        self.cluster.handle(event, self.now);
        self.read_actions();
    }

    // Time.

    /// Time passes until so many seconds after the beginning; the cluster is woken at each deadline.
    pub(crate) fn at(&mut self, secs: u64) {
        self.wait_until(Time::after(Duration::from_secs(secs)));
    }

    /// So much time passes; the cluster is woken at each deadline.
    pub(crate) fn pass(&mut self, span: Duration) {
        self.wait_until(self.now + span);
    }

    fn wait_until(&mut self, then: Time) {
        while let Some((deadline, _)) = self.cluster.next_deadline().filter(|(at, _)| *at <= then) {
            assert!(deadline > self.now, "a deadline lies in the past");
            self.now = deadline;
            self.happens(Event::Tick);
        }
        self.now = then;
        self.happens(Event::Tick);
    }

    // What the cluster did.

    /// Which workers were started.
    pub(crate) fn spawned(&mut self) -> Vec<String> {
        self.read(|word| if let Word::Spawned(words) = word { Some(words.clone()) } else { None })
    }

    /// Which workers were asked to go.
    pub(crate) fn drained(&mut self) -> Vec<String> {
        self.read(|word| if let Word::Drained(words) = word { Some(words.clone()) } else { None })
    }

    /// Which signals were sent.
    pub(crate) fn signalled(&mut self) -> Vec<String> {
        self.read(|word| if let Word::Signalled(words) = word { Some(words.clone()) } else { None })
    }

    /// For what the shell was told to ask for a reload.
    pub(crate) fn asked(&mut self) -> Vec<String> {
        self.read(|word| if let Word::Asked(words) = word { Some(words.clone()) } else { None })
    }

    /// Which notices there were.
    pub(crate) fn notices(&mut self) -> Vec<String> {
        self.read(|word| if let Word::Notice(words) = word { Some(words.clone()) } else { None })
    }

    /// Which notices there were with these words in them.
    pub(crate) fn notices_with(&mut self, words: &str) -> Vec<String> {
        self.notices().into_iter().filter(|notice| notice.contains(words)).collect()
    }

    /// Which reloads got a verdict, for which callers.
    pub(crate) fn verdicts(&mut self) -> Vec<String> {
        self.notices_with(FOR_CALLERS)
    }

    /// What was done so far is of no interest.
    pub(crate) fn forget(&mut self) {
        self.unread.clear();
    }

    // What the cluster is.

    /// The next deadline, and why.
    pub(crate) fn deadline(&self) -> Option<String> {
        self.cluster.next_deadline().map(|(at, why)| format!("{} at {at}", due(why)))
    }

    pub(crate) fn status(&self) -> Status {
        self.cluster.status()
    }

    /// Which workers serve, in the order in which they were begun.
    pub(crate) fn servers(&self) -> Vec<u64> {
        let serving = self.status().workers.into_iter().filter(|worker| worker.serves);
        serving.map(|worker| worker.worker.get()).collect()
    }

    /// How many workers live that are not on their way out.
    pub(crate) fn staying(&self) -> usize {
        let stays = |state: State| matches!(state, State::Starting { .. } | State::Ready { .. });
        self.status().workers.into_iter().filter(|worker| stays(worker.state)).count()
    }

    pub(crate) fn id(&self, worker: u64) -> WorkerId {
        *self.workers.get(&worker).expect("a scenario speaks of workers that were started")
    }

    fn read(&mut self, words: impl Fn(&Word) -> Option<String>) -> Vec<String> {
        let read = self.unread.iter().filter_map(&words).collect();
        self.unread.retain(|word| words(word).is_none());
        read
    }

    fn read_actions(&mut self) {
        let mut spawned = Vec::new();
        while let Some(action) = self.cluster.poll_action() {
            if let Action::Spawn { worker, .. } = action {
                self.workers.insert(worker.get(), worker);
                spawned.push(worker);
            }
            let word = word(&action, self.now);
            self.transcript.push((self.now, format!("    {word:?}")));
            self.unread.push(word);
        }
        if !self.queues {
            for worker in spawned {
                self.cluster.handle(Event::Begun(worker), self.now);
                assert_eq!(self.cluster.poll_action(), None, "nothing follows from the beginning of a start");
            }
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for (at, line) in &self.transcript {
                eprintln!("{at}  {line}");
            }
        }
    }
}

/// The defaults, with so many slots: bake 1 s, ready timeout 60 s, timeout 30 s, stop timeout 25 s, exit grace and
/// kill timeout 5 s, respawn 1 s, three attempts.
pub(crate) fn slots(workers: u32) -> Settings {
    Settings { workers, ..Settings::default() }
}

/// The defaults, with so many slots and at most so many extra workers at once.
pub(crate) fn surge(workers: u32, extra: u32) -> Settings {
    let extra = NonZeroU32::new(extra).expect("a bounded surge allows one at least");
    Settings { surge: Surge::AtMost(extra), ..slots(workers) }
}
