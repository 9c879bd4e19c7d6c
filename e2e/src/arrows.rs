//! Who uses whom: the modules of a crate, and the arrows between them, read from the sources.
//!
//! An arrow is any path to another module: in a `use`, in an expression or a type, in the body of a macro, by `crate::`,
//! `super::` or the name of a child. A path through a re-export is an arrow to the module that defines the name. Tests may
//! know more than what they test and are left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

/// A path of names below the root of a crate; the root itself is empty.
type Names = Vec<String>;

/// One module that has a file of its own.
#[derive(Debug)]
pub struct Module {
    /// Its file.
    pub path: PathBuf,
    /// Which modules it uses, by their names.
    pub uses: BTreeSet<String>,
    /// Every identifier in its code.
    pub words: BTreeSet<String>,
}

/// The modules of a crate by their names, such as `process::spawn`; the root is called `lib` or `main`.
pub fn modules(crate_src: &Path) -> BTreeMap<String, Module> {
    let mut files = Vec::new();
    collect(crate_src, &mut Vec::new(), &mut files);
    let parsed: Vec<(PathBuf, Names, syn::File)> = files
        .into_iter()
        .map(|(path, names)| (parse(&path), path, names))
        .map(|(f, p, n)| (p, n, f))
        .collect();
    let known: BTreeSet<Names> = parsed.iter().map(|(_, names, _)| names.clone()).collect();
    let exports = parsed.iter().map(|(_, names, file)| (names.clone(), exports_of(names, file, &known)));
    let exports: BTreeMap<Names, BTreeMap<String, Names>> = exports.collect();
    let root = if crate_src.join("lib.rs").exists() { "lib" } else { "main" };
    let called = |names: &[String]| if names.is_empty() { root.to_owned() } else { names.join("::") };
    let modules = parsed.into_iter().map(|(path, names, file)| {
        let mut reader =
            Reader { at: names.clone(), known: &known, paths: Vec::new(), words: BTreeSet::new() };
        reader.visit_file(&file);
        let used = reader.paths.iter().map(|path| definer(path, &known, &exports));
        let others = used.filter(|used| *used != names).map(|used| called(&used)).collect();
        (called(&names), Module { path, uses: others, words: reader.words })
    });
    modules.collect()
}

/// Every source file that is not for tests alone, with the names of its module.
fn collect(directory: &Path, names: &mut Names, files: &mut Vec<(PathBuf, Names)>) {
    for entry in fs::read_dir(directory).expect("a directory of the crate") {
        let path = entry.expect("a directory of the crate").path();
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if ["tests", "fixtures"].contains(&stem.as_str()) {
            continue;
        }
        let is_source = path.extension().is_some_and(|ending| ending == "rs");
        if path.is_dir() {
            names.push(stem);
            collect(&path, names, files);
            names.pop();
        } else if is_source && ["mod", "lib", "main"].contains(&stem.as_str()) {
            files.push((path, names.clone()));
        } else if is_source {
            let own = names.iter().cloned().chain([stem]).collect();
            files.push((path, own));
        }
    }
}

