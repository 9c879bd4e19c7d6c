//! The admin listener, as it is written.

use std::path::PathBuf;

use clap::Args;
use recluster::AdminAddress;
use recluster::admin::Options;

/// The admin listener.
#[derive(Args, Debug)]
#[command(next_help_heading = "Admin listener")]
pub(crate) struct Administering {
    #[arg(
        long,
        value_name = "ADDR",
        env = "RECLUSTER_ADMIN",
        hide_env_values = true,
        help = "Answer HTTP at this address, for Prometheus and load balancers: /metrics, /livez, /readyz, /status [default: off]",
        long_help = "Answer HTTP at this address, for Prometheus and load balancers: /metrics, /livez, /readyz, /status \
                     [default: off].\n\n\
                     Examples: 9464 (of 127.0.0.1), [::1]:9464, unix:/path?mode=660. Whoever reaches the address can read \
                     everything there; an address other than loopback is warned of"
    )]
    pub(crate) admin: Option<AdminAddress>,

    /// A name that requests there may have as their Host, beside addresses and localhost; may be repeated
    #[arg(long, value_name = "NAME")]
    pub(crate) admin_host: Vec<String>,

    /// Allow changes there (POST /reload, /scale, /stop, /terminate) to who sends the token in this file
    #[arg(long, value_name = "FILE")]
    pub(crate) admin_token_file: Option<PathBuf>,
}

impl Administering {
    /// None where there is to be none.
    pub(crate) fn options(&self) -> Option<Options> {
        let options = Options::at(self.admin.clone()?);
        let options = self.admin_host.iter().fold(options, Options::host);
        Some(match &self.admin_token_file {
            Some(path) => options.token_file(path),
            None => options,
        })
    }
}
