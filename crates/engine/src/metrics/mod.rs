//! The metrics of a cluster, as text for Prometheus: a list of families, each with the one place that its values come from.
//!
//! The list is in four parts, by whom they are about: `master`, `workers`, `node` and `process`. A new family is one more row there, and one
//! more row in `docs/metrics.md`, which a test compares with the list. `text` writes it.

mod master;
mod node;
mod proc;
mod process;
pub(crate) mod text;
mod workers;

use crate::metrics::text::{Family, Format};
use crate::report::counts::Measured;

/// All families, in the order in which they are written.
const FAMILIES: [&[Family]; 4] = [master::FAMILIES, workers::FAMILIES, node::FAMILIES, process::FAMILIES];

/// All metrics at one moment.
pub(crate) fn write(measured: &Measured, format: Format) -> String {
    text::write(FAMILIES.into_iter().flatten(), measured, format)
}

#[cfg(test)]
mod tests;
