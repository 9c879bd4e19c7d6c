//! Prints who uses whom in a crate, and counts: `cargo run -p recluster-e2e --bin arrows -- crates/engine/src`.

use std::io::{self, Write as _};
use std::path::Path;

use recluster_e2e::arrows;

fn main() -> io::Result<()> {
    let mut out = io::stdout().lock();
    for source in std::env::args().skip(1) {
        let modules = arrows::modules(Path::new(&source));
        for (name, module) in &modules {
            writeln!(
                out,
                "{name}: {}",
                module.uses.iter().map(String::as_str).collect::<Vec<_>>().join(" ")
            )?;
        }
        let arrows: usize = modules.values().map(|module| module.uses.len()).sum();
        let circles = arrows::circles(&modules);
        let inside: usize = circles.iter().map(std::collections::BTreeSet::len).sum();
        writeln!(
            out,
            "{source}: {} modules, {arrows} arrows, {} circles with {inside} modules",
            modules.len(),
            circles.len()
        )?;
    }
    Ok(())
}
