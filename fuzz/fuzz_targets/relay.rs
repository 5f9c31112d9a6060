//! See `rr_master_fuzz::relay`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rr_master_fuzz::relay(data));
