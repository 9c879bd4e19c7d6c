//! What a release is made by: the version, the platforms, the order in which packages are published, the installer. The packages
//! themselves are built by `scripts/cross`, which checks what it has built.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Output};

use recluster_e2e::{Home, recluster, repository};

fn read(file: &str) -> String {
    fs::read_to_string(repository().join(file)).expect("a file of the repository")
}

fn output(command: &mut Command) -> (bool, String) {
    let Output { status, stdout, stderr } = command.output().expect("it should run");
    (status.success(), [stdout, stderr].iter().map(|text| String::from_utf8_lossy(text)).collect())
}

#[track_caller]
fn succeeds(command: &mut Command) -> String {
    let (success, text) = output(command);
    assert!(success, "{text}");
    text
}

#[track_caller]
fn fails(command: &mut Command) -> String {
    let (success, text) = output(command);
    assert!(!success, "{text}");
    text
}

/// A copy of what `scripts/version` reads.
fn versions() -> Home {
    let home = Home::new();
    for file in ["scripts/version", "Cargo.toml", "Cargo.lock", "npm/package.json", "CHANGELOG.md"] {
        let copy = home.path().join(file);
        fs::create_dir_all(copy.parent().expect("a directory")).expect("make it");
        fs::copy(repository().join(file), copy).expect("copy");
    }
    home
}

fn replace(home: &Home, file: &str, old: &str, new: &str) {
    let path = home.path().join(file);
    let text = fs::read_to_string(&path).expect("read");
    assert!(text.contains(old), "{file} has no {old}");
    fs::write(path, text.replacen(old, new, 1)).expect("write");
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

#[test]
fn there_is_one_version() {
    let script = repository().join("scripts/version");
    assert_eq!(succeeds(&mut Command::new(script)).trim(), VERSION);
}

#[test]
fn another_version_is_named_with_its_file() {
    let places = [
        ("npm/package.json", format!("\"version\": \"{VERSION}\""), "\"version\": \"1.9.9\""),
        ("npm/package.json", format!("linux-x64-musl\": \"{VERSION}\""), "linux-x64-musl\": \"1.9.9\""),
        (
            "Cargo.toml",
            format!("crates/wire\", version = \"{VERSION}\""),
            "crates/wire\", version = \"1.9.9\"",
        ),
        ("CHANGELOG.md", format!("## {VERSION}"), "## 1.9.9"),
    ];
    for (file, old, new) in places {
        let home = versions();
        replace(&home, file, &old, new);
        let said = fails(&mut Command::new(home.path().join("scripts/version")));
        assert!(said.contains(file) && said.contains("1.9.9"), "{said}");
    }
}

#[test]
fn a_version_is_set_everywhere_and_released_by_its_own_tag_with_a_date() {
    let home = versions();
    let script = home.path().join("scripts/version");
    succeeds(Command::new(&script).args(["--set", "7.8.9"]));
    let heading =
        read("CHANGELOG.md").lines().find(|line| line.starts_with("## ")).expect("a version").to_owned();
    replace(&home, "CHANGELOG.md", &heading, "## 7.8.9 (unreleased)");
    assert_eq!(succeeds(&mut Command::new(&script)).trim(), "7.8.9");
    let said = fails(Command::new(&script).args(["--tag", "v7.8.9"]));
    assert!(said.contains("no date"), "{said}");
    replace(&home, "CHANGELOG.md", "(unreleased)", "(2030-01-02)");
    succeeds(Command::new(&script).args(["--tag", "v7.8.9"]));
    let said = fails(Command::new(&script).args(["--tag", "v7.8.10"]));
    assert!(said.contains("it must be v7.8.9"), "{said}");
}

/// The platforms that a text speaks of.
fn platforms(text: &str) -> BTreeSet<&str> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-');
    words
        .filter_map(|word| word.find("linux-").and_then(|at| word.get(at..)))
        .filter(|word| word.ends_with("-gnu") || word.ends_with("-musl"))
        .filter(|word| !word.starts_with("linux-gnu") && !word.starts_with("linux-musl"))
        .collect()
}

