//! Hooks: what is done when something happens. Each has a queue and a task of its own, which does one thing after the other; so
//! no hook is in the way of anything but itself, and what a slow one cannot take is counted and told.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::task::JoinSet;

use crate::config::hook::{Hook, Moment};
use crate::guard::{Part, attempt_task};
use crate::process::hands::Hands;
use crate::process::hook::{self, Surroundings};
use crate::report::event::Event;
use crate::report::level::Level;
use crate::report::record::Record;
use crate::report::verdict::Verdict;
use crate::sink::Sink;
use crate::upgrade::{AdoptError, Inheritance, SaveError, Saving, plain};

/// One that panics has failed, and the next one is told.
const PART: Part = Part::dispensable("a hook");
const PART_LEFT: &str = "hooks";
/// How many events may wait for one hook.
const WAITING: usize = 16;
/// A longer event is not told: so much of it waits for each hook at most.
const LONGEST: usize = 64 * 1024;
/// So many respawns in a row are a loop; a row is over when none came for so long. The log sums up by the same.
const LOOP: u32 = 10;
const QUIET: Duration = Duration::from_secs(30);

/// A hook that did not do what it was to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failed {
    pub(crate) on: Moment,
    pub(crate) hook: String,
    pub(crate) reason: String,
}

/// All hooks of a cluster.
#[derive(Debug)]
pub(crate) struct Hooks {
    list: Vec<Queue>,
    /// Those that are told no more and have something left to do. One that comes back is taken from here: a second task for
    /// it would run it beside itself.
    gone: Vec<Queue>,
    /// What the cluster is called, if it has a name.
    name: Option<String>,
    row: Mutex<Row>,
    hands: Hands,
    failures: Sink<Failed>,
    tasks: JoinSet<()>,
}

/// What another program goes on with.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Left {
    row: Row,
    lost: Vec<Lost>,
}

/// What one hook could not take.
#[derive(Debug, Serialize, Deserialize)]
struct Lost {
    on: String,
    hook: String,
    count: u64,
}

/// One hook, and what waits for it.
#[derive(Debug)]
struct Queue {
    hook: Arc<Hook>,
    jobs: mpsc::Sender<(Job, Arc<()>)>,
    /// Goes with each event until the hook has been told of it.
    ticket: Arc<()>,
    /// How many events it could not take since people were last told.
    lost: Mutex<u64>,
}

/// An event that a hook is to be told.
#[derive(Clone, Debug)]
struct Job {
    line: Arc<[u8]>,
    surroundings: Arc<Surroundings>,
}

/// The respawns that follow each other.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Row {
    #[serde(with = "plain")]
    began: Option<Instant>,
    #[serde(with = "plain")]
    last: Option<Instant>,
    respawns: u32,
}

/// What stands before the event.
#[derive(Clone, Copy, Debug, Serialize)]
struct Head<'a> {
    on: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<&'a str>,
}

/// Respawns in a row, as the log sums them up.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "respawn_row")]
struct RespawnRow {
    respawns: u32,
    seconds: f64,
    over: bool,
}

impl Hooks {
    /// Hooks whose commands are started by these hands, and whose failures go there. Must be called in a runtime.
    pub(crate) fn new(hooks: &[Hook], name: Option<String>, hands: Hands, failures: Sink<Failed>) -> Self {
        let (row, tasks) = (Mutex::default(), JoinSet::new());
        let mut all = Self { list: Vec::new(), gone: Vec::new(), name, row, hands, failures, tasks };
        all.fit(hooks);
        all
    }

    /// Has these hooks and no others from now on. One that was there goes on with what waits for it; one that is gone does
    /// what waits for it, and is told no more. One that comes back before that goes on as well.
    pub(crate) fn fit(&mut self, hooks: &[Hook]) {
        if self.list.iter().map(|queue| &*queue.hook).eq(hooks) {
            return;
        }
        while self.tasks.try_join_next().is_some() {}
        let mut before = std::mem::take(&mut self.list);
        before.append(&mut self.gone);
        for hook in hooks {
            let there = before.iter().position(|queue| *queue.hook == *hook);
            let queue = there.map(|index| before.remove(index));
            let queue = queue.unwrap_or_else(|| self.begin(hook));
            self.list.push(queue);
        }
        self.gone = before;
        self.gone.retain(|gone| {
            gone.tell_losses(&self.failures);
            gone.is_at_work()
        });
    }

    fn begin(&mut self, hook: &Hook) -> Queue {
        let (jobs, waiting) = mpsc::channel(WAITING);
        let hook = Arc::new(hook.clone());
        self.tasks.spawn(work(Arc::clone(&hook), waiting, self.hands.clone(), self.failures.clone()));
        Queue { hook, jobs, ticket: Arc::default(), lost: Mutex::default() }
    }

