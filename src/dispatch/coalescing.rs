//! Coalescing: how long the master may leave clients in the backlog to accept several at once.
//!
//! To wake up costs more than to accept. While few come, each wakes the master at once. While many
//! come the backlog is looked at from time to time instead, as a network card gathers packets
//! before it interrupts: nobody waits longer for it than the longest time that was allowed.
//!
//! Clients that wait for an answer before they come again come less often for it, and if there are
//! few of them nothing is gained. So both ways are compared, again and again: if fewer come, or
//! hardly more than one at a time, it is left alone for a while, and each time for longer.

use std::time::{Duration, Instant};

/// What is known of those who come.
#[derive(Clone, Debug)]
pub struct Coalescing {
    longest: Duration,
    state: State,
    window: Window,
    /// How long it is left alone when it was of no use.
    penalty: Duration,
    /// How long it goes on before it is compared again.
    spell: Duration,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Everybody wakes the master.
    Prompt {
        /// Not to be changed before.
        until: Option<Instant>,
    },
    /// The backlog is looked at from time to time.
    Gathering {
        every: Duration,
        /// How many a second came before.
        rate_before: f64,
        /// It was of no use in so many windows in a row.
        useless_windows: u32,
        /// When to compare again.
        until: Instant,
    },
}

/// Who came in a few milliseconds.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    begun: Option<Instant>,
    count: u64,
    looks: u64,
}

/// The same, when they are over.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// How many came in a second.
    rate: f64,
    /// How many at once.
    batch: f64,
}

impl Coalescing {
    /// Nobody waits longer than `longest` for others to come; zero: nobody waits at all.
    #[must_use]
    pub fn new(longest: Duration) -> Self {
        Coalescing {
            longest,
            state: State::Prompt { until: None },
            window: Window::default(),
            penalty: FIRST_PENALTY,
            spell: FIRST_SPELL,
        }
    }

    /// From now on this is the longest.
    pub fn adopt(&mut self, longest: Duration) {
        if longest != self.longest {
            *self = Coalescing::new(longest);
        }
    }

    /// So many were accepted, and the backlog was empty then or the master had enough for a turn.
    pub fn note(&mut self, now: Instant, accepted: u64) {
        if self.longest.is_zero() {
            return;
        }
        let Some(seen) = self.window.note(now, accepted) else {
            return;
        };
        match &mut self.state {
            State::Prompt { until } => {
                let is_free = until.is_none_or(|until| now >= until);
                if is_free && self.longest.as_secs_f64() * seen.rate >= WORTH_WAITING_FOR {
                    self.state = State::Gathering {
                        every: interval(self.longest, seen.rate),
                        rate_before: seen.rate,
                        useless_windows: 0,
                        until: now + self.spell,
                    };
                }
            }
            State::Gathering {
                every,
                rate_before,
                useless_windows,
                until,
            } => {
                *every = interval(self.longest, seen.rate);
                let is_slower = seen.rate < *rate_before * SLOWER;
                if is_slower || seen.batch < WORTH_WAITING_FOR {
                    *useless_windows += 1;
                } else {
                    *useless_windows = 0;
                }
                if *useless_windows >= USELESS_WINDOWS {
                    self.state = State::Prompt {
                        until: Some(now + self.penalty),
                    };
                    self.penalty = (self.penalty * 2).min(LONGEST_PENALTY);
                    self.spell = FIRST_SPELL;
                } else if now >= *until {
                    self.state = State::Prompt { until: None };
                    self.penalty = FIRST_PENALTY;
                    self.spell = (self.spell * 2).min(LONGEST_SPELL);
                }
            }
        }
    }

    /// When the backlog is to be looked at again if it was seen empty now; `None`: as soon as
    /// somebody comes.
    #[must_use]
    pub fn look_again_at(&self, now: Instant) -> Option<Instant> {
        match self.state {
            State::Prompt { .. } => None,
            State::Gathering { every, .. } => Some(now + every),
        }
    }
}

impl Window {
    /// What was seen, when the window is over.
    #[expect(clippy::cast_precision_loss, reason = "far fewer come")]
    fn note(&mut self, now: Instant, count: u64) -> Option<Seen> {
        let begun = *self.begun.get_or_insert(now);
        self.count += count;
        self.looks += 1;
        let lasted = now.saturating_duration_since(begun);
        if lasted < WINDOW {
            return None;
        }
        let seen = Seen {
            rate: self.count as f64 / lasted.as_secs_f64(),
            batch: self.count as f64 / self.looks as f64,
        };
        *self = Window {
            begun: Some(now),
            ..Window::default()
        };
        Some(seen)
    }
}

