//! [`Sink`]: where a part sends what it has to report. A part knows the kind of its own reports, and not who gets them.

use std::fmt;
use std::sync::Arc;

/// Takes reports of one kind, on any thread, without waiting.
pub(crate) struct Sink<T>(Arc<dyn Fn(T) + Send + Sync>);

impl<T> Sink<T> {
    /// A sink that hands every report to this function.
    pub(crate) fn new(take: impl Fn(T) + Send + Sync + 'static) -> Self {
        Self(Arc::new(take))
    }

    pub(crate) fn send(&self, report: T) {
        (self.0)(report);
    }
}

impl<T> Clone for Sink<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Sink<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sink")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn reports_arrive_in_order_from_every_clone() {
        let (sender, reports) = mpsc::channel();
        let sink = Sink::new(move |report: u32| sender.send(report).unwrap());
        sink.send(1);
        sink.clone().send(2);
        sink.send(3);
        drop(sink);
        assert_eq!(reports.iter().collect::<Vec<_>>(), [1, 2, 3]);
    }
}
