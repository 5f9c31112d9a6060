//! Deadlines that cannot overflow: "never" is written as a very long timeout.

use std::time::{Duration, Instant};

/// The moment that lies that much after `now`.
pub(super) fn after(now: Instant, timeout: Duration) -> Instant {
    now.checked_add(timeout.min(LIFETIME)).unwrap_or(now)
}

/// Longer than any master lives, short enough to be added to any clock.
const LIFETIME: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any moment will do")]
    fn a_timeout_without_end_is_a_deadline_far_away() {
        let now = Instant::now();
        assert_eq!(
            after(now, Duration::from_secs(3)),
            now + Duration::from_secs(3)
        );
        assert!(after(now, Duration::MAX) > now + Duration::from_secs(1_000_000_000));
    }
}
