//! The numbers of workers, each given once in this process: to workers of our clusters, and to those that the program
//! forks through Node's own `cluster`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use napi_derive::napi;

static LAST: LazyLock<Arc<AtomicU64>> = LazyLock::new(Arc::default);

/// The counter that clusters number their workers by: it holds the last number that was given.
pub(crate) fn last() -> Arc<AtomicU64> {
    Arc::clone(&LAST)
}

/// Takes a number that no worker will have.
#[napi(catch_unwind)]
pub fn reserve_id() -> u32 {
    let number = LAST.fetch_add(1, Ordering::Relaxed) + 1;
    // Node itself cuts the numbers of workers off at 31 bits.
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Lets no worker have this number, or one below it, from now on.
#[napi(catch_unwind)]
pub fn raise_ids(last: u32) {
    LAST.fetch_max(u64::from(last), Ordering::Relaxed);
}
