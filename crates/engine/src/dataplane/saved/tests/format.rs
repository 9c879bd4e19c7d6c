//! What is left, as text: it is read by every later version, and what cannot be gone on with is said before anything changes.

use std::fs;
use std::os::unix::net::UnixStream;

use recluster_wire::node::{QueryServer, SocketKind};
use serde_json::{Value, json};

use super::super::super::fixtures::{Harness, query, reactor};
use super::super::*;
use crate::config::listen::Listen;
use crate::socket::bind;
use crate::socket::lend::Lender;
use crate::upgrade::envelope::Envelope;

/// What the first version has left. It is read for as long as any version is.
const GOLDEN: &str = include_str!("../golden/1.json");

fn config() -> Config {
    SavedConfig {
        balance: SavedBalance::Kernel,
        peek_bytes: 1,
        peek_timeout: Duration::from_secs(2),
        peek_connections: 3,
        workers_accept: true,
        messages: SavedMessages::Logged,
    }
    .inherit(false)
    .unwrap()
}

/// Goes on with what was left, and with these sockets.
fn goes_on(left: Left, bound: &[bind::Bound]) -> Result<State, AdoptError> {
    let setup = Setup::new(config(), bound, Lender::default()).unwrap();
    State::build(setup, Some(left), Sink::new(|_| {}), reactor())
}

/// What this has left, after a change. What it had is the inheritance's from here on.
fn left(harness: Harness, change: impl FnOnce(&mut Value)) -> Result<Left, AdoptError> {
    let (saving, memories) = save(&harness.state).unwrap();
    let mut text = serde_json::to_value(saving.into_envelope().0).unwrap();
    change(&mut text["parts"][PART]);
    std::mem::forget((harness, memories));
    let envelope = Envelope::read(text.to_string().as_bytes()).unwrap();
    Left::take(&mut Inheritance::take(envelope).unwrap())
}

fn served() -> Harness {
    let mut harness = Harness::new(Balance::Kernel);
    let mut far = harness.serving(1, 0);
    harness.listen(1, &mut far);
    harness
}

#[test]
fn what_the_first_version_has_left_is_read_and_written_the_same() {
    let golden: Value = serde_json::from_str(GOLDEN).unwrap();
    let read: SavedState = serde_json::from_value(golden.clone()).unwrap();
    assert_eq!(
        serde_json::to_value(read).unwrap(),
        golden,
        "a change is a new file, and this one is read still"
    );
}

#[test]
fn what_contradicts_itself_is_not_gone_on_with() {
    let wrong = |change: &dyn Fn(&mut Value)| match left(served(), |part| change(part)) {
        Ok(left) => goes_on(left, &[]).map(drop).unwrap_err().to_string(),
        Err(error) => error.to_string(),
    };
    let error = wrong(&|part| part["workers"][0]["channel"]["socket"] = json!("dataplane/nothing"));
    assert_eq!(error, "no descriptor was left for \"dataplane/nothing\"");
    let error = wrong(&|part| part["passed"]["descriptors"][0] = json!("dataplane/nothing"));
    assert_eq!(error, "no descriptor was left for \"dataplane/nothing\"");
    let error = wrong(&|part| part["passed"]["memories"] = part["passed"]["descriptors"].clone());
    assert!(error.ends_with("cannot be read: it is no sealed memory"), "{error}");
    let error =
        wrong(&|part| part["workers"][0]["channel"]["queue"] = json!([{"length": 1, "handle": null}]));
    assert_eq!(error, "a worker's queue has too few bytes");
    let error = wrong(&|part| part["listeners"][0]["sticky_by"] = json!("the weather"));
    assert!(error.contains("'the weather'"), "{error}");
    let error = wrong(&|part| part["listeners"][0]["mode"] = json!("unheard of"));
    assert!(error.contains("unheard of"), "{error}");
    let error = wrong(&|part| part["opener"]["inherited"] = json!({"3": {"is_used": true, "others": []}}));
    assert_eq!(error, "socket 3, which was bound before any worker asked, is not there");
}

#[test]
fn what_is_not_gone_on_with_is_left_as_it_is() {
    let base = tempfile::tempdir().unwrap();
    let path = base.path().join("it.sock");
    let mut harness = Harness::new(Balance::RoundRobin);
    let mut far = harness.serving(1, 0);
    let address = Some(path.to_string_lossy().into_owned());
    harness.ask(1, &mut far, QueryServer { address, port: None, kind: Some(SocketKind::Unix), ..query(1) });
    let socket = harness.listener(0).fd().unwrap().try_clone_to_owned().unwrap();
    let left = left(harness, |part| part["workers"][0]["channel"]["socket"] = json!("nothing")).unwrap();
    assert!(goes_on(left, &[]).is_err());
    UnixStream::connect(&path).unwrap();
    assert_eq!(
        fs::read_dir(base.path()).unwrap().count(),
        2,
        "its name, and the one by which it is made again"
    );
    drop(socket);
}

#[test]
fn a_socket_that_was_bound_before_is_the_same_and_its_use_is_known() {
    let listen: Listen = "127.0.0.1:0".parse().unwrap();
    let bound = [bind::bind(&listen).unwrap(), bind::bind(&listen).unwrap()];
    let mut harness = Harness::new(Balance::Kernel);
    let setup = Setup::new(config(), &bound, Lender::whole_process()).unwrap();
    harness.state = State::new(setup, Sink::new(|_| {}), reactor());
    let mut far = harness.serving(1, 0);
    let by_number = |fd| QueryServer { fd: Some(fd), kind: None, address: None, port: None, ..query(1) };
    let listener = harness.ask(1, &mut far, by_number(3));
    let state = goes_on(left(harness, |_| {}).unwrap(), &bound).unwrap();
    assert_eq!(state.opener.unused(), [bound[1].address.clone()]);
    assert_eq!(*state.opener.address_of(&state.listeners[&listener]), bound[0].address);
    assert_eq!(state.config.messages, Messages::Logged);
}

#[test]
fn nothing_is_saved_while_everything_stops() {
    let mut harness = served();
    harness.close_listeners();
    assert_eq!(save(&harness.state).unwrap_err().to_string(), "everything stops");
}
