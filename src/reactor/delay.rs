//! The hand-off delay of one listener: from the moment that its socket was readable to the moment
//! that the packet with the connection was sent.
//!
//! Never less than it was: who comes while the loop is busy counts from the turn's beginning, and all
//! that are accepted before the backlog was seen empty count from when it first was not. Who waited for
//! room, or was taken back from a worker, is counted and not measured: that is the workers' time and not
//! the master's. What is moved from a stalled worker was handed off before, and is not even counted.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// The delays of a listener's latest hand-offs, as `Handle::status` shows them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HandoffDelay {
    /// For how long they were noted: half a minute to a minute, less at the beginning.
    pub over: Duration,
    /// How many connections were measured.
    pub count: u64,
    /// Half of them took no longer. Like the others, up to 6 % too large.
    pub p50: Duration,
    /// 99 of 100 took no longer.
    pub p99: Duration,
    /// 999 of 1,000 took no longer.
    pub p999: Duration,
    /// None took longer.
    pub max: Duration,
    /// Handed off along with clients that waited for room or were taken back: not measured.
    pub waited_for_room: u64,
}

/// Since when a client that a poll reports may have been waiting.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wakeup {
    last: Instant,
    since: Instant,
}

impl Wakeup {
    pub(crate) fn new(now: Instant) -> Self {
        Wakeup {
            last: now,
            since: now,
        }
    }

    /// A poll has returned.
    pub(crate) fn note(&mut self, asked: Instant, returned: Instant) {
        let has_slept = returned.saturating_duration_since(asked) >= SHORTEST_SLEEP;
        self.since = if has_slept { returned } else { self.last };
        self.last = returned;
    }

    pub(crate) fn since(self) -> Instant {
        self.since
    }
}

/// What a listener notes.
#[derive(Debug, Default)]
pub(crate) struct Delays {
    /// Since when there is somebody in the backlog.
    readable_since: Option<Instant>,
    /// What is sent in this round was waiting for room.
    is_late: bool,
    current: Option<Half>,
    before: Option<Half>,
}

/// What was noted in half of the time that is shown. A listener that hands nothing off has none.
#[derive(Debug)]
struct Half {
    begun: Instant,
    micros: Histogram<u32>,
    waited_for_room: u64,
}

impl Delays {
    /// Somebody is in the backlog since then, if nobody was before.
    pub(crate) fn note_readable(&mut self, since: Instant) {
        self.readable_since.get_or_insert(since);
    }

    /// Nobody is.
    pub(crate) fn note_empty(&mut self) {
        self.readable_since = None;
    }

    /// Clients that waited for room are handed off first, and others along with them.
    pub(crate) fn begin_round(&mut self, somebody_waited: bool) {
        self.is_late = somebody_waited;
    }

    /// A packet was sent, in a turn that began at `turn`.
    pub(crate) fn note_sent(&mut self, connections: u64, turn: Instant, now: Instant) {
        let since = self.readable_since.unwrap_or(turn);
        let is_late = self.is_late;
        let half = self.half(now);
        if is_late {
            half.waited_for_room += connections;
        } else {
            let micros = now.saturating_duration_since(since).as_micros();
            let micros = u64::try_from(micros).unwrap_or(u64::MAX);
            half.micros
                .saturating_record_n(micros, u32::try_from(connections).unwrap_or(u32::MAX));
        }
    }

    /// The latest.
    pub(crate) fn status(&self, now: Instant) -> HandoffDelay {
        let halves = [&self.current, &self.before].into_iter().flatten();
        let mut micros = empty();
        let mut status = HandoffDelay::default();
        for half in halves.filter(|half| !half.is_older_than(HALF * 2, now)) {
            micros.add(&half.micros).expect("they have the same bounds");
            status.waited_for_room += half.waited_for_room;
            status.over = now.saturating_duration_since(half.begun);
        }
        let at = |quantile| Duration::from_micros(micros.value_at_quantile(quantile));
        HandoffDelay {
            count: micros.len(),
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            max: Duration::from_micros(micros.max()),
            ..status
        }
    }

    fn half(&mut self, now: Instant) -> &mut Half {
        if self
            .current
            .as_ref()
            .is_some_and(|it| it.is_older_than(HALF, now))
        {
            self.before = self.current.take();
        }
        self.current.get_or_insert_with(|| Half {
            begun: now,
            micros: empty(),
            waited_for_room: 0,
        })
    }
}

