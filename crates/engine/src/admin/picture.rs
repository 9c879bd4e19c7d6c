//! Pictures of the cluster: one for all who ask at once, and no more of them than cost the cluster a tenth of its time.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tokio::time::{sleep_until, timeout};

use crate::api::cluster::Cluster;
use crate::metrics;
use crate::metrics::text::Format;
use crate::report::counts::Measured;

/// How long the cluster may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The least time between the beginnings of two pictures.
const LEAST: Duration = Duration::from_millis(10);
/// The most of it, however long pictures take.
const MOST: Duration = Duration::from_secs(1);
/// How many times as long as a picture takes the next one waits.
const SHARE: u32 = 10;

/// The cluster at one moment, and what was written of it.
#[derive(Debug)]
pub(super) struct Picture {
    pub(super) measured: Measured,
    status: OnceLock<Arc<[u8]>>,
    prometheus: OnceLock<Arc<[u8]>>,
    open: OnceLock<Arc<[u8]>>,
}

impl Picture {
    pub(super) fn new(measured: Measured) -> Self {
        Self { measured, status: OnceLock::new(), prometheus: OnceLock::new(), open: OnceLock::new() }
    }

    /// The status as JSON, on one line.
    pub(super) fn status(&self) -> Arc<[u8]> {
        let write = || {
            // All keys of it are texts, so it can be written.
            let mut line = serde_json::to_vec(&self.measured.status).unwrap_or_default();
            line.push(b'\n');
            line.into()
        };
        Arc::clone(self.status.get_or_init(write))
    }

    pub(super) fn metrics(&self, format: Format) -> Arc<[u8]> {
        let written = match format {
            Format::Prometheus => &self.prometheus,
            Format::OpenMetrics => &self.open,
        };
        Arc::clone(written.get_or_init(|| metrics::write(&self.measured, format).into_bytes().into()))
    }
}

/// Why there is no picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoPicture {
    /// The cluster is over.
    Gone,
    /// It has not answered in time.
    Silent,
}

/// Takes them.
#[derive(Debug)]
pub(super) struct Pictures {
    cluster: Cluster,
    last: Mutex<Option<Taken>>,
}

#[derive(Debug)]
struct Taken {
    begun: Instant,
    took: Duration,
    picture: Result<Arc<Picture>, NoPicture>,
}

impl Pictures {
    pub(super) fn new(cluster: Cluster) -> Self {
        Self { cluster, last: Mutex::default() }
    }

    /// A picture that is begun after this was called. Those who ask while one is taken share the next.
    pub(super) async fn take(&self) -> Result<Arc<Picture>, NoPicture> {
        let asked = Instant::now();
        let mut last = self.last.lock().await;
        if let Some(Taken { picture, .. }) = last.as_ref().filter(|last| last.begun > asked) {
            return picture.clone();
        }
        if let Some(Taken { begun, took, .. }) = *last {
            sleep_until((begun + pause(took)).into()).await;
        }
        let begun = Instant::now();
        let picture = match timeout(PATIENCE, self.cluster.measure()).await {
            Ok(Ok(measured)) => Ok(Arc::new(Picture::new(measured))),
            Ok(Err(_)) => Err(NoPicture::Gone),
            Err(_) => Err(NoPicture::Silent),
        };
        *last = Some(Taken { begun, took: begun.elapsed(), picture: picture.clone() });
        picture
    }
}

/// How long after its beginning the next picture may be begun.
fn pause(took: Duration) -> Duration {
    took.saturating_mul(SHARE).clamp(LEAST, MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_that_take_long_are_taken_less_often() {
        let millis = Duration::from_millis;
        assert_eq!(pause(millis(0)), LEAST);
        assert_eq!(pause(millis(3)), millis(30));
        assert_eq!(pause(PATIENCE), MOST);
    }
}
