//! Those who are connected: a few. Who comes when all seats are taken has the one of whoever was there longest for nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::task::{AbortHandle, JoinSet};

/// How many connections there may be at once.
const SEATS: usize = 128;

/// What a client does at the moment. Those that do the first gives way first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Doing {
    /// It has asked for nothing, or not yet for all.
    Nothing,
    /// It has an answer that it does not read.
    Reading,
    /// Its answer is on its way. It does not give way.
    Waiting,
}

/// What a client does, for itself and for its seat.
#[derive(Clone, Debug, Default)]
pub(super) struct Activity(Arc<AtomicU8>);

impl Activity {
    pub(super) fn is(&self, doing: Doing) {
        self.0.store(doing as u8, Ordering::Relaxed);
    }

    fn was(&self, doing: Doing) -> bool {
        self.0.load(Ordering::Relaxed) == doing as u8
    }
}

/// The seats that are taken.
#[derive(Debug, Default)]
pub(super) struct Seats {
    pub(super) tasks: JoinSet<()>,
    /// In the order in which they came.
    taken: Vec<(AbortHandle, Activity)>,
}

impl Seats {
    /// Makes room for one more, if anybody can give way.
    pub(super) fn have_room(&mut self) -> bool {
        while self.tasks.try_join_next().is_some() {}
        self.taken.retain(|(task, _)| !task.is_finished());
        if self.taken.len() < SEATS {
            return true;
        }
        let does = |doing| self.taken.iter().position(|(_, activity)| activity.was(doing));
        let Some(idle) = does(Doing::Nothing).or_else(|| does(Doing::Reading)) else { return false };
        self.taken.remove(idle).0.abort();
        true
    }

    pub(super) fn take(&mut self, activity: Activity, client: impl Future<Output = ()> + Send + 'static) {
        let task = self.tasks.spawn(client);
        self.taken.push((task, activity));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_for_an_answer_keeps_the_seat() {
        let mut seats = Seats::default();
        let mut activities = Vec::new();
        for _ in 0..SEATS {
            assert!(seats.have_room());
            let activity = Activity::default();
            activity.is(Doing::Waiting);
            activities.push(activity.clone());
            seats.take(activity, std::future::pending());
        }
        assert!(!seats.have_room());
        activities[1].is(Doing::Reading);
        activities[2].is(Doing::Nothing);
        assert!(seats.have_room());
        seats.take(activities[2].clone(), std::future::pending());
        activities[2].is(Doing::Waiting);
        assert!(seats.have_room(), "then the one that does not read");
        assert!(seats.have_room(), "it has gone");
        seats.take(activities[1].clone(), std::future::pending());
        activities[1].is(Doing::Waiting);
        assert!(!seats.have_room());
    }
}
