//! Pictures of the cluster: one for all who ask at once, and no more of them than cost the cluster a tenth of its time. Its health is
//! known at once: whoever asks for that waits for no picture.

use std::sync::{self, Arc, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tokio::time::{sleep_until, timeout};

use crate::api::cluster::Cluster;
use crate::control::room::Shared;
use crate::metrics;
use crate::metrics::text::Format;
use crate::report::counts::{Health, Measured};
use crate::report::error::Gone;

/// How long the cluster may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The least time between the beginnings of two pictures.
const LEAST: Duration = Duration::from_millis(10);
/// The most of it, however long pictures take.
const MOST: Duration = Duration::from_secs(1);
/// How many times as long as a picture takes the next one waits.
const SHARE: u32 = 10;
/// For how long a cluster that has answered is taken to live.
const FRESH: Duration = Duration::from_secs(1);

/// The cluster at one moment, and what was written of it.
#[derive(Debug)]
pub(super) struct Picture {
    measured: Measured,
    status: OnceLock<Arc<Shared>>,
    prometheus: OnceLock<Arc<Shared>>,
    open: OnceLock<Arc<Shared>>,
}

impl Picture {
    pub(super) fn new(measured: Measured) -> Self {
        Self { measured, status: OnceLock::new(), prometheus: OnceLock::new(), open: OnceLock::new() }
    }

    pub(super) fn measured(&self) -> &Measured {
        &self.measured
    }

    /// The status as JSON, on one line.
    pub(super) fn status(&self) -> Arc<Shared> {
        let write = || {
            // All keys of it are texts, so it can be written.
            let mut line = serde_json::to_vec(&self.measured.status).unwrap_or_default();
            line.push(b'\n');
            Arc::new(Shared::new(line))
        };
        Arc::clone(self.status.get_or_init(write))
    }

    pub(super) fn metrics(&self, format: Format) -> Arc<Shared> {
        let written = match format {
            Format::Prometheus => &self.prometheus,
            Format::OpenMetrics => &self.open,
        };
        let write = || Arc::new(Shared::new(metrics::write(&self.measured, format).into_bytes()));
        Arc::clone(written.get_or_init(write))
    }
}

/// Why there is no answer of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// The cluster is over.
    Gone,
    /// It has not answered in time.
    Silent,
}

/// Asks the cluster.
#[derive(Debug)]
pub(super) struct Pictures {
    cluster: Cluster,
    measured: Latest<Arc<Picture>>,
    health: Latest<Health>,
    /// When it has last answered.
    answered: sync::Mutex<Option<Instant>>,
}

impl Pictures {
    pub(super) fn new(cluster: Cluster) -> Self {
        Self {
            cluster,
            measured: Latest::new(MOST),
            health: Latest::new(LEAST),
            answered: sync::Mutex::default(),
        }
    }

    /// A picture that is begun after this was called.
    pub(super) async fn take(&self) -> Result<Arc<Picture>, NoAnswer> {
        let measure = async || Ok(Arc::new(Picture::new(self.cluster.measure().await?)));
        self.heard(self.measured.take(measure).await)
    }

    /// The health as it is after this was called.
    pub(super) async fn health(&self) -> Result<Health, NoAnswer> {
        self.heard(self.health.take(async || self.cluster.health().await).await)
    }

    /// Whether the cluster answers, or has done so lately.
    pub(super) async fn lives(&self) -> Result<(), NoAnswer> {
        let answered = *self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        if answered.is_some_and(|at| at.elapsed() < FRESH) {
            return Ok(());
        }
        self.health().await.map(|_| ())
    }

    fn heard<T>(&self, answer: Result<T, NoAnswer>) -> Result<T, NoAnswer> {
        if answer.is_ok() {
            *self.answered.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
        answer
    }
}

/// What the cluster has last answered to one question.
#[derive(Debug)]
struct Latest<T> {
    last: Mutex<Option<Taken<T>>>,
    /// The most time between the beginnings of two.
    most: Duration,
}

#[derive(Debug)]
struct Taken<T> {
    begun: Instant,
    took: Duration,
    answer: Result<T, NoAnswer>,
}

impl<T: Clone> Latest<T> {
    fn new(most: Duration) -> Self {
        Self { last: Mutex::default(), most }
    }

