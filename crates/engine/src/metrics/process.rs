//! The master's own process, under the names that every client library of Prometheus has for them.

use rustix::process::{Resource, getrlimit};

use crate::metrics::proc::{Usage, open_fds};
use crate::metrics::text::{Family, Kind};

pub(super) const FAMILIES: &[Family] = &[
    Family {
        name: "process_cpu_seconds_total",
        kind: Kind::Counter,
        help: "CPU time of the master, user and system, in seconds.",
        labels: &[],
        source: |_, samples| usage(|usage| samples.push(&[], usage.cpu_seconds)),
    },
    Family {
        name: "process_resident_memory_bytes",
        kind: Kind::Gauge,
        help: "Resident memory of the master, in bytes.",
        labels: &[],
        source: |_, samples| usage(|usage| samples.push(&[], usage.resident_bytes)),
    },
    Family {
        name: "process_virtual_memory_bytes",
        kind: Kind::Gauge,
        help: "Virtual memory of the master, in bytes.",
        labels: &[],
        source: |_, samples| usage(|usage| samples.push(&[], usage.virtual_bytes)),
    },
    Family {
        name: "process_start_time_seconds",
        kind: Kind::Gauge,
        help: "When the master was started, in seconds since 1970.",
        labels: &[],
        source: |_, samples| usage(|usage| samples.push(&[], usage.started_at)),
    },
    Family {
        name: "process_threads",
        kind: Kind::Gauge,
        help: "Threads of the master.",
        labels: &[],
        source: |_, samples| usage(|usage| samples.push(&[], usage.threads)),
    },
    Family {
        name: "process_open_fds",
        kind: Kind::Gauge,
        help: "Descriptors that the master has open.",
        labels: &[],
        source: |_, samples| {
            if let Some(count) = open_fds(std::process::id()) {
                samples.count(&[], count);
            }
        },
    },
    Family {
        name: "process_max_fds",
        kind: Kind::Gauge,
        help: "How many descriptors the master may have open.",
        labels: &[],
        source: |_, samples| {
            if let Some(most) = getrlimit(Resource::Nofile).current {
                samples.count(&[], most);
            }
        },
    },
];

fn usage(write: impl FnOnce(Usage)) {
    if let Some(usage) = Usage::own() {
        write(usage);
    }
}
