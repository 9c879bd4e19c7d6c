//! What a test can order of a puppet that is not node but a program with sockets of its own.

use serde_json::{Value, json};

use super::{Handed, Puppet};

impl Puppet {
    /// A variable of its environment.
    #[track_caller]
    pub fn var(&self, name: &str) -> &str {
        self.env[name].as_str().unwrap_or_else(|| panic!("{name} is not set: {:#}", self.env))
    }

    /// Accepts a connection on this of its sockets, counted from 0.
    #[track_caller]
    pub fn accept(&mut self, socket: usize) -> Handed {
        self.order(&json!({ "do": "accept", "socket": socket }));
        let report = self.report(|report| report["accepted"].is_u64());
        Handed { key: Value::Null, seq: Value::Null, blocks: true, connection: report["accepted"].clone() }
    }

    /// Accepts a connection, and gives it this answer.
    #[track_caller]
    pub fn serve_one(&mut self, socket: usize, text: &str) {
        let connection = self.accept(socket);
        self.read(&connection);
        self.answer(&connection, text);
    }

    /// Receives a datagram on this of its sockets and answers it; what it was.
    #[track_caller]
    pub fn receive(&mut self, socket: usize, answer: &str) -> String {
        self.order(&json!({ "do": "receive", "socket": socket, "text": answer }));
        let report = self.report(|report| report["received"].is_string());
        report["received"].as_str().unwrap_or_default().to_owned()
    }

    /// Says this by `sd_notify`.
    pub fn notify(&mut self, text: &str) {
        self.notify_with(text, 0);
    }

    /// The same with so many descriptors attached. [`Puppet::wait_released`] tells when the master has closed one.
    pub fn notify_with(&mut self, text: &str, descriptors: u64) {
        self.order(&json!({ "do": "notify", "text": text, "descriptors": descriptors }));
    }

    /// Says this by `sd_notify`, and waits until the master has dealt with it.
    #[track_caller]
    pub fn notify_and_wait(&mut self, text: &str) {
        self.notify(text);
        self.notify_with("BARRIER=1", 1);
        self.wait_released();
    }

    /// Uses so many bytes of memory more.
    #[track_caller]
    pub fn grow(&mut self, bytes: u64) {
        self.order(&json!({ "do": "grow", "bytes": bytes }));
        self.report(|report| report["grown"] == true);
    }

    /// Leaves its process group for that of the master.
    #[track_caller]
    pub fn leave_group(&mut self) {
        self.order(&json!({ "do": "leave" }));
        self.report(|report| report["left"] == true);
    }

    /// Has a shell run something in the background; its process.
    #[track_caller]
    pub fn run(&mut self, text: &str) -> u32 {
        self.order(&json!({ "do": "run", "text": text }));
        let report = self.report(|report| report["ran"].is_u64());
        report["ran"].as_u64().and_then(|pid| pid.try_into().ok()).unwrap_or_default()
    }
}