fn parse(path: &Path) -> syn::File {
    let text = fs::read_to_string(path).expect("a source file");
    syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What a module offers under a name of its own although another one defines it.
fn exports_of(at: &Names, file: &syn::File, known: &BTreeSet<Names>) -> BTreeMap<String, Names> {
    let mut exports = BTreeMap::new();
    for item in &file.items {
        if let syn::Item::Use(item) = item
            && !matches!(item.vis, syn::Visibility::Inherited)
        {
            let mut leaves = Vec::new();
            flatten(&item.tree, &mut Vec::new(), &mut leaves);
            for (name, path) in leaves {
                exports.extend(absolute(at, &path, known).map(|path| (name, path)));
            }
        }
    }
    exports
}

/// The names that a `use` brings, each with its whole path.
fn flatten(tree: &syn::UseTree, before: &mut Names, leaves: &mut Vec<(String, Names)>) {
    let ends_in = |name: &syn::Ident| before.iter().cloned().chain([name.to_string()]).collect::<Names>();
    match tree {
        syn::UseTree::Path(path) => {
            before.push(path.ident.to_string());
            flatten(&path.tree, before, leaves);
            before.pop();
        }
        syn::UseTree::Name(name) if name.ident == "self" => {
            leaves.push((before.last().cloned().unwrap_or_default(), before.clone()));
        }
        syn::UseTree::Name(name) => leaves.push((name.ident.to_string(), ends_in(&name.ident))),
        syn::UseTree::Rename(name) if name.ident == "self" => {
            leaves.push((name.rename.to_string(), before.clone()));
        }
        syn::UseTree::Rename(name) => leaves.push((name.rename.to_string(), ends_in(&name.ident))),
        syn::UseTree::Glob(_) => leaves.push(("*".to_owned(), before.clone())),
        syn::UseTree::Group(group) => group.items.iter().for_each(|tree| flatten(tree, before, leaves)),
    }
}

/// A path as seen from the root of the crate; none where it leads out of it, or to something of the module's own.
fn absolute(at: &Names, path: &[String], known: &BTreeSet<Names>) -> Option<Names> {
    let (first, rest) = path.split_first()?;
    match first.as_str() {
        "crate" => Some(rest.to_vec()),
        "self" => Some(at.iter().chain(rest).cloned().collect()),
        "super" => {
            let parent = at.split_last().map(|(_, parent)| parent.to_vec()).unwrap_or_default();
            match rest.first().map(String::as_str) {
                Some("super") => absolute(&parent, rest, known),
                _ => Some(parent.iter().chain(rest).cloned().collect()),
            }
        }
        _ => {
            let child: Names = at.iter().chain([first]).cloned().collect();
            known.contains(&child).then(|| at.iter().chain(path).cloned().collect())
        }
    }
}

/// The module that defines what is at a path: through re-exports to the deepest module that the path names.
fn definer(
    path: &[String],
    known: &BTreeSet<Names>,
    exports: &BTreeMap<Names, BTreeMap<String, Names>>,
) -> Names {
    let mut path = path.to_vec();
    // More re-exports behind each other than this are a circle of them.
    for _ in 0..16 {
        let depth =
            (0..=path.len()).rev().find(|&depth| path.get(..depth).is_some_and(|p| known.contains(p)));
        let module = path.get(..depth.unwrap_or(0)).unwrap_or_default().to_vec();
        let rest = path.get(module.len()..).unwrap_or_default().to_vec();
        let export = rest.first().and_then(|name| exports.get(&module)?.get(name));
        match export {
            Some(target) => path = target.iter().chain(rest.iter().skip(1)).cloned().collect(),
            None => return module,
        }
    }
    panic!("re-exports in a circle at {path:?}")
}

/// The circles: each a set of modules of which every one reaches every other.
pub fn circles(modules: &BTreeMap<String, Module>) -> Vec<BTreeSet<&str>> {
    let reached = |from: &str| {
        let mut reached = BTreeSet::new();
        let mut open = vec![from.to_owned()];
        while let Some(module) = open.pop().and_then(|name| modules.get(&name)) {
            open.extend(module.uses.iter().filter(|used| reached.insert((*used).clone())).cloned());
        }
        reached
    };
    let all: BTreeMap<&str, BTreeSet<String>> =
        modules.keys().map(|name| (name.as_str(), reached(name))).collect();
    let meets = |one: &str, other: &str| all.get(one).is_some_and(|reached| reached.contains(other));
    let circle_of = |name: &str| {
        all.keys().copied().filter(|other| meets(name, other) && meets(other, name)).collect::<BTreeSet<_>>()
    };
    let found: BTreeSet<BTreeSet<&str>> =
        all.keys().map(|name| circle_of(name)).filter(|circle| !circle.is_empty()).collect();
    found.into_iter().collect()
}

/// Reads the paths and words of one file.
struct Reader<'a> {
    at: Names,
    known: &'a BTreeSet<Names>,
    paths: Vec<Names>,
    words: BTreeSet<String>,
}

