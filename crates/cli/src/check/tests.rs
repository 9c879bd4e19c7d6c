//! What `check` finds about places, and how all that it finds is shown.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread;

use recluster::control::FindError;
use recluster_json_page::{Page, every};

use super::findings::Runs;
use super::node::Node;
use super::*;
use crate::args::Run;
use crate::config::{CommandLine, Origin, Setting, Settings};
use crate::describe::describe;
use crate::error::Error;

/// A directory with a server file, its config file and the files of a test.
struct Site {
    directory: tempfile::TempDir,
}

impl Site {
    fn new(config: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("recluster.toml"), config).unwrap();
        fs::write(directory.path().join("server.js"), "").unwrap();
        Self { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn run(&self, options: &str) -> (Run, Settings) {
        let typed = format!("recluster check {options}");
        let args = typed.split_whitespace().map(Into::into).collect();
        let line = CommandLine::new(args, self.directory.path().to_owned()).unwrap();
        let invocation = line.read().unwrap();
        (invocation.command.into_run().unwrap(), invocation.settings)
    }

    fn server(&self) -> String {
        self.path("server.js").display().to_string()
    }

    /// The text, without what changes from run to run.
    fn anonymous(&self, text: &str) -> String {
        text.replace(&self.directory.path().display().to_string(), "/srv")
    }
}

async fn looked_around((run, settings): &(Run, Settings)) -> Findings<'_> {
    let mut findings = Findings::of(run, settings);
    findings.look_around();
    findings.look_at_cluster(crate::inherited::Inherited::default()).await;
    findings
}

