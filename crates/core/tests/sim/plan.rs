//! What one seed draws before its run begins: the settings, and what will be asked of the cluster.

use std::num::NonZeroU32;
use std::time::Duration;

use recluster_core::{Change, Lateness, Settings, Surge};

use crate::rng::Rng;

/// How long faults and requests go on, in milliseconds of the run.
const TROUBLE: [u64; 4] = [1_000, 5_000, 20_000, 60_000];

/// What ends a cluster.
const ENDS: [Request; 4] = [Request::Stop, Request::Stop, Request::Terminate, Request::Release];

/// Something that is asked of the cluster.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Request {
    Reload {
        waits: bool,
    },
    Replace,
    Scale(u32),
    Stop,
    Terminate,
    Release,
    /// A reload that brings other patience with workers that leave, and perhaps another number of slots.
    Reconfigure {
        patience: Duration,
        workers: u32,
    },
    /// A file changes.
    Change(Change),
    /// A fact about a worker that is gone, or no news at all.
    Stray,
}

/// A run's settings and script.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) settings: Settings,
    /// Until then requests come and processes misbehave.
    pub(crate) trouble: Duration,
    /// What is asked, and when.
    pub(crate) script: Vec<(Duration, Request)>,
    /// What ends the cluster, if nothing of the script did.
    pub(crate) end: Request,
    /// How often in a hundred a generation is not sound.
    pub(crate) rot: u64,
    /// How often in a hundred the kernel does not let a process end that was sent KILL.
    pub(crate) undying: u64,
    /// For how many milliseconds at most a process is to be started, before its start begins.
    pub(crate) queue: u64,
    /// How often in a hundred the shell wakes late, or its clock steps back.
    pub(crate) sloth: u64,
}

impl Plan {
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let trouble = rng.pick(&TROUBLE);
        Self {
            settings: settings(rng),
            trouble: Duration::from_millis(trouble),
            script: script(rng, trouble),
            end: rng.pick(&ENDS),
            rot: rng.pick(&[0, 30, 60, 90]),
            undying: 0,
            queue: 0,
            sloth: rng.pick(&[0, 0, 10]),
        }
    }
}

impl Plan {
    /// Adds changes of settings and processes that cannot be killed to some runs, by dice of their own, so that all other
    /// runs stay what they were.
    pub(crate) fn with_changes(mut self, rng: &mut Rng) -> Self {
        if rng.chance(30) {
            let trouble = u64::try_from(self.trouble.as_millis()).unwrap_or(u64::MAX);
            for _ in 0..rng.pick(&[1, 1, 2, 4]) {
                let patience = millis(rng, &[0, 300, 4_000]);
                let workers = rng.pick(&[self.settings.workers, 1, 2, 3, 5]);
                self.script.push((rng.upto(trouble), Request::Reconfigure { patience, workers }));
            }
        }
        self.settings.end_timeout = millis(rng, &[0, 500, 10_000]);
        self.undying = rng.pick(&[0, 0, 30]);
        self.queue = rng.pick(&[0, 0, 3_000]);
        self.settings.boot_limit = NonZeroU32::new(rng.pick(&[0, 0, 1, 2]));
        self
    }
}

impl Plan {
    /// Adds files that change to some runs, and the habits of those who write them, by dice of their own.
    pub(crate) fn with_files(mut self, rng: &mut Rng) -> Self {
        self.settings.hold = rng.chance(15);
        if rng.chance(15) {
            (self.settings.gone_first, self.settings.surge) = (true, Surge::All);
        }
        if rng.chance(25) {
            let trouble = u64::try_from(self.trouble.as_millis()).unwrap_or(u64::MAX);
            for _ in 0..rng.pick(&[1, 1, 3]) {
                let change = rng.pick(&[Change::Source, Change::Deployed]);
                let (mut at, apart) = (rng.upto(trouble), rng.pick(&[60, 500, 4_000]));
                for _ in 0..rng.pick(&[1, 2, 200]) {
                    self.script.push((at, Request::Change(change)));
                    at += rng.upto(apart);
                }
            }
        }
        self
    }
}

fn settings(rng: &mut Rng) -> Settings {
    let respawn = millis(rng, &[0, 100, 1_000, 1_000, 3_000]);
    Settings {
        boot_limit: None,
        workers: rng.pick(&[1, 2, 2, 3, 4, 6]),
        surge: surge(rng),
        attempts: rng.pick(&[1, 2, 3]),
        keep_trying: rng.chance(15),
        hold: false,
        gone_first: false,
        // A worker that is forgiven may never serve, and then the cluster never comes to rest: scenarios try it.
        lateness: Lateness::Fails,
        bake: millis(rng, &[0, 100, 500, 1_000, 3_000]),
        ready_timeout: millis(rng, &[400, 1_000, 5_000, 60_000]),
        timeout: millis(rng, &[0, 500, 3_000, 30_000]),
        stop_timeout: millis(rng, &[0, 500, 3_000, 25_000]),
        exit_grace: millis(rng, &[0, 500, 5_000]),
        kill_timeout: millis(rng, &[0, 500, 5_000]),
        end_timeout: Settings::default().end_timeout,
        max_draining: NonZeroU32::new(rng.pick(&[0, 0, 1, 2])),
        respawn,
        backoff: rng.chance(40).then(|| respawn + rng.upto(8_000)),
    }
}

fn millis(rng: &mut Rng, from: &[u64]) -> Duration {
    Duration::from_millis(rng.pick(from))
}

fn surge(rng: &mut Rng) -> Surge {
    NonZeroU32::new(rng.pick(&[0, 0, 1, 1, 2, 3])).map_or(Surge::All, Surge::AtMost)
}

fn script(rng: &mut Rng, trouble: u64) -> Vec<(Duration, Request)> {
    let mut script = Vec::new();
    for _ in 0..rng.pick(&[0, 1, 1, 2, 4]) {
        let waits = rng.chance(80);
        script.push((rng.upto(trouble), Request::Reload { waits }));
    }
    if rng.chance(15) {
        storm(rng, trouble, &mut script);
    }
    for _ in 0..rng.pick(&[0, 0, 1, 3]) {
        script.push((rng.upto(trouble), Request::Scale(rng.pick(&[0, 1, 2, 3, 5, 7]))));
    }
    for _ in 0..rng.pick(&[0, 0, 2, 6]) {
        script.push((rng.upto(trouble), Request::Replace));
    }
    for _ in 0..rng.pick(&[0, 0, 2]) {
        script.push((rng.upto(trouble), Request::Stray));
    }
    if rng.chance(25) {
        for _ in 0..rng.pick(&[1, 1, 1, 2, 3]) {
            // Often in the middle of the first start.
            let latest = rng.pick(&[600, trouble, trouble]);
            script.push((rng.upto(latest), rng.pick(&ENDS)));
        }
    }
    script
}

/// Many reloads in a short time.
fn storm(rng: &mut Rng, trouble: u64, script: &mut Vec<(Duration, Request)>) {
    let mut at = rng.upto(trouble);
    let most = rng.pick(&[0, 100, 400, 1_500]);
    for _ in 0..rng.below(20) + 3 {
        at += rng.upto(most);
        let waits = rng.chance(80);
        script.push((at, Request::Reload { waits }));
    }
}
