//! [`recluster_fuzz::env_file`] for libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| recluster_fuzz::env_file(bytes));