    /// An answer to what is asked after this was called. Those who ask while one is on its way share the next.
    async fn take(&self, ask: impl AsyncFnOnce() -> Result<T, Gone>) -> Result<T, NoAnswer> {
        let asked = Instant::now();
        let mut last = self.last.lock().await;
        if let Some(Taken { answer, .. }) = last.as_ref().filter(|last| last.begun > asked) {
            return answer.clone();
        }
        if let Some(Taken { begun, took, .. }) = *last {
            sleep_until((begun + pause(took, self.most)).into()).await;
        }
        let begun = Instant::now();
        let answer = match timeout(PATIENCE, ask()).await {
            Ok(answer) => answer.map_err(|Gone| NoAnswer::Gone),
            Err(_) => Err(NoAnswer::Silent),
        };
        *last = Some(Taken { begun, took: begun.elapsed(), answer: answer.clone() });
        answer
    }
}

/// How long after the beginning of an answer that took so long the next one may be begun.
fn pause(took: Duration, most: Duration) -> Duration {
    took.saturating_mul(SHARE).clamp(LEAST, most)
}

#[cfg(test)]
mod tests {
    use std::future::Future;

    use tokio::sync::{broadcast, mpsc, watch};

    use super::*;
    use crate::process::ring::Ring;
    use crate::supervisor::input::{Input, Progress, Request};

    const HEALTH: Health = Health { phase: "running", slots: 2, active: 2 };

    /// A cluster that consists of its channels alone, and what it is asked.
    fn cluster() -> (Pictures, mpsc::UnboundedReceiver<Input>) {
        let (inputs, asked) = mpsc::unbounded_channel();
        let events = broadcast::Sender::new(1).downgrade();
        let progress = watch::channel(Progress::default()).1;
        (
            Pictures::new(Cluster {
                inputs,
                events,
                progress,
                ring: Ring::of(Vec::new()),
                look: None,
                survivors: Arc::default(),
            }),
            asked,
        )
    }

    /// Answers every question for the health, and leaves all others open.
    async fn answer_for_health(asked: &mut mpsc::UnboundedReceiver<Input>) {
        let mut open = Vec::new();
        while let Some(input) = asked.recv().await {
            if let Input::Request(Request::Health(reply)) = input {
                reply.send(HEALTH).unwrap();
            } else {
                open.push(input);
            }
        }
    }

    async fn within<T>(future: impl Future<Output = T>) -> T {
        timeout(Duration::from_secs(30), future).await.expect("nothing happened")
    }

    #[test]
    fn pictures_that_take_long_are_taken_less_often() {
        let millis = Duration::from_millis;
        assert_eq!(pause(millis(0), MOST), LEAST);
        assert_eq!(pause(millis(3), MOST), millis(30));
        assert_eq!(pause(PATIENCE, MOST), MOST);
        assert_eq!(pause(PATIENCE, LEAST), LEAST, "the health is known at once");
    }

    #[tokio::test]
    async fn the_health_waits_for_no_picture() {
        let (pictures, mut asked) = cluster();
        let health = async {
            assert_eq!(pictures.lives().await, Ok(()));
            assert_eq!(pictures.health().await, Ok(HEALTH));
        };
        // The picture never comes, and is asked for first.
        tokio::select! {
            biased;
            _ = pictures.take() => panic!("nobody gives it"),
            () = answer_for_health(&mut asked) => panic!("it asks no more"),
            () = within(health) => {}
        }
    }

    #[tokio::test]
    async fn a_cluster_that_has_just_answered_lives_and_one_that_never_does_is_asked() {
        let (pictures, mut asked) = cluster();
        tokio::select! {
            lives = within(pictures.lives()) => assert_eq!(lives, Ok(())),
            () = answer_for_health(&mut asked) => panic!("it asks no more"),
        }
        let long_ago = Instant::now().checked_sub(2 * FRESH).expect("this machine runs for longer");
        *pictures.answered.lock().unwrap() = Some(long_ago);
        drop(asked);
        assert_eq!(within(pictures.lives()).await, Err(NoAnswer::Gone));
        *pictures.answered.lock().unwrap() = Some(Instant::now() + FRESH);
        assert_eq!(within(pictures.lives()).await, Ok(()), "nobody is asked");
    }
}