impl Half {
    fn is_older_than(&self, age: Duration, now: Instant) -> bool {
        now.saturating_duration_since(self.begun) >= age
    }
}

fn empty() -> Histogram<u32> {
    Histogram::new_with_bounds(1, LONGEST_MICROS, DIGITS).expect("these bounds are in order")
}

/// A poll that took less found somebody there: who sleeps needs longer to be woken.
const SHORTEST_SLEEP: Duration = Duration::from_micros(5);

const HALF: Duration = Duration::from_secs(30);

/// What takes longer counts as this: a minute.
const LONGEST_MICROS: u64 = 60_000_000;

/// 16 steps for each doubling, 1.5 KiB in all.
const DIGITS: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reactor::clock;

    fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    /// Up to a step too large, and never too small.
    fn is_about(shown: Duration, real: Duration) -> bool {
        shown >= real && shown <= real.mul_f64(1.07)
    }

    #[test]
    fn percentiles_are_those_of_the_connections_and_not_of_the_packets() {
        let (mut delays, start) = (Delays::default(), clock::now());
        delays.note_readable(start);
        delays.note_sent(989, start, start + micros(40));
        delays.note_sent(10, start, start + micros(3_000));
        delays.note_sent(1, start, start + micros(70_000));
        let status = delays.status(start + micros(70_000));
        assert_eq!(status.count, 1000);
        assert!(is_about(status.p50, micros(40)), "{status:?}");
        assert!(is_about(status.p99, micros(3_000)), "{status:?}");
        assert!(is_about(status.p999, micros(3_000)), "{status:?}");
        assert!(is_about(status.max, micros(70_000)), "{status:?}");
    }

    #[test]
    fn a_backlog_counts_from_when_it_was_last_empty() {
        let (mut delays, start) = (Delays::default(), clock::now());
        delays.note_readable(start);
        // Reported again before everybody was accepted.
        delays.note_readable(start + micros(500));
        delays.note_sent(1, start, start + micros(800));
        assert!(is_about(delays.status(start).max, micros(800)));
        let (mut delays, next) = (Delays::default(), start + micros(500));
        delays.note_readable(start);
        delays.note_empty();
        delays.note_readable(next);
        delays.note_sent(1, next, start + micros(800));
        assert!(is_about(delays.status(start).max, micros(300)));
    }

    #[test]
    fn who_waited_for_room_is_counted_and_not_measured() {
        let (mut delays, start) = (Delays::default(), clock::now());
        delays.note_readable(start);
        delays.begin_round(true);
        delays.note_sent(7, start, start + Duration::from_secs(5));
        let status = delays.status(start + Duration::from_secs(5));
        assert_eq!((status.waited_for_room, status.count), (7, 0));
        assert_eq!(status.max, Duration::ZERO);
    }

    #[test]
    fn what_is_long_ago_is_forgotten() {
        let (mut delays, start) = (Delays::default(), clock::now());
        let count = |delays: &Delays, passed| {
            let status = delays.status(start + passed);
            (status.count, status.over)
        };
        delays.note_sent(1, start, start);
        delays.note_sent(2, start, start + HALF);
        assert_eq!(count(&delays, HALF * 3 / 2), (3, HALF * 3 / 2));
        assert_eq!(count(&delays, HALF * 2), (2, HALF));
        delays.note_sent(4, start, start + HALF * 2);
        assert_eq!(count(&delays, HALF * 2), (6, HALF));
        assert_eq!(count(&delays, HALF * 9), (0, Duration::ZERO));
    }

    #[test]
    fn who_comes_while_the_loop_is_busy_counts_from_the_turn_before() {
        let start = clock::now();
        let mut wakeup = Wakeup::new(start);
        let slept = start + micros(1_000);
        wakeup.note(start, slept);
        assert_eq!(wakeup.since(), slept);
        wakeup.note(slept + micros(300), slept + micros(301));
        assert_eq!(wakeup.since(), slept);
        let again = slept + micros(900);
        wakeup.note(slept + micros(400), again);
        assert_eq!(wakeup.since(), again);
    }
}
