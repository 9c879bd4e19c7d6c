//! What Node workers say of themselves, under the names that prom-client has for it; and the requests that they have answered.

use recluster_wire::node::{CODES, COLLECTION_BOUNDS, COLLECTIONS, REQUEST_BOUNDS, RESOURCES};

use crate::metrics::text::{Family, Kind, Samples};
use crate::report::counts::{Histogram, Measured};
use crate::report::measured::{Counted, Said, as_float};

pub(super) const FAMILIES: &[Family] = &[
    Family {
        name: "nodejs_version_info",
        kind: Kind::Info,
        help: "The version of Node of the active worker of a slot.",
        labels: &["slot", "version", "major", "minor", "patch"],
        source: |measured, samples| {
            for (slot, Said { measures, .. }) in said(measured) {
                let [major, minor, patch] = measures.version.map(|number| number.to_string());
                let version = format!("v{major}.{minor}.{patch}");
                samples.push(&[&slot, &version, &major, &minor, &patch], 1.0);
            }
        },
    },
    Family {
        name: "nodejs_eventloop_utilization",
        kind: Kind::Gauge,
        help: "How busy the event loop was since the worker was asked before, from 0 to 1.",
        labels: &["slot"],
        source: |measured, samples| each(measured, samples, Said::utilization),
    },
    Family {
        name: "nodejs_eventloop_lag_seconds",
        kind: Kind::Gauge,
        help: "How long the worker took to answer the master, or has not answered it, in seconds.",
        labels: &["slot"],
        source: |measured, samples| each(measured, samples, |said| said.lag.as_secs_f64()),
    },
    Family {
        name: "nodejs_heap_size_total_bytes",
        kind: Kind::Gauge,
        help: "The heap of V8, in bytes.",
        labels: &["slot"],
        source: |measured, samples| each(measured, samples, |said| as_float(said.measures.memory.total)),
    },
    Family {
        name: "nodejs_heap_size_used_bytes",
        kind: Kind::Gauge,
        help: "The heap of V8, as far as it is in use, in bytes.",
        labels: &["slot"],
        source: |measured, samples| each(measured, samples, |said| as_float(said.measures.memory.used)),
    },
    Family {
        name: "nodejs_external_memory_bytes",
        kind: Kind::Gauge,
        help: "Memory outside of the heap that belongs to objects on it, in bytes.",
        labels: &["slot"],
        source: |measured, samples| each(measured, samples, |said| as_float(said.measures.memory.external)),
    },
    Family {
        name: "nodejs_active_resources",
        kind: Kind::Gauge,
        help: "What keeps the event loop alive, by Node's names.",
        labels: &["slot", "type"],
        source: |measured, samples| {
            for (slot, said) in said(measured) {
                for (kind, count) in RESOURCES.iter().zip(said.measures.active) {
                    samples.push(&[&slot, kind], f64::from(count));
                }
            }
        },
    },
    Family {
        name: "nodejs_gc_duration_seconds",
        kind: Kind::Histogram,
        help: "How long garbage collections took, since workers were asked first.",
        labels: &["slot", "kind"],
        source: |measured, samples| {
            for (slot, counted) in counted(measured) {
                for (kind, spans) in COLLECTIONS.iter().zip(&counted.gc) {
                    samples.histogram(&[&slot, kind], &Histogram::of(&COLLECTION_BOUNDS, spans));
                }
            }
        },
    },
    Family {
        name: "recluster_http_requests_total",
        kind: Kind::Counter,
        help: "Requests that the workers of a slot have answered, by the class of the status.",
        labels: &["slot", "code"],
        source: |measured, samples| {
            for (slot, counted) in counted(measured) {
                let Some(http) = &counted.http else { continue };
                for (code, count) in CODES.iter().zip(http.codes) {
                    samples.count(&[&slot, code], count);
                }
            }
        },
    },
    Family {
        name: "recluster_http_request_duration_seconds",
        kind: Kind::Histogram,
        help: "From when the head of a request was read to when its response was written.",
        labels: &["slot"],
        source: |measured, samples| {
            for (slot, counted) in counted(measured) {
                let Some(http) = &counted.http else { continue };
                samples.histogram(&[&slot], &Histogram::of(&REQUEST_BOUNDS, &http.spans));
            }
        },
    },
];

/// What the active worker of each slot has said, if it has.
fn said(measured: &Measured) -> impl Iterator<Item = (String, &Said)> {
    measured.flow.nodes.iter().filter_map(|(slot, node)| Some((slot.to_string(), node.said.as_ref()?)))
}

/// What the workers of each slot have counted.
fn counted(measured: &Measured) -> impl Iterator<Item = (String, &Counted)> {
    measured.flow.nodes.iter().map(|(slot, node)| (slot.to_string(), &node.counted))
}

/// One sample for each slot.
fn each(measured: &Measured, samples: &mut Samples<'_>, value: impl Fn(&Said) -> f64) {
    for (slot, said) in said(measured) {
        samples.push(&[&slot], value(said));
    }
}
