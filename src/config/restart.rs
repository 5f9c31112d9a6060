//! Restart rules as people write them: `100ms..15s`, `60/60s`.

use std::time::Duration;

use crate::supervisor::{BackoffPlan, OnCrashLoop, Restart, RestartLimit};

/// The restart rules of a master that nobody told otherwise: those of cfork and egg-cluster,
/// with a delay that grows.
#[must_use]
pub fn default() -> Restart {
    Restart::Always {
        backoff: DEFAULT_BACKOFF,
        limit: DEFAULT_LIMIT,
        on_crash_loop: OnCrashLoop::Hold,
    }
}

/// Reads `FIRST..MAX`, for instance `100ms..15s`.
///
/// # Errors
/// What is wrong with the text, for a person.
pub fn parse_backoff(text: &str) -> Result<BackoffPlan, String> {
    let (first, max) = text
        .split_once("..")
        .ok_or_else(|| "write FIRST..MAX, for instance 100ms..15s".to_owned())?;
    let duration = |text: &str| {
        humantime::parse_duration(text.trim())
            .map_err(|err| format!("{text:?} is not a duration such as 100ms or 15s: {err}"))
    };
    let (first, max) = (duration(first)?, duration(max)?);
    if first > max {
        return Err("the first delay is longer than the last".to_owned());
    }
    Ok(BackoffPlan {
        first,
        max,
        ..DEFAULT_BACKOFF
    })
}

/// Reads `COUNT/WINDOW`, for instance `60/60s`.
///
/// # Errors
/// What is wrong with the text, for a person.
pub fn parse_limit(text: &str) -> Result<RestartLimit, String> {
    let (count, window) = text
        .split_once('/')
        .ok_or_else(|| "write COUNT/WINDOW, for instance 60/60s".to_owned())?;
    let count = count
        .trim()
        .parse()
        .map_err(|_| format!("{count:?} is not a number"))?;
    if count > MOST_RESTARTS {
        return Err(format!("at most {MOST_RESTARTS} restarts can be counted"));
    }
    let window = humantime::parse_duration(window.trim())
        .map_err(|err| format!("{window:?} is not a duration such as 60s: {err}"))?;
    Ok(RestartLimit { count, window })
}

const DEFAULT_BACKOFF: BackoffPlan = BackoffPlan {
    first: Duration::from_millis(100),
    max: Duration::from_secs(15),
    healthy_after: Duration::from_secs(10),
};

const DEFAULT_LIMIT: RestartLimit = RestartLimit {
    count: 60,
    window: Duration::from_secs(60),
};

/// Every restart within the window is remembered, so their number has a bound.
const MOST_RESTARTS: u32 = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_as_people_write_them() {
        let backoff = parse_backoff("50ms..2s").unwrap();
        assert_eq!(
            (backoff.first, backoff.max),
            (Duration::from_millis(50), Duration::from_secs(2))
        );
        let limit = parse_limit("5/1m").unwrap();
        assert_eq!(
            limit,
            RestartLimit {
                count: 5,
                window: Duration::from_secs(60)
            }
        );
    }

    #[test]
    fn a_bad_rule_says_what_is_wrong() {
        for (text, says) in [
            ("100ms", "FIRST..MAX"),
            ("soon..15s", "not a duration"),
            ("5s..1s", "longer than the last"),
        ] {
            assert!(parse_backoff(text).unwrap_err().contains(says), "{text}");
        }
        for (text, says) in [
            ("60", "COUNT/WINDOW"),
            ("x/60s", "not a number"),
            ("60/soon", "not a duration"),
            ("9999999/1s", "at most"),
        ] {
            assert!(parse_limit(text).unwrap_err().contains(says), "{text}");
        }
    }
}
