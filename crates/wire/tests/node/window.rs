//! The rule for sending descriptors, against a model of the worker that receives them.

use std::collections::VecDeque;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use recluster_wire::node::{HandleWindow, NODE_READ, SurplusAck};

/// One message in the socket's buffer, written by one `sendmsg`.
struct Sent {
    line: usize,
    unread: usize,
    is_handle: bool,
    /// The kernel hands the descriptor out with the first byte.
    has_descriptor: bool,
}

/// Which descriptor a handle message got; a descriptor has the number of its line.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Delivery {
    line: usize,
    descriptor: Option<usize>,
}

/// The socket and the Node process behind it.
#[derive(Default)]
struct Worker {
    socket: VecDeque<Sent>,
    last_descriptor: Option<usize>,
    deliveries: Vec<Delivery>,
}

impl Worker {
    /// One `recvmsg`, and then all lines that are complete with it.
    fn read(&mut self) {
        let mut complete = Vec::new();
        let mut room = NODE_READ;
        while let Some(sent) = self.socket.front_mut().filter(|_| room > 0) {
            let taken = sent.unread.min(room);
            room -= taken;
            sent.unread -= taken;
            let came_with_descriptor = std::mem::take(&mut sent.has_descriptor);
            if came_with_descriptor {
                self.last_descriptor = Some(sent.line);
            }
            if sent.unread == 0 {
                complete.extend(self.socket.pop_front());
            }
            if came_with_descriptor {
                break;
            }
        }
        for sent in complete.iter().filter(|sent| sent.is_handle) {
            let descriptor = self.last_descriptor.take();
            self.deliveries.push(Delivery { line: sent.line, descriptor });
        }
    }

    fn read_everything(&mut self) {
        while !self.socket.is_empty() {
            self.read();
        }
    }

    fn misdelivered(&self) -> bool {
        self.deliveries.iter().any(|delivery| delivery.descriptor != Some(delivery.line))
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Plain(usize),
    Handle(usize),
    Read,
    Ack,
}

/// A primary that asks its window before it sends a handle, or does not.
struct Primary {
    window: HandleWindow,
    obeys: bool,
    worker: Worker,
    sent_lines: usize,
    sent_handles: usize,
    acked: usize,
}

impl Primary {
    fn new(obeys: bool) -> Self {
        let (window, worker) = (HandleWindow::new(), Worker::default());
        Self { window, obeys, worker, sent_lines: 0, sent_handles: 0, acked: 0 }
    }

    fn run(&mut self, steps: &[Step]) {
        for &step in steps {
            self.take(step);
        }
        self.worker.read_everything();
        while self.acked < self.worker.deliveries.len() {
            self.take(Step::Ack);
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Plain(len) => {
                self.send(len, false);
                self.window.sent_plain(len);
            }
            Step::Handle(len) if self.window.may_send() || !self.obeys => {
                self.send(len, true);
                self.window.sent_handle(len);
                self.sent_handles += 1;
            }
            Step::Ack if self.acked < self.worker.deliveries.len() => {
                self.window.acked().expect("every delivery was sent");
                self.acked += 1;
            }
            Step::Read => self.worker.read(),
            Step::Handle(_) | Step::Ack => {}
        }
    }

    fn send(&mut self, len: usize, is_handle: bool) {
        let (line, has_descriptor) = (self.sent_lines, is_handle);
        self.worker.socket.push_back(Sent { line, unread: len, is_handle, has_descriptor });
        self.sent_lines += 1;
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => (20_usize..400).prop_map(Step::Plain),
        1 => (NODE_READ - 500..NODE_READ + 200).prop_map(Step::Plain),
        1 => (20..4 * NODE_READ).prop_map(Step::Plain),
        6 => (60_usize..300).prop_map(Step::Handle),
        3 => Just(Step::Read),
        3 => Just(Step::Ack),
    ];
    prop::collection::vec(step, 0..60)
}

proptest! {
    // PROPTEST_CASES may ask for more.
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases.max(1000),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_handle_is_misdelivered_or_lost_under_the_rule(steps in steps()) {
        let mut primary = Primary::new(true);
        primary.run(&steps);
        prop_assert!(!primary.worker.misdelivered(), "{:?}", primary.worker.deliveries);
        prop_assert_eq!(primary.worker.deliveries.len(), primary.sent_handles);
        prop_assert_eq!(primary.window.outstanding(), 0);
        prop_assert!(primary.window.may_send());
    }
}

/// Or the property above would prove nothing.
#[test]
fn the_model_misdelivers_where_the_rule_is_ignored() {
    let steps = [Step::Plain(NODE_READ - 50), Step::Handle(90), Step::Handle(90)];
    let mut careless = Primary::new(false);
    careless.run(&steps);
    let wrong = [Delivery { line: 1, descriptor: Some(2) }, Delivery { line: 2, descriptor: None }];
    assert_eq!(careless.worker.deliveries, wrong);

    let mut careful = Primary::new(true);
    careful.run(&steps);
    assert_eq!(careful.worker.deliveries, [Delivery { line: 1, descriptor: Some(1) }]);
}

#[test]
fn the_generated_steps_reach_the_misdelivery() {
    let found = TestRunner::deterministic().run(&steps(), |steps| {
        let mut careless = Primary::new(false);
        careless.run(&steps);
        prop_assert!(!careless.worker.misdelivered());
        Ok(())
    });
    assert!(found.is_err());
}

#[test]
fn a_handle_that_fits_one_read_lets_others_follow_and_one_byte_more_does_not() {
    for (plain, may_follow) in [(0, true), (NODE_READ - 100, true), (NODE_READ - 99, false)] {
        let mut window = HandleWindow::new();
        window.sent_plain(plain);
        window.sent_handle(100);
        assert_eq!(window.may_send(), may_follow, "{plain}");
    }
}

#[test]
fn bytes_before_the_last_handle_do_not_count() {
    let mut window = HandleWindow::new();
    window.sent_plain(NODE_READ - 100);
    window.sent_handle(100);
    window.sent_plain(NODE_READ - 100);
    window.sent_handle(100);
    assert!(window.may_send());
}

#[test]
fn after_a_handle_in_pieces_the_next_one_waits_for_all_answers() {
    let mut window = HandleWindow::new();
    window.sent_handle(100);
    window.sent_handle_in_pieces();
    assert_eq!(window.outstanding(), 2);
    for may_send in [false, true] {
        window.acked().expect("outstanding");
        assert_eq!(window.may_send(), may_send);
    }
}

#[test]
fn a_surplus_ack_is_an_error_and_changes_nothing() {
    let mut window = HandleWindow::new();
    assert_eq!(window.acked(), Err(SurplusAck));
    assert_eq!(SurplusAck.to_string(), "the worker acknowledged a handle that was not sent");
    assert_eq!(window, HandleWindow::new());
}
