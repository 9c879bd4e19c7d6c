//! [`Puppet`]: the test's end of the strings of one worker. What it says is what the worker says, well-behaved or not,
//! and it hears what the master answers.

mod program;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver};
use std::thread;

use serde_json::{Value, json};

use crate::DEADLINE;

/// A worker that says what the test says.
#[derive(Debug)]
pub struct Puppet {
    /// Its process.
    pub pid: u32,
    /// Its slot, zero-based.
    pub slot: u64,
    /// Its environment.
    pub env: Value,
    /// The arguments it was started with.
    pub args: Value,
    /// The sockets it was started with, where it is not node: where each of them is bound.
    pub sockets: Value,
    strings: UnixStream,
    reports: Receiver<Value>,
    /// What was told but not asked for yet.
    unheard: Vec<Value>,
    seq: u64,
}

/// A connection that the master handed to a puppet.
#[derive(Clone, Debug)]
pub struct Handed {
    /// The listener's key.
    pub key: Value,
    /// What to acknowledge.
    pub seq: Value,
    /// Whether reading from it would block.
    pub blocks: bool,
    connection: Value,
}

impl Puppet {
    pub(crate) fn new(strings: UnixStream) -> Self {
        let source = BufReader::new(strings.try_clone().expect("a socket can be cloned"));
        let (sender, reports) = mpsc::channel();
        thread::spawn(move || {
            for line in source.lines().map_while(Result::ok) {
                let report = serde_json::from_str(&line).unwrap_or(Value::Null);
                // A puppet whose test holds it no more lives on, as long as its master wants.
                let _ = sender.send(report);
            }
        });
        let introduction = reports.recv_timeout(DEADLINE).expect("a puppet introduces itself");
        Self {
            pid: introduction["pid"].as_u64().and_then(|pid| pid.try_into().ok()).unwrap_or_default(),
            slot: introduction["env"]["WORKER_ID"]
                .as_str()
                .and_then(|slot| slot.parse().ok())
                .unwrap_or_default(),
            env: introduction["env"].clone(),
            args: introduction["args"].clone(),
            sockets: introduction["sockets"].clone(),
            strings,
            reports,
            unheard: Vec::new(),
            seq: 0,
        }
    }

    /// Says one message.
    pub fn say(&mut self, message: &Value) {
        self.write(&format!("{message}\n"));
    }

    /// Says one cluster message with the next `seq`, which is returned.
    pub fn say_cluster(&mut self, mut message: Value) -> u64 {
        let seq = self.seq;
        self.seq += 1;
        message["cmd"] = json!("NODE_CLUSTER");
        message["seq"] = json!(seq);
        self.say(&message);
        seq
    }

    /// Writes exactly this to the channel.
    pub fn write(&mut self, text: &str) {
        self.order(&json!({ "do": "write", "text": text }));
    }

    /// Writes this to the channel so many times.
    pub fn flood(&mut self, text: &str, times: u64) {
        self.order(&json!({ "do": "write", "text": text, "times": times }));
    }

    /// Writes this to the channel, with so many descriptors attached. [`Puppet::wait_released`] tells when the master
    /// has closed one.
    pub fn pass(&mut self, text: &str, descriptors: u64) {
        self.order(&json!({ "do": "write", "text": text, "descriptors": descriptors }));
    }

    /// Closes the channel and lives on.
    pub fn close(&mut self) {
        self.order(&json!({ "do": "close" }));
    }

    /// Exits.
    pub fn exit(&mut self, status: i32) {
        self.order(&json!({ "do": "exit", "status": status }));
    }

    /// The next message of the master that this function wants; others are kept for later.
    #[track_caller]
    pub fn hear(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        self.report(|report| wanted(&report["message"]))["message"].take()
    }

    /// The same for a message that comes with a descriptor, and whether reading from that would block.
    #[track_caller]
    pub fn hear_handle(&mut self, wanted: impl Fn(&Value) -> bool) -> (Value, Option<bool>) {
        let mut report = self.report(|report| wanted(&report["message"]));
        (report["message"].take(), report["blocks"].as_bool())
    }

    /// Waits until the master has closed a descriptor that was passed to it.
    #[track_caller]
    pub fn wait_released(&mut self) {
        self.report(|report| report["released"] == true);
    }

    /// Waits until the master has closed the channel, while the puppet writes.
    #[track_caller]
    pub fn wait_broken(&mut self) {
        self.report(|report| report["broken"] == true);
    }

