//! What a user gets to know: events, verdicts, the status, errors.

pub mod configuration;
pub(crate) mod counts;
pub(crate) mod error;
pub(crate) mod event;
pub(crate) mod events;
pub(crate) mod level;
pub(crate) mod measured;
pub(crate) mod record;
pub(crate) mod signal;
pub(crate) mod status;
pub(crate) mod stream;
pub(crate) mod variable;
pub(crate) mod verdict;
pub(crate) mod worker;
