//! What the master knows of its cluster.

use crate::metrics::text::{Family, Kind};
use crate::report::counts::Measured;

/// The states of workers, as a status names them; one that is stopped is that alone.
const STATES: [&str; 9] = [
    "starting",
    "ready",
    "serving",
    "stopped",
    "draining",
    "terminating",
    "killed",
    "unkillable",
    "leftover",
];

pub(super) const FAMILIES: &[Family] = &[
    Family {
        name: "recluster_build_info",
        kind: Kind::Info,
        help: "The version of recluster.",
        labels: &["version"],
        source: |_, samples| samples.push(&[env!("CARGO_PKG_VERSION")], 1.0),
    },
    Family {
        name: "recluster_slots",
        kind: Kind::Gauge,
        help: "How many workers there are to be.",
        labels: &[],
        source: |measured, samples| samples.push(&[], len(measured.status.slots.len())),
    },
    Family {
        name: "recluster_slots_active",
        kind: Kind::Gauge,
        help: "How many slots have a worker that may serve.",
        labels: &[],
        source: |measured, samples| {
            let active = measured.status.slots.iter().filter(|slot| slot.active.is_some());
            samples.push(&[], len(active.count()));
        },
    },
    Family {
        name: "recluster_workers",
        kind: Kind::Gauge,
        help: "Workers that live, by state.",
        labels: &["state"],
        source: |measured, samples| {
            for state in STATES {
                let workers = measured.status.workers.iter().filter(|worker| worker.state_now() == state);
                samples.push(&[state], len(workers.count()));
            }
        },
    },
    Family {
        name: "recluster_generation",
        kind: Kind::Gauge,
        help: "The generation that serves, or is to.",
        labels: &[],
        source: |measured, samples| samples.count(&[], measured.status.generation),
    },
    Family {
        name: "recluster_stopping",
        kind: Kind::Gauge,
        help: "Whether the cluster is to end, also while it still accepts connections.",
        labels: &[],
        source: |measured, samples| {
            let ends = matches!(measured.status.phase.as_str(), "stopping" | "terminating" | "over");
            samples.push(&[], yes(ends));
        },
    },
    Family {
        name: "recluster_worker_starts_total",
        kind: Kind::Counter,
        help: "Workers that were started, by reason.",
        labels: &["reason"],
        source: |measured, samples| {
            measured.counts.starts.iter().for_each(|(reason, count)| samples.count(&[reason], count));
        },
    },
    Family {
        name: "recluster_worker_exits_total",
        kind: Kind::Counter,
        help: "Workers that have ended, by cause.",
        labels: &["cause"],
        source: |measured, samples| {
            measured.counts.exits.iter().for_each(|(cause, count)| samples.count(&[cause], count));
        },
    },
    Family {
        name: "recluster_recycles_total",
        kind: Kind::Counter,
        help: "Workers that were renewed because of a limit or a health check, by reason.",
        labels: &["reason"],
        source: |measured, samples| {
            measured.counts.recycles.iter().for_each(|(reason, count)| samples.count(&[reason], count));
        },
    },
    Family {
        name: "recluster_reloads_total",
        kind: Kind::Counter,
        help: "Reloads that have ended, by verdict.",
        labels: &["verdict"],
        source: |measured, samples| {
            measured.counts.reloads.iter().for_each(|(verdict, count)| samples.count(&[verdict], count));
        },
    },
    Family {
        name: "recluster_reload_in_progress",
        kind: Kind::Gauge,
        help: "Whether a reload is going on.",
        labels: &[],
        source: |measured, samples| samples.push(&[], yes(measured.status.reload.is_some())),
    },
    Family {
        name: "recluster_last_reload_successful",
        kind: Kind::Gauge,
        help: "Whether the last reload, or the first start where there was none, came to serve in every slot.",
        labels: &[],
        source: |measured, samples| {
            if let Some(end) = measured.counts.last_reload {
                samples.push(&[], yes(end.successful));
            }
        },
    },
    Family {
        name: "recluster_last_reload_timestamp_seconds",
        kind: Kind::Gauge,
        help: "When the last reload, or the first start where there was none, ended, in seconds since 1970.",
        labels: &[],
        source: |measured, samples| {
            if let Some(end) = measured.counts.last_reload {
                samples.push(&[], end.at);
            }
        },
    },
    Family {
        name: "recluster_ready_duration_seconds",
        kind: Kind::Histogram,
        help: "From the start of a worker to when it may serve.",
        labels: &[],
        source: |measured, samples| samples.histogram(&[], &measured.counts.ready),
    },
    Family {
        name: "recluster_drain_duration_seconds",
        kind: Kind::Histogram,
        help: "From when a worker was told to go to the end of its process, by how that came.",
        labels: &["end"],
        source: |measured, samples| {
            for (end, histogram) in &measured.counts.drains {
                samples.histogram(&[end], histogram);
            }
        },
    },
    Family {
        name: "recluster_connections_total",
        kind: Kind::Counter,
        help: "Connections that the workers of a slot have got, where that is known.",
        labels: &["slot"],
        source: |measured, samples| {
            for slot in &measured.status.slots {
                if let Some(count) = slot.connections {
                    samples.count(&[&slot.slot.to_string()], count);
                }
            }
        },
    },
    Family {
        name: "recluster_connections_in_flight",
        kind: Kind::Gauge,
        help: "Connections that the master has accepted for a slot and no worker has taken yet.",
        labels: &["slot"],
        source: |measured, samples| {
            for slot in &measured.status.slots {
                let count = measured.flow.in_flight.get(&slot.slot).copied().unwrap_or(0);
                samples.count(&[&slot.slot.to_string()], count);
            }
        },
    },
    Family {
        name: "recluster_requeued_total",
        kind: Kind::Counter,
        help: "Connections that were taken back from a worker that could not have them, to be given to another.",
        labels: &[],
        source: |measured, samples| samples.count(&[], measured.status.requeued),
    },
    Family {
        name: "recluster_stolen_total",
        kind: Kind::Counter,
        help: "Connections that were given to an idle worker because they waited for a busy one.",
        labels: &[],
        source: |measured, samples| samples.count(&[], measured.status.stolen),
    },
    Family {
        name: "recluster_accept_queue_length",
        kind: Kind::Gauge,
        help: "Connections that wait at a TCP listener until a worker has room for them.",
        labels: &["listener"],
        source: |measured, samples| {
            measured.flow.queues.iter().for_each(|(listener, count)| samples.count(&[listener], *count));
        },
    },
    Family {
        name: "recluster_log_lines_dropped_total",
        kind: Kind::Counter,
        help: "Lines of workers that were lost: the reader was too slow, or a file could not be written.",
        labels: &[],
        source: |measured: &Measured, samples| samples.count(&[], measured.counts.lines_lost),
    },
];

fn yes(it: bool) -> f64 {
    f64::from(u8::from(it))
}

fn len(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}
