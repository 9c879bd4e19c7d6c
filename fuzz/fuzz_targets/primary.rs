//! [`recluster_fuzz::primary`] for libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| recluster_fuzz::primary(bytes));
