//! The policy, sentence by sentence, in virtual time.
//!
//! Every test tells a story to a [`world::World`] and reads what the cluster did about it as short lines of words.

mod booting;
mod changes;
mod configure;
mod driving;
mod ending;
mod first_start;
mod hold;
mod leaving;
mod reload;
mod replace;
mod resize;
mod respawn;
mod rollback;
mod saved;
mod scale;
mod supersede;
mod surge;
mod unkillable;
mod words;
mod world;
