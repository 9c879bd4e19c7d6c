//! How connections reach workers, as it is written.

use std::num::NonZeroU32;
use std::time::Duration;

use clap::{Args, ValueEnum};
use recluster::{Balance, PeekLimits, StickyBy};

use super::values;
use crate::{duration, size};

/// How connections reach workers.
#[derive(Args, Debug)]
#[command(next_help_heading = "Connections")]
pub(crate) struct Balancing {
    /// How connections reach workers
    #[arg(long, value_name = "HOW", value_enum, default_value_t = BalanceArg::Kernel)]
    pub(crate) balance: BalanceArg,

    #[arg(
        long,
        value_name = "WHAT",
        help = "What identifies a client, with --balance sticky [default: ip]",
        long_help = "What identifies a client, with --balance sticky [default: ip].\n\n\
                     ip: the address that the connection comes from (of IPv6, the first 64 bits). header:NAME, \
                     cookie:NAME, query:NAME: a value in the first request. proxy-protocol: the address in the \
                     header that a proxy sends first. The master reads the first bytes without consuming them. If \
                     they hold no such value, as under TLS, the client's address is used"
    )]
    pub(crate) sticky_by: Option<StickyBy>,

    /// How many bytes of a connection are searched for what --sticky-by names; at most 64K
    #[arg(long, value_name = "SIZE", value_parser = size::of_peek, default_value = "16K")]
    pub(crate) peek_bytes: u64,

    /// How long these bytes may take to arrive; after that the client's address is used
    #[arg(long, value_name = "DUR", value_parser = duration::parse, default_value = "2s")]
    pub(crate) peek_timeout: Duration,

    /// How many connections may be searched at once; above that, the client's address is used for the oldest
    #[arg(long, value_name = "N", value_parser = values::count, default_value = "10000")]
    pub(crate) peek_connections: NonZeroU32,
}

/// [`Balance`], as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BalanceArg {
    /// The master accepts connections and passes each to the worker with the fewest pending ones
    RoundRobin,
    /// All workers accept from one socket
    Shared,
    /// Each worker accepts from a socket of its own; connections that wait for a busy worker go to an idle one. Where the kernel
    /// cannot choose (unix sockets, sockets that were bound before), as round-robin
    Kernel,
    /// All connections of one client reach the same slot
    Sticky,
}

impl Balancing {
    pub(crate) fn balance(&self) -> Balance {
        match self.balance {
            BalanceArg::RoundRobin => Balance::RoundRobin,
            BalanceArg::Shared => Balance::Shared,
            BalanceArg::Kernel => Balance::Kernel,
            BalanceArg::Sticky => Balance::Sticky(self.sticky_by.clone().unwrap_or(StickyBy::Ip)),
        }
    }

    pub(crate) fn peek_limits(&self) -> PeekLimits {
        PeekLimits {
            bytes: usize::try_from(self.peek_bytes).unwrap_or(usize::MAX),
            timeout: self.peek_timeout,
            connections: self.peek_connections.get() as usize,
        }
    }
}
