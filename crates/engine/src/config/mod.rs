//! Values that a user may say: how they are written, and what they mean.

pub(crate) mod address;
pub(crate) mod balance;
pub(crate) mod listen;
