//! Every error as a person sees it, and the status that goes with it.

use recluster::control::DirectoryError;
use serde_json::json;

use super::*;

/// The errors as they are shown one after the other. All of them must have the same status.
fn shown(errors: impl IntoIterator<Item = Error>, status: ExitStatus) -> String {
    let mut lines = String::new();
    for error in errors {
        assert_eq!(error.exit_status(), status, "{error:?}");
        lines += &error.shown(Paint::new(false));
    }
    lines
}

fn refused() -> io::Error {
    io::ErrorKind::PermissionDenied.into()
}

fn program(error: ProgramError) -> Error {
    StartError::from(error).into()
}

#[test]
fn what_is_not_there() {
    let errors = [
        program(ProgramError::NotFound { path: "/srv/server.js".into() }),
        program(ProgramError::NotFound { path: "/srv/relaod".into() }),
        program(ProgramError::NotFound { path: "/srv/list".into() }),
        program(ProgramError::NodeNotFound { node: "node".into() }),
    ];
    insta::assert_snapshot!(shown(errors, ExitStatus::NotFound));
}

#[test]
fn a_process_that_may_have_no_more_descriptors_is_told_how_to_get_some() {
    let system =
        |what, errno: rustix::io::Errno| Error::from(StartError::System { what, source: errno.into() });
    let errors = [
        system("copy a listening socket", rustix::io::Errno::MFILE),
        Error::Signals(rustix::io::Errno::MFILE.into()),
        system("start the data plane", rustix::io::Errno::NFILE),
        system("start the data plane", rustix::io::Errno::NOMEM),
    ];
    insta::assert_snapshot!(shown(errors, ExitStatus::Failure));
}

#[test]
fn what_cannot_be_run() {
    let error =
        ProgramError::NotRunnable { path: "/srv".into(), source: std::io::Error::other("it is a directory") };
    let syntax = "/srv/server.js:3: SyntaxError: Unexpected token ';'".to_owned();
    let errors = [
        program(error),
        program(ProgramError::NodeNotRunnable { node: "/srv".into(), source: refused() }),
        Error::Syntax { reason: syntax },
        Error::TypeScript { version: "v20.20.2".to_owned() },
    ];
    insta::assert_snapshot!(shown(errors, ExitStatus::CannotRun));
}

#[test]
fn what_the_machine_refuses() {
    let errors = [
        program(ProgramError::Directory { path: "/gone".into(), source: refused() }),
        StartError::System { what: "start the data plane", source: refused() }.into(),
        Error::Runtime(refused()),
        Error::Signals(refused()),
        Error::Terminal(refused()),
    ];
    insta::assert_snapshot!(shown(errors, ExitStatus::Failure));
}

#[test]
fn what_is_configured_wrongly() {
    let socket = || PathBuf::from("/run/recluster/shop.sock");
    let directory = || PathBuf::from("/tmp/recluster-7");
    let pidfile = || PathBuf::from("/run/shop.pid");
    let name = || "shop".parse().expect("it is a name");
    let errors = [
        config::Error::NoServer { path: "recluster.toml".into() }.into(),
        StartError::NotASocket { address: "/srv".into(), what: "a directory is there".to_owned() }.into(),
        BindError::Alive { path: socket() }.into(),
        BindError::Foreign { path: socket() }.into(),
        BindError::Silent { path: socket() }.into(),
        BindError::NotASocket { path: socket() }.into(),
        BindError::TooLong { path: socket() }.into(),
        BindError::System { path: socket(), source: refused() }.into(),
        BindError::from(DirectoryError::Foreign { path: directory(), owner: 8 }).into(),
        BindError::from(DirectoryError::Open { path: directory(), mode: 0o777 }).into(),
        BindError::from(DirectoryError::Unusable { path: directory(), source: refused() }).into(),
        Error::NameTaken { name: name(), path: socket() },
        Error::NoTerminal,
        Error::TopAsJson,
        PidfileError::Alive { path: pidfile(), pid: 4711 }.into(),
        PidfileError::NotAPidfile { path: pidfile() }.into(),
        PidfileError::System { path: pidfile(), source: refused() }.into(),
        Error::Log { path: Some("/var/log/shop".into()), source: refused() },
        Error::Log { path: None, source: refused() },
    ];
    insta::assert_snapshot!(shown(errors, ExitStatus::Usage));
}

#[test]
fn a_first_start_that_failed() {
    let worker = json!({"id": 3, "slot": 0, "generation": 1, "pid": 4711});
    let failure = json!({
        "worker": worker, "reason": "exited with status 1 before it served", "failures": 3, "stderr": [],
        "hint": "is the database up?"
    });
    let failure = serde_json::from_value(failure).unwrap();
    insta::assert_snapshot!(shown([Error::NeverServed(failure)], ExitStatus::NeverServed));
}

fn none_named(name: &str, running: &[&str]) -> Error {
    let path = |name: &str| PathBuf::from(format!("/run/recluster/{name}.sock"));
    let running = running.iter().map(|name| path(name)).collect();
    FindError::NoneNamed { name: name.to_owned(), tried: vec![path(name)], running }.into()
}

#[test]
fn what_clients_meet() {
    let path = |name: &str| PathBuf::from(format!("/run/recluster/{name}.sock"));
    let not_json = serde_json::from_str::<()>("x").unwrap_err();
    let errors = [
        FindError::None { tried: vec!["/run/user/7/recluster".into(), "/tmp/recluster-7".into()] }.into(),
        FindError::Several { found: vec![path("shop"), path("shop-2")] }.into(),
        ClientError::Foreign { path: "/tmp/recluster-7/shop.sock".into(), owner: 8 }.into(),
        ClientError::NoCluster { path: path("shop"), source: io::ErrorKind::NotFound.into() }.into(),
        none_named("alpah", &["alpha", "beta", "gamma"]),
        none_named("alpah", &["alpha"]),
        none_named("shop", &["alpha", "beta"]),
        none_named("shop", &[]),
        Error::NoClusterAt {
            path: path("gone"),
            by_variable: true,
            source: io::ErrorKind::NotFound.into(),
            running: vec![path("shop")],
        },
        Error::NotACluster { path: "/run/docker.sock".into(), by_variable: false, running: Vec::new() },
        ClientError::WentAway.into(),
        ClientError::Silent.into(),
        ClientError::Nonsense(None).into(),
        ClientError::Nonsense(Some(not_json)).into(),
        Error::ControlOff,
        Error::SlotOrPid { number: 7 },
        Error::Refused("too many clients at once".to_owned()),
        Error::Output(refused()),
    ];
    insta::assert_snapshot!(shown(errors, ExitStatus::NoAnswer));
}

#[test]
fn an_error_as_json() {
    let error = Error::from(FindError::Several { found: vec!["/a/one.sock".into(), "/a/two.sock".into()] });
    insta::assert_snapshot!(error.as_json());
}

#[test]
fn the_page_describes_an_error_as_json() {
    let with_hint = Error::from(FindError::Several { found: Vec::new() });
    let errors = [Error::Refused("too many".to_owned()), with_hint].map(|error| error.as_json());
    let faults = recluster_json_page::Page::read().compare_fields("failures", &errors);
    assert!(faults.is_empty(), "docs/json.md:\n{}", faults.join("\n"));
}
