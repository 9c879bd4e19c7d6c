//! What Node workers say of themselves.

use recluster_wire::env::NodeMetrics;

/// What Node workers say of themselves to whoever looks at the cluster: in its status, and in metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WorkerMetrics {
    /// Nothing.
    Off,
    /// How they do: event loop, heap, garbage collections, what keeps them alive.
    #[default]
    Basic,
    /// The same, and which requests they have answered and how long that took.
    Http,
}

impl From<WorkerMetrics> for NodeMetrics {
    fn from(metrics: WorkerMetrics) -> Self {
        match metrics {
            WorkerMetrics::Off => Self::Off,
            WorkerMetrics::Basic => Self::Basic,
            WorkerMetrics::Http => Self::Http,
        }
    }
}
