//! Options that say something only beside another one. Given alone they would be ignored, so they are refused.

use recluster::StickyBy;

use super::admin::WorkerMetricsArg;
use super::balancing::BalanceArg;
use super::run::{Run, Switch};
use super::values::CacheIn;

/// Options that depend on another one.
struct Dependent {
    /// Their ids.
    options: &'static [&'static str],
    /// When they say nothing, and what to do.
    words: &'static str,
    says_something: fn(&Run) -> bool,
}

const DEPENDENT: [Dependent; 11] = [
    Dependent {
        options: &["sticky_by"],
        words: "without --balance sticky: give both, or neither",
        says_something: |run| run.balancing.balance == BalanceArg::Sticky,
    },
    Dependent {
        options: &["peek_bytes", "peek_timeout", "peek_connections"],
        words: "without --balance sticky and a --sticky-by that is in a connection's first bytes \
                (header, cookie, query, proxy-protocol): give all, or none",
        says_something: |run| {
            let by = run.balancing.sticky_by.as_ref();
            run.balancing.balance == BalanceArg::Sticky && by.is_some_and(|by| *by != StickyBy::Ip)
        },
    },
    Dependent {
        options: &["admin_host", "admin_token_file"],
        words: "without --admin: give both, or neither",
        says_something: |run| run.admin.admin.is_some(),
    },
    Dependent {
        options: &["check_interval", "check_timeout"],
        words: "without --ready-check: give both, or neither",
        says_something: |run| run.readiness.ready_check.is_some(),
    },
    Dependent {
        options: &["idle_grace"],
        words: "with --drain-http off: give one of them",
        says_something: |run| run.leaving.drain_http == Switch::On,
    },
    Dependent {
        options: &["compile_cache"],
        words: "with --drain-http off, by which workers load nothing of recluster: give one of them",
        says_something: |run| {
            run.leaving.drain_http == Switch::On || run.running.compile_cache == CacheIn::Nothing
        },
    },
    Dependent {
        options: &["worker_metrics"],
        words: "with --drain-http off, by which workers load nothing of recluster: give one of them",
        says_something: |run| {
            run.leaving.drain_http == Switch::On || run.admin.worker_metrics == WorkerMetricsArg::Off
        },
    },
    Dependent {
        options: &["compile_cache_size"],
        words: "without --compile-cache: give both, or neither",
        says_something: |run| run.running.compile_cache != CacheIn::Nothing,
    },
    Dependent {
        options: &["clear_screen"],
        words: "without --watch: give both, or neither",
        says_something: |run| run.following.is_development(),
    },
    Dependent {
        options: &["worker_log_size"],
        words: "without --worker-log: give both, or neither",
        says_something: |run| run.running.worker_log.is_some(),
    },
    Dependent {
        options: &["worker_log_keep"],
        words: "without --worker-log-size: give both, or neither",
        says_something: |run| run.running.worker_log_size.is_some(),
    },
];

/// What is said of the first option that was given and says nothing.
pub(super) fn refusal(run: &Run, is_given: impl Fn(&str) -> bool) -> Option<String> {
    let idle = DEPENDENT.iter().filter(|dependent| !(dependent.says_something)(run));
    let mut idle = idle.flat_map(|dependent| dependent.options.iter().map(move |id| (id, dependent.words)));
    let (id, words) = idle.find(|(id, _)| is_given(id))?;
    Some(format!("--{} says nothing {words}", id.replace('_', "-")))
}
