//! See `rr_master_fuzz::config_file`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rr_master_fuzz::config_file(data));
