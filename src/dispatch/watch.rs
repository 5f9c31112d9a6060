//! The watch over one accept queue: for how long its head has not moved.
//!
//! The head is the number of the first packet that nobody has received. Only time in which
//! somebody looked counts: a master that was stopped, or a machine that slept, has seen no worker
//! do nothing.

use std::time::{Duration, Instant};

/// What was seen of one queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    head: u64,
    /// For how long something was seen to wait at this head.
    unmoved: Duration,
    /// When something was last seen to wait, if it was at the last look.
    waiting: Option<Instant>,
}

/// What a look showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// The worker has received something since the last look.
    Moving,
    /// It has not, whether or not there was anything.
    Still,
}

impl Watch {
    /// A look at a queue of which `unread` packets, the last of all that were `sent`, wait.
    ///
    /// `period` is how often one looks: a pause of more than two counts as two.
    pub fn look(&mut self, now: Instant, sent: u64, unread: u64, period: Duration) -> Pace {
        let head = sent.saturating_sub(unread);
        let before = self.waiting;
        self.waiting = (unread > 0).then_some(now);
        if head != self.head {
            self.head = head;
            self.unmoved = Duration::ZERO;
            return Pace::Moving;
        }
        match (before, self.waiting) {
            (Some(before), Some(now)) => {
                let since = now.saturating_duration_since(before);
                self.unmoved += since.min(period * 2);
            }
            (_, None) => self.unmoved = Duration::ZERO,
            (None, Some(_)) => {}
        }
        Pace::Still
    }

    /// The worker has said why it receives nothing: that is not held against it.
    pub fn forgive(&mut self) {
        self.unmoved = Duration::ZERO;
    }

    /// The master took packets out itself: no movement of the worker's.
    pub fn shift(&mut self, packets: u64) {
        self.head += packets;
    }

    /// The first packet that nobody has received, as of the last look.
    #[must_use]
    pub fn head(&self) -> u64 {
        self.head
    }

    /// For how long the head has been seen not to move while something waited.
    #[must_use]
    pub fn unmoved(&self) -> Duration {
        self.unmoved
    }

    /// Whether the last look showed that everything sent by then had been received.
    #[must_use]
    pub fn is_idle(&self, sent: u64) -> bool {
        self.waiting.is_none() && self.head == sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_millis(100);

    #[expect(clippy::disallowed_methods, reason = "any moment will do")]
    fn start() -> Instant {
        Instant::now()
    }

    /// Looks at these milliseconds, with so many sent and unread.
    fn look(looks: &[(u64, u64, u64)]) -> (Pace, Duration) {
        let mut watch = Watch::default();
        let start = start();
        let mut pace = Pace::Still;
        for &(at, sent, unread) in looks {
            pace = watch.look(start + Duration::from_millis(at), sent, unread, PERIOD);
        }
        (pace, watch.unmoved())
    }

    #[test]
    fn a_head_that_stays_is_unmoved_from_the_first_look_on() {
        assert_eq!(look(&[(0, 9, 2)]), (Pace::Moving, Duration::ZERO));
        assert_eq!(look(&[(0, 9, 2), (100, 9, 2)]), (Pace::Still, PERIOD));
        let more_came = [(0, 9, 2), (100, 10, 3), (250, 12, 5)];
        assert_eq!(look(&more_came), (Pace::Still, PERIOD * 5 / 2));
        let first_packet = [(0, 1, 1), (100, 1, 1)];
        assert_eq!(look(&first_packet), (Pace::Still, PERIOD));
    }

    #[test]
    fn any_movement_starts_anew() {
        let moved = [(0, 9, 2), (100, 9, 2), (200, 10, 2)];
        assert_eq!(look(&moved), (Pace::Moving, Duration::ZERO));
        let emptied = [(0, 9, 2), (100, 9, 2), (200, 9, 0), (300, 10, 1)];
        assert_eq!(look(&emptied), (Pace::Still, Duration::ZERO));
    }

    #[test]
    fn an_empty_queue_is_never_late() {
        let empty = [(0, 9, 0), (100, 9, 0), (10_000, 9, 0), (10_100, 10, 1)];
        assert_eq!(look(&empty), (Pace::Still, Duration::ZERO));
    }

    #[test]
    fn time_in_which_nobody_looked_hardly_counts() {
        const HOUR: u64 = 3_600_000;
        assert_eq!(look(&[(0, 9, 2), (HOUR, 9, 2)]), (Pace::Still, PERIOD * 2));
    }

    #[test]
    fn what_the_master_takes_away_is_no_movement() {
        let mut watch = Watch::default();
        let start = start();
        watch.look(start, 9, 4, PERIOD);
        watch.shift(3);
        assert_eq!(watch.look(start + PERIOD, 9, 1, PERIOD), Pace::Still);
        assert_eq!(watch.unmoved(), PERIOD);
        watch.shift(1);
        assert_eq!(watch.look(start + PERIOD * 2, 9, 0, PERIOD), Pace::Still);
        assert!(watch.is_idle(9));
        assert!(!watch.is_idle(10));
    }
}