    /// Leaves what was counted to another program. None of them is to have anything to do.
    pub(crate) fn save(&self, saving: &mut Saving) -> Result<(), SaveError> {
        if self.list.iter().chain(&self.gone).any(Queue::is_at_work) {
            return Err(SaveError::Refused("a hook runs".to_owned()));
        }
        let row = self.row.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let lost = self.list.iter().map(|queue| Lost {
            on: queue.hook.on.name().to_owned(),
            hook: queue.hook.label(),
            count: *queue.lost(),
        });
        saving.put(PART_LEFT, &Left { row, lost: lost.collect() })
    }

    /// Whether what was left can be read.
    pub(crate) fn read(inheritance: &mut Inheritance) -> Result<(), AdoptError> {
        inheritance.needed::<Left>(PART_LEFT).map(drop)
    }

    /// Goes on with what was left.
    pub(crate) fn go_on(&mut self, inheritance: &mut Inheritance) -> Result<(), AdoptError> {
        let Left { row, lost } = inheritance.needed(PART_LEFT)?;
        self.row = Mutex::new(row);
        for Lost { on, hook, count } in lost {
            let is_it = |queue: &&Queue| queue.hook.on.name() == on && queue.hook.label() == hook;
            if let Some(queue) = self.list.iter().find(is_it) {
                *queue.lost() = count;
            }
        }
        Ok(())
    }

    /// Tells those whom it concerns of an event. They run in these surroundings.
    pub(crate) fn hear(&self, event: &Event, surroundings: impl FnOnce() -> Surroundings) {
        if self.list.is_empty() {
            return;
        }
        if let Some(moment) = moment_of(event) {
            self.tell(moment, event.level(), event, surroundings);
        } else if let Event::Respawning { .. } = event
            && let Some(row) = self.row.lock().unwrap_or_else(PoisonError::into_inner).count(Instant::now())
        {
            self.tell(Moment::RespawnLoop, Level::Warn, &row, surroundings);
        }
    }

    /// Tells hooks of the end, and waits until all of them have done what they were to do.
    pub(crate) async fn end(mut self, surroundings: Surroundings) {
        if let Some(job) = self.job(Moment::Stopped, Level::Info, &Event::Over, surroundings) {
            for queue in self.list.iter().filter(|queue| queue.hook.on == Moment::Stopped) {
                // An error means that its task has panicked.
                let _ = queue.jobs.send(queue.ticketed(job.clone())).await;
            }
        }
        self.gone.clear();
        for queue in self.list.drain(..) {
            queue.tell_losses(&self.failures);
        }
        while self.tasks.join_next().await.is_some() {}
    }

    fn tell(
        &self,
        moment: Moment,
        level: Level,
        what: &impl Serialize,
        surroundings: impl FnOnce() -> Surroundings,
    ) {
        let meant: Vec<&Queue> = self.list.iter().filter(|queue| queue.hook.on == moment).collect();
        if meant.is_empty() {
            return;
        }
        let job = self.job(moment, level, what, surroundings());
        for queue in meant {
            queue.push(job.clone(), &self.failures);
        }
    }

    /// None where the event is too long.
    fn job(&self, on: Moment, level: Level, what: &impl Serialize, around: Surroundings) -> Option<Job> {
        let head = Head { on: on.name(), cluster: self.name.as_deref() };
        let line = Record::new(head, level, what, SystemTime::now()).line().ok()?;
        (line.len() <= LONGEST).then(|| Job { line: line.into(), surroundings: Arc::new(around) })
    }
}

impl Queue {
    /// Has an event wait for the hook, if it has room.
    fn push(&self, job: Option<Job>, failures: &Sink<Failed>) {
        match job.map(|job| self.jobs.try_send(self.ticketed(job))) {
            Some(Ok(())) => self.tell_losses(failures),
            Some(Err(TrySendError::Full(_))) => *self.lost() += 1,
            // Its task has panicked, or the event is too long.
            Some(Err(TrySendError::Closed(_))) | None => {
                failures.send(self.failed("the event cannot be told".to_owned()));
            }
        }
    }

    fn ticketed(&self, job: Job) -> (Job, Arc<()>) {
        (job, Arc::clone(&self.ticket))
    }

    /// Whether the hook is being told of something, or something waits for it.
    fn is_at_work(&self) -> bool {
        Arc::strong_count(&self.ticket) > 1
    }

    /// Says how many events were lost, if any.
    fn tell_losses(&self, failures: &Sink<Failed>) {
        let lost = std::mem::take(&mut *self.lost());
        if lost > 0 {
            failures.send(self.failed(format!("it is too slow: {lost} events were not told")));
        }
    }

