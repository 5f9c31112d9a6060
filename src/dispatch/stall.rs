//! One worker's stall: whether it is given anything, from the look that showed it to the one that
//! shows it moving again.
//!
//! Only movement ends a stall. As long as something waits in the worker's queue, the queue shows
//! it; an empty one shows nothing, so the worker is given one packet now and then. Signs of life
//! only make that sooner: a worker whose accepting thread hangs may well answer pings.

use std::time::{Duration, Instant};

use super::watch::Pace;

/// A worker that does not receive what waits for it.
#[derive(Debug)]
pub struct Stall {
    /// For how long it was seen to receive nothing of what it was given, and the last look.
    still: Duration,
    looked: Instant,
    standing: Standing,
    /// How often it was given something again and left that, too.
    relapses: u32,
}

/// What a stalled worker is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Nothing, until then at least if its queue is empty.
    Out { until: Instant },
    /// One packet, when its turn comes.
    Tried,
    /// It has got the packet, which shows whether it receives again.
    Given,
}

/// What a look at the worker showed.
#[derive(Clone, Copy, Debug)]
pub struct Sight {
    /// When.
    pub now: Instant,
    /// How often one looks: a pause of more than two counts as two.
    pub period: Duration,
    /// Whether it has received anything since the last look.
    pub pace: Pace,
    /// Whether nothing waits for it.
    pub is_empty: bool,
    /// Whether what waits for it has waited for the stall timeout.
    pub is_late: bool,
    /// What it says of its own work.
    pub work: Work,
    /// Whether it answers, and has nothing that it could be busy with.
    pub is_free: bool,
}

/// What a worker says of its work, since the last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Nothing: it keeps no scoreboard.
    Unknown,
    /// It got on.
    Done,
    /// It did not.
    NoneDone,
}

/// What follows from a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// It moves again: the stall is over.
    Over,
    /// It may have its turn again, once.
    Try,
    /// What waits for it is for others.
    Rescue,
    /// Nothing new.
    Wait,
}

impl Stall {
    /// A stall that shows `now`, after the worker has received nothing for `still`.
    #[must_use]
    pub fn begin(now: Instant, still: Duration) -> Self {
        Stall {
            still,
            looked: now,
            standing: Standing::Out {
                until: now + FIRST_PATIENCE,
            },
            relapses: 0,
        }
    }

    /// Another look.
    pub fn judge(&mut self, sight: Sight) -> Verdict {
        let since = sight.now.saturating_duration_since(self.looked);
        self.looked = sight.now;
        if sight.pace == Pace::Moving {
            return Verdict::Over;
        }
        // A worker of which nothing is known may be busy as long as nobody waits for it.
        let seen = since.min(sight.period * 2);
        match (sight.work, sight.is_empty) {
            (Work::Done, _) => self.still = Duration::ZERO,
            (Work::NoneDone, _) if self.is_pending() => self.still += seen,
            (Work::Unknown, false) => self.still += seen,
            (Work::NoneDone | Work::Unknown, _) => {}
        }
        match self.standing {
            Standing::Out { .. } if !sight.is_empty => Verdict::Rescue,
            // Who was free and did not move is not believed again.
            Standing::Out { until }
                if sight.now >= until
                    || sight.work == Work::Done
                    || (sight.is_free && self.relapses == 0) =>
            {
                self.standing = Standing::Tried;
                Verdict::Try
            }
            // Empty without having moved: the packet was taken back for another reason.
            Standing::Given if sight.is_late || sight.is_empty => {
                self.relapse(sight.now);
                if sight.is_empty {
                    Verdict::Wait
                } else {
                    Verdict::Rescue
                }
            }
            Standing::Out { .. } | Standing::Tried | Standing::Given => Verdict::Wait,
        }
    }

    /// It has got a packet; answers whether that was the one it was to be tried with.
    #[must_use]
    pub fn give(&mut self) -> bool {
        let is_try = self.standing == Standing::Tried;
        if is_try {
            self.standing = Standing::Given;
        }
        is_try
    }

    /// For how long it was seen to receive nothing of what it was given.
    #[must_use]
    pub fn still(&self) -> Duration {
        self.still
    }

    /// Whether what waits for it is for others.
    #[must_use]
    pub fn is_out(&self) -> bool {
        matches!(self.standing, Standing::Out { .. })
    }

    /// Whether there is anything to look at: not while its turn has not come.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.standing != Standing::Tried
    }

    fn relapse(&mut self, now: Instant) {
        self.relapses += 1;
        let patience = FIRST_PATIENCE.saturating_mul(1 << self.relapses.min(16));
        self.standing = Standing::Out {
            until: now + patience.min(LONGEST_PATIENCE),
        };
    }
}

