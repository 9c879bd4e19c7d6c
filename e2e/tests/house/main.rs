//! The rules of the house, checked against the sources: which part may know which, how long a file may be, and that
//! the documentation speaks of everything that there is.

mod architecture;
mod layers;
mod security;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use recluster_e2e::{Home, repository};

/// The most lines of a source file.
const LONGEST_FILE: usize = 500;

/// Which of our crates each crate may depend on.
const CRATES: [(&str, &[&str]); 6] = [
    ("core", &[]),
    ("wire", &[]),
    ("worker", &["recluster-wire"]),
    ("engine", &["recluster-core", "recluster-wire"]),
    ("cli", &["recluster"]),
    ("npm", &["recluster"]),
];

/// What the crates without IO must not know.
const IO: [&str; 9] = [
    "tokio",
    "rustix",
    "libc::",
    "socket2",
    "std::process",
    "std::net::Tcp",
    "std::os",
    "std::fs",
    "std::thread",
];

/// The text of a source file without its tests and comments.
struct Source {
    path: PathBuf,
    code: String,
}

fn sources(directory: &str) -> Vec<Source> {
    let mut paths = Vec::new();
    collect(&repository().join(directory), &mut paths);
    assert!(!paths.is_empty(), "no source file in {directory}");
    paths.sort();
    paths.into_iter().map(|path| Source { code: code_of(&path), path }).collect()
}

fn collect(directory: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory of the repository") {
        let path = entry.expect("a directory of the repository").path();
        if path.is_dir() {
            let name = path.file_name().unwrap_or_default();
            if name != "target" && name != "node_modules" {
                collect(&path, paths);
            }
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            paths.push(path);
        }
    }
}

/// Tests may know more than what they test: they stand at the end of a file, or in `tests.rs`, and share `fixtures.rs`.
fn code_of(path: &Path) -> String {
    if path.ends_with("tests.rs") || path.ends_with("fixtures.rs") {
        return String::new();
    }
    let text = fs::read_to_string(path).expect("a source file");
    let lines = text.lines().take_while(|line| line.trim() != "#[cfg(test)]");
    lines.map(|line| line.split("//").next().unwrap_or_default()).flat_map(|line| [line, "\n"]).collect()
}

#[test]
fn no_source_file_is_too_long() {
    for directory in ["crates", "e2e", "examples", "bench"] {
        for source in sources(directory) {
            let lines = fs::read_to_string(&source.path).expect("a source file").lines().count();
            assert!(
                lines <= LONGEST_FILE,
                "{} has {lines} lines, {LONGEST_FILE} are allowed",
                source.path.display()
            );
        }
    }
}

#[test]
fn every_source_file_says_what_it_is_for() {
    for directory in ["crates", "e2e", "examples", "bench"] {
        for source in sources(directory) {
            let text = fs::read_to_string(&source.path).expect("a source file");
            let is_tests = source.path.ends_with("tests.rs");
            assert!(
                is_tests || text.starts_with("//!"),
                "{} does not open with `//!`",
                source.path.display()
            );
        }
    }
}

#[test]
fn crates_depend_in_one_direction() {
    for (name, allowed) in CRATES {
        let path = repository().join("crates").join(name).join("Cargo.toml");
        let manifest = fs::read_to_string(&path).expect("every crate has a manifest");
        let dependencies = manifest.split("\n[dependencies]").nth(1).unwrap_or_default();
        let dependencies = dependencies.split("\n[").next().unwrap_or_default();
        let names = dependencies.lines().filter_map(|line| line.split(['.', ' ', '=']).next());
        for dependency in names.filter(|name| name.starts_with("recluster")) {
            assert!(allowed.contains(&dependency), "{} must not depend on {dependency}", path.display());
        }
    }
}

#[test]
fn the_policy_and_the_codecs_know_no_io() {
    for source in sources("crates/core/src").into_iter().chain(sources("crates/wire/src")) {
        for word in IO {
            assert!(!source.code.contains(word), "{} must not know {word}", source.path.display());
        }
    }
}

#[test]
fn unsafe_code_is_in_one_module_of_a_crate() {
    let exceptions = ["engine/src/sys.rs", "engine/src/sys/", "worker/src/sys.rs", "npm/src/sys.rs"];
    let is_exception = |path: &Path| {
        let path = path.strip_prefix(repository().join("crates")).expect("it is a crate's");
        exceptions.iter().any(|exception| path.starts_with(exception))
    };
    for source in sources("crates").into_iter().filter(|source| !is_exception(&source.path)) {
        let words = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"];
        let found = words.iter().find(|word| source.code.contains(**word));
        assert!(found.is_none(), "{} contains `{found:?}`", source.path.display());
    }
}

