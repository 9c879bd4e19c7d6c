//! What a master leaves to the program that takes its place.

use recluster::fuzzing::left;

/// What is read is written again as what is read as the same, and nothing of it is lost, whichever version has written it.
pub fn upgrade(bytes: &[u8]) {
    let Some(written) = left(bytes) else { return };
    assert_eq!(left(&written).as_ref(), Some(&written));
}
