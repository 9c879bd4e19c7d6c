//! The active worker of each slot, as the kernel sees its process.

use std::collections::BTreeMap;

use crate::metrics::proc::open_fds;
use crate::metrics::text::{Family, Kind, Samples};
use crate::report::counts::Measured;
use crate::report::measured::as_float;
use crate::report::status::WorkerStatus;

pub(super) const FAMILIES: &[Family] = &[
    Family {
        name: "recluster_worker_info",
        kind: Kind::Info,
        help: "Which process is the active worker of a slot.",
        labels: &["slot", "pid", "generation"],
        source: |measured, samples| {
            for worker in active(measured) {
                let pid = worker.pid.map(|pid| pid.to_string()).unwrap_or_default();
                samples.push(&[&worker.slot.to_string(), &pid, &worker.generation.to_string()], 1.0);
            }
        },
    },
    Family {
        name: "recluster_worker_resident_memory_bytes",
        kind: Kind::Gauge,
        help: "Resident memory of the process of the active worker, in bytes.",
        labels: &["slot"],
        source: |measured, samples| {
            each(measured, samples, |worker| worker.memory_bytes.map(as_float));
        },
    },
    Family {
        name: "recluster_worker_cpu_seconds_total",
        kind: Kind::Counter,
        help: "CPU time of the process of the active worker, user and system, in seconds.",
        labels: &["slot"],
        source: |measured, samples| each(measured, samples, |worker| worker.cpu_seconds),
    },
    Family {
        name: "recluster_worker_open_fds",
        kind: Kind::Gauge,
        help: "Descriptors that the process of the active worker has open.",
        labels: &["slot"],
        source: |measured, samples| {
            each(measured, samples, |worker| open_fds(worker.pid?).map(as_float));
        },
    },
    Family {
        name: "recluster_worker_start_time_seconds",
        kind: Kind::Gauge,
        help: "When the active worker was started, in seconds since 1970.",
        labels: &["slot"],
        source: |measured, samples| {
            each(measured, samples, |worker| measured.counts.started_at.get(&worker.id).copied());
        },
    },
];

/// The active workers, by slot.
fn active(measured: &Measured) -> impl Iterator<Item = &WorkerStatus> {
    let status = &measured.status;
    let workers: BTreeMap<u64, &WorkerStatus> =
        status.workers.iter().map(|worker| (worker.id, worker)).collect();
    status.slots.iter().filter_map(move |slot| workers.get(&slot.active?).copied())
}

/// One sample for each active worker of which this is known.
fn each(measured: &Measured, samples: &mut Samples<'_>, value: impl Fn(&WorkerStatus) -> Option<f64>) {
    for worker in active(measured) {
        if let Some(value) = value(worker) {
            samples.push(&[&worker.slot.to_string()], value);
        }
    }
}
