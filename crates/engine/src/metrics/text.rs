//! Metrics as text: version 0.0.4 of Prometheus's own format, and OpenMetrics 1.0.
//!
//! The values come from one picture of the cluster that is taken when somebody asks, so there is no registry of counters here, and the
//! two formats differ in a few words alone: the names of counters, the type of an info, and the end.

use std::fmt::Write as _;

use crate::report::counts::{Histogram, Measured};
use crate::report::measured::as_float;

/// How metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Version 0.0.4.
    Prometheus,
    /// Version 1.0.0 of OpenMetrics.
    OpenMetrics,
}

impl Format {
    /// Its media type.
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// The one that a request accepts: OpenMetrics where it is named, and not refused by `q=0`. Whoever accepts it and version 0.0.4
    /// alike wants the newer one; Prometheus names them in this order.
    pub(crate) fn accepted(accept: &str) -> Self {
        let is_named = accept.split(',').any(|range| {
            let mut parts = range.split(';').map(str::trim);
            let is_it =
                parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/openmetrics-text"));
            let mut is_old = false;
            for part in parts {
                let Some((name, value)) = part.split_once('=') else { continue };
                let value = value.trim().trim_matches('"');
                match name.trim().to_ascii_lowercase().as_str() {
                    "q" if value.parse().is_ok_and(|weight: f32| weight <= 0.0) => return false,
                    // What is written is of version 1.0.0: versions before it differ.
                    "version" => is_old = value != "1.0.0",
                    _ => {}
                }
            }
            is_it && !is_old
        });
        if is_named { Self::OpenMetrics } else { Self::Prometheus }
    }
}

/// What a family's values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A count that only grows; its name ends in `_total`.
    Counter,
    Gauge,
    Histogram,
    /// Labels whose value is always 1; its name ends in `_info`.
    Info,
}

impl Kind {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Info => "info",
        }
    }
}

/// Metrics of one name, and where their values come from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Family {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// One line without quotes and backslashes.
    pub(crate) help: &'static str,
    /// The labels of each of its samples.
    pub(crate) labels: &'static [&'static str],
    pub(crate) source: fn(&Measured, &mut Samples<'_>),
}

/// The samples of one family, as they are written.
#[derive(Debug)]
pub(crate) struct Samples<'a> {
    family: &'a Family,
    out: &'a mut String,
}

impl Samples<'_> {
    /// One sample. The values of the labels are in the order of the family's labels.
    pub(crate) fn push(&mut self, labels: &[&str], value: f64) {
        self.line("", labels, None, value);
    }

    /// One sample that is a count.
    pub(crate) fn count(&mut self, labels: &[&str], count: u64) {
        self.push(labels, as_float(count));
    }

    pub(crate) fn histogram(&mut self, labels: &[&str], histogram: &Histogram) {
        for (bound, count) in histogram.cumulative() {
            // With a point in it in both formats, so that a series has one name whoever asks.
            self.line("_bucket", labels, Some(&format!("{bound:?}")), as_float(count));
        }
        self.line("_bucket", labels, Some("+Inf"), as_float(histogram.count()));
        self.line("_sum", labels, None, histogram.sum);
        self.line("_count", labels, None, as_float(histogram.count()));
    }

    fn line(&mut self, ending: &str, labels: &[&str], bound: Option<&str>, value: f64) {
        debug_assert_eq!(self.family.labels.len(), labels.len(), "{}", self.family.name);
        let named = self.family.labels.iter().copied().zip(labels.iter().copied());
        let all: Vec<String> =
            named.chain(bound.map(|bound| ("le", bound))).map(|(name, value)| label(name, value)).collect();
        let labels = if all.is_empty() { String::new() } else { format!("{{{}}}", all.join(",")) };
        // A String takes all that is written to it: here and below.
        let _ = writeln!(self.out, "{}{ending}{labels} {}", self.family.name, number(value));
    }
}

/// All families with their samples.
pub(crate) fn write<'a>(
    families: impl Iterator<Item = &'a Family>,
    measured: &Measured,
    format: Format,
) -> String {
    let mut out = String::new();
    for family in families {
        let (name, kind) = match (format, family.kind) {
            (Format::OpenMetrics, Kind::Counter) => (without(family.name, "_total"), "counter"),
            (Format::OpenMetrics, Kind::Info) => (without(family.name, "_info"), "info"),
            (Format::Prometheus, Kind::Info) => (family.name, "gauge"),
            (_, kind) => (family.name, kind.word()),
        };
        let _ = writeln!(out, "# HELP {name} {}", family.help);
        let _ = writeln!(out, "# TYPE {name} {kind}");
        (family.source)(measured, &mut Samples { family, out: &mut out });
    }
    if format == Format::OpenMetrics {
        out.push_str("# EOF\n");
    }
    out
}

fn without<'a>(name: &'a str, ending: &str) -> &'a str {
    name.strip_suffix(ending).unwrap_or(name)
}

fn label(name: &str, value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("{name}=\"{value}\"")
}

/// A number as both formats write it.
fn number(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else {
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_the_format_that_it_names() {
        for accept in [
            "application/openmetrics-text",
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "text/html, Application/OpenMetrics-Text; version=\"1.0.0\"; q=0.2",
        ] {
            assert_eq!(Format::accepted(accept), Format::OpenMetrics, "{accept}");
        }
        for accept in [
            "",
            "*/*",
            "text/plain;version=0.0.4",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;version=0.0.1",
            "application/openmetrics-textual",
        ] {
            assert_eq!(Format::accepted(accept), Format::Prometheus, "{accept}");
        }
    }

    #[test]
    fn labels_and_numbers_are_written_so_that_they_can_be_read() {
        assert_eq!(label("a", "x\\y\"z\nw"), r#"a="x\\y\"z\nw""#);
        let numbers = [(1.0, "1"), (0.05, "0.05"), (1e21, "1000000000000000000000"), (f64::INFINITY, "+Inf")];
        for (value, text) in numbers {
            assert_eq!(number(value), text);
        }
        assert_eq!(number(f64::NAN), "NaN");
        assert_eq!(number(f64::NEG_INFINITY), "-Inf");
    }
}
