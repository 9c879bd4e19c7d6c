//! The examples in Rust, which lose nothing.

use recluster_e2e::{Launch, rust_example};

use crate::trial::{Ends, Trial};

fn example(name: &str) -> Trial<'_> {
    let launch = Launch::of(rust_example(name)).listen("http=127.0.0.1:0").option("--ready-when", "notify");
    Trial::of(name, launch, Ends::Cleanly)
}

#[test]
fn axum() {
    example("axum").run();
}

#[test]
fn hyper() {
    example("hyper").run();
}

#[test]
fn threads() {
    example("threads").run();
}

#[test]
fn actix() {
    example("actix").run();
}
