//! How a whole cluster ends.

mod shutdown;
mod signals;
mod still_accepting;
