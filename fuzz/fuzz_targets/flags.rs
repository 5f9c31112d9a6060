//! See `rr_master_fuzz::flags`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rr_master_fuzz::flags(data));
