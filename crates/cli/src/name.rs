//! A cluster's name, which is also that of its control socket and stands in its log lines.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The longest name, in bytes: its control socket's path must fit into an address.
const LONGEST: usize = 64;

/// How much of that a number may need, in bytes.
const ROOM_FOR_NUMBER: usize = 8;

/// The name where nothing else can be found.
const FALLBACK: &str = "recluster";

/// A name that can be part of a file name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name(String);

/// Why a text is not a name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a name has letters, digits, '.', '_' and '-', begins with none of '.' and '-', and is at most {LONGEST} bytes long"
)]
pub(crate) struct NameError;

impl Name {
    /// The name of a cluster that runs this server file, unless the user gave one: that of the nearest
    /// `package.json` that has a name, else that of the server file's directory. A file in `node_modules` is a
    /// framework's: the name is that of the application, if there is one around it.
    pub(crate) fn of_server(server: &Path) -> Self {
        let server = std::path::absolute(server).unwrap_or_else(|_| PathBuf::from("/"));
        let directories = || server.ancestors().skip(1);
        let name_in = |directory: &Path| package_name(&directory.join("package.json"));
        let package = directories().filter(|directory| !is_installed(directory)).find_map(name_in);
        let package = package.or_else(|| directories().find_map(name_in));
        let directory =
            || directories().next().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
        Self::made_of(&package.or_else(directory).unwrap_or_default())
    }

    /// The name of the n-th cluster that would have this one.
    pub(crate) fn numbered(&self, number: u32) -> Self {
        Self(if number == 1 { self.0.clone() } else { format!("{}-{number}", self.0) })
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The nearest name to a text: `@scope/package` becomes `scope-package`.
    fn made_of(text: &str) -> Self {
        let allowed: String = text.chars().map(|c| if is_allowed(c) { c } else { '-' }).collect();
        let mut name = String::new();
        for c in allowed.trim_matches(['.', '-']).chars() {
            if name.len() + c.len_utf8() > LONGEST - ROOM_FOR_NUMBER {
                break;
            }
            name.push(c);
        }
        if name.is_empty() { Self(FALLBACK.to_owned()) } else { Self(name) }
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let valid = !text.is_empty()
            && text.len() <= LONGEST
            && !text.starts_with(['.', '-'])
            && text.chars().all(is_allowed);
        if valid { Ok(Self(text.to_owned())) } else { Err(NameError) }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_allowed(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '.' | '_' | '-')
}

/// Whether a directory is part of what a package manager has installed.
fn is_installed(directory: &Path) -> bool {
    directory.components().any(|part| part.as_os_str() == "node_modules")
}

/// The name in a `package.json`; none where the file is missing, has no name or is not valid.
fn package_name(path: &Path) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Package {
        name: String,
    }
    // Opening a pipe could wait for ever.
    fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    let text = fs::read(path).ok()?;
    let package: Package = serde_json::from_slice(&text).ok()?;
    Some(package.name).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The name of `dist/server.js` in a package with this `package.json`.
    fn name_in(package_json: Option<&str>) -> String {
        let base = tempfile::tempdir().unwrap();
        let dist = base.path().join("dist");
        fs::create_dir(&dist).unwrap();
        fs::write(dist.join("package.json"), r#"{"type":"module"}"#).unwrap();
        if let Some(text) = package_json {
            fs::write(base.path().join("package.json"), text).unwrap();
        }
        Name::of_server(&dist.join("server.js")).to_string()
    }

    #[test]
    fn the_nearest_package_that_has_a_name_gives_it() {
        assert_eq!(name_in(Some(r#"{"name":"shop","version":"1.0.0"}"#)), "shop");
        assert_eq!(name_in(Some(r#"{"name":"@acme/shop"}"#)), "acme-shop");
    }

    #[test]
    fn a_framework_in_node_modules_has_the_name_of_the_application_around_it() {
        let base = tempfile::tempdir().unwrap();
        let framework = base.path().join("node_modules/.pnpm/serve@8/node_modules/serve");
        fs::create_dir_all(&framework).unwrap();
        fs::write(framework.join("package.json"), r#"{"name":"serve"}"#).unwrap();
        let name = || Name::of_server(&framework.join("dist/cli.js")).to_string();
        assert_eq!(name(), "serve", "one that is installed for the whole machine has its own");
        fs::write(base.path().join("package.json"), r#"{"name":"shop"}"#).unwrap();
        assert_eq!(name(), "shop");
    }

    #[test]
    fn without_one_the_directory_does() {
        assert_eq!(name_in(None), "dist");
        assert_eq!(name_in(Some("not json")), "dist");
        assert_eq!(name_in(Some(r#"{"name":7}"#)), "dist");
        assert_eq!(Name::of_server(Path::new("/server.js")).as_str(), "recluster");
    }

    #[test]
    fn any_text_can_be_made_a_name() {
        for (text, name) in
            [("..", "recluster"), ("a b/c", "a-b-c"), (".hidden", "hidden"), ("größe", "größe")]
        {
            assert_eq!(Name::made_of(text).as_str(), name);
        }
        let long = Name::made_of(&"ö".repeat(100));
        assert!(long.numbered(99).as_str().parse::<Name>().is_ok());
    }

    #[test]
    fn a_given_name_is_taken_as_it_is_or_not_at_all() {
        assert_eq!("shop_2.a-b".parse(), Ok(Name("shop_2.a-b".to_owned())));
        for text in ["", "a/b", ".", "..", "-x", "a b", "a\nb", &"x".repeat(65)] {
            assert_eq!(text.parse::<Name>(), Err(NameError), "{text}");
        }
        insta::assert_snapshot!(NameError, @"a name has letters, digits, '.', '_' and '-', begins with none of '.' and '-', and is at most 64 bytes long");
    }

    #[test]
    fn numbers_begin_at_two() {
        let name = Name("shop".to_owned());
        assert_eq!([1, 2, 3].map(|number| name.numbered(number).to_string()), ["shop", "shop-2", "shop-3"]);
    }
}
