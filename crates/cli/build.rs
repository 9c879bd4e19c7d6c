//! Has a release build for Linux put the code that a master calls in a place of its own, away from what only other commands, errors or
//! an upgrade need: the kernel maps 64 KiB around whatever is called, so that otherwise nearly all of the program counts as the
//! master's memory. `scripts/hot-code` makes the list of what is called.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

/// A line for each name: where it belongs, and its pattern.
const LIST: &str = "layout/functions";
/// In the order in which they lie.
const PLACES: [&str; 4] = ["start", "rare", "serving", "upgrade"];
/// Says `off` where a linker takes no script.
const WANTED: &str = "RECLUSTER_LAYOUT";
/// Linkers that take none of this kind, as flags of the compiler name them.
const WITHOUT_SCRIPTS: [&str; 3] = ["mold", "wild", "gold"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={LIST}");
    println!("cargo::rerun-if-env-changed={WANTED}");
    if !is_wanted() {
        return;
    }
    match write() {
        Ok(script) => println!("cargo::rustc-link-arg-bin=recluster=-Wl,-T,{}", script.display()),
        Err(error) => println!("cargo::warning=the code lies as it comes: {LIST}: {error}"),
    }
}

fn is_wanted() -> bool {
    let said = |name| env::var(name).unwrap_or_default();
    let flags = said("CARGO_ENCODED_RUSTFLAGS");
    said("CARGO_CFG_TARGET_OS") == "linux"
        && said("PROFILE") == "release"
        && said(WANTED) != "off"
        && !WITHOUT_SCRIPTS.iter().any(|linker| flags.contains(linker))
}

/// What is in no place stays where the linker puts code.
fn write() -> Result<PathBuf, Box<dyn std::error::Error>> {
    let list = fs::read_to_string(LIST)?;
    let mut script = "SECTIONS {\n".to_owned();
    for place in PLACES {
        writeln!(script, "  .text.of_{place} : {{")?;
        let names = list.lines().filter_map(|line| line.split_once(' ')).filter(|(of, _)| *of == place);
        for (_, name) in names {
            writeln!(script, "    *(.text.{name} .text.unlikely.{name})")?;
        }
        script.push_str("  }\n");
    }
    script.push_str("} INSERT BEFORE .text;\n");
    let path =
        PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo has not said where to write")?).join("layout.ld");
    fs::write(&path, script)?;
    Ok(path)
}
