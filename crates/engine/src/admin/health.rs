//! Whether new clients may be sent here, in words.

use crate::report::counts::Health;

/// Why clients are to be sent elsewhere; or, in words, that they may come. `strict` wants a worker in every slot: without it, one
/// request that kills workers would take every machine out.
pub(super) fn readiness(health: Health, strict: bool) -> Result<String, String> {
    let Health { phase, slots, active } = health;
    let serving = format!("{active} of {slots} slots have a worker that may serve");
    match phase {
        "starting" => Err(format!("the first generation has not served yet: {serving}")),
        // Also while it accepts connections until the stop begins: so a load balancer turns away early.
        "stopping" | "terminating" | "over" => Err(format!("the cluster is to end: {serving}")),
        _ if active == 0 || strict && active < slots => Err(serving),
        _ => Ok(serving),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_ready(phase: &'static str, active: usize, strict: bool) -> bool {
        readiness(Health { phase, slots: 2, active }, strict).is_ok()
    }

    #[test]
    fn it_is_ready_while_any_slot_serves_and_no_stop_was_asked_for() {
        assert!(is_ready("running", 2, false));
        assert!(is_ready("running", 1, false), "one worker that respawns");
        assert!(!is_ready("running", 0, false));
        for phase in ["starting", "stopping", "terminating", "over"] {
            assert!(!is_ready(phase, 2, false), "{phase}");
        }
        assert!(is_ready("released", 1, false));
    }

    #[test]
    fn who_is_strict_wants_every_slot() {
        assert!(is_ready("running", 2, true));
        assert!(!is_ready("running", 1, true));
    }
}
