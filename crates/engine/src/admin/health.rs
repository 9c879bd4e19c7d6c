//! Whether new clients may be sent here, in words.

use crate::report::status::Status;

/// Why clients are to be sent elsewhere; or, in words, that they may come. `strict` wants a worker in every slot: without it, one
/// request that kills workers would take every machine out.
pub(super) fn readiness(status: &Status, strict: bool) -> Result<String, String> {
    let slots = status.slots.len();
    let active = status.slots.iter().filter(|slot| slot.active.is_some()).count();
    let serving = format!("{active} of {slots} slots have a worker that may serve");
    match status.phase.as_str() {
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
    use crate::report::counts::Measured;

    fn is_ready(phase: &str, active: [Option<u64>; 2], strict: bool) -> bool {
        let Measured { mut status, .. } = crate::metrics::sample();
        phase.clone_into(&mut status.phase);
        for (slot, active) in status.slots.iter_mut().zip(active) {
            slot.active = active;
        }
        readiness(&status, strict).is_ok()
    }

    #[test]
    fn it_is_ready_while_any_slot_serves_and_no_stop_was_asked_for() {
        assert!(is_ready("running", [Some(1), Some(2)], false));
        assert!(is_ready("running", [None, Some(2)], false), "one worker that respawns");
        assert!(!is_ready("running", [None, None], false));
        for phase in ["starting", "stopping", "terminating", "over"] {
            assert!(!is_ready(phase, [Some(1), Some(2)], false), "{phase}");
        }
        assert!(is_ready("released", [Some(1), None], false));
    }

    #[test]
    fn who_is_strict_wants_every_slot() {
        assert!(is_ready("running", [Some(1), Some(2)], true));
        assert!(!is_ready("running", [None, Some(2)], true));
    }
}