/// Whoever installs finds an engine for each platform that the package speaks of, and each is built, and run, before it is released.
#[test]
fn every_platform_is_built_run_and_installed() {
    let package = read("npm/package.json");
    let wanted = platforms(&package);
    assert_eq!(wanted.len(), 4);
    for file in ["npm/lib/engines.js", "scripts/cross", "crates/cli/Cargo.toml"] {
        assert_eq!(platforms(&read(file)), wanted, "{file}");
    }
    let workflow = read(".github/workflows/packages.yml");
    let (built, run) = workflow.split_once("\n  run:").expect("a job that runs what was built");
    assert_eq!(platforms(built), wanted);
    assert_eq!(platforms(run), wanted);
}

/// The linker is told of no name twice, and of no place that it does not know; a command that is linked without the list is not released.
#[test]
fn the_code_of_a_master_has_places_of_its_own() {
    let list = read("crates/cli/layout/functions");
    let lines: Vec<_> = list.lines().map(|line| line.split_once(' ').expect("a place and a name")).collect();
    let places: BTreeSet<_> = lines.iter().map(|(place, _)| *place).collect();
    let names: BTreeSet<_> = lines.iter().map(|(_, name)| *name).collect();
    assert_eq!(places, BTreeSet::from(["rare", "serving", "start", "upgrade"]));
    let script = read("crates/cli/build.rs");
    assert!(places.iter().all(|place| script.contains(&format!("\"{place}\""))), "{script}");
    assert_eq!(names.len(), lines.len());
    for name in names {
        let is_plain = |of: char| of.is_ascii_alphanumeric() || "_.$*".contains(of);
        assert!(name.chars().all(is_plain) && !name.starts_with('*'), "{name}");
    }
    let check = "\"$root/scripts/hot-code\" --check --recluster \"$command\"";
    assert!(read("scripts/cross").contains(check));
    let mut checked = Command::new(repository().join("scripts/hot-code"));
    let other = std::env::current_exe().expect("this program");
    let said = fails(checked.args(["--check", "--recluster"]).arg(other));
    assert!(said.contains("that is too little"), "{said}");
}

/// What `cargo binstall` asks a release for, the archive of that platform is called, and the command is where it looks for it.
#[test]
fn archives_have_the_names_and_the_places_that_binstall_expects() {
    let home = Home::new();
    fs::create_dir(home.path().join("scripts")).expect("make it");
    home.program("scripts/pages", "#!/bin/sh\n");
    fs::copy(repository().join("scripts/archive"), home.path().join("scripts/archive")).expect("copy");
    home.program("scripts/version", &format!("#!/bin/sh\necho {VERSION}\n"));
    home.program(
        "scripts/cross",
        "#!/bin/sh\nprintf '%s\\n' \"$PWD/scripts/cross\" addon \"$PWD/NOTICES\"\n",
    );
    for file in ["LICENSE", "README.md", "CHANGELOG.md", "NOTICES"] {
        fs::write(home.path().join(file), file).expect("write");
    }
    let manifest =
        read("crates/cli/Cargo.toml").replace("{ version }", VERSION).replace("{ bin }", "recluster");
    let value = |line: &str, key: &str| {
        line.strip_prefix(key)?.strip_prefix(" = \"")?.strip_suffix('"').map(str::to_owned)
    };
    let urls: Vec<String> = manifest.lines().filter_map(|line| value(line, "pkg-url")).collect();
    let places: Vec<String> = manifest.lines().filter_map(|line| value(line, "bin-dir")).collect();
    assert_eq!((urls.len(), places.len()), (4, 4), "{manifest}");
    for (url, place) in urls.iter().zip(&places) {
        let platform = platforms(url).pop_first().expect("a platform");
        let mut archive = Command::new(home.path().join("scripts/archive"));
        let path = succeeds(archive.arg(platform).current_dir(home.path()));
        let name = path.trim().rsplit('/').next().expect("a file");
        assert_eq!(*url, format!("{{ repo }}/releases/download/v{VERSION}/{name}"));
        let held = succeeds(Command::new("tar").arg("-tzf").arg(path.trim()));
        assert!(held.lines().any(|file| file == place), "{place} is not in {held}");
    }
}

