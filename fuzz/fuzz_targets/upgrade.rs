//! [`recluster_fuzz::upgrade`] for libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| recluster_fuzz::upgrade(bytes));
