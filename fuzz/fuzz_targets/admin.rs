//! [`recluster_fuzz::admin`] for libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| recluster_fuzz::admin(bytes));