/// Both kinds of packages and the archives are made, looked at, tried, and put beside each other under one list of sums.
#[test]
fn everything_that_is_packed_is_released_with_its_sum() {
    let packed = read(".github/workflows/packages.yml");
    for script in ["npm-pack", "archive", "packages"] {
        assert!(packed.contains(&format!("run: scripts/{script} \"$PLATFORM\"\n")), "{script} is not run");
    }
    for script in ["scripts/check-packages", "scripts/package-smoke"] {
        assert!(packed.contains(script), "{script} is not run");
    }
    let (_, install) = packed.split_once("\n  install:").expect("a job that installs packages");
    let script = read("scripts/packages");
    let with_packages = platforms(&script);
    assert_eq!(with_packages.len(), 2);
    assert_eq!(platforms(install), with_packages);
    for (platform, package) in
        with_packages.iter().flat_map(|platform| [(platform, "deb"), (platform, "rpm")])
    {
        assert!(
            install.contains(&format!("platform: {platform}, package: {package}")),
            "{platform} {package}"
        );
    }
    let released = read(".github/workflows/release.yml");
    let at = |text: &str| released.find(text).unwrap_or_else(|| panic!("release.yml has no {text}"));
    assert!(at("packed/platform-*/dist/*") < at("sha256sum -- *"), "the sums are of everything");
    assert!(
        at("subject-checksums: release/SHA256SUMS") < at("gh release upload \"$GITHUB_REF_NAME\" release/*")
    );
}

#[test]
fn workflows_use_exactly_the_actions_that_were_looked_at() {
    let directory = repository().join(".github/workflows");
    let mut seen = 0;
    for entry in fs::read_dir(directory).expect("workflows") {
        let text = fs::read_to_string(entry.expect("workflows").path()).expect("a workflow");
        for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
            let Some((_, used)) = line.split_once("uses: ") else { continue };
            seen += 1;
            let commit =
                used.split_once('@').and_then(|(_, rest)| rest.split_once(" # v")).map(|(commit, _)| commit);
            let pinned = commit.is_some_and(|commit| {
                commit.len() == 40 && commit.chars().all(|letter| letter.is_ascii_hexdigit())
            });
            assert!(pinned || used.starts_with("./"), "{line}");
        }
    }
    assert!(seen > 0);
}

/// A crate cannot be published before those that it depends on; nor is one forgotten.
#[test]
fn crates_are_published_behind_those_they_depend_on() {
    let script = read("scripts/publish-crates");
    let order = script
        .lines()
        .find_map(|line| line.strip_prefix("for crate in ")?.strip_suffix("; do"))
        .expect("a list");
    let order: Vec<&str> = order.split(' ').collect();
    let mut published = 0;
    for entry in fs::read_dir(repository().join("crates")).expect("crates") {
        let manifest =
            fs::read_to_string(entry.expect("crates").path().join("Cargo.toml")).expect("a manifest");
        if manifest.contains("publish = false") {
            continue;
        }
        published += 1;
        let name = manifest
            .lines()
            .find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'))
            .expect("a name");
        let place = order.iter().position(|other| *other == name);
        assert!(place.is_some(), "{name} is not published");
        let dependencies = manifest.split("[dev-dependencies]").next().unwrap_or_default();
        for needed in dependencies.lines().filter_map(|line| line.strip_suffix(".workspace = true")) {
            let needed = order.iter().position(|other| *other == needed);
            assert!(
                needed.is_none_or(|needed| Some(needed) < place),
                "{name} is published before what it needs"
            );
        }
    }
    assert_eq!(order.len(), published);
}

