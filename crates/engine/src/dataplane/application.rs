//! What a worker's application says: passed on to whoever hears it, and acted on where it means something to us.

use recluster_wire::node::{SkippedMessage, UserCommand, UserMessage};

use super::handle::Handle;
use super::messages::{Config, Fact};
use super::reactor::Reactor;
use super::reports::Reports;
use super::worker::Worker;
use crate::config::messages::Messages;

/// The application said this. `handle` came with it.
pub(super) fn said(
    worker: &mut Worker,
    message: UserMessage,
    handle: Option<Handle>,
    config: &Config,
    reactor: &mut Reactor,
    reports: &mut Reports,
) {
    let command = message.command();
    if command == UserCommand::Other {
        unheard(worker, || message.name(), config, reports);
    }
    // The message comes first, before what follows from it.
    let id = worker.id;
    match config.messages {
        Messages::Logged if !config.is_hosted => {
            let bytes = message.payload().len() as u64;
            reports.fact(Fact::Sent { worker: id, bytes });
        }
        Messages::Unheard if !config.is_hosted => {}
        Messages::Heard | Messages::Logged | Messages::Unheard => {
            reports.fact(Fact::Message { worker: id, said: message.into_payload(), handle });
        }
    }
    obey(worker, command, reactor, reports);
}

/// The application said something that is too long to be kept.
pub(super) fn said_too_much(
    worker: &mut Worker,
    message: &SkippedMessage,
    config: &Config,
    reactor: &mut Reactor,
    reports: &mut Reports,
) {
    if message.command == UserCommand::Other {
        unheard(worker, || message.name.clone(), config, reports);
    }
    let bytes = message.bytes;
    match config.messages {
        Messages::Heard if !std::mem::replace(&mut worker.said.too_much, true) => {
            reports.fact(Fact::Skipped { worker: worker.id, bytes, ended: true });
        }
        Messages::Logged => reports.fact(Fact::Sent { worker: worker.id, bytes }),
        Messages::Heard | Messages::Unheard => {}
    }
    obey(worker, message.command, reactor, reports);
}

/// The application may be saying something that has no end.
pub(super) fn goes_on(worker: &mut Worker, reports: &Reports) {
    if let Some(bytes) = worker.channel.endless()
        && !std::mem::replace(&mut worker.said.without_end, true)
    {
        reports.fact(Fact::Skipped { worker: worker.id, bytes, ended: false });
    }
}

/// Where nobody acts on messages, each kind of them is reported once: its sender may wait for an answer.
fn unheard(worker: &Worker, name: impl FnOnce() -> String, config: &Config, reports: &mut Reports) {
    if !config.is_hosted && config.messages != Messages::Heard {
        reports.unheard(worker.id, name);
    }
}

fn obey(worker: &mut Worker, command: UserCommand, reactor: &mut Reactor, reports: &Reports) {
    match command {
        UserCommand::Ready => reports.fact(Fact::SaidReady(worker.id)),
        UserCommand::Disconnect => worker.retires(reactor, reports),
        UserCommand::Other => {}
    }
}

#[cfg(test)]
mod tests {
    use recluster_wire::node::{FromWorker, HandleEnvelope};

    use super::super::channel::Limits;
    use super::super::fixtures::{FarEnd, Harness, channel};
    use super::*;
    use crate::config::balance::Balance;

    fn skipped(bytes: u64, command: UserCommand) -> FromWorker {
        FromWorker::Skipped(SkippedMessage { bytes, command, name: "a value".to_owned() })
    }

    fn heard_by(messages: Messages) -> (Harness, FarEnd) {
        let mut harness = Harness::new(Balance::RoundRobin);
        harness.state.config.messages = messages;
        let far = harness.serving(1, 0);
        (harness, far)
    }

    #[test]
    fn a_message_that_is_too_long_is_told_of_once_and_obeyed_each_time() {
        let (mut harness, _far) = heard_by(Messages::Heard);
        harness.hear(1, skipped(17 << 20, UserCommand::Ready));
        harness.hear(1, skipped(18 << 20, UserCommand::Disconnect));
        assert_eq!(harness.fact_names(), ["skipped 1 17825792 true", "ready 1", "retiring 1"]);
    }

