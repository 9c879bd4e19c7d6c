//! How a whole cluster ends.

mod closed_by_themselves;
mod fleet;
mod out_of_reach;
mod shutdown;
mod signals;
mod still_accepting;
mod terminals;
mod unkillable;
