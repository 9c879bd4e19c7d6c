//! The words of the units, and what is written where.

use recluster::Listen;

use super::*;

fn unit(listen: &[&str]) -> Unit {
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
        writes: vec!["/var/log/my app".into()],
        has_cache: false,
        is_at_home: false,
        start: Duration::from_millis(181_500),
        stop: Duration::from_secs(30),
    }
}

#[test]
fn a_service_has_the_options_and_times_that_fit_them() {
    let text = unit(&[]).service();
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
        "RuntimeDirectory=web",
        "ReadWritePaths=\"-/var/log/my app\"",
        "ProtectHome=yes",
    ] {
        assert!(text.lines().any(|said| said == line), "{line}:\n{text}");
    }
    assert!(!text.contains("socket\n") && !text.contains("MemoryDenyWriteExecute"), "{text}");
    assert_eq!(unit(&[]).socket(), None);
}

#[test]
fn what_is_different_is_said() {
    let text =
        Unit { user: Some("app".into()), is_at_home: true, has_cache: true, control: None, ..unit(&["80"]) }
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
    let text = unit(&["web=8080?backlog=9", "[::1]:81", "unix:/run/web/a.sock?mode=660", "127.0.0.1:0"])
        .socket()
        .unwrap();
    let socket = "[Socket]\nListenStream=8080\nListenStream=[::1]:81\nListenStream=/run/web/a.sock\nBacklog=511\nSocketMode=0660\n";
    assert!(text.contains(socket), "{text}");
    assert!(unit(&["[::]:80"]).socket().unwrap().contains("BindIPv6Only=ipv6-only\n"));
    assert_eq!(unit(&["127.0.0.1:0"]).socket(), None, "the kernel is to choose");
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