fn messages(findings: &Findings<'_>) -> String {
    findings.problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// One setting of every kind: the others are a matter of the command line.
fn keep_some(settings: &mut Settings) {
    let kept = ["workers", "node-arg", "bake", "timeout", "name", "control", "pidfile", "env.TOKEN"];
    settings.list.retain(|setting| kept.contains(&setting.key.as_str()));
}

/// A server in a place of its own whose settings come from everywhere.
fn everything<'a>(run: &'a Run, settings: &'a Settings) -> Findings<'a> {
    let mut findings = Findings::of(run, settings);
    findings.wanted.control = Some("/run/recluster/shop.sock".into());
    findings.is_running = true;
    findings.server = Some("/srv/server.js".into());
    findings.runs =
        Some(Runs { how: "under node, by the ending of its name".to_owned(), under: Some("node") });
    findings.node = Some(Node { binary: "/usr/bin/node".into(), version: Some("v22.1.0".to_owned()) });
    findings.notes.push("the cluster shop is running: that is the one to reload".to_owned());
    findings
}

const CONFIG: &str =
    "server = \"server.js\"\nname = \"shop\"\nnode-arg = [\"--a\", \"--b\"]\n[env]\nTOKEN = \"secret\"\n";

#[test]
fn what_would_run_as_a_table() {
    let site = Site::new(CONFIG);
    let (run, mut settings) = site.run("--workers 2");
    keep_some(&mut settings);
    insta::assert_snapshot!(site.anonymous(&report::text(&everything(&run, &settings))));
}

#[test]
fn what_would_run_as_json() {
    let site = Site::new(CONFIG);
    let (run, mut settings) = site.run("--workers 2");
    keep_some(&mut settings);
    let mut findings = everything(&run, &settings);
    findings.problems.push(Error::Syntax { reason: "/srv/server.js:3: SyntaxError: x".to_owned() });
    let json = report::json(&findings);
    insta::assert_snapshot!(site.anonymous(&format!("{json:#}")));
}

/// A setting from everywhere.
fn of_every_origin(settings: &mut Settings) {
    let place = |setting: &Setting| match &setting.origin {
        Origin::File(place) => Some(place.clone()),
        Origin::CommandLine | Origin::Environment(_) | Origin::Default(_) => None,
    };
    let place = settings.list.iter().find_map(place).unwrap();
    let origins = every! {
        Origin::CommandLine => [Origin::CommandLine],
        Origin::Environment(_) => [Origin::Environment("WEB_CONCURRENCY".to_owned())],
        Origin::File(_) => [Origin::File(place.clone())],
        Origin::Default(_) => [None, Some("ip".to_owned())].map(Origin::Default),
    };
    let setting = |origin| Setting { key: "workers".to_owned(), values: vec!["2".into()], origin };
    settings.list.extend(origins.into_iter().map(setting));
}

#[test]
fn the_page_describes_the_json() {
    let site = Site::new(CONFIG);
    let (run, mut settings) = site.run("--workers 2");
    of_every_origin(&mut settings);
    let mut full = everything(&run, &settings);
    full.problems.extend([Error::ControlOff, Error::from(FindError::Several { found: Vec::new() })]);
    let mut without_version = everything(&run, &settings);
    without_version.node = Some(Node { binary: "/usr/bin/node".into(), version: None });
    let bare = Settings { file: None, list: Vec::new() };
    let mut empty = Findings::of(&run, &bare);
    empty.wanted.control = None;
    let under = |under| {
        let mut findings = everything(&run, &settings);
        findings.runs = Some(Runs { how: "by its first line".to_owned(), under });
        findings
    };
    let [as_it_is, deno, bun] = [None, Some("deno"), Some("bun")].map(under);
    let json = [&full, &without_version, &as_it_is, &deno, &bun, &empty].map(report::json);
    let faults = Page::read().compare_fields("the-answer-of-check", &json);
    assert!(faults.is_empty(), "docs/json.md:\n{}", faults.join("\n"));
}

#[tokio::test]
async fn a_place_for_everything_is_no_problem() {
    let site = Site::new("control = \"made/it.sock\"\npidfile = \"it.pid\"\nlog-file = \"it.log\"");
    let run = site.run(&site.server());
    let findings = looked_around(&run).await;
    assert_eq!((messages(&findings).as_str(), findings.is_running), ("", false));
    // Nothing was made.
    assert_eq!(fs::read_dir(site.directory.path()).unwrap().count(), 2);
}

/// Answers as a master does, until the process ends.
fn listen_as_a_cluster(path: &Path) {
    let listener = UnixListener::bind(path).unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 64]);
            let _ = stream.write_all(b"{\"reply\":\"refused\",\"reason\":\"no request\"}\n");
        }
    });
}

#[tokio::test]
async fn a_cluster_that_runs_is_the_one_to_reload() {
    let site = Site::new("name = \"shop\"\ncontrol = \"it.sock\"\npidfile = \"it.pid\"");
    let run = site.run(&site.server());
    // The pidfile is that cluster's too, by a process that lives.
    fs::write(site.path("it.pid"), std::os::unix::process::parent_id().to_string()).unwrap();
    listen_as_a_cluster(&site.path("it.sock"));
    let findings = looked_around(&run).await;
    assert!(findings.is_running && findings.problems.is_empty());
    let notes: Vec<_> =
        findings.notes.into_iter().filter(|note| !note.contains("workers run as root")).collect();
    insta::assert_snapshot!(notes.join("\n"), @"the cluster shop is running: that is the one to reload");

    fs::remove_file(site.path("it.sock")).unwrap();
    let findings = looked_around(&run).await;
    assert!(!findings.is_running);
    assert!(messages(&findings).contains("which the pidfile"));
    assert_eq!(findings.exit_status(), ExitStatus::Usage);
}