/// No longer than it takes until enough have come.
fn interval(longest: Duration, rate: f64) -> Duration {
    longest.min(Duration::from_secs_f64(ENOUGH / rate.max(1.0)))
}

/// So many are to come in the longest time, and are to be found at once.
const WORTH_WAITING_FOR: f64 = 3.0;

/// More than so many at once save next to nothing.
const ENOUGH: f64 = 10.0;

/// Over how long those who come are counted.
const WINDOW: Duration = Duration::from_millis(10);

/// Clients that come at less than this part of the rate before have been slowed down.
const SLOWER: f64 = 0.85;

/// So often in a row it is no chance.
const USELESS_WINDOWS: u32 = 3;

const FIRST_SPELL: Duration = Duration::from_millis(200);
const LONGEST_SPELL: Duration = Duration::from_secs(10);
const FIRST_PENALTY: Duration = Duration::from_millis(200);
const LONGEST_PENALTY: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "any moment will do")]

    use super::*;

    /// Clients that come at `rate` a second if they wake the master, and at `gathered` if not.
    struct Clients {
        rate: f64,
        gathered: f64,
    }

    /// For how much of ten seconds they were gathered, in percent.
    fn gathered(longest: Duration, clients: impl Fn(Duration) -> Clients) -> u64 {
        let mut coalescing = Coalescing::new(longest);
        let start = Instant::now();
        let mut now = start;
        let (mut gathering, mut open) = (Duration::ZERO, 0.0);
        while now < start + TEN_SECONDS {
            let Clients { rate, gathered } = clients(now - start);
            let (wait, rate) = match coalescing.look_again_at(now) {
                Some(at) => (at - now, gathered),
                None => (Duration::from_secs_f64(1.0 / rate), rate),
            };
            if coalescing.look_again_at(now).is_some() {
                gathering += wait;
            }
            now += wait;
            open += rate * wait.as_secs_f64();
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "small"
            )]
            let accepted = open as u64;
            open = open.fract();
            coalescing.note(now, accepted);
        }
        u64::try_from(gathering.as_millis() * 100 / TEN_SECONDS.as_millis()).unwrap()
    }

    fn micros(count: u64) -> Duration {
        Duration::from_micros(count)
    }

    #[test]
    fn few_clients_wake_the_master_at_once() {
        let few = |_| Clients {
            rate: 10_000.0,
            gathered: 10_000.0,
        };
        assert_eq!(gathered(micros(200), few), 0);
    }

    #[test]
    fn many_clients_are_gathered() {
        let many = |_| Clients {
            rate: 40_000.0,
            gathered: 40_000.0,
        };
        let share = gathered(micros(200), many);
        assert!(
            (95..100).contains(&share),
            "compared now and then: {share} %"
        );
        assert_eq!(gathered(Duration::ZERO, many), 0, "not if it is not wanted");
    }

    #[test]
    fn clients_that_are_slowed_down_are_left_alone() {
        let slowed = |_| Clients {
            rate: 40_000.0,
            gathered: 30_000.0,
        };
        let share = gathered(micros(200), slowed);
        assert!(share <= 3, "{share} %");
    }

    #[test]
    fn two_clients_who_take_turns_are_left_alone() {
        let two = |_| Clients {
            rate: 20_000.0,
            gathered: 10_000.0,
        };
        let share = gathered(micros(200), two);
        assert!(share <= 3, "{share} %");
    }

    #[test]
    fn it_begins_with_the_load_and_ends_with_it() {
        let busy_for_five_seconds = |passed: Duration| {
            let rate = if passed < TEN_SECONDS / 2 {
                40_000.0
            } else {
                100.0
            };
            Clients {
                rate,
                gathered: rate,
            }
        };
        let share = gathered(micros(200), busy_for_five_seconds);
        assert!((45..=51).contains(&share), "{share} %");
    }

    #[test]
    fn nobody_waits_longer_than_it_takes_until_enough_have_come() {
        let mut coalescing = Coalescing::new(micros(200));
        let mut now = Instant::now();
        for _ in 0..300 {
            now += micros(100);
            coalescing.note(now, 100);
        }
        let at = coalescing.look_again_at(now).expect("a million a second");
        assert_eq!(at - now, micros(10));
    }

    const TEN_SECONDS: Duration = Duration::from_secs(10);
}
