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
        &["action", "changes"],
        &["worker"],
        &["slot"],
        &["cluster"],
        &["record", "saved", "size", "status"],
        &["reconcile", "reconcile::conclude", "reconcile::escalate", "reconcile::fill", "reconcile::retire"],
        &["lib"],
    ],
);

const WIRE: Layers = (
    "wire",
    &[
        &[
            "env::activation",
            "env::links",
            "json",
            "node::advanced::text",
            "node::buffer",
            "node::farewell",
            "node::fields",
            "node::measures",
            "node::window",
            "notify",
        ],
        &["env", "node::advanced::grammar", "node::message"],
        &["node::advanced::reader"],
        &["node::advanced::write"],
        &["node::encode", "node::listener_key", "node::query"],
        &["node::parse", "node::worker::to_primary"],
        &["node::skim"],
        &["node::decode", "node::worker::from_primary"],
        &["node::advanced::frames"],
        &["node::advanced"],
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

const NPM: Layers =
    ("npm", &[&["engine", "notes", "numbers", "sys"], &["latest", "plan"], &["cluster"], &["lib"]]);

const CLI: Layers = (
    "cli",
    &[
        &[
            "args::completions",
            "args::values",
            "config::place",
            "duration",
            "exit_code",
            "inherited",
            "init::project",
            "args::tips",
            "client::columns",
            "name",
            "log::aside",
            "log::changes",
            "log::deaths",
            "log::ended",
            "log::lost",
            "log::starts",
            "nearest",
            "open_files",
            "orphans",
            "patience",
            "paint",
            "size",
            "systemd::quote",
            "top::figures",
            "wishes",
        ],
        &[
            "init::command",
            "init::python",
            "init::text",
            "systemd::unit",
            "top::happened",
            "top::rates",
            "top::written",
            "writable",
        ],
        &[
            "args::admin",
            "args::balancing",
            "args::client",
            "args::following",
            "args::init",
            "args::privileges",
            "args::reading",
            "client::progress",
            "client::table",
            "config::error",
            "init::node",
            "log::sink",
            "log::survivors",
            "pidfile",
            "signals",
            "top::facts",
            "top::rows",
            "top::theme",
            "top::warnings",
        ],
        &["args::run", "init::look", "pidfile::keeper"],
        &["args::alone", "args::check", "args::development", "args::systemd", "log::note", "log::words"],
        &["args", "log::memory"],
        &["config::keys"],
        &["config::file"],
        &["config::contents"],
        &["config::settings"],
        &["config"],
        &["error"],
        &["claim", "client::connect", "client::output", "describe", "log", "silent", "worker_lines"],
        &["check::hooks", "check::node", "client::screen", "rereading", "systemd::places", "upgrading"],
        &[
            "check::findings",
            "client::config",
            "client::events",
            "client::logs",
            "client::replace",
            "client::upgrade",
            "client::status",
            "completions",
            "init",
            "systemd",
        ],
        &["begun", "check::report", "client"],
        &["run"],
        &["check", "top::columns", "top::pen", "top::ui"],
        &["top::link", "top::scene"],
        &["top::header", "top::lists", "top::table"],
        &["top::detail"],
        &["top::view"],
        &["top::terminal"],
        &["top"],
        &["fuzzing"],
        &["lib"],
    ],
);

/// The rooms of the engine from the ground up: `control → api → supervisor → {dataplane, process} → socket → config →
/// report`, and `sink` and `sys` below them all.
const ENGINE: Layers = (
    "engine",
    &[
        &["aside", "sink", "sys::commands", "sys::heap", "sys::programs", "sys::sockets", "upgrade::moment"],
        &["sys", "upgrade::plain"],
        &["guard", "upgrade::memory", "upgrade::table"],
        &["upgrade::envelope", "upgrade::exec"],
        &["upgrade::inheritance", "upgrade::saving"],
        &["upgrade::store"],
        &["upgrade"],
        &[
            "report",
            "report::configuration",
            "report::signal",
            "report::stream",
            "report::variable",
            "report::worker",
        ],
        &["report::verdict"],
        &["report::error", "report::event", "report::status"],
        &["report::events", "report::level"],
        &["report::record"],
        &["report::measured"],
        &["report::counts"],
        &["config", "config::account", "config::address", "config::balance"],
        &["config::compile_cache", "config::drain_signal", "config::hook_url", "config::limits"],
        &["config::messages", "config::ready", "config::scale", "config::service_manager"],
        &["config::size", "config::unread", "config::variable", "config::watched", "config::which"],
        &["config::worker_metrics", "config::working_directory"],
        &["config::env_file", "config::hook", "config::limit", "config::listen", "config::output"],
        &["config::admin"],
        &[
            "socket",
            "socket::answers",
            "socket::glance",
            "socket::holder",
            "socket::local",
            "socket::manager",
            "socket::place",
            "socket::races",
            "socket::runtime_dir",
        ],
        &["socket::attention", "socket::places", "socket::short_path"],
        &["socket::directory"],
        &["socket::probe"],
        &["socket::named", "socket::watch"],
        &["socket::file"],
        &["socket::kept"],
        &["socket::kept::saved"],
        &["socket::bind"],
        &["socket::lend"],
        &[
            "process::binary",
            "process::compile_cache",
            "process::control_groups",
            "process::event",
            "process::exception",
            "process::first_thread",
            "process::in_use",
            "process::inspector",
            "process::lines",
            "process::preload",
            "process::privileges",
            "process::shebang",
            "process::source",
            "process::stat",
            "process::stdio",
        ],
        &[
            "process::awaited",
            "process::console",
            "process::memory_limit",
            "process::oom_kills",
            "process::ring",
            "process::runtime",
        ],
        &["process::hands", "process::target"],
        &[
            "process::background",
            "process::family",
            "process::forwarder::left",
            "process::groups",
            "process::program",
            "process::sd_notify",
            "process::slot_files",
            "process::stderr",
            "process::survivors",
            "process::unkillable",
        ],
        &["process::forwarder"],
        &["process::outlets"],
        &["process::passage"],
        &["process::exit"],
        &["process", "process::advice", "process::latest", "process::shell_command"],
        &["process::health_check", "process::spawn"],
        &["process::hook", "process::launch"],
        &["process::guard", "process::launcher"],
        &["process::successor"],
        &["process::after_panic"],
        &["dataplane::handle", "dataplane::inherited"],
        &[
            "dataplane::balance",
            "dataplane::client_hash",
            "dataplane::codec",
            "dataplane::messages",
            "dataplane::passing",
            "dataplane::reactor",
        ],
        &[
            "dataplane::bpf",
            "dataplane::channel",
            "dataplane::client_key",
            "dataplane::connection",
            "dataplane::idle",
            "dataplane::interview",
            "dataplane::lasting",
            "dataplane::later",
            "dataplane::reports",
        ],
        &[
            "dataplane::channel::saved",
            "dataplane::group",
            "dataplane::listener::address",
            "dataplane::spares",
            "dataplane::worker",
        ],
        &["dataplane::group::saved", "dataplane::worker::saved"],
        &["dataplane::application", "dataplane::listener"],
        &[
            "dataplane::balance::eligible",
            "dataplane::drain",
            "dataplane::handover",
            "dataplane::instead",
            "dataplane::listener::saved",
            "dataplane::names",
            "dataplane::peeks",
        ],
        &["dataplane::balance::relief", "dataplane::beside"],
        &["dataplane::balance::handout", "dataplane::keeping"],
        &[
            "dataplane::balance::kernel",
            "dataplane::balance::round_robin",
            "dataplane::balance::sticky",
            "dataplane::listeners",
            "dataplane::reclaim",
        ],
        &["dataplane::listeners::saved", "dataplane::state"],
        &["dataplane::abandoned", "dataplane::looking", "dataplane::remains"],
        &["dataplane::protocol"],
        &["dataplane::reading"],
        &["dataplane::saved"],
        &["dataplane::commands"],
        &["dataplane::resting"],
        &["dataplane::event_loop"],
        &["dataplane"],
        &["watch::seen"],
        &["watch::tree"],
        &["watch::wake"],
        &["watch"],
        &["supervisor::tally"],
        &[
            "supervisor::audience",
            "supervisor::background",
            "supervisor::caches",
            "supervisor::callers",
            "supervisor::changes",
            "supervisor::herald",
            "supervisor::hooks",
            "supervisor::readiness",
            "supervisor::renewals",
            "supervisor::routing",
            "supervisor::spec",
            "supervisor::succession",
            "supervisor::timers",
        ],
        &[
            "supervisor::generations",
            "supervisor::input",
            "supervisor::policy",
            "supervisor::recycle",
            "supervisor::told",
            "supervisor::watchdog",
        ],
        &["supervisor::child"],
        &["supervisor::launches"],
        &[
            "supervisor::configuration",
            "supervisor::explain",
            "supervisor::ignored",
            "supervisor::leftovers",
            "supervisor::spawner",
            "supervisor::taken",
            "supervisor::workers",
        ],
        &["supervisor::beginning"],
        &["supervisor", "supervisor::status"],
        &[
            "supervisor::abandon",
            "supervisor::actions",
            "supervisor::anew",
            "supervisor::facts",
            "supervisor::leaving",
            "supervisor::looks",
            "supervisor::notices",
            "supervisor::requests",
            "supervisor::run",
            "supervisor::upgrading",
        ],
        &["api", "api::builder"],
        &["api::cluster"],
        &[
            "api::changes",
            "api::configuration",
            "api::host",
            "api::output",
            "api::privileges",
            "api::rehearsal",
            "api::start",
            "api::succession",
        ],
        &["control::protocol", "control::room", "control::seats"],
        &["control::asked", "control::recent"],
        &["control::greeting", "control::keeping"],
        &["control::telling"],
        &["control::leaving"],
        &["control::lines", "control::socket"],
        &["control::discover"],
        &["control::client"],
        &["control::server"],
        &["control::server::following", "control::server::saying"],
        &["control::server::upgrading"],
        &["control"],
        &["metrics::text", "metrics::proc"],
        &["metrics::master", "metrics::node", "metrics::process", "metrics::workers"],
        &["metrics"],
        &["admin::date", "admin::hosts", "admin::sample", "admin::token"],
        &["admin::answer"],
        &["admin::head", "admin::health", "admin::history", "admin::page", "admin::picture"],
        &["admin::keeper"],
        &["admin::changes"],
        &["admin::site"],
        &["admin::conversation", "admin::leaving"],
        &["admin::listener"],
        &["admin::server"],
        &["admin"],
        &["fuzzing"],
        &["lib"],
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
    for layers in [CORE, WIRE, WORKER, ENGINE, NPM, CLI] {
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

#[test]
fn the_data_plane_and_the_processes_do_not_know_each_other() {
    let modules = arrows::modules(&repository().join("crates/engine/src"));
    for (module, about) in &modules {
        for (one, other) in [("dataplane", "process"), ("process", "dataplane")] {
            let is_in = |name: &str, room: &str| name.split("::").next() == Some(room);
            let met = about.uses.iter().find(|used| is_in(module, one) && is_in(used, other));
            assert!(met.is_none(), "{module} must not use {met:?}");
        }
    }
}

/// The files of the supervisor that are its wiring. All others are parts.
const WIRING: [&str; 11] = [
    "",
    "abandon",
    "actions",
    "anew",
    "facts",
    "leaving",
    "looks",
    "notices",
    "requests",
    "run",
    "upgrading",
];

#[test]
fn no_part_names_its_owner() {
    let modules = arrows::modules(&repository().join("crates/engine/src"));
    let inside = modules.iter().filter_map(|(name, about)| Some((name.strip_prefix("supervisor")?, about)));
    let (wiring, parts): (Vec<_>, Vec<_>) =
        inside.partition(|(name, _)| WIRING.contains(&name.trim_start_matches("::")));
    assert_eq!(wiring.len(), WIRING.len(), "the wiring is there");
    for (name, about) in parts {
        assert!(!about.words.contains("Supervisor"), "supervisor{name} is a part and names the Supervisor");
    }
}