#[test]
fn a_glibc_that_is_too_new_is_named_with_the_symbols() {
    let script = repository().join("scripts/glibc-needed");
    let needed = succeeds(Command::new(&script).arg(recluster()));
    assert!(needed.starts_with("2."), "{needed}");
    succeeds(Command::new(&script).args(["--most", "2.999"]).arg(recluster()));
    let said = fails(Command::new(&script).args(["--most", "2.3"]).arg(recluster()));
    assert!(said.contains("needs memcpy@GLIBC_2.14"), "{said}");
    assert!(!said.contains("GLIBC_2.2.5"), "{said}");
}

/// Their licences ask for it. Crates of the tests, macros and our own are not linked.
#[test]
fn what_is_linked_is_named_with_its_licence() {
    let script = repository().join("scripts/notices");
    let text = succeeds(Command::new(script).arg("x86_64-unknown-linux-musl"));
    for wanted in ["  tokio v", "Tokio Contributors", "  ppp v", "Apache License", "  napi v"] {
        assert!(text.contains(wanted), "{wanted}");
    }
    for other in ["recluster-core v", "thiserror-impl v", "actix-web v", "windows-sys v"] {
        assert!(!text.contains(other), "{other}");
    }
}

/// A release with the command under test, as the workflow lays it out.
fn release(home: &Home) {
    let directory = home.path().join("releases/latest/download");
    fs::create_dir_all(&directory).expect("make it");
    for platform in ["linux-x64-gnu", "linux-arm64-gnu"] {
        let name = format!("recluster-{VERSION}-{platform}");
        let laid = home.path().join(&name);
        fs::create_dir(&laid).expect("make it");
        home.copy_of(recluster(), &format!("{name}/recluster"));
        for page in [
            "man/recluster.1",
            "completions/recluster.bash",
            "completions/recluster.fish",
            "completions/_recluster",
        ] {
            let page = laid.join(page);
            fs::create_dir_all(page.parent().expect("a directory")).expect("make it");
            fs::write(page, "a page").expect("write");
        }
        let archive = directory.join(format!("{name}.tar.gz"));
        succeeds(Command::new("tar").arg("-czf").arg(archive).arg("-C").arg(home.path()).arg(name));
    }
    let sums = "sha256sum -- *.tar.gz >sums && mv sums SHA256SUMS";
    succeeds(Command::new("sh").args(["-c", sums]).current_dir(directory));
}

fn install(home: &Home) -> Command {
    let mut command = Command::new("sh");
    command.arg(repository().join("scripts/install.sh"));
    command.env("RECLUSTER_RELEASES", format!("file://{}/releases", home.path().display()));
    command.env("RECLUSTER_INSTALL", home.path().join("bin"));
    command
}

