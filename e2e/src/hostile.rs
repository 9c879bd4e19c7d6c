//! What hostile workers and clients write is data: texts in which a number and a length may stand.

use serde_json::Value;

use crate::binary::beside;
use crate::fixture;
use crate::home::Home;
use crate::launch::Launch;
use crate::node::Node;

/// A text as it is sent for the time `n`: `<n>` is that number, and `<x*N>` N times an `x`. A newline follows, unless the text ends
/// with `<more>`.
pub fn written(text: &str, n: u64) -> String {
    let mut rest = text.strip_suffix("<more>").unwrap_or(text);
    let mut written = String::with_capacity(rest.len());
    while let Some((before, behind)) = rest.split_once('<') {
        written.push_str(before);
        let Some((what, behind)) = behind.split_once('>') else { break };
        match what.strip_prefix("x*").and_then(|count| count.parse().ok()) {
            Some(count) => written.extend(std::iter::repeat_n('x', count)),
            None if what == "n" => written.push_str(&n.to_string()),
            None => panic!("no such word in the text of an attack: <{what}>"),
        }
        rest = behind;
    }
    written.push_str(rest);
    if !text.ends_with("<more>") {
        written.push('\n');
    }
    written
}

impl Launch {
    /// A cluster whose first slots have hostile workers, each with the attack of its slot in this list, and whose last `good` slots
    /// serve under Node.
    #[must_use]
    pub fn besieged(attacks: &[Value], good: u32) -> Self {
        let hostile = u32::try_from(attacks.len()).expect("not so many attacks");
        let slots: Vec<String> = (0..hostile).map(|slot| slot.to_string()).collect();
        let home = Home::new();
        let list = home.write("attacks.json", &Value::from(attacks).to_string());
        Self::fixture("server.js")
            .home(&home)
            .workers(hostile + good)
            .option("--node", &fixture("puppet-node").to_string_lossy())
            .env("PUPPET", beside("hostile"))
            .env("PUPPET_SLOTS", slots.join(","))
            .env("PUPPET_REAL_NODE", &Node::under_test().path)
            .env("HOSTILE_ATTACKS", list)
    }
}
