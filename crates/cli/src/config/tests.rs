//! Command lines with a config file beside the server file, by a real file in a directory of its own.

use std::ffi::OsStr;
use std::fs;
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use recluster::configuration::Configuration;
use tempfile::TempDir;

use super::*;
use crate::args::{ControlAt, Switch, Verbosity};

/// A directory with a config file in it.
struct Place {
    directory: TempDir,
}

impl Place {
    fn new(text: impl AsRef<[u8]>) -> Self {
        let place = Self { directory: tempfile::tempdir().unwrap() };
        place.write(text);
        place
    }

    fn write(&self, text: impl AsRef<[u8]>) {
        fs::write(self.path("recluster.toml"), text).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn line(&self, typed: &str) -> CommandLine {
        let args = typed.split(' ').map(OsString::from).collect();
        CommandLine::new(args, self.directory.path().to_owned()).unwrap()
    }

    fn read(&self, typed: &str) -> Result<Run, Error> {
        self.line(typed).read().map(|invocation| invocation.command.into_run().unwrap())
    }

    fn settings(&self, typed: &str) -> Result<Settings, Error> {
        self.line(typed).read().map(|invocation| invocation.settings)
    }

    fn run(&self, typed: &str) -> Run {
        self.read(typed).unwrap()
    }
}

/// What is said about a file with this text.
fn refusal(text: impl AsRef<[u8]>) -> String {
    Place::new(text).read("recluster server.js").unwrap_err().to_string()
}

#[test]
fn every_kind_of_value_is_read() {
    let place = Place::new(
        r#"
        workers = 0x10
        timeout = "2m"
        bake = 0.25
        exit-grace = 7
        keep-trying = true
        raw-stdio = false
        drain-http = false
        balance = "shared"
        node-arg = ["--a", "--b=c"]
        args = ["-w", "3"]
        [env]
        GREETING = "hello world"
        "#,
    );
    let run = place.run("recluster server.js");
    assert_eq!(run.running.workers.get(), 16);
    assert_eq!(run.leaving.timeout, Some(Duration::from_secs(120)));
    assert_eq!(run.readiness.bake, Duration::from_millis(250));
    assert_eq!(run.leaving.exit_grace, Duration::from_secs(7));
    assert!(run.readiness.keep_trying);
    assert!(!run.running.raw_stdio);
    assert_eq!(run.leaving.drain_http, Switch::Off);
    assert_eq!(run.running.node_arg, ["--a", "--b=c"]);
    assert_eq!(run.args, ["-w", "3"]);
    assert_eq!(run.env.get("GREETING").map(String::as_str), Some("hello world"));
}

#[test]
fn the_example_of_the_documentation_is_right() {
    let page = include_str!("../../../../docs/config.md");
    let (_, example) = page.split_once("```toml\n").unwrap();
    let place = Place::new(example.split_once("```").unwrap().0);
    let run = place.run("recluster run");
    assert_eq!(run.server, place.path("server.js"));
    assert_eq!(run.env.len(), 2);
}

#[test]
fn every_option_of_run_is_a_key() {
    for arg in args::definition_of_run()
        .get_arguments()
        .filter(|arg| ![CONFIG, SERVER].contains(&arg.get_id().as_str()))
    {
        let text = match arg.get_possible_values().first() {
            _ if keys::is_switch(arg) => "true".to_owned(),
            Some(value) => format!("\"{}\"", value.get_name()),
            None => "1".to_owned(),
        };
        let key = keys::key_of(arg);
        match Place::new(format!("server = \"a.js\"\n{key} = {text}")).settings("recluster run") {
            Ok(settings) => {
                let setting = settings.list.iter().find(|setting| setting.key == key).unwrap();
                assert!(matches!(setting.origin, Origin::File(_)), "{setting:?}");
            }
            Err(error) => {
                let is_understood = [
                    format!("'{key}' cannot be '1'"),
                    format!("--{key} says nothing with"),
                    format!("'{key}' must be octal digits, in quotes, not a number"),
                ];
                assert!(is_understood.iter().any(|words| error.to_string().contains(words)), "{error}");
            }
        }
    }
}

#[test]
fn the_command_line_comes_before_the_file() {
    let place = Place::new(
        "workers = 4\nnode-arg = [\"--a\"]\nargs = [\"b\"]\nserver = \"other.js\"\nbake = 3\nquiet = true\n",
    );
    let run = place.run("recluster server.js -w 2 --node-arg=--c -v -- d");
    assert_eq!(run.running.workers.get(), 2);
    assert_eq!(run.running.node_arg, ["--c"]);
    assert_eq!(run.args, ["d"]);
    assert_eq!(run.server, Path::new("server.js"));
    assert_eq!(run.readiness.bake, Duration::from_secs(3));
    // What rules out what is in the file comes before that as well.
    assert_eq!(run.around.verbosity(), Verbosity::Verbose);
    assert!(place.run("recluster server.js --").args.is_empty());
}

#[test]
fn without_a_server_file_the_config_file_names_it() {
    let place = Place::new("server = \"app/server.js\"");
    for typed in ["recluster run", "recluster check", "recluster -w 2"] {
        assert_eq!(place.run(typed).server, place.path("app/server.js"), "{typed}");
    }
    place.write("workers = 2");
    insta::assert_snapshot!(place.read("recluster run").unwrap_err(), @r#"recluster.toml does not say what to run: write server = "server.js" in it, or name the file on the command line"#);
}

#[test]
fn without_a_config_file_there_is_nothing_to_read() {
    let place = Place::new("workers = 3");
    fs::create_dir(place.path("app")).unwrap();
    for typed in
        ["recluster app/server.js", "recluster --config none server.js", "recluster nowhere/server.js"]
    {
        assert_eq!(place.settings(typed).unwrap().file, None, "{typed}");
    }
    let missing = place.read("recluster run --config none").unwrap_err();
    insta::assert_snapshot!(missing, @"the following required arguments were not provided: <SERVER>");
}

#[test]
fn a_named_file_is_read_wherever_it_is() {
    let place = Place::new("nonsense");
    fs::create_dir(place.path("etc")).unwrap();
    fs::write(place.path("etc/shop.toml"), "workers = 3\nserver = \"../server.js\"").unwrap();
    let run = place.run("recluster run --config etc/shop.toml");
    assert_eq!(run.running.workers, NonZeroU32::new(3).unwrap());
    assert_eq!(run.server, place.path("etc/../server.js"));
    let missing = place.read("recluster --config etc/none.toml server.js").unwrap_err();
    insta::assert_snapshot!(missing, @"cannot read the config file etc/none.toml: No such file or directory (os error 2)");
    let directory = place.read("recluster --config etc server.js").unwrap_err();
    insta::assert_snapshot!(directory, @"cannot read the config file etc: it is not a file");
}

#[test]
fn paths_begin_where_the_file_is() {
    let place = Place::new(
        "control = \"run/c.sock\"\nlog-file = \"log\"\npidfile = \"/run/p\"\nnode = \"bin/node\"\nargs = [\"a/b\"]",
    );
    let run = place.run("recluster server.js");
    assert_eq!(run.around.control, Some(ControlAt::Path(place.path("run/c.sock"))));
    assert_eq!(run.around.log_file, Some(place.path("log")));
    assert_eq!(run.around.pidfile, Some("/run/p".into()));
    assert_eq!(run.running.node, Some(place.path("bin/node")));
    assert_eq!(run.args, ["a/b"]);
    place.write("control = \"none\"\nnode = \"node22\"");
    let run = place.run("recluster server.js");
    assert_eq!(run.around.control, Some(ControlAt::Off));
    assert_eq!(run.running.node, Some("node22".into()));
}

#[test]
fn a_path_in_an_address_begins_there_too() {
    let arg = clap::Arg::new("listen").value_name("ADDR");
    let rooted = |address| keys::rooted(&arg, address, Path::new("/srv")).into_string().unwrap();
    for (address, as_meant) in [
        ("unix:app.sock", "unix:/srv/app.sock"),
        ("web=unix:run/app.sock?mode=600", "web=unix:/srv/run/app.sock?mode=600"),
        ("unix:/run/app.sock", "unix:/run/app.sock"),
        ("web=127.0.0.1:8080", "web=127.0.0.1:8080"),
        ("/run/unix:app.sock", "/run/unix:app.sock"),
        ("/run/a=unix:app.sock", "/run/a=unix:app.sock"),
    ] {
        assert_eq!(rooted(address), as_meant);
    }
}

#[test]
fn wrong_keys_are_named_with_the_nearest_right_one() {
    let keys = [
        "worker = 2",
        "ready_timeout = 2",
        "nodeArgs = []",
        "pid-file = 2",
        "config = 'x'",
        "xyz = 1",
        "enviroment = 1",
        "[run]",
    ];
    let refusals = keys.map(|text| format!("{text:16} -> {}", refusal(format!("# a comment\n  {text}\n"))));
    insta::assert_snapshot!(refusals.join("\n"));
}

#[test]
fn wrong_values_are_refused_in_the_words_of_the_command_line() {
    let values = [
        "workers = \"many\"",
        "workers = 0",
        "workers = -1",
        "workers = 99999999999999999999",
        "surge = 0",
        "timeout = \"5d\"",
        "timeout = -1",
        "timeout = inf",
        "balance = \"best\"",
        "drain-http = \"perhaps\"",
        "name = \"a/b\"",
        "server = \"\"",
        "pidfile = \"\"",
    ];
    let refusals = values.map(|text| format!("{text:32} -> {}", refusal(text)));
    insta::assert_snapshot!(refusals.join("\n"));
}

#[test]
fn wrong_types_are_refused() {
    let values = [
        "workers = [1]",
        "workers = true",
        "workers = 2026-11-22",
        "[workers]",
        "raw-stdio = \"yes\"",
        "keep-trying = 1",
        "node-arg = [[]]",
        "node-arg = [\"a\", {}]",
        "node-arg = false",
        "env = \"A=b\"",
        "env.PORT = 8080",
        "env.A.B = \"c\"",
        "env.\"A=B\" = \"c\"",
        "env.A = \"b\\u0000\"",
        "args = [\"b\\u0000\"]",
    ];
    let refusals = values.map(|text| format!("{text:24} -> {}", refusal(text)));
    insta::assert_snapshot!(refusals.join("\n"));
}

#[test]
fn what_is_given_twice_or_contradicts_itself_is_refused() {
    let texts = [
        "workers = 2\nbake = 1\nworkers = 3",
        "[env]\nA = \"1\"\n\"A\" = \"2\"",
        "env.A = \"1\"\n[env]",
        "quiet = true\nverbose = true",
    ];
    insta::assert_snapshot!(texts.map(refusal).join("\n"));
    assert_eq!(
        Place::new("quiet = false\nverbose = true").run("recluster a.js").around.verbosity(),
        Verbosity::Verbose
    );
}

#[test]
fn what_is_not_toml_is_refused() {
    let texts: [&[u8]; 7] = [
        b"workers = 2\nworkers 3",
        b"workers =",
        b"name = \"shop",
        b"name = shop",
        b"[env",
        b"name = \"\xff\"",
        b"\x7fELF\x02\x01",
    ];
    insta::assert_snapshot!(texts.map(refusal).join("\n"));
}

#[test]
fn what_is_too_large_is_no_config_file() {
    insta::assert_snapshot!(refusal("#".repeat(1024 * 1024 + 1)), @"the config file recluster.toml is larger than 1048576 bytes");
    Place::new("#".repeat(1024 * 1024)).run("recluster server.js");
}

#[test]
fn a_file_that_was_changed_is_read_again() {
    let place = Place::new("workers = 2\nbake = 1\nname = \"a\"\n[env]\nA = \"1\"\nB = \"1\"");
    let line = place.line("recluster server.js --bake 2s");
    let running = line.read().unwrap().settings;
    let Reread { changed, .. } = line.reread(&running).unwrap();
    assert_eq!(changed, Vec::<String>::new());

    place.write("workers = 3\nbake = 9\nname = \"b\"\n[env]\nB = \"2\"\nC = \"1\"");
    let Reread { run, changed, .. } = line.reread(&running).unwrap();
    assert_eq!(changed, ["workers", "name", "env.B", "env.C", "env.A"]);
    let at_reload: Vec<_> = changed.iter().filter(|key| changes_at_reload(key)).collect();
    assert_eq!(at_reload, ["workers", "env.B", "env.C", "env.A"]);
    assert_eq!(run.running.workers.get(), 3);
    assert_eq!(run.readiness.bake, Duration::from_secs(2));

    place.write("workers = 0");
    insta::assert_snapshot!(line.reread(&running).unwrap_err(), @"recluster.toml:1:11: 'workers' cannot be '0': write a number from 1 on, or 'max' for as many as there are usable cores");
    fs::remove_file(place.path("recluster.toml")).unwrap();
    let Reread { run, .. } = line.reread(&running).unwrap();
    assert_eq!((line.read().unwrap().settings.file, run.around.name), (None, None));
}

#[test]
fn a_directory_that_is_swapped_is_looked_at_anew() {
    let place = Place::new("");
    for (release, workers) in [("one", 1), ("two", 2)] {
        fs::create_dir(place.path(release)).unwrap();
        let text = format!("workers = {workers}\nserver = \"server.js\"");
        fs::write(place.path(release).join("recluster.toml"), text).unwrap();
    }
    let current = place.path("current");
    std::os::unix::fs::symlink("one", &current).unwrap();
    let args = ["recluster", "run"].map(OsString::from).to_vec();
    let line = CommandLine::new(args, current.clone()).unwrap();
    let running = line.read().unwrap().settings;
    fs::remove_file(&current).unwrap();
    std::os::unix::fs::symlink("two", &current).unwrap();
    let Reread { run, changed, .. } = line.reread(&running).unwrap();
    assert_eq!(changed, ["workers"]);
    assert_eq!((run.server, run.running.workers.get()), (current.join("server.js"), 2));
}

#[test]
fn what_a_reload_changes() {
    let run = args::definition_of_run();
    let keys = Keys::of(run);
    let lines = keys
        .args()
        .map(keys::key_of)
        .chain(["env.NAME"])
        .map(|key| format!("{key:20}{}\n", if changes_at_reload(key) { "reload" } else { "restart" }));
    insta::assert_snapshot!(lines.collect::<String>());
}

#[test]
fn commands_about_a_running_cluster_read_no_file() {
    let place = Place::new("nonsense");
    assert!(matches!(place.line("recluster reload").read().unwrap().command, Command::Reload(_)));
    assert!(matches!(place.line("recluster scale").read(), Err(Error::Usage(_))));
    let none = Settings::default();
    insta::assert_snapshot!(place.line("recluster reload").reread(&none).unwrap_err(), @"this command line starts no cluster");
    assert!(place.line("recluster status --json").wants_json());
    assert!(place.line("recluster check --json").wants_json());
    assert!(!place.line("recluster check server.js -- --json").wants_json());
}

#[test]
fn clients_are_told_what_is_in_force_and_no_secret() {
    let place = Place::new(
        "name = \"a\"\nbake = \"1s\"\non = [\"crashed=exec:A=hunter2 ./tell hunter2\"]\n[env]\nTOKEN = \"hunter2\"",
    );
    let line = place.line("recluster server.js");
    let started_with = line.read().unwrap().settings;
    place.write("name = \"b\"\nbake = \"2s\"\n[env]\nTOKEN = \"hunter3\"");
    let in_force = line.read().unwrap().settings.told_in_force(&started_with);
    let value = |name: &str| {
        let setting = in_force.settings.iter().find(|setting| setting.name == name).unwrap();
        setting.values.clone()
    };
    assert_eq!(value("name"), Some(vec!["a".to_owned()]), "it takes a restart");
    assert_eq!(value("bake"), Some(vec!["2s".to_owned()]));
    assert_eq!(value("env.TOKEN"), None);
    let told = started_with.told();
    let hook = told.settings.iter().find(|setting| setting.name == "on").unwrap();
    assert_eq!(hook.values, Some(vec!["crashed=exec:./tell …".to_owned()]));
    assert!(!format!("{told:?} {in_force:?}").contains("hunter"));
}

/// What the file says of it is told as what needs a restart, and nothing that goes with it changes before.
#[test]
fn a_reload_changes_neither_what_is_watched_nor_what_follows_from_it() {
    let habits = |run: &Run| format!("{:?} {:?}", run.following.watch, run.readiness.attempts);
    for (at_start, now) in [("", "watch = \"auto\""), ("watch = \"src\"", "")] {
        let place = Place::new(at_start);
        let line = place.line("recluster server.js");
        let Invocation { command, settings: running, .. } = line.read().unwrap();
        let run = command.into_run().unwrap();
        let line = line.started(&run);
        place.write(now);
        let Reread { run: again, settings, changed } = line.reread(&running).unwrap();
        assert_eq!(changed, ["watch"]);
        assert_eq!(habits(&again), habits(&run));
        let told = |said: &Configuration| {
            said.settings
                .iter()
                .map(|setting| (setting.name.clone(), setting.values.clone()))
                .collect::<Vec<_>>()
        };
        assert_eq!(told(&settings.told_in_force(&running)), told(&running.told()));
    }
}

#[test]
fn where_source_is_watched_the_settings_tell_the_defaults_of_that() {
    let place = Place::new("attempts = 2");
    let said = place.settings("recluster --watch server.js --timeout 5s").unwrap();
    let told = |key: &str| {
        let setting = said.list.iter().find(|setting| setting.key == key).unwrap();
        (setting.values.join(OsStr::new(" ")).into_string().unwrap(), setting.origin.to_string())
    };
    let default = |value: &str| (value.to_owned(), "default".to_owned());
    assert_eq!([told("workers"), told("bake")], [default("1"), default("100ms")]);
    assert_eq!((told("attempts").0, told("timeout").0), ("2".to_owned(), "5s".to_owned()));
    // Whoever writes what is told gets what is told.
    let by_default = Place::new("").run("recluster --watch server.js");
    let defaults = args::development::defaults(&by_default);
    let written: Vec<String> = defaults.iter().map(|(key, value)| format!("--{key} {value}")).collect();
    let said = Place::new("").run(&format!("recluster --watch {} server.js", written.join(" ")));
    assert_eq!(format!("{said:?}"), format!("{by_default:?}"));
    assert_eq!(args::development::defaults(&Place::new("").run("recluster server.js")), []);
}

/// Such a word passes to another program as any other does.
#[test]
fn a_word_that_is_no_text_is_the_same_when_it_was_written() {
    for bytes in [b"/run/it.pid".to_vec(), b"/run/\xff.pid".to_vec()] {
        let word = OsString::from_vec(bytes);
        let written = serde_json::to_string(&Word::from(word.as_os_str())).unwrap();
        assert_eq!(OsString::from(&serde_json::from_str::<Word>(&written).unwrap()), word);
    }
}
