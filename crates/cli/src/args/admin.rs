//! The admin listener, as it is written.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use recluster::admin::Options;
use recluster::{AdminAddress, WorkerMetrics};

/// The admin listener.
#[derive(Args, Debug)]
#[command(next_help_heading = "Admin listener")]
pub(crate) struct Administering {
    #[arg(
        long,
        value_name = "ADDR",
        env = "RECLUSTER_ADMIN",
        hide_env_values = true,
        help = "Answer HTTP at this address, for people, Prometheus and load balancers: a page at /, /metrics, /livez, /readyz, /status [default: off]",
        long_help = "Answer HTTP at this address, for people, Prometheus and load balancers: a page at /, /metrics, /livez, /readyz, \
                     /status [default: off].\n\n\
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

    /// What Node workers say of themselves while somebody looks, for /metrics and the status; http: also which requests they answer
    #[arg(long, value_name = "off|basic|http", value_enum, default_value_t = WorkerMetricsArg::Basic)]
    pub(crate) worker_metrics: WorkerMetricsArg,
}

/// [`WorkerMetrics`], as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum WorkerMetricsArg {
    /// Nothing
    Off,
    /// How they do: event loop, heap, garbage collections, what keeps them alive
    Basic,
    /// The same, and which requests they have answered and how long that took
    Http,
}

impl From<WorkerMetricsArg> for WorkerMetrics {
    fn from(arg: WorkerMetricsArg) -> Self {
        match arg {
            WorkerMetricsArg::Off => Self::Off,
            WorkerMetricsArg::Basic => Self::Basic,
            WorkerMetricsArg::Http => Self::Http,
        }
    }
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
