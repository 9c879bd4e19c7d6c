//! `ARCHITECTURE.md` names every module, each in the section about its directory, so that it cannot be left behind.

use std::collections::BTreeSet;
use std::fs;

use recluster_e2e::{arrows, repository};

/// A directory, and the section about it, by the beginning of its heading. The nearest directory counts.
const SECTIONS: [(&str, &str); 11] = [
    ("crates/core/src/", "The policy"),
    ("crates/wire/src/", "What a master and its workers say"),
    ("crates/engine/src/", "The engine, room by room"),
    ("crates/engine/src/supervisor", "The control plane"),
    ("crates/engine/src/dataplane", "The data plane"),
    ("crates/engine/src/process", "A worker's process"),
    ("crates/engine/preload/", "A worker's process"),
    ("crates/worker/src/", "A worker in Rust"),
    ("crates/cli/src/", "The command"),
    ("crates/npm/src/", "The npm package"),
    ("npm/lib/", "The npm package"),
];

/// Every module, as a path: `crates/engine/src/process/spawn`, `crates/engine/preload/drain.cjs`, `npm/lib/cluster`.
fn modules() -> BTreeSet<String> {
    let mut modules = BTreeSet::new();
    for crate_name in ["core", "wire", "engine", "worker", "cli", "npm"] {
        let sources = format!("crates/{crate_name}/src/");
        let names = arrows::modules(&repository().join(&sources)).into_keys();
        let names = names.filter(|name| name != "lib" && name != "main");
        modules.extend(names.map(|name| sources.clone() + &name.replace("::", "/")));
    }
    for directory in ["crates/engine/preload/", "npm/lib/"] {
        for entry in fs::read_dir(repository().join(directory)).expect("a directory of the repository") {
            let name = entry.expect("a directory of the repository").file_name();
            modules.insert(directory.to_owned() + name.to_string_lossy().trim_end_matches(".js"));
        }
    }
    modules
}

/// What of a text is code, between backticks or in an indented line, as words.
fn words_of_code(text: &str) -> BTreeSet<&str> {
    let code = text.lines().flat_map(|line| {
        let (skipped, step) = if line.starts_with("    ") { (0, 1) } else { (1, 2) };
        line.split('`').skip(skipped).step_by(step)
    });
    code.flat_map(|code| code.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '.')).collect()
}

/// A line for each module that a page does not name in its section.
fn unnamed(page: &str) -> Vec<String> {
    let mut unnamed = Vec::new();
    for module in modules() {
        let near = SECTIONS.iter().filter(|(directory, _)| module.starts_with(directory));
        let (_, heading) =
            near.max_by_key(|(directory, _)| directory.len()).expect("a section for every directory");
        let section = page.split("\n## ").find(|section| section.starts_with(heading)).unwrap_or_default();
        let name = module.rsplit('/').next().unwrap_or_default();
        if !words_of_code(section).contains(name) {
            unnamed.push(format!("{module} is not named under \"{heading}\""));
        }
    }
    unnamed
}

#[test]
fn every_module_is_named_in_its_section() {
    let page = fs::read_to_string(repository().join("ARCHITECTURE.md")).expect("there is ARCHITECTURE.md");
    let unnamed = unnamed(&page);
    assert!(unnamed.is_empty(), "ARCHITECTURE.md:\n{}", unnamed.join("\n"));
}

#[test]
fn a_module_that_is_named_elsewhere_or_only_in_prose_is_not_named() {
    let page =
        "# Page\n\n## The npm package\n\nThe `link`, a worker; `process/spawn`.\n\n    faults  what fails\n";
    let unnamed = unnamed(page).join("\n");
    for module in ["npm/lib/worker is", "process/spawn is", "preload/drain.cjs is", "crates/cli/src/run is"] {
        assert!(unnamed.contains(module), "{module}: {unnamed}");
    }
    for module in ["npm/lib/link is", "npm/lib/faults is"] {
        assert!(!unnamed.contains(module), "{module}: {unnamed}");
    }
}
