//! What a master leaves to the program that takes its place.

use recluster::fuzzing::left_state;

/// A state that is read is written again as one that is read as the same, whatever a later version has added; what stands in the way of
/// going on with it is one line.
pub fn upgrade(bytes: &[u8]) {
    let Ok((written, obstacle)) = left_state(bytes) else { return };
    assert_eq!(left_state(&written), Ok((written.clone(), obstacle.clone())));
    assert!(obstacle.is_none_or(|line| !line.is_empty() && !line.contains('\n')));
}
