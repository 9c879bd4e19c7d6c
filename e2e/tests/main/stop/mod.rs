//! How a whole cluster ends.

mod shutdown;
mod still_accepting;
