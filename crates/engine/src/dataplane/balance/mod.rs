//! How new connections reach workers: a file for each way. `shared` has none, because workers accept by themselves there;
//! `sticky` by address is `kernel`'s where the kernel can do it.

pub(super) mod eligible;
pub(super) mod handout;
pub(super) mod kernel;
pub(super) mod relief;
pub(super) mod round_robin;
pub(super) mod sticky;
#[cfg(test)]
mod tests;