impl Reader<'_> {
    fn note(&mut self, path: &[String]) {
        self.words.extend(path.iter().cloned());
        let found = absolute(&self.at, path, self.known);
        self.paths.extend(found);
    }

    /// The body of a macro is not parsed: a path in it is a run of names between colons.
    fn read_tokens(&mut self, tokens: TokenStream) {
        let mut path: Names = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(name) => {
                    if colons != 2 {
                        self.note(&std::mem::take(&mut path));
                    }
                    path.push(name.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                other @ (TokenTree::Group(_) | TokenTree::Punct(_) | TokenTree::Literal(_)) => {
                    self.note(&std::mem::take(&mut path));
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.read_tokens(group.stream());
                    }
                }
            }
        }
        self.note(&path);
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if module.content.is_some() && !is_test(&module.attrs) {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if is_test(&item.attrs) {
            return;
        }
        let mut leaves = Vec::new();
        flatten(&item.tree, &mut Vec::new(), &mut leaves);
        for (_, path) in leaves {
            self.note(&path);
        }
    }

    /// `pub(super)` is no use of anything.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Names = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.note(&names);
        visit::visit_path(self, path);
    }

    fn visit_ident(&mut self, name: &'ast proc_macro2::Ident) {
        self.words.insert(name.to_string());
    }

    fn visit_macro(&mut self, body: &'ast syn::Macro) {
        visit::visit_macro(self, body);
        self.read_tokens(body.tokens.clone());
    }
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|condition| condition.is_ident("test"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &str) -> Names {
        path.split("::").filter(|name| !name.is_empty()).map(str::to_owned).collect()
    }

    /// A crate of these files, and which modules one of them uses.
    fn uses(files: &[(&str, &str)], of: &str) -> Vec<String> {
        let directory = tempfile::tempdir().expect("a directory");
        for (file, text) in files {
            let path = directory.path().join(file);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
            fs::write(path, text).expect("a file");
        }
        modules(directory.path()).remove(of).expect("the module").uses.into_iter().collect()
    }

    #[test]
    fn every_kind_of_path_is_an_arrow() {
        let a = "use crate::{b, c::{self as see, D}}; use super::e::*; fn f() { crate::g::h(); tell!(1, super::i::J); }";
        let empty = ["b.rs", "c.rs", "e.rs", "g.rs", "i.rs", "lib.rs"].map(|file| (file, ""));
        let files: Vec<_> = empty.into_iter().chain([("a.rs", a)]).collect();
        assert_eq!(uses(&files, "a"), ["b", "c", "e", "g", "i"]);
    }

    #[test]
    fn a_child_is_named_without_a_prefix_and_a_grandparent_by_two() {
        let files = [
            ("lib.rs", ""),
            ("a/mod.rs", "mod b; fn f() -> b::B { std::mem::take(b::c()) }"),
            ("a/b.rs", "use super::super::d::D;"),
            ("d.rs", ""),
        ];
        assert_eq!(uses(&files, "a"), ["a::b"]);
        assert_eq!(uses(&files, "a::b"), ["d"]);
    }

    #[test]
    fn a_re_export_leads_to_the_module_that_defines_the_name() {
        let files = [
            ("lib.rs", "pub use a::B;"),
            ("a/mod.rs", "mod b; pub use b::B; pub struct Own;"),
            ("a/b.rs", ""),
            ("c.rs", "use crate::{B, a::Own};"),
        ];
        assert_eq!(uses(&files, "c"), ["a", "a::b"]);
        assert_eq!(uses(&files, "lib"), ["a::b"]);
    }

    #[test]
    fn tests_are_left_out() {
        let a = "#[cfg(test)] mod tests { use crate::b::B; } #[cfg(test)] use crate::b::C;";
        assert!(
            uses(&[("lib.rs", ""), ("a.rs", a), ("b.rs", ""), ("a/tests.rs", "use crate::b::B;")], "a")
                .is_empty()
        );
    }

    #[test]
    fn a_circle_is_found_and_a_diamond_is_none() {
        let directory = tempfile::tempdir().expect("a directory");
        let uses = |names: &[&str]| {
            names.iter().map(|name| format!("use crate::{name}::X;")).collect::<Vec<_>>().concat()
        };
        for (file, used) in [
            ("a", &["b", "c"][..]),
            ("b", &["d"]),
            ("c", &["d"]),
            ("d", &[]),
            ("e", &["f"]),
            ("f", &["e", "a"]),
        ] {
            fs::write(directory.path().join(format!("{file}.rs")), uses(used)).expect("a file");
        }
        let modules = modules(directory.path());
        assert_eq!(circles(&modules), [BTreeSet::from(["e", "f"])]);
    }

    #[test]
    fn what_leads_out_of_the_crate_is_no_arrow() {
        assert_eq!(absolute(&names("a"), &names("std::mem"), &BTreeSet::new()), None);
        assert_eq!(absolute(&names("a::b"), &names("super::c"), &BTreeSet::new()), Some(names("a::c")));
    }
}