    #[test]
    fn a_message_without_an_end_is_told_of_once_whoever_hears_it() {
        let (mut harness, _far) = heard_by(Messages::Unheard);
        let (channel, mut far) = channel(Limits { line: 8, queue: 8, skipped: 16, ..Limits::SCANT });
        harness.worker(1).channel = channel;
        for piece in ["\"0123456789", "0123456789", "0123456789\"\n", "\"012345678901234567890"] {
            rustix::io::write(&far.socket, piece.as_bytes()).unwrap();
            harness.note_worker(1);
            harness.turn();
        }
        far.say("\"");
        assert_eq!(harness.fact_names(), ["skipped 1 21 false", "unheard 1 a string"]);
    }

    #[test]
    fn each_kind_of_message_that_nobody_acts_on_is_told_of_once() {
        let (mut harness, mut far) = heard_by(Messages::Unheard);
        let lines = [
            r#"{"topic":"log4js:message"}"#,
            r#"{"a":1}"#,
            r#"{"topic":"log4js:message","data":2}"#,
            "\"ready\"",
        ];
        for line in lines {
            far.say(line);
        }
        for number in 0..20 {
            far.say(&format!(r#"{{"type":"kind {number}"}}"#));
        }
        harness.note_worker(1);
        harness.turn();
        let names = harness.fact_names();
        assert_eq!(
            names[..4],
            ["unheard 1 log4js:message", "unheard 1 {a: …}", "ready 1", "unheard 1 kind 0"]
        );
        assert_eq!(names.len(), 9, "eight kinds are enough: {names:?}");
    }

    #[test]
    fn what_nobody_hears_is_not_passed_on_but_obeyed() {
        let (mut harness, mut far) = heard_by(Messages::Unheard);
        for line in [r#"{"cmd":"anything"}"#, r#""ready""#, r#"{"cmd":"disconnect"}"#] {
            far.say(line);
        }
        harness.note_worker(1);
        harness.turn();
        harness.hear(1, skipped(17 << 20, UserCommand::Other));
        assert_eq!(
            harness.fact_names(),
            ["unheard 1 anything", "ready 1", "retiring 1", "unheard 1 a value"]
        );
    }

    #[test]
    fn of_what_is_only_logged_the_length_is_told() {
        let (mut harness, mut far) = heard_by(Messages::Logged);
        far.say(r#"{"password":"hunter2"}"#);
        harness.note_worker(1);
        harness.turn();
        harness.hear(1, skipped(17 << 20, UserCommand::Other));
        let told = ["unheard 1 {password: …}", "sent 1 22", "unheard 1 a value", "sent 1 17825792"];
        assert_eq!(harness.fact_names(), told);
    }

    #[test]
    fn a_handle_whose_message_is_too_long_is_acknowledged_and_closed() {
        let (mut harness, mut far) = heard_by(Messages::Unheard);
        let message = Box::new(skipped(17 << 20, UserCommand::Ready));
        let envelope =
            || FromWorker::Handle(HandleEnvelope { kind: None, key: None, message: message.clone() });
        harness.hear(1, envelope());
        assert_eq!(far.lines(), [r#"{"cmd":"NODE_HANDLE_NACK"}"#], "no descriptor came with it");
        let (handle, other) = std::os::unix::net::UnixStream::pair().unwrap();
        far.send_with("1", &handle);
        drop(handle);
        harness.note_worker(1);
        harness.turn();
        harness.hear(1, envelope());
        assert_eq!(far.lines(), [r#"{"cmd":"NODE_HANDLE_ACK"}"#]);
        assert_eq!(std::io::Read::read(&mut &other, &mut [0]).unwrap(), 0, "it is closed");
        assert_eq!(harness.fact_names(), ["unheard 1 a value", "ready 1"]);
    }
}