    fn lost(&self) -> MutexGuard<'_, u64> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, reason: String) -> Failed {
        Failed { on: self.hook.on, hook: self.hook.label(), reason }
    }
}

/// Tells a hook what waits for it, one after the other.
async fn work(
    hook: Arc<Hook>,
    mut jobs: mpsc::Receiver<(Job, Arc<()>)>,
    hands: Hands,
    failures: Sink<Failed>,
) {
    while let Some((Job { line, surroundings }, _ticket)) = jobs.recv().await {
        let told = attempt_task(PART, hook::tell(&hook, &line, &surroundings, &hands)).await;
        let told = told.unwrap_or_else(|panic| Err(format!("recluster has panicked: {}", panic.reason)));
        if let Err(reason) = told {
            failures.send(Failed { on: hook.on, hook: hook.label(), reason });
        }
    }
}

/// What an event is to hooks, if they can be told of it.
fn moment_of(event: &Event) -> Option<Moment> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "hooks are told of little")]
    Some(match event {
        Event::Started { .. } => Moment::Started,
        Event::Reloaded { verdict: Verdict::Done, .. } => Moment::Reloaded,
        Event::Reloaded { verdict: Verdict::RolledBack { .. }, .. } => Moment::RolledBack,
        Event::Reloaded { verdict: Verdict::StoppedPartWay { .. }, .. } => Moment::StoppedPartWay,
        Event::Exit { expected: false, .. } => Moment::Crashed,
        Event::Unhealthy { .. } | Event::Hung { .. } => Moment::Unhealthy,
        Event::Recycling { .. } => Moment::Recycled,
        Event::Stopping => Moment::Stopping,
        _ => return None,
    })
}