#[test]
fn only_one_file_holds_the_policy() {
    for source in sources("crates")
        .into_iter()
        .filter(|source| !source.path.ends_with("engine/src/supervisor/policy.rs"))
    {
        let names = source.code.contains("core::Cluster") || source.code.contains("recluster_core::{Cluster");
        assert!(!names, "{} names the policy's Cluster", source.path.display());
    }
}

#[test]
fn signals_are_the_command_s_matter() {
    for source in sources("crates/engine/src") {
        let handles = ["tokio::signal", "signal_hook"].iter().any(|word| source.code.contains(word));
        assert!(!handles, "{} handles signals", source.path.display());
    }
}

/// The text of the README and of everything in `docs/`.
fn documentation() -> String {
    let mut text = fs::read_to_string(repository().join("README.md")).expect("there is a README.md");
    for entry in fs::read_dir(repository().join("docs")).expect("there is a directory docs/") {
        let path = entry.expect("a file of docs/").path();
        if path.extension().is_some_and(|ending| ending == "md") {
            text += &fs::read_to_string(path).expect("a file of docs/");
        }
    }
    text
}

#[test]
fn every_option_is_documented() {
    let help = Home::new().recluster(&["run", "--help"]).stdout;
    let lines = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
    let options: BTreeSet<&str> =
        lines.filter_map(|line| line.split([' ', '=']).find(|w| w.starts_with("--"))).collect();
    assert!(options.len() > 20, "the help lists the options: {options:?}");
    let documentation = documentation();
    let missing: Vec<_> = options.into_iter().filter(|option| !documentation.contains(*option)).collect();
    assert!(missing.is_empty(), "neither README.md nor docs/*.md speaks of {missing:?}");
}

/// `e2e/frameworks/run` takes the commands from the page, and would leave out what is not there.
#[test]
fn every_application_of_a_framework_has_its_section() {
    let page = repository().join("docs/frameworks.md");
    let page = fs::read_to_string(&page).expect("there is docs/frameworks.md");
    let sections: Vec<&str> = page.split("\n## ").skip(1).collect();
    let applications =
        fs::read_dir(repository().join("e2e/frameworks/apps")).expect("a directory of the repository");
    for application in applications {
        let name = application.expect("a directory of the repository").file_name();
        let link = format!("](../e2e/frameworks/apps/{})", name.to_string_lossy());
        let section = sections.iter().find(|section| section.contains(&link));
        let section = section.unwrap_or_else(|| panic!("docs/frameworks.md links to no {}", name.display()));
        let starts = |line: &str| line.starts_with("    ") && line.contains("recluster ");
        assert!(section.lines().any(starts), "the section of {} starts nothing", name.display());
    }
}

/// In `docs/semantics.md` the last cell of a row names the tests that hold it, each behind its file:
/// `e2e/rollback.rs`: `one_test`, `another_test`; `core/reload.rs`: `a_third_one`.
#[test]
fn every_test_that_the_documentation_names_exists() {
    let path = repository().join("docs/semantics.md");
    let text = fs::read_to_string(&path).expect("there is docs/semantics.md");
    let rows = text.lines().filter_map(|line| line.trim().strip_suffix('|')?.rsplit('|').next());
    let mut named = 0;
    for cell in rows {
        let mut file = String::new();
        for word in cell.split('`').skip(1).step_by(2) {
            if word.contains('/') {
                file = read_tests(word);
            } else {
                named += 1;
                assert!(
                    // Of Rust, or of Node.
                    file.contains(&format!("fn {word}(")) || file.contains(&format!("('{word}', async")),
                    "docs/semantics.md names `{word}`, which is not there: {cell}"
                );
            }
        }
    }
    assert!(named >= 20, "the last cell of each row of docs/semantics.md names the tests that hold it");
}

/// The text of a file of tests, by the short path that the documentation has for it.
fn read_tests(short: &str) -> String {
    let (place, file) = short.split_once('/').expect("PLACE/FILE");
    let directory = match place {
        "core" => "crates/core/tests/scenarios",
        "e2e" => "e2e/tests/main",
        other => other,
    };
    let path = repository().join(directory).join(file);
    assert!(path.exists(), "docs/semantics.md names {short}, which is not there");
    fs::read_to_string(path).expect("a source file")
}
