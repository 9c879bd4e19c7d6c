//! What is not said is as whoever writes the server wants it (`--watch`).

use std::num::NonZeroU32;
use std::time::Duration;

use super::run::Run;

/// How long a ready worker must live: who has saved a file does not wait for more.
const BAKE: Duration = Duration::from_millis(100);

/// Options with another default where source is watched, each with how that is written.
pub(crate) fn defaults(run: &Run) -> Vec<(&'static str, String)> {
    if !run.following.is_development() {
        return Vec::new();
    }
    let bake = format!("{}ms", BAKE.as_millis());
    [("workers", "1".to_owned()), ("bake", bake), ("attempts", "1".to_owned()), ("timeout", "0s".to_owned())]
        .into()
}

/// One worker, which has no time to drain, and code that is tried once.
pub(super) fn suit(run: &mut Run, is_given: impl Fn(&str) -> bool) {
    if !run.following.is_development() {
        return;
    }
    if !is_given("workers") {
        run.running.workers = NonZeroU32::MIN;
    }
    if !is_given("bake") {
        run.readiness.bake = BAKE;
    }
    if !is_given("attempts") {
        run.readiness.attempts = NonZeroU32::MIN;
    }
    if !is_given("timeout") {
        run.leaving.timeout = Some(Duration::ZERO);
    }
}
