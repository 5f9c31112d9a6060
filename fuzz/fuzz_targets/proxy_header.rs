//! See `rr_master_fuzz::proxy_header`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rr_master_fuzz::proxy_header(data));
