//! The clock of one job: when it is due next.
//!
//! What was missed is made up for once, however much it was. A moment of the calendar that was due
//! is never due again, unless the wall clock turns out to have been wrong by [`CORRECTION`] or more.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::chance::Chance;
use super::now::Now;
use super::timetable::{Calendar, Timetable};

/// When a job is due next.
#[derive(Debug)]
pub(super) struct Clock {
    hand: Hand,
    jitter: Duration,
    /// By how much the next run comes later than due.
    delay: Duration,
}

#[derive(Debug)]
enum Hand {
    /// Never.
    Still,
    Interval {
        every: Duration,
        due: Instant,
    },
    Calendar {
        calendar: Box<Calendar>,
        /// `None` if it is over, as far as the wall clock is right.
        due: Option<Timestamp>,
        /// The last moment that was due.
        latest: Option<Timestamp>,
    },
}

impl Clock {
    /// Starts it: an interval is over for the first time when it has passed from now.
    pub(super) fn start(
        timetable: Timetable,
        jitter: Duration,
        now: &Now,
        chance: &mut Chance,
    ) -> Self {
        let hand = match timetable {
            Timetable::Never => Hand::Still,
            Timetable::Every(every) => Hand::next_interval(every, now.monotonic, now),
            Timetable::Calendar(calendar) => Hand::next_moment(calendar, None, now.wall),
        };
        let delay = chance.part_of(jitter);
        Clock {
            hand,
            jitter,
            delay,
        }
    }

    /// When the job was due, if it is time by now; from then on the next time counts.
    pub(super) fn poll(&mut self, now: &Now, chance: &mut Chance) -> Option<Timestamp> {
        let due = match &self.hand {
            Hand::Still => return None,
            Hand::Interval { due, .. } => {
                let at = due.checked_add(self.delay)?;
                (at <= now.monotonic).then(|| now.wall_at(*due))?
            }
            Hand::Calendar { due, .. } => {
                let due = (*due)?;
                let at = due.checked_add(self.delay).ok()?;
                (at <= now.wall).then_some(due)?
            }
        };
        self.hand = match std::mem::replace(&mut self.hand, Hand::Still) {
            Hand::Still => Hand::Still,
            Hand::Interval { every, due } => Hand::next_interval(every, due, now),
            Hand::Calendar { calendar, .. } => {
                Hand::next_moment(calendar, Some(due), due.max(now.wall))
            }
        };
        self.delay = chance.part_of(self.jitter);
        Some(due)
    }

    /// The wall clock was set back at some moment since `before`, and has gone on since: what was due
    /// then is due now.
    pub(super) fn set_back(&mut self, now: &Now, before: Instant) {
        if let Hand::Calendar {
            calendar, latest, ..
        } = &self.hand
        {
            let latest = latest.filter(|latest| latest.duration_since(now.wall) < CORRECTION);
            let since = now.wall_at(before);
            let after = latest.map_or(since, |latest| latest.max(since));
            self.hand = Hand::next_moment(calendar.clone(), latest, after);
        }
    }

    /// The next moment of the calendar or the interval, as the wall clock will show it.
    pub(super) fn next(&self, now: &Now) -> Option<Timestamp> {
        match &self.hand {
            Hand::Still => None,
            Hand::Interval { due, .. } => Some(now.wall_at(*due)),
            Hand::Calendar { due, .. } => *due,
        }
    }

    /// When to look again at the latest. The wall clock may be set at any moment, and nobody tells.
    pub(super) fn deadline(&self, now: &Now) -> Option<Instant> {
        match &self.hand {
            Hand::Still => None,
            Hand::Interval { due, .. } => due.checked_add(self.delay),
            Hand::Calendar { due, .. } => {
                let at = due.and_then(|due| due.checked_add(self.delay).ok());
                let left = at.map_or(LOOK_AGAIN_AFTER, |at| {
                    let left = at.duration_since(now.wall).try_into();
                    left.unwrap_or(Duration::ZERO)
                });
                Some(now.monotonic + left.min(LOOK_AGAIN_AFTER))
            }
        }
    }
}

impl Hand {
    /// The first end of an interval, counted from `from`, that is yet to come.
    fn next_interval(every: Duration, from: Instant, now: &Now) -> Hand {
        let passed = now.monotonic.saturating_duration_since(from);
        let over = passed.as_nanos() % every.as_nanos().max(1);
        // Less than `every`, which is at most a year.
        let over = Duration::from_nanos(u64::try_from(over).unwrap_or(u64::MAX));
        match now.monotonic.checked_add(every.saturating_sub(over)) {
            Some(due) => Hand::Interval { every, due },
            None => Hand::Still,
        }
    }

    fn next_moment(calendar: Box<Calendar>, latest: Option<Timestamp>, after: Timestamp) -> Hand {
        let due = calendar.after(after);
        Hand::Calendar {
            calendar,
            due,
            latest,
        }
    }
}

/// A wall clock that is set back by less comes to the same moments a second time. One that was that
/// far ahead had been wrong, and what was due then says nothing about now. As `cron(8)` has it.
const CORRECTION: jiff::SignedDuration = jiff::SignedDuration::from_hours(3);

/// How late it may be noticed that the wall clock was set.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(60);
