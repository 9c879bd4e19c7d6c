//! What must hold for every decoder of recluster, whatever it is given.
//!
//! A target takes any bytes, gives them to one decoder, and asserts more than that it comes back: a value that is written again is
//! read as the same value, bytes that come in pieces mean what they mean at once, no more is held than may be, and text from outside
//! moves no cursor. libFuzzer looks for bytes that break that (`fuzz_targets`, `scripts/fuzz`), and `tests/corpus.rs` gives each
//! target what is in `corpus` in every `cargo test`.

#![expect(clippy::missing_panics_doc, reason = "that is how a target says what does not hold")]

mod admin;
mod client;
mod config;
mod control;
mod env_file;
mod frames;
mod keys;
mod lines;
mod notify;
mod pieces;
mod primary;
mod process;
mod upgrade;
mod values;

pub use admin::admin;
pub use client::client;
pub use config::config;
pub use control::control;
pub use env_file::env_file;
pub use frames::frames;
pub use lines::lines;
pub use notify::notify;
pub use primary::primary;
pub use process::process;
pub use upgrade::upgrade;
pub use values::values;

/// A target: it panics where something does not hold.
pub type Target = fn(&[u8]);

/// Every target by its name, which is that of its program in `fuzz_targets` and of its directory in `corpus`.
pub const TARGETS: [(&str, Target); 12] = [
    ("admin", admin),
    ("client", client),
    ("config", config),
    ("control", control),
    ("env_file", env_file),
    ("frames", frames),
    ("lines", lines),
    ("notify", notify),
    ("primary", primary),
    ("process", process),
    ("upgrade", upgrade),
    ("values", values),
];
