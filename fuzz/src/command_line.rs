//! The command line, whole: durations, limits, addresses, quoted commands and what comes after them.

use std::ffi::OsStr;
use std::iter;
use std::os::unix::ffi::OsStrExt;

use rr_master::cli;

use super::configuration::{keeps_its_bounds, refuses_in_one_line};

/// Arguments, each ended by a zero byte, as `/proc/PID/cmdline` has them after the name. They are a configuration
/// that keeps its bounds, or are refused in one line that a terminal can take.
pub fn flags(data: &[u8]) {
    let arguments = data
        .split_inclusive(|byte| *byte == 0)
        .map(|ended| OsStr::from_bytes(ended.strip_suffix(&[0]).unwrap_or(ended)));
    match cli::configuration(iter::once(OsStr::new("rr-master")).chain(arguments)) {
        Ok(config) => keeps_its_bounds(&config),
        Err(reason) => refuses_in_one_line(&reason),
    }
}
