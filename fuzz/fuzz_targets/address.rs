//! See `rr_master_fuzz::address`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rr_master_fuzz::address(data));
