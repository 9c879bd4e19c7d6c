//! How a whole cluster ends.

mod closed_by_themselves;
mod shutdown;
mod signals;
mod still_accepting;
