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
    #[arg(long, value_name = "HOW", value_enum, default_value_t = BalanceArg::RoundRobin)]
    pub(crate) balance: BalanceArg,

    #[arg(
        long,
        value_name = "WHAT",
        help = "With --balance sticky, what makes two connections one client's [default: ip]",
        long_help = "With --balance sticky, what makes two connections one client's [default: ip].\n\n\
                     ip: the address that it comes from (of IPv6, the first 64 bits). header:NAME, cookie:NAME, \
                     query:NAME: what its first request says. proxy-protocol: the address in the header that a proxy \
                     sends first. The master looks at the first bytes and leaves them where they are; where they do not \
                     say it, as under TLS, it is the address"
    )]
    pub(crate) sticky_by: Option<StickyBy>,

    /// How many of a connection's first bytes are looked at, where it matters what they say; at most 64K
    #[arg(long, value_name = "SIZE", value_parser = size::parse, default_value = "16K")]
    pub(crate) peek_bytes: u64,

    /// How long they may take to come; after that the client is known by its address
    #[arg(long, value_name = "DUR", value_parser = duration::parse, default_value = "2s")]
    pub(crate) peek_timeout: Duration,

    /// How many connections are looked at at a time; one more, and the oldest is known by its address
    #[arg(long, value_name = "N", value_parser = values::count, default_value = "10000")]
    pub(crate) peek_connections: NonZeroU32,
}

/// [`Balance`], as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BalanceArg {
    /// The master accepts them and gives each to a worker with room
    RoundRobin,
    /// Workers accept them from a shared socket, and the kernel picks
    Shared,
    /// Workers accept them, each from a socket of its own; what waits for a busy one goes to an idle one
    Kernel,
    /// All connections of one client reach the same slot
    Sticky,
}

impl Balancing {
    /// What is wrong with it as a whole.
    pub(super) fn contradiction(&self) -> Option<&'static str> {
        let is_idle = self.sticky_by.is_some() && self.balance != BalanceArg::Sticky;
        is_idle.then_some("--sticky-by says nothing without --balance sticky: give both, or neither")
    }

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
