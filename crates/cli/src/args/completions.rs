//! The arguments of `completions`.

use clap::{Args, ValueEnum};

/// `completions`.
#[derive(Args, Debug)]
#[command(
    after_help = "bash: recluster completions bash > ~/.local/share/bash-completion/completions/recluster\n\
    zsh:  recluster completions zsh > a file _recluster in a directory of $fpath\n\
    fish: recluster completions fish > ~/.config/fish/completions/recluster.fish"
)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: ShellArg,
}

/// A shell that completes command lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ShellArg {
    Bash,
    Zsh,
    Fish,
}