/// How long a stalled worker is left alone before it is tried, at first and at most.
const FIRST_PATIENCE: Duration = Duration::from_secs(2);
const LONGEST_PATIENCE: Duration = Duration::from_secs(32);

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_millis(125);

    /// A stall and the time, moved on a period with each look.
    struct Script {
        stall: Stall,
        now: Instant,
    }

    impl Script {
        #[expect(clippy::disallowed_methods, reason = "any moment will do")]
        fn new() -> Self {
            let now = Instant::now();
            let stall = Stall::begin(now, PERIOD * 4);
            Script { stall, now }
        }

        fn look(&mut self, change: impl FnOnce(&mut Sight)) -> Verdict {
            self.now += PERIOD;
            let mut sight = Sight {
                now: self.now,
                period: PERIOD,
                pace: Pace::Still,
                is_empty: true,
                is_late: false,
                work: Work::NoneDone,
                is_free: false,
            };
            change(&mut sight);
            self.stall.judge(sight)
        }

        /// Looks at an empty queue until the worker is tried; answers after how many looks.
        fn looks_until_tried(&mut self, is_free: bool) -> u32 {
            (1..)
                .find(|_| self.look(|sight| sight.is_free = is_free) == Verdict::Try)
                .unwrap()
        }
    }

    #[test]
    fn what_waits_is_for_others_until_something_moves() {
        let mut script = Script::new();
        for _ in 0..100 {
            assert_eq!(script.look(|sight| sight.is_empty = false), Verdict::Rescue);
            assert!(script.stall.is_out());
        }
        let moved = script.look(|sight| sight.pace = Pace::Moving);
        assert_eq!(moved, Verdict::Over);
    }

    #[test]
    fn one_with_an_empty_queue_is_tried_later_and_later() {
        let mut script = Script::new();
        for seconds in [2, 4, 8, 16, 32, 32] {
            let looks = script.looks_until_tried(false);
            assert_eq!(PERIOD * looks, Duration::from_secs(seconds));
            assert!(script.stall.give(), "the packet");
            assert!(!script.stall.give(), "one only");
            assert_eq!(script.look(|sight| sight.is_empty = false), Verdict::Wait);
            let late = script.look(|sight| {
                sight.is_empty = false;
                sight.is_late = true;
            });
            assert_eq!(late, Verdict::Rescue);
        }
    }

    #[test]
    fn a_sign_of_life_is_believed_once() {
        let mut script = Script::new();
        assert_eq!(script.looks_until_tried(true), 1);
        assert!(script.stall.give());
        // Taken back for another reason.
        assert_eq!(script.look(|_| ()), Verdict::Wait);
        assert_eq!(script.looks_until_tried(true), 32);
    }

    #[test]
    fn one_that_gets_on_with_its_work_is_tried_each_time_and_not_hung() {
        let mut script = Script::new();
        for _ in 0..3 {
            assert_eq!(script.look(|sight| sight.work = Work::Done), Verdict::Try);
            assert_eq!(script.stall.still(), Duration::ZERO);
            assert!(script.stall.give());
            assert_eq!(script.look(|sight| sight.is_empty = false), Verdict::Wait);
            assert_eq!(script.look(|_| ()), Verdict::Wait, "a relapse");
        }
    }

    #[test]
    fn nothing_is_held_against_one_of_which_nothing_is_known_and_for_which_nothing_waits() {
        let mut script = Script::new();
        let begun = script.stall.still();
        for _ in 0..10 {
            assert_eq!(
                script.look(|sight| sight.work = Work::Unknown),
                Verdict::Wait
            );
        }
        assert_eq!(script.stall.still(), begun);
        let waits = script.look(|sight| {
            sight.work = Work::Unknown;
            sight.is_empty = false;
        });
        assert_eq!(
            (waits, script.stall.still()),
            (Verdict::Rescue, begun + PERIOD)
        );
    }

    #[test]
    fn only_movement_ends_it_and_all_the_rest_counts() {
        let mut script = Script::new();
        let begun = script.stall.still();
        assert_eq!(script.looks_until_tried(true), 1);
        // Its turn does not come: it cannot do anything about that.
        for _ in 0..100 {
            assert_eq!(script.look(|sight| sight.is_free = true), Verdict::Wait);
        }
        assert_eq!(script.stall.still(), begun + PERIOD);
        assert!(script.stall.give());
        assert_eq!(script.look(|sight| sight.is_empty = false), Verdict::Wait);
        assert_eq!(script.stall.still(), begun + PERIOD * 2);
        assert_eq!(
            script.look(|sight| sight.pace = Pace::Moving),
            Verdict::Over
        );
    }

    #[test]
    fn time_in_which_nobody_looked_hardly_counts() {
        let mut script = Script::new();
        let begun = script.stall.still();
        script.now += Duration::from_secs(3600);
        assert_eq!(script.look(|sight| sight.is_empty = false), Verdict::Rescue);
        assert_eq!(script.stall.still(), begun + PERIOD * 2);
    }
}
