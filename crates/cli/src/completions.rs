//! `completions`: what bash, zsh and fish need to complete command lines. And the description of all command lines, of which man
//! pages are made.

use clap::ValueEnum as _;
use clap_complete::{Shell, generate};

use crate::args::{self, Completions, ShellArg};
use crate::client::output;
use crate::error::Error;
use crate::exit_code::ExitStatus;

/// Prints what a shell reads.
pub(crate) fn print(args: &Completions) -> Result<ExitStatus, Error> {
    output::print(&text(args.shell))?;
    Ok(ExitStatus::Success)
}

fn text(shell: ShellArg) -> String {
    let generator = match shell {
        ShellArg::Bash => Shell::Bash,
        ShellArg::Zsh => Shell::Zsh,
        ShellArg::Fish => Shell::Fish,
    };
    let mut text = Vec::new();
    generate(generator, &mut args::definition(), "recluster", &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// The files of all shells: the name that each is to have, and what is in it.
pub fn files() -> Vec<(&'static str, String)> {
    let name = |shell: &ShellArg| match shell {
        ShellArg::Bash => "recluster.bash",
        ShellArg::Zsh => "_recluster",
        ShellArg::Fish => "recluster.fish",
    };
    ShellArg::value_variants().iter().map(|shell| (name(shell), text(*shell))).collect()
}

/// All that can be written on a command line.
pub fn definition() -> clap::Command {
    args::definition()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// npm links those that the package names beside a command that is installed globally.
    #[test]
    fn the_npm_package_names_the_man_page_of_every_command() {
        let package: serde_json::Value =
            serde_json::from_str(include_str!("../../../npm/package.json")).unwrap();
        let pages = tempfile::tempdir().unwrap();
        clap_mangen::generate_to(definition(), pages.path()).unwrap();
        let made = std::fs::read_dir(pages.path()).unwrap().map(|page| page.unwrap().file_name());
        let mut made: Vec<String> = made.map(|name| format!("man/{}", name.to_str().unwrap())).collect();
        let named = package["man"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned());
        let mut named: Vec<String> = named.collect();
        made.sort_unstable();
        named.sort_unstable();
        assert_eq!(made, named);
    }

    #[test]
    fn every_shell_knows_every_command_and_its_options() {
        for (name, text) in files() {
            for command in args::commands() {
                assert!(text.contains(&command), "{name}: {command}");
            }
            for option in ["ready-check", "follow", "no-wait"] {
                assert!(text.contains(option), "{name}: {option}");
            }
        }
    }
}
