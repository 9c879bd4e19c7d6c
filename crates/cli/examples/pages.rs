//! Writes the man pages and the completions of the command, which releases have beside it (`scripts/pages`).

use std::path::PathBuf;
use std::{env, fs, io};

use recluster_cli::completions;

fn main() -> io::Result<()> {
    let usage = || io::Error::new(io::ErrorKind::InvalidInput, "usage: pages DIRECTORY");
    let directory = PathBuf::from(env::args_os().nth(1).ok_or_else(usage)?);
    let (man, shells) = (directory.join("man"), directory.join("completions"));
    fs::create_dir_all(&man)?;
    fs::create_dir_all(&shells)?;
    clap_mangen::generate_to(completions::definition(), &man)?;
    for (name, text) in completions::files() {
        fs::write(shells.join(name), text)?;
    }
    Ok(())
}
