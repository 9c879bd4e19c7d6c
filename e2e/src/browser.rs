//! A real browser without a screen, Chromium: what it is told over a pipe, and what its console says.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{DEADLINE, Home, machine};

/// How long it may take to end by itself.
const FAREWELL: Duration = Duration::from_secs(10);

/// What it is started with: nothing that asks anybody for anything, and one name that means this machine, as the owner of that name can
/// have it mean.
const OPTIONS: [&str; 12] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--remote-debugging-pipe",
    "--host-resolver-rules=MAP evil.example 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "about:blank",
];

/// A browser with one page.
#[derive(Debug)]
pub struct Browser {
    process: Child,
    orders: Option<ChildStdin>,
    said: mpsc::Receiver<Value>,
    session: Option<String>,
    next: u64,
    faults: Vec<String>,
    _home: Home,
}

impl Browser {
    /// Starts one.
    #[track_caller]
    pub fn open() -> Self {
        let home = Home::new();
        let browser = machine::browser().expect("chromium is not installed");
        // It reads descriptor 3 and writes to 4.
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null"]).arg(browser);
        command.arg(format!("--user-data-dir={}", home.join("profile").display())).args(OPTIONS);
        command.env("HOME", home.path()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().expect("it runs");
        let stdout = process.stdout.take().expect("a pipe");
        let (tell, said) = mpsc::channel();
        thread::spawn(move || {
            for message in BufReader::new(stdout).split(0).map_while(Result::ok) {
                let message = serde_json::from_slice(&message).expect("it says JSON");
                if tell.send(message).is_err() {
                    return;
                }
            }
        });
        let orders = process.stdin.take();
        let mut browser =
            Self { process, orders, said, session: None, next: 0, faults: Vec::new(), _home: home };
        let page = browser.order("Target.createTarget", &json!({"url": "about:blank"}));
        let target = json!({"targetId": page["targetId"], "flatten": true});
        let session = browser.order("Target.attachToTarget", &target);
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log"] {
            browser.order(&format!("{domain}.enable"), &json!({}));
        }
        browser
    }

    /// Goes to a page.
    #[track_caller]
    pub fn visit(&mut self, url: &str) {
        let went = self.order("Page.navigate", &json!({ "url": url }));
        assert_eq!(went.get("errorText"), None, "{url}");
    }

    /// Has a window of this size, in pixels of the page; or that of a phone.
    pub fn resize(&mut self, width: u32, height: u32, is_phone: bool) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": is_phone});
        self.order("Emulation.setDeviceMetricsOverride", &size);
    }

    /// Is that of a person who likes `dark` or `light` pages.
    pub fn prefer(&mut self, scheme: &str) {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.order("Emulation.setEmulatedMedia", &json!({ "features": features }));
    }

    /// What this expression of JavaScript is in the page.
    #[track_caller]
    pub fn value(&mut self, expression: &str) -> Value {
        self.evaluate(expression).unwrap_or_else(|error| panic!("{expression}: {error}"))
    }

    /// Waits until this expression is true of the page, which is looked at whenever something of the page changes.
    #[track_caller]
    pub fn wait(&mut self, expression: &str) {
        let waits = format!(
            "new Promise(done => {{
                const look = () => {{
                    let it = false;
                    try {{ it = ({expression}); }} catch {{ /* something of it is not there yet */ }}
                    if (it) {{ observer.disconnect(); done(true); }}
                }};
                const observer = new MutationObserver(look);
                const all = {{ subtree: true, childList: true, attributes: true, characterData: true }};
                observer.observe(document, all);
                addEventListener('load', look);
                look();
            }})"
        );
        let begun = Instant::now();
        while let Err(error) = self.evaluate(&waits) {
            // A page that gives way to another takes the question with it.
            let is_another = ["Execution context", "Inspected target"].iter().any(|it| error.contains(it));
            assert!(is_another && begun.elapsed() < DEADLINE, "waited in vain for {expression}: {error}");
        }
    }

    /// What the console has said until now that is an error or a warning: also of what was not let through.
    pub fn faults(&mut self) -> &[String] {
        // What it has said by now comes before the answer.
        self.value("0");
        &self.faults
    }

    fn evaluate(&mut self, expression: &str) -> Result<Value, String> {
        let asked = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let answer = self.ask("Runtime.evaluate", &asked)?;
        match answer.get("exceptionDetails") {
            Some(exception) => Err(exception.to_string()),
            None => Ok(answer["result"]["value"].clone()),
        }
    }

    #[track_caller]
    fn order(&mut self, method: &str, parameters: &Value) -> Value {
        self.ask(method, parameters).unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// Has it do something, and waits for the answer.
    #[track_caller]
    fn ask(&mut self, method: &str, parameters: &Value) -> Result<Value, String> {
        self.next += 1;
        let mut order = json!({"id": self.next, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            order["sessionId"] = session.as_str().into();
        }
        let orders = self.orders.as_mut().expect("it is open");
        orders.write_all(format!("{order}\0").as_bytes()).expect("the browser lives");
        let begun = Instant::now();
        loop {
            let left = DEADLINE.saturating_sub(begun.elapsed());
            let said = self.said.recv_timeout(left);
            let mut said =
                said.unwrap_or_else(|_| panic!("no answer to {method} {parameters}: {:?}", self.faults));
            if said["id"] == self.next {
                let error = said.get("error").map(Value::to_string);
                return error.map_or_else(|| Ok(said["result"].take()), Err);
            }
            self.note(&said);
        }
    }

    /// Keeps what it says if that is a fault.
    fn note(&mut self, said: &Value) {
        let of = &said["params"];
        let is_fault = match said["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            Some("Runtime.consoleAPICalled") => of["type"] == "error" || of["type"] == "warning",
            // On a machine that is too busy the master may say 503, which a page tells in words.
            Some("Log.entryAdded") => {
                let entry = &of["entry"];
                let is_busy = entry["source"] == "network" && entry.to_string().contains(" 503 ");
                !is_busy && (entry["level"] == "error" || entry["level"] == "warning")
            }
            _ => false,
        };
        if is_fault {
            self.faults.push(of.to_string());
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It ends when nobody can tell it anything any more. What fails here has ended by itself.
        drop(self.orders.take());
        let begun = Instant::now();
        while let Ok(None) = self.process.try_wait() {
            if begun.elapsed() > FAREWELL {
                let _ = self.process.kill();
                let _ = self.process.wait();
                return;
            }
            thread::park_timeout(Duration::from_millis(10));
        }
    }
}
