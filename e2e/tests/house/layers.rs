//! The layers of every crate, lowest first. A module uses modules of lower layers alone, so there is no arrow upwards and
//! no circle (`cargo run -p recluster-e2e --bin arrows -- crates/engine/src` shows them as they are). Every module is named here: one that is not fails the test, and so does a name without a module.

use std::collections::BTreeMap;

use recluster_e2e::{arrows, repository};

/// A crate and its layers, lowest first. The modules of one layer do not know each other.
type Layers = (&'static str, &'static [&'static [&'static str]]);

const CORE: Layers = (
    "core",
    &[
        &["config", "id", "time"],
        &["backoff", "event", "reload"],
        &["action"],
        &["worker"],
        &["slot"],
        &["cluster"],
        &["record", "size", "status"],
        &["reconcile", "reconcile::conclude", "reconcile::escalate", "reconcile::fill", "reconcile::retire"],
        &["lib"],
    ],
);

const WIRE: Layers = (
    "wire",
    &[
        &["env::activation", "env::links", "json", "node::fields", "node::window", "notify"],
        &["env", "node::message"],
        &["node::encode", "node::listener_key", "node::query"],
        &["node::parse", "node::worker::to_primary"],
        &["node::decode", "node::worker::from_primary"],
        &["node", "node::worker"],
        &["lib"],
    ],
);

const WORKER: Layers = (
    "worker",
    &[
        &["environment", "error", "notify", "sys", "watched"],
        &["address", "messages", "shutdown", "watchdog"],
        &["channel", "signals", "socket"],
        &["worker"],
        &["listen"],
        &["lib"],
    ],
);

const NPM: Layers = ("npm", &[&["engine", "notes", "numbers", "sys"], &["plan"], &["cluster"], &["lib"]]);

const CLI: Layers = (
    "cli",
    &[
        &[
            "args::values",
            "config::place",
            "duration",
            "exit_code",
            "inherited",
            "name",
            "paint",
            "signals",
            "size",
            "writable",
        ],
        &[
            "args::balancing",
            "args::client",
            "client::progress",
            "client::table",
            "config::error",
            "log::sink",
            "pidfile",
        ],
        &["args::run"],
        &["args::check", "log::note", "log::words"],
        &["args"],
        &["config::keys"],
        &["config::file"],
        &["config::contents"],
        &["config::settings"],
        &["config"],
        &["check::node", "error"],
        &["claim", "client::connect", "client::output", "describe", "log"],
        &["check::findings", "client::status", "run"],
        &["check::report", "client"],
        &["check"],
        &["main"],
    ],
);

/// What is wrong with the arrows of a crate, a line each.
fn faults((name, layers): &Layers) -> Vec<String> {
    let modules = arrows::modules(&repository().join("crates").join(name).join("src"));
    let numbered =
        layers.iter().enumerate().flat_map(|(layer, names)| names.iter().map(move |name| (*name, layer)));
    let layer_of: BTreeMap<&str, usize> = numbered.collect();
    let mut faults = Vec::new();
    for named in layer_of.keys().filter(|named| !modules.contains_key(**named)) {
        faults.push(format!("{name}: there is no module {named}"));
    }
    for (module, about) in &modules {
        let Some(layer) = layer_of.get(module.as_str()) else {
            faults.push(format!("{name}: {module} is in no layer"));
            continue;
        };
        for used in &about.uses {
            if layer_of.get(used.as_str()).is_some_and(|below| below >= layer) {
                faults.push(format!("{name}: {module} uses {used}, which is not below it"));
            }
        }
    }
    faults
}

#[test]
fn every_arrow_leads_downwards() {
    for layers in [CORE, WIRE, WORKER, NPM, CLI] {
        let faults = faults(&layers);
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }
}

#[test]
fn a_module_that_is_not_named_and_an_arrow_upwards_are_faults() {
    let upside_down: Layers = ("npm", &[&["lib"], &["cluster", "gone"], &["engine", "notes", "plan", "sys"]]);
    let faults = faults(&upside_down).join("\n");
    for fault in ["no module gone", "numbers is in no layer", "cluster uses plan, which is not below it"] {
        assert!(faults.contains(fault), "{fault}: {faults}");
    }
}
