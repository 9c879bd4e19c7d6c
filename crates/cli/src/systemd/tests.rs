//! The words of the units, and what is written where.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use recluster::Listen;

use super::*;
use crate::args::Command;
use crate::config::Invocation;
use crate::paint::Paint;

fn sample(listen: &[&str]) -> Unit {
    Unit {
        name: "web".into(),
        recluster: "/usr/local/bin/recluster".into(),
        words: ["server.js", "--workers", "2"].map(OsString::from).into(),
        directory: "/srv/app".into(),
        user: None,
        environment: vec![("NODE_ENV".into(), "production".into())],
        control: Some("/run/web/control.sock".into()),
        has_own_directory: true,
        listen: listen.iter().map(|text| text.parse::<Listen>().unwrap()).collect(),
        limits: Vec::new(),
        writes: vec!["/var/log/my app".into()],
        has_cache: false,
        is_at_home: false,
        start: Duration::from_millis(181_500),
        stop: Duration::from_secs(30),
    }
}

#[test]
fn a_service_has_the_options_and_times_that_fit_them() {
    let text = sample(&[]).service();
    for line in [
        "Type=notify",
        "ExecStart=/usr/local/bin/recluster server.js --workers 2",
        "ExecReload=/usr/local/bin/recluster reload --control /run/web/control.sock",
        "WorkingDirectory=/srv/app",
        "Environment=NODE_ENV=production",
        "DynamicUser=yes",
        "CapabilityBoundingSet=",
        "TimeoutStartSec=197",
        "TimeoutStopSec=45",
        "KillMode=mixed",
        "FileDescriptorStoreMax=1024",
        "Environment=FDSTORE=1024",
        "RuntimeDirectory=web",
        "ReadWritePaths=\"-/var/log/my app\"",
        "ProtectHome=yes",
    ] {
        assert!(text.lines().any(|said| said == line), "{line}:\n{text}");
    }
    assert!(!text.contains("socket\n") && !text.contains("MemoryDenyWriteExecute"), "{text}");
    assert_eq!(sample(&[]).socket(), None);
}

#[test]
fn what_is_different_is_said() {
    let text = Unit {
        user: Some("app".into()),
        is_at_home: true,
        has_cache: true,
        control: None,
        ..sample(&["80"])
    }
    .service();
    for line in [
        "User=app",
        "ProtectHome=read-only",
        "CacheDirectory=web",
        "Requires=web.socket",
        "AmbientCapabilities=CAP_NET_BIND_SERVICE",
    ] {
        assert!(text.lines().any(|said| said == line), "{line}:\n{text}");
    }
    assert!(!text.contains("ExecReload") && !text.contains("DynamicUser"), "{text}");
}

#[test]
fn systemd_holds_the_sockets_that_it_can_name() {
    let text = sample(&["web=8080?backlog=9", "[::1]:81", "unix:/run/web/a.sock?mode=660", "127.0.0.1:0"])
        .socket()
        .unwrap();
    let socket = "[Socket]\nListenStream=8080\nListenStream=[::1]:81\nListenStream=/run/web/a.sock\nBacklog=511\nSocketMode=0660\n";
    assert!(text.contains(socket), "{text}");
    assert!(sample(&["[::]:80"]).socket().unwrap().contains("BindIPv6Only=ipv6-only\n"));
    assert_eq!(sample(&["127.0.0.1:0"]).socket(), None, "the kernel is to choose");
}

