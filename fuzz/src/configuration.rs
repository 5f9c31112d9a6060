//! What every configuration keeps to, wherever it was read from.

use std::time::Duration;

use rr_master::Config;
use rr_master::config::MAX_WINDOW;
use rr_master::supervisor::Restart;

use super::listener_spec::makes_sense;

/// A terminal can take it, and a log.
pub fn refuses_in_one_line(reason: &str) {
    assert!(
        !reason.is_empty() && !reason.chars().any(char::is_control),
        "{reason:?}"
    );
}

pub fn keeps_its_bounds(config: &Config) {
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
