//! How the bytes of an input are cut.

/// The size of a piece, by the first byte of an input, and the other bytes.
pub(crate) fn split(input: &[u8]) -> Option<(usize, &[u8])> {
    let (&size, bytes) = input.split_first()?;
    Some((usize::from(size).max(1), bytes))
}