impl Row {
    /// One more. Says so when it makes a loop of the row.
    fn count(&mut self, now: Instant) -> Option<RespawnRow> {
        if self.last.is_none_or(|last| now >= last + QUIET) {
            *self = Self { began: Some(now), ..Self::default() };
        }
        self.last = Some(now);
        self.respawns = self.respawns.saturating_add(1);
        let seconds = self.began.map_or(0.0, |began| now.saturating_duration_since(began).as_secs_f64());
        (self.respawns == LOOP).then_some(RespawnRow { respawns: LOOP, seconds, over: false })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use serde_json::Value;
    use tokio::time::timeout;

    use super::*;
    use crate::process::awaited::Awaited;
    use crate::process::hands::Chore;
    use crate::report::event::Exit;
    use crate::report::worker::Worker;

    const WORKER: Worker = Worker { id: 1, slot: 0, generation: 1, pid: Some(7) };

    fn hooks(list: &[&str]) -> (Hooks, Receiver<Failed>) {
        let hands = Hands::new(None, Awaited::default(), Sink::new(|chore: Chore| chore()));
        let list: Vec<Hook> = parsed(list);
        let (failures, failed) = channel();
        let failures = Sink::new(move |failure| drop(failures.send(failure)));
        (Hooks::new(&list, Some("shop".to_owned()), hands, failures), failed)
    }

    fn parsed(list: &[&str]) -> Vec<Hook> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn surroundings() -> Surroundings {
        let env = [("PATH".into(), "/usr/bin:/bin".into())].into();
        Surroundings { env, ..Surroundings::default() }
    }

    fn crash() -> Event {
        Event::Exit { worker: WORKER, exit: Exit::Code(1), expected: false, oom_killed: false }
    }

    async fn ended(hooks: Hooks) {
        timeout(Duration::from_secs(60), hooks.end(surroundings())).await.unwrap();
    }

    #[tokio::test]
    async fn each_hook_hears_its_events_in_order_and_the_end_last() {
        let base = tempfile::tempdir().unwrap();
        let log = base.path().join("log");
        let write = |on: &str| format!("{on}=exec:cat >> {}", log.display());
        let (hooks, failed) = hooks(&[&write("crashed"), &write("stopped")]);
        hooks.hear(&Event::Started { generation: 1, workers: 1 }, surroundings);
        hooks.hear(&crash(), surroundings);
        hooks.hear(
            &Event::Exit { worker: WORKER, exit: Exit::Code(1), expected: true, oom_killed: false },
            surroundings,
        );
        ended(hooks).await;
        let text = std::fs::read_to_string(log).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let mut on: Vec<_> = lines.iter().map(|line| line["on"].as_str().unwrap()).collect();
        // Two hooks do not wait for each other.
        on.sort_unstable();
        assert_eq!(on, ["crashed", "stopped"]);
        let crashed = lines.iter().find(|line| line["on"] == "crashed").unwrap();
        assert_eq!((&crashed["cluster"], &crashed["event"]), (&"shop".into(), &"exit".into()));
        assert_eq!((&crashed["level"], &crashed["exit"]["code"]), (&"warn".into(), &1.into()));
        assert!(failed.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_hook_that_fails_is_told_and_goes_on() {
        let (hooks, failed) = hooks(&["crashed=exec:exit 3"]);
        hooks.hear(&crash(), surroundings);
        hooks.hear(&crash(), surroundings);
        ended(hooks).await;
        let failure = Failed {
            on: Moment::Crashed,
            hook: "exec:exit …".to_owned(),
            reason: "it ended with status 3".to_owned(),
        };
        assert_eq!(failed.try_iter().collect::<Vec<_>>(), [failure.clone(), failure]);
    }

    #[tokio::test]
    async fn hooks_that_change_do_what_waits_for_them_and_those_that_stay_go_on() {
        let base = tempfile::tempdir().unwrap();
        let log = base.path().join("log");
        let write = |name: &str| format!("crashed=exec:echo {name} >> {}", log.display());
        let (stays, goes, comes) = (write("stays"), write("goes"), write("comes"));
        let (mut hooks, failed) = hooks(&[&goes, &stays]);
        hooks.hear(&crash(), surroundings);
        hooks.fit(&parsed(&[&stays, &comes]));
        hooks.hear(&crash(), surroundings);
        hooks.fit(&parsed(&[&stays, &comes]));
        ended(hooks).await;
        let text = std::fs::read_to_string(log).unwrap();
        let mut said: Vec<&str> = text.lines().collect();
        said.sort_unstable();
        assert_eq!(said, ["comes", "goes", "stays", "stays"]);
        assert!(failed.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_hook_that_comes_back_while_it_is_at_work_does_not_run_beside_itself() {
        let base = tempfile::tempdir().unwrap();
        let [log, release, other] = ["log", "release", "other"].map(|name| base.path().join(name));
        let wait = format!("until [ -e {} ]; do sleep 0.01; done", release.display());
        let slow = format!("crashed=exec:echo begins >> {0}; {wait}; echo ends >> {0}", log.display());
        let other_one = format!("crashed=exec:echo >> {}", other.display());
        let (mut hooks, failed) = hooks(&[&slow]);
        hooks.hear(&crash(), surroundings);
        exists(&log).await;
        for list in [&[other_one.as_str()][..], &[], &[&slow, &other_one]] {
            hooks.fit(&parsed(list));
        }
        hooks.hear(&crash(), surroundings);
        exists(&other).await;
        hooks.fit(&parsed(&[&other_one]));
        std::fs::write(release, "").unwrap();
        ended(hooks).await;
        assert_eq!(std::fs::read_to_string(log).unwrap(), "begins\nends\nbegins\nends\n");
        assert!(failed.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_hook_that_is_gone_and_has_nothing_left_to_do_is_not_kept() {
        let base = tempfile::tempdir().unwrap();
        let log = base.path().join("log");
        let (mut hooks, _failed) = hooks(&[&format!("crashed=exec:echo >> {}", log.display())]);
        hooks.hear(&crash(), surroundings);
        hooks.fit(&parsed(&["crashed=exec:true"]));
        assert_eq!(hooks.gone.len(), 1);
        let at_work = || async {
            while hooks.gone[0].is_at_work() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(60), at_work()).await.unwrap();
        hooks.fit(&[]);
        assert_eq!(hooks.gone.len(), 0);
        ended(hooks).await;
    }

    async fn exists(path: &std::path::Path) {
        let there = async {
            while !path.exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(60), there).await.unwrap();
    }

    #[tokio::test]
    async fn what_a_slow_hook_cannot_take_is_counted() {
        let (hooks, failed) = hooks(&["crashed=exec:true"]);
        // Its task has had no turn.
        for _ in 0..WAITING + 3 {
            hooks.hear(&crash(), surroundings);
        }
        ended(hooks).await;
        let told: Vec<_> = failed.try_iter().map(|failed| failed.reason).collect();
        assert_eq!(told, ["it is too slow: 3 events were not told"]);
    }

    #[test]
    fn many_respawns_in_a_row_are_a_loop_once() {
        let (mut row, began) = (Row::default(), Instant::now());
        let told = |row: &mut Row, second| row.count(began + Duration::from_secs(second)).is_some();
        assert_eq!((1..=25).filter(|second| told(&mut row, *second)).collect::<Vec<_>>(), [10]);
        assert_eq!((100..=120).filter(|second| told(&mut row, *second)).collect::<Vec<_>>(), [109]);
        let slow = (0..20).map(|number| 1000 + 31 * number).filter(|second| told(&mut row, *second));
        assert_eq!(slow.count(), 0);
    }
}
