//! The command line, whole: durations, limits, addresses, quoted commands and what comes after them.

use std::ffi::OsStr;
use std::iter;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use rr_master::config::MAX_WINDOW;
use rr_master::supervisor::Restart;
use rr_master::{Config, cli};

use super::listener_spec::makes_sense;

/// Arguments, each ended by a zero byte, as `/proc/PID/cmdline` has them after the name. They are a configuration
/// that keeps its bounds, or are refused in one line that a terminal can take.
pub fn flags(data: &[u8]) {
    let arguments = data
        .split_inclusive(|byte| *byte == 0)
        .map(|ended| OsStr::from_bytes(ended.strip_suffix(&[0]).unwrap_or(ended)));
    match cli::configuration(iter::once(OsStr::new("rr-master")).chain(arguments)) {
        Ok(config) => keeps_its_bounds(&config),
        Err(reason) => assert!(
            !reason.is_empty() && !reason.chars().any(char::is_control),
            "{reason:?}"
        ),
    }
}

fn keeps_its_bounds(config: &Config) {
    assert!((1..=MAX_WINDOW).contains(&config.window));
    for timeout in [config.ready_timeout, config.stop_timeout] {
        assert!(!timeout.is_zero() && timeout <= A_YEAR);
    }
    for time in [config.bind_retry, config.orphan_grace] {
        assert!(time <= A_YEAR);
    }
    if let Restart::Always { backoff, .. } = &config.restart {
        assert!(backoff.first <= backoff.max);
    }
    config.listeners.iter().for_each(makes_sense);
    for program in config.agents.iter().chain([&config.program]) {
        assert!(program.env.iter().all(|(name, _)| !name.is_empty()));
    }
}

/// Sums of times stay away from the clock's end.
const A_YEAR: Duration = Duration::from_secs(366 * 24 * 3600);