    /// Does what node does before the server file runs.
    pub fn online(&mut self) {
        self.say_cluster(json!({ "act": "online" }));
    }

    /// Asks for a listener, with these fields beside the usual ones; the master's reply.
    #[track_caller]
    pub fn query(&mut self, fields: &Value) -> Value {
        let mut message = json!({
            "act": "queryServer", "index": 0, "data": null,
            "address": "127.0.0.1", "port": 0, "addressType": 4,
        });
        for (name, value) in fields.as_object().into_iter().flatten() {
            message[name] = value.clone();
        }
        let seq = self.say_cluster(message);
        self.reply_to(seq)
    }

    /// The master's reply to the cluster message with this `seq`, by itself or around a descriptor.
    #[track_caller]
    pub fn reply_to(&mut self, seq: u64) -> Value {
        let message = self.hear(|message| message["ack"] == seq || message["msg"]["ack"] == seq);
        if message["cmd"] == "NODE_HANDLE" { message["msg"].clone() } else { message }
    }

    /// How many such messages came that the test has not asked for. What the master said before the last thing that
    /// was heard is counted for sure.
    pub fn unheard(&self, wanted: impl Fn(&Value) -> bool) -> usize {
        self.unheard.iter().filter(|report| wanted(&report["message"])).count()
    }

    /// Says that it listens as the reply to its query has told it.
    pub fn listening(&mut self, reply: &Value) {
        self.say_cluster(json!({
            "act": "listening", "index": 0, "data": null,
            "address": "127.0.0.1", "port": reply["sockname"]["port"], "addressType": 4,
        }));
    }

    /// Listens on the port that all of its cluster's workers share; the master's reply.
    #[track_caller]
    pub fn listen(&mut self) -> Value {
        let reply = self.query(&json!({}));
        self.listening(&reply);
        reply
    }

    /// Does all that a worker does until it is ready.
    #[track_caller]
    pub fn serve(&mut self) {
        self.online();
        self.listen();
    }

    /// Waits for the next connection and says nothing yet.
    #[track_caller]
    pub fn handed(&mut self) -> Handed {
        self.handed_or_end().expect("the puppet should be handed a connection")
    }

    /// The same, or `None` when the puppet is gone or nothing came.
    pub fn handed_or_end(&mut self) -> Option<Handed> {
        let report = self.try_report(|report| report["message"]["msg"]["act"] == "newconn")?;
        let message = &report["message"]["msg"];
        Some(Handed {
            key: message["key"].clone(),
            seq: message["seq"].clone(),
            blocks: report["blocks"] == true,
            connection: report["connection"].clone(),
        })
    }

    /// Acknowledges the descriptor, and takes or refuses the connection.
    pub fn take(&mut self, handed: &Handed, accepted: bool) {
        self.say(&json!({ "cmd": "NODE_HANDLE_ACK" }));
        self.say_cluster(json!({ "ack": handed.seq, "accepted": accepted }));
        if !accepted {
            // Like Node, it keeps nothing of what it has refused.
            self.order(&json!({ "do": "answer", "connection": handed.connection, "text": "" }));
        }
    }

    /// Reads what the client has sent on a connection, at least a byte of it.
    #[track_caller]
    pub fn read(&mut self, handed: &Handed) -> String {
        self.order(&json!({ "do": "read", "connection": handed.connection }));
        let report = self.report(|report| report["read"].is_string());
        report["read"].as_str().unwrap_or_default().to_owned()
    }

    /// Writes an answer to a connection and closes it.
    pub fn answer(&mut self, handed: &Handed, text: &str) {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", text.len());
        self.order(&json!({ "do": "answer", "connection": handed.connection, "text": head + text }));
    }

    #[track_caller]
    fn report(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        let report = self.try_report(wanted);
        report.unwrap_or_else(|| panic!("the puppet was told only {:#?}", self.unheard))
    }

    /// The next report that is wanted, or `None` when the puppet is gone or the deadline has passed.
    fn try_report(&mut self, wanted: impl Fn(&Value) -> bool) -> Option<Value> {
        if let Some(index) = self.unheard.iter().position(&wanted) {
            return Some(self.unheard.remove(index));
        }
        loop {
            let report = self.reports.recv_timeout(DEADLINE).ok()?;
            if wanted(&report) {
                return Some(report);
            }
            self.unheard.push(report);
        }
    }

    /// A puppet that is gone obeys no more; the test finds out by what it waits for.
    fn order(&mut self, order: &Value) {
        let _ = writeln!(self.strings, "{order}");
    }
}