#[test]
#[cfg_attr(not(has = "curl"), ignore = "curl is not installed")]
fn the_installer_takes_what_the_checksums_name_and_nothing_else() {
    let home = Home::new();
    release(&home);
    let said = succeeds(&mut install(&home));
    assert!(said.contains(&format!("recluster {VERSION} is ")), "{said}");
    let installed = home.path().join("bin/recluster");
    assert_eq!(succeeds(Command::new(&installed).arg("--version")).trim(), format!("recluster {VERSION}"));

    let beside = [
        "man/man1/recluster.1",
        "bash-completion/completions/recluster",
        "fish/vendor_completions.d/recluster.fish",
        "zsh/site-functions/_recluster",
    ];
    for page in beside {
        assert_eq!(
            fs::read_to_string(home.path().join("share").join(page)).ok().as_deref(),
            Some("a page"),
            "{page}"
        );
    }
    let functions = home.path().join("share/zsh/site-functions");
    assert!(
        said.contains(&format!("fpath=({} $fpath)\n", functions.display())),
        "zsh does not look there: {said}"
    );

    let other = home.path().join("other");
    succeeds(install(&home).env("RECLUSTER_INSTALL", other.join("bin/")));
    assert!(other.join("share/man/man1/recluster.1").exists(), "a slash at the end is no other directory");

    let readonly = home.path().join("readonly");
    fs::create_dir(&readonly).expect("make it");
    fs::write(readonly.join("share"), "not a directory").expect("write");
    let said = succeeds(install(&home).env("RECLUSTER_INSTALL", readonly.join("bin")));
    assert!(said.contains("readonly/bin/recluster\n"), "the command is there: {said}");
    assert!(said.contains("readonly/share cannot be written") && !said.contains("fpath"), "{said}");

    let elsewhere = home.path().join("elsewhere");
    succeeds(install(&home).env("RECLUSTER_INSTALL", elsewhere.join("programs")));
    let there = fs::read_dir(&elsewhere).expect("a directory").count();
    assert_eq!(there, 1, "man pages have no place beside a directory that is not called bin");

    fs::remove_file(&installed).expect("remove");
    for platform in ["linux-x64-gnu", "linux-arm64-gnu"] {
        let archive =
            home.path().join(format!("releases/latest/download/recluster-{VERSION}-{platform}.tar.gz"));
        let mut bytes = fs::read(&archive).expect("read");
        *bytes.last_mut().expect("bytes") ^= 1;
        fs::write(archive, bytes).expect("write");
    }
    let said = fails(&mut install(&home));
    assert!(said.contains("nothing is installed"), "{said}");
    assert!(!installed.exists());

    fs::remove_file(home.path().join("releases/latest/download/SHA256SUMS")).expect("remove");
    let said = fails(&mut install(&home));
    assert!(said.contains("SHA256SUMS cannot be had"), "{said}");
}

/// A program `npm` that notes what it is told to publish, and knows the packages that it has noted.
const NPM: &str = r#"#!/bin/sh
case $1 in
view) grep -Fqx "${2%@*}" published 2>/dev/null && echo "${2##*@}" ;;
publish) tar -xOzf "$2" package/package.json | sed -n 's/.*"name": *"\([^"]*\)".*/\1/p' >>published; shift 2; echo "with $*" ;;
esac
"#;

/// Packed packages without an engine in them.
fn packed(home: &Home, names: &BTreeSet<&str>) {
    let package = home.path().join("package");
    fs::create_dir_all(&package).expect("make it");
    for name in names {
        let manifest = format!("{{\"name\": \"@recluster/{name}\", \"version\": \"{VERSION}\"}}\n");
        fs::write(package.join("package.json"), manifest).expect("write");
        let file = format!("recluster-{name}.tgz");
        succeeds(Command::new("tar").args(["-czf", &file, "package"]).current_dir(home.path()));
    }
    fs::copy(repository().join("npm/package.json"), package.join("package.json")).expect("copy");
    succeeds(Command::new("tar").args(["-czf", "recluster-2.tgz", "package"]).current_dir(home.path()));
}

#[test]
fn the_package_is_published_behind_its_engines_and_nothing_twice() {
    let home = Home::new();
    home.program("npm", NPM);
    let path = format!("{}:{}", home.path().display(), std::env::var("PATH").expect("a path"));
    let publish = || {
        let mut command = Command::new(repository().join("npm/release/publish"));
        command.arg(".").current_dir(home.path()).env("PATH", &path).env_remove("NPM_TOKEN");
        command
    };
    let package = read("npm/package.json");
    let mut names = platforms(&package);
    let last = names.pop_last().expect("a platform");
    packed(&home, &names);
    let said = fails(&mut publish());
    assert!(said.contains(last), "{said}");
    assert!(!home.path().join("published").exists());

    names.insert(last);
    packed(&home, &names);
    let said = succeeds(&mut publish());
    assert_eq!(said.matches("with --access public --provenance").count(), 5, "{said}");
    let published = || fs::read_to_string(home.path().join("published")).expect("something is published");
    assert_eq!(published().lines().count(), 5);
    assert_eq!(published().lines().last(), Some("recluster"));
    let said = succeeds(&mut publish());
    assert_eq!(said.matches("is published already").count(), 5, "{said}");
    assert_eq!(published().lines().count(), 5);
}
