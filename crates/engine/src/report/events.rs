//! [`Events`]: what happens, for whoever has subscribed.

use std::sync::Arc;

use tokio::sync::broadcast;

use crate::report::event::Event;

/// The events of a cluster from the moment of subscribing on.
#[derive(Debug)]
// Behind pointers: the channel keeps room for all that may wait, and most of the time none does.
pub struct Events(pub(crate) broadcast::Receiver<Arc<Event>>);

/// What [`Events::next`] yields.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_enums, reason = "a subscriber either heard or missed")]
pub enum Heard {
    /// The next event.
    Event(Event),
    /// The subscriber was too slow: so many events were lost.
    Missed(u64),
}

impl Events {
    /// The next event; `None` once the cluster is over.
    pub async fn next(&mut self) -> Option<Heard> {
        match self.0.recv().await {
            Ok(event) => Some(Heard::Event(Arc::unwrap_or_clone(event))),
            Err(broadcast::error::RecvError::Lagged(count)) => Some(Heard::Missed(count)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slow_subscriber_hears_what_it_missed_and_the_end() {
        let sender = broadcast::Sender::new(2);
        let mut events = Events(sender.subscribe());
        for generation in 1..=4 {
            sender.send(Arc::new(Event::GenerationBegan { generation })).unwrap();
        }
        drop(sender);
        assert!(matches!(events.next().await, Some(Heard::Missed(2))));
        for expected in [3, 4] {
            let heard = events.next().await;
            assert!(
                matches!(heard, Some(Heard::Event(Event::GenerationBegan { generation })) if generation == expected)
            );
        }
        assert!(events.next().await.is_none());
    }
}
