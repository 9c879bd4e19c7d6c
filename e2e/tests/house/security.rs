//! Each sentence of `SECURITY.md` stands on tests, which are where it says.

use std::fs;
use std::path::{Path, PathBuf};

use recluster_e2e::repository;

/// Where a page says that tests are: in backticks, a source file or, where it has a slash, a directory of them.
fn named(page: &str) -> Vec<&str> {
    let code = page.split('`').skip(1).step_by(2);
    let is_source =
        |text: &str| Path::new(text).extension().is_some_and(|ending| ending == "rs" || ending == "js");
    let is_directory = |text: &str| text.starts_with("crates/") || text.starts_with("e2e/");
    code.filter(|text| text.contains('/') && (is_source(text) || is_directory(text))).collect()
}

/// The file or directory, below `e2e/tests/main` where nothing else is said.
fn found(name: &str) -> Option<PathBuf> {
    let places = [repository().join(name), repository().join("e2e/tests/main").join(name)];
    places.into_iter().find(|path| path.exists())
}

fn has_test(path: &Path) -> bool {
    if path.is_dir() {
        let entries = fs::read_dir(path).expect("a directory of the repository");
        return entries
            .map(|entry| entry.expect("a directory of the repository").path())
            .any(|path| has_test(&path));
    }
    let text = fs::read_to_string(path).expect("a source file");
    ["#[test]", "#[tokio::test]", "\ntest", "mod tests;"].iter().any(|test| text.contains(test))
}

#[test]
fn the_page_on_security_names_tests_that_there_are() {
    let page = fs::read_to_string(repository().join("SECURITY.md")).expect("the page");
    let names = named(&page);
    assert!(names.len() > 30, "{names:?}");
    let wrong: Vec<_> =
        names.into_iter().filter(|name| !found(name).is_some_and(|path| has_test(&path))).collect();
    assert!(wrong.is_empty(), "no test is in {wrong:?}");
}
