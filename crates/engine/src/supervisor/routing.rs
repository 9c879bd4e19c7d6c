//! Which workers may be given connections, as the data plane was last told.

use recluster_core::{Phase, Status};

use crate::dataplane::{Routes, Standing};

/// What the data plane was told.
#[derive(Debug, Default)]
pub(crate) struct Routing {
    published: Routes,
    /// How many events the policy had handled when it was asked last; none before that.
    asked_at: Option<u64>,
    /// It was given to others since the last time that was waited for.
    moves: bool,
    stops: bool,
}

impl Routing {
    /// Whether the policy is to be asked anew: it has handled this many events.
    pub(crate) fn may_have_changed(&mut self, handled: u64) -> bool {
        self.asked_at.replace(handled) != Some(handled)
    }

    /// The routes by this status, if the data plane does not have them yet.
    pub(crate) fn update(&mut self, status: &Status) -> Option<Routes> {
        let standing = status.workers.iter().filter_map(|worker| {
            let standing = match (worker.serves, worker.wanted) {
                (true, _) => Standing::Serving,
                (false, true) => Standing::Standby,
                (false, false) => return None,
            };
            Some((worker.worker, standing))
        });
        let routes = Routes { standing: standing.collect(), settled: status.settled };
        if routes == self.published {
            return None;
        }
        self.moves |= moves(&self.published, &routes);
        self.published = routes.clone();
        Some(routes)
    }

    /// Whether to wait until the data plane has done what it was told, before people hear of it. A worker that begins to serve is
    /// waited for as well: it takes clients over from others where their addresses decide, and the kernel is to know.
    pub(crate) fn is_to_be_waited_for(&mut self) -> bool {
        std::mem::take(&mut self.moves)
    }

    /// Whether everything stops.
    pub(crate) fn stops(&self) -> bool {
        self.stops
    }

    /// Whether the listeners are to be closed now: once, when no worker will be started any more.
    pub(crate) fn begins_to_stop(&mut self, phase: Phase) -> bool {
        let stops = match phase {
            Phase::Stopping | Phase::Terminating | Phase::Over => true,
            Phase::Starting | Phase::Running | Phase::Released => false,
        };
        stops && !std::mem::replace(&mut self.stops, true)
    }
}

/// Whether a worker begins to serve, or one that was given connections is given none any more. (Where none serves, those that do
/// not yet are given some; so the first that serves takes from them.)
fn moves(before: &Routes, now: &Routes) -> bool {
    let serves = |routes: &Routes, worker| routes.standing.get(worker) == Some(&Standing::Serving);
    let begins = |worker| serves(now, worker) && !serves(before, worker);
    let ends = |worker| !now.standing.contains_key(worker) || serves(before, worker) && !serves(now, worker);
    now.standing.keys().any(begins) || before.standing.keys().any(ends)
}

#[cfg(test)]
mod tests {
    use recluster_core::{Action, Cluster, Config, Event, Settings, Time, WorkerId};

    use super::*;

    /// A cluster of two workers of which the first is ready, and serves.
    fn cluster() -> Cluster {
        let settings = Settings { workers: 2, bake: std::time::Duration::ZERO, ..Settings::default() };
        let mut cluster = Cluster::new(Config::new(settings).unwrap(), Time::ZERO);
        drain(&mut cluster);
        cluster.handle(Event::Ready(WorkerId::from_number(1)), Time::ZERO);
        drain(&mut cluster);
        cluster
    }

    fn drain(cluster: &mut Cluster) -> Vec<Action> {
        std::iter::from_fn(|| cluster.poll_action()).collect()
    }

    #[test]
    fn the_policy_is_asked_anew_after_every_event() {
        let mut routing = Routing::default();
        let asked = [0, 0, 1, 1, 5].map(|handled| routing.may_have_changed(handled));
        assert_eq!(asked, [true, false, true, false, true]);
    }

    #[test]
    fn connections_move_where_one_begins_to_serve_and_where_one_is_given_no_more() {
        use Standing::{Serving, Standby};
        let routes = |standing: &[Standing]| {
            let workers = (1..).map(WorkerId::from_number);
            Routes { standing: workers.zip(standing.iter().copied()).collect(), settled: true }
        };
        let moves = |before: &[Standing], now: &[Standing]| moves(&routes(before), &routes(now));
        assert!(!moves(&[], &[Standby]));
        assert!(!moves(&[Standby], &[Standby]));
        assert!(!moves(&[Serving], &[Serving, Standby]));
        assert!(moves(&[Standby], &[Serving]));
        assert!(moves(&[Serving], &[Serving, Serving]));
        assert!(moves(&[Serving, Serving], &[Serving, Standby]));
        assert!(moves(&[Serving, Serving], &[Serving]));
        assert!(moves(&[Standby, Standby], &[Standby]), "where none serves, it was given some");
    }

    #[test]
    fn the_same_routes_are_published_once() {
        let mut routing = Routing::default();
        let cluster = cluster();
        let routes = routing.update(&cluster.status()).expect("they are new");
        let standing: Vec<_> = routes.standing.into_iter().collect();
        let id = WorkerId::from_number;
        assert_eq!(standing, [(id(1), Standing::Serving), (id(2), Standing::Standby)]);
        assert!(!routes.settled, "the second slot has no serving worker");
        assert_eq!(routing.update(&cluster.status()), None);
    }

    #[test]
    fn the_data_plane_is_waited_for_where_a_worker_begins_to_serve_and_where_one_leaves() {
        let mut routing = Routing::default();
        let mut cluster = cluster();
        routing.update(&cluster.status());
        assert!(routing.is_to_be_waited_for(), "the second is given nothing now that the first serves");
        assert!(!routing.is_to_be_waited_for(), "it was waited for");
        cluster.handle(Event::Ready(WorkerId::from_number(2)), Time::ZERO);
        drain(&mut cluster);
        assert!(routing.update(&cluster.status()).is_some());
        assert!(routing.is_to_be_waited_for(), "the second takes its clients from the first");
        assert!(routing.update(&cluster.status()).is_none());
        assert!(!routing.is_to_be_waited_for(), "nothing has changed");
        cluster.handle(Event::Scale(1), Time::ZERO);
        drain(&mut cluster);
        routing.update(&cluster.status());
        assert!(routing.is_to_be_waited_for());
    }

    #[test]
    fn a_worker_that_leaves_is_given_nothing() {
        let mut routing = Routing::default();
        let mut cluster = cluster();
        routing.update(&cluster.status());
        cluster.handle(Event::Stop, Time::ZERO);
        drain(&mut cluster);
        let routes = routing.update(&cluster.status()).expect("they have changed");
        assert!(routes.standing.is_empty());
    }

    #[test]
    fn a_stop_begins_once() {
        let mut routing = Routing::default();
        let phases = [Phase::Running, Phase::Released, Phase::Stopping, Phase::Terminating, Phase::Over];
        let begins = phases.map(|phase| {
            assert_eq!(routing.stops(), phase == Phase::Terminating || phase == Phase::Over, "{phase:?}");
            routing.begins_to_stop(phase)
        });
        assert_eq!(begins, [false, false, true, false, false]);
    }
}