#[test]
fn options_of_this_command_alone_are_none_of_the_units() {
    let words = |line: &str| {
        let typed: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        words(&typed).iter().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(words("--install=/x --run-as app server.js --workers 2"), "server.js --workers 2");
    assert_eq!(words("--run-as=app --force --json server.js -- --force"), "server.js -- --force");
}

#[test]
fn nothing_is_written_over_unless_it_may_be() {
    let directory = tempfile::tempdir().unwrap();
    let files = |text: &str| {
        vec![("a.service".to_owned(), "same".to_owned()), ("a.socket".to_owned(), text.to_owned())]
    };
    let there = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap();
    install(&files("one"), directory.path(), false).unwrap();
    install(&files("one"), directory.path(), false).unwrap();
    fs::remove_file(directory.path().join("a.service")).unwrap();
    let refused = install(&files("two"), directory.path(), false).unwrap_err();
    assert!(matches!(&refused, Error::UnitExists { path } if path.ends_with("a.socket")), "{refused}");
    assert!(!directory.path().join("a.service").exists(), "none of them is written");
    install(&files("two"), directory.path(), true).unwrap();
    assert_eq!((there("a.service"), there("a.socket")), ("same".to_owned(), "two".to_owned()));
    let nowhere = install(&files("two"), Path::new("/no/such/directory"), false).unwrap_err();
    assert!(matches!(nowhere, Error::Unit { .. }));
}

/// A directory with a program and a config file, of which units are made.
struct Site(tempfile::TempDir);

impl Site {
    fn new(config: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("recluster.toml"), config).unwrap();
        fs::write(directory.path().join("server"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(directory.path().join("server"), Permissions::from_mode(0o755)).unwrap();
        Self(directory)
    }

    /// The directory is called /srv.
    fn read(&self, options: &str) -> (Box<Systemd>, Settings, CommandLine) {
        let here = self.0.path();
        let typed = format!("recluster systemd --name web {options} /srv/server");
        let typed = typed.replace("/srv", here.to_str().unwrap());
        let line = CommandLine::new(typed.split_whitespace().map(OsString::from).collect(), here.to_owned())
            .unwrap();
        let Invocation { command, settings, .. } = line.read().unwrap();
        let Command::Systemd(args) = command else { panic!("another command") };
        (args, settings, line)
    }

    fn service(&self, options: &str) -> Result<String, Error> {
        let (mut args, settings, line) = self.read(options);
        Ok(self.anonymous(&unit(&mut args, &settings, &line)?.service()))
    }

    fn refusal(&self, options: &str) -> String {
        let error = self.service(options).unwrap_err();
        assert_eq!(error.exit_status(), ExitStatus::Usage);
        self.anonymous(&error.shown(Paint::new(false)))
    }

    fn anonymous(&self, text: &str) -> String {
        text.replace(self.0.path().to_str().unwrap(), "/srv")
    }
}

/// The lines of a unit that begin so.
fn lines<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    text.lines().filter(|line| line.starts_with(key)).collect()
}

#[test]
fn workers_of_a_unit_are_nobody_but_its_user() {
    let user = "error: --user root: the master of a unit has no right to run workers as somebody else\n  \
                hint: --run-as root instead is the user of the service, workers included\n";
    for options in ["--user root", "--user=root --run-as root", "--user root --group root --run-as dynamic"] {
        assert_eq!(Site::new("").refusal(options), user, "{options}");
    }
    let in_file = Site::new("workers = 1\nuser = \"root\"\n").refusal("--run-as dynamic");
    assert!(in_file.starts_with("error: user = \"root\" (/srv/recluster.toml:2): the master"), "{in_file}");
    let group = Site::new("").refusal("--group 0 --run-as dynamic");
    assert!(group.starts_with("error: --group 0: ") && group.contains("hint: --run-as USER"), "{group}");
    assert!(Site::new("").service("--umask 027 --run-as root").unwrap().contains("\nUser=root\n"));
}

#[test]
fn what_the_options_name_can_be_written() {
    let site = Site::new("");
    let written = |options: &str| {
        let text = site.service(&format!("--run-as root {options}")).unwrap();
        let (writes, own) =
            (lines(&text, "ReadWritePaths=").concat(), lines(&text, "RuntimeDirectory=").len());
        (writes.replace("ReadWritePaths=-", " "), own, lines(&text, "CacheDirectory=").len())
    };
    assert_eq!(written("--admin unix:/srv/a/admin.sock?mode=660"), (" /srv/a".to_owned(), 1, 0));
    assert_eq!(written("--admin 9464"), (String::new(), 1, 0));
    assert_eq!(written("--compile-cache=/srv/cache"), (" /srv/cache".to_owned(), 1, 0));
    assert_eq!(written("--compile-cache=kept --chdir /srv"), (" /srv/kept".to_owned(), 1, 0));
    assert_eq!(written("--compile-cache=auto"), (String::new(), 1, 1));
    assert_eq!(written("--compile-cache=none"), (String::new(), 1, 0));
    assert_eq!(
        written("--log-file /srv/l/app.log --pidfile /srv/l/app.pid --control none"),
        (" /srv/l".to_owned(), 0, 0)
    );
    assert_eq!(written("--control none --admin unix:/run/web/admin.sock"), (String::new(), 1, 0));
}

#[test]
fn a_user_that_systemd_makes_writes_where_all_may() {
    let site = Site::new("");
    fs::create_dir(site.0.path().join("open")).unwrap();
    fs::set_permissions(site.0.path().join("open"), Permissions::from_mode(0o1777)).unwrap();
    for (option, directory) in [
        ("--log-file /srv/app.log", "/srv"),
        ("--pidfile /srv/app.pid", "/srv"),
        ("--control /srv/app.sock", "/srv"),
        ("--admin unix:/srv/app.sock", "/srv"),
        ("--compile-cache=/srv/gone", "/srv/gone"),
    ] {
        let name = option.split([' ', '=']).next().unwrap();
        let line = format!(
            "error: {name}: the user that systemd makes for the service cannot write in {directory}\n  \
             hint: --run-as USER has the service run as one who can\n"
        );
        assert_eq!(site.refusal(&format!("{option} --run-as dynamic")), line);
        site.service(&format!("{option} --run-as root")).unwrap();
    }
    fs::create_dir(site.0.path().join("lines")).unwrap();
    assert!(site.refusal("--worker-log /srv/lines --run-as dynamic").starts_with("error: --worker-log: "));
    for option in [
        "--log-file /srv/open/app.log --worker-log /srv/open",
        "--pidfile /run/web/app.pid",
        "--listen unix:/srv/app.sock",
        "--compile-cache=auto",
    ] {
        site.service(&format!("{option} --run-as dynamic")).unwrap();
    }
}

#[test]
fn the_master_may_give_workers_their_limits() {
    let limits = |options: &str| {
        let text = Site::new("").service(&format!("--run-as root {options}")).unwrap();
        lines(&text, "Limit").join(" ")
    };
    assert_eq!(limits(""), "LimitNOFILE=65536");
    assert_eq!(limits("--rlimit nofile=1024 --rlimit core=0"), "LimitNOFILE=65536");
    assert_eq!(limits("--rlimit nofile=1024:1048576"), "LimitNOFILE=1048576");
    assert_eq!(limits("--rlimit nofile=unlimited"), "LimitNOFILE=infinity", "this process could not give it");
    assert_eq!(limits("--rlimit memlock=64M"), "LimitNOFILE=65536 LimitMEMLOCK=infinity");
}

/// A stop is given the options' time, or what the engine takes without them, and fifteen seconds more.
#[test]
fn a_stop_may_take_as_long_as_the_options_say() {
    let stop = |options: &str| {
        let text = Site::new("").service(&format!("--run-as root --kill-timeout 5s {options}")).unwrap();
        let seconds = lines(&text, "TimeoutStopSec=").concat();
        seconds.trim_start_matches("TimeoutStopSec=").parse::<u64>().unwrap() - 15 - 5
    };
    assert_eq!(stop(""), 25, "as --help says");
    assert_eq!(stop("--timeout 3s"), 3, "a shorter --timeout counts at a stop as well");
    assert_eq!(stop("--timeout 3s --stop-timeout 40s --accept-after-stop 2s"), 42);
}

#[test]
fn what_is_read_is_known_also_beside_the_server() {
    let options = "--chdir /srv --env-file e --env-file /srv/f --admin 1 --admin-token-file /srv/t";
    let site = Site::new("");
    let (args, ..) = site.read(options);
    let read = places::read(&args.run, Path::new("/home/me"));
    let read: Vec<String> = read.iter().map(|path| site.anonymous(path.to_str().unwrap())).collect();
    assert_eq!(read, ["/srv", "/home/me/e", "/srv/f", "/srv/t"]);
    assert!(
        is_at_home(Path::new("/home/me/e"))
            && is_at_home(Path::new("/root"))
            && !is_at_home(Path::new("/srv"))
    );
}

/// The unit of the packages is the one that is printed, for an instance of any name.
#[test]
fn the_unit_of_the_packages_says_what_is_printed() {
    let site = Site::new("");
    let (mut args, settings, line) = site.read("--run-as dynamic");
    let control = PathBuf::from("/run/recluster-NAME/control.sock");
    let printed = Unit {
        name: "recluster-NAME".into(),
        recluster: "/usr/bin/recluster".into(),
        words: ["run", "--config", "/etc/recluster/NAME.toml", "--name", "NAME"].map(OsString::from).into(),
        directory: "/".into(),
        environment: vec![("RECLUSTER_CONTROL".into(), control.clone().into())],
        control: Some(control),
        has_cache: true,
        is_at_home: true,
        ..unit(&mut args, &settings, &line).unwrap()
    };
    let printed = printed
        .service()
        .replace("Description=recluster-NAME", "Description=The recluster cluster NAME")
        .replace("CacheDirectory=recluster-NAME", "CacheDirectory=recluster/NAME")
        .replace("NAME", "%i");
    let template = concat!(env!("CARGO_MANIFEST_DIR"), "/../../contrib/systemd/recluster@.service");
    let template = fs::read_to_string(template).unwrap();
    let own = |line: &&str| !line.starts_with('#') && !line.starts_with("Documentation=");
    let lines =
        |text: &str| text.lines().filter(own).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n");
    assert_eq!(lines(&template), lines(&printed));
}