#[tokio::test]
async fn what_is_in_the_way_is_named() {
    let long = "x".repeat(100);
    let cases = [
        "control = \"server.js\"".to_owned(),
        "control = \"gone/away/it.sock\"".to_owned(),
        "control = \"server.js/it.sock\"".to_owned(),
        "pidfile = \"gone/it.pid\"\nlog-file = \"gone/it.log\"".to_owned(),
        "pidfile = \"recluster.toml\"".to_owned(),
        "control = \"none\"\nworkers = 5000\nbackoff = \"100ms\"".to_owned(),
        "control = \"none\"\nready-timeout = 0".to_owned(),
        "control = \"none\"\nbackoff = \"100ms\"".to_owned(),
        format!("control = \"/tmp/{long}.sock\""),
    ];
    let mut refusals = Vec::new();
    for config in &cases {
        let site = Site::new(config);
        let run = site.run(&site.server());
        let findings = looked_around(&run).await;
        assert_eq!(findings.exit_status(), ExitStatus::Usage, "{config}");
        refusals.push(site.anonymous(&messages(&findings)));
    }
    insta::assert_snapshot!(refusals.join("\n\n"));
}

#[tokio::test]
async fn a_path_that_no_unix_socket_can_have_is_named() {
    let long = "x".repeat(200);
    let site = Site::new(&format!("control = \"none\"\nlisten = \"unix:{long}.sock\""));
    let run = site.run(&site.server());
    let findings = looked_around(&run).await;
    assert_eq!(findings.exit_status(), ExitStatus::Usage);
    let said = messages(&findings);
    assert!(said.starts_with("cannot listen on unix:/") && said.contains("may have 107 bytes"), "{said}");
}

#[tokio::test]
async fn neither_an_address_nor_the_server_file_hides_the_other() {
    let site = Site::new("control = \"none\"\nlisten = \"unix:gone/app.sock\"");
    fs::write(site.path("wrong.js"), "listen(").unwrap();
    let mut problems = Vec::new();
    for (server, status) in [("absent.js", ExitStatus::NotFound), ("wrong.js", ExitStatus::Usage)] {
        let run = site.run(&site.path(server).display().to_string());
        let findings = looked_around(&run).await;
        assert_eq!((findings.problems.len(), findings.exit_status()), (2, status), "{server}");
        problems.extend(findings.problems.iter().map(|problem| site.anonymous(&problem.to_string())));
    }
    let absent = "server file not found: /srv/absent.js";
    let syntax = problems.pop().unwrap();
    assert!(syntax.contains("syntax error"), "{syntax}");
    let address = "cannot listen on unix:/srv/gone/app.sock: ";
    assert_eq!(problems.first().map(String::as_str), Some(absent));
    assert!(problems.iter().skip(1).all(|problem| problem.starts_with(address)), "{problems:?}");
}

#[tokio::test]
async fn a_directory_that_others_can_write_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;

    let site = Site::new("control = \"open/it.sock\"");
    fs::create_dir(site.path("open")).unwrap();
    fs::set_permissions(site.path("open"), fs::Permissions::from_mode(0o777)).unwrap();
    let run = site.run(&site.server());
    let findings = looked_around(&run).await;
    insta::assert_snapshot!(site.anonymous(&messages(&findings)), @"the directory of the control socket is writable by others (mode 777): /srv/open");
}

#[test]
fn what_is_looked_at_here_is_what_run_would_find() {
    let site = Site::new("");
    let found = |options: &str| {
        describe(&site.run(options).0).check().map_err(|error| site.anonymous(&error.to_string()))
    };
    let server = site.path("server.js").display().to_string();
    let program = found(&format!("{server} --node /bin/sh")).unwrap();
    assert_eq!(program.server, fs::canonicalize(&server).unwrap());
    assert_eq!(program.node, fs::canonicalize("/bin/sh").ok());
    assert_eq!(found("/bin/sh").unwrap().node, None);

    let here = site.directory.path().display();
    let cases = [
        "absent.js",
        "server.js/x.js",
        "recluster.toml",
        "",
        "server.js --node no-such-node",
        "server.js --node ./node",
    ];
    let refusals = cases.map(|case| found(&format!("{here}/{case}")).unwrap_err());
    insta::assert_snapshot!(refusals.join("\n"));
}
