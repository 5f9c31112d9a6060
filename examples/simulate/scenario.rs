//! What is simulated: who comes, for what, to which workers.

use std::time::Duration;

use crate::arrivals::Arrivals;
use crate::sources::Sources;
use crate::work::{MEAN, Work};

/// A story, of any size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scenario {
    /// As `--scenario` and the tables call it.
    pub(crate) name: &'static str,
    /// It is about this.
    pub(crate) about: &'static str,
    pub(crate) arrivals: Arrivals,
    pub(crate) work: Work,
    pub(crate) workers: Workers,
    pub(crate) sources: Sources,
    pub(crate) stays: Stays,
    pub(crate) renewal: Renewal,
}

/// How fast workers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workers {
    Alike,
    /// The first takes ten times as long for everything.
    OneSlow,
    /// In turn 1, 2, 3 and 4 times as fast, with weights that say so.
    Mixed,
}

/// Whether connections stay when their first request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stays {
    Never,
    /// One in a hundred asks a hundred times more, 20 ms after each answer: a few that are much work.
    Few,
    /// Every second one asks ten times more, half a second after each answer: many open at any
    /// time, and little work each.
    Many,
}

/// Whether a worker is replaced, gracefully.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Renewal {
    Never,
    /// The first one, when the measurement begins, which then ends a second later.
    First,
}

impl Scenario {
    pub(crate) const ALL: &[Scenario] = &[
        Scenario::PLAIN,
        Scenario {
            name: "constant",
            about: "every connection is the same work",
            work: Work::Constant,
            ..Scenario::PLAIN
        },
        Scenario {
            name: "heavy-tailed",
            about: "a few connections are hundreds of times the work of others",
            work: Work::HeavyTailed,
            ..Scenario::PLAIN
        },
        Scenario {
            name: "bursts",
            about: "clients come in bursts of 2 ms, three times as dense",
            arrivals: Arrivals::Bursts,
            ..Scenario::PLAIN
        },
        Scenario {
            name: "closed",
            about: "five clients for each worker, who come again when answered (ab -c)",
            arrivals: Arrivals::Closed { per_worker: 5 },
            ..Scenario::PLAIN
        },
        Scenario {
            name: "one-slow",
            about: "one worker is ten times slower than the others",
            workers: Workers::OneSlow,
            ..Scenario::PLAIN
        },
        Scenario {
            name: "mixed",
            about: "workers are 1, 2, 3 and 4 times as fast, with weights",
            workers: Workers::Mixed,
            ..Scenario::PLAIN
        },
        Scenario {
            name: "staying",
            about: "one connection in a hundred stays for a hundred more requests",
            stays: Stays::Few,
            ..Scenario::PLAIN
        },
        Scenario {
            name: "renewed",
            about: "half of the connections stay, a worker is replaced, and this is the next second",
            stays: Stays::Many,
            renewal: Renewal::First,
            ..Scenario::PLAIN
        },
        Scenario {
            name: "zipf",
            about: "a few addresses send most of the connections",
            sources: Sources::Zipf,
            ..Scenario::PLAIN
        },
    ];

    /// What theory is about, and all others are a variation of.
    pub(crate) const PLAIN: Scenario = Scenario {
        name: "plain",
        about: "independent clients, exponential work, equal workers",
        arrivals: Arrivals::Poisson,
        work: Work::Exponential,
        workers: Workers::Alike,
        sources: Sources::Even,
        stays: Stays::Never,
        renewal: Renewal::Never,
    };
}

impl Workers {
    /// How much faster than usual the worker in this slot is.
    pub(crate) fn speed(self, slot: u32) -> f64 {
        match self {
            Workers::OneSlow if slot == 0 => 0.1,
            Workers::Alike | Workers::OneSlow => 1.0,
            Workers::Mixed => f64::from(self.weight(slot)),
        }
    }

    /// What its weight says.
    pub(crate) fn weight(self, slot: u32) -> u32 {
        match self {
            // Nobody knows that it is slow.
            Workers::Alike | Workers::OneSlow => 1,
            Workers::Mixed => slot % 4 + 1,
        }
    }
}

impl Stays {
    /// How many more requests the next connection will send, if a number drawn from 0 to 1 is this.
    pub(crate) fn follow(self, drawn: f64) -> u32 {
        match self.habit() {
            Some(habit) if drawn < habit.share => habit.requests,
            Some(_) | None => 0,
        }
    }

    /// How long it is from an answer to the next request.
    pub(crate) fn pause(self) -> Duration {
        self.habit().map_or(Duration::ZERO, |habit| habit.pause)
    }

    /// How much work a connection is in all, in means.
    pub(crate) fn work(self) -> f64 {
        let requests = |habit: Habit| habit.share * f64::from(habit.requests);
        1.0 + self.habit().map_or(0.0, requests)
    }

    /// How long it takes until what there is of them is what there will be.
    pub(crate) fn settling(self) -> Duration {
        let stay = |habit: Habit| (habit.pause + MEAN) * habit.requests;
        self.habit().map_or(Duration::ZERO, stay) * 3
    }

    fn habit(self) -> Option<Habit> {
        match self {
            Stays::Never => None,
            Stays::Few => Some(Habit {
                share: 0.01,
                requests: 100,
                pause: Duration::from_millis(20),
            }),
            Stays::Many => Some(Habit {
                share: 0.5,
                requests: 10,
                pause: Duration::from_millis(500),
            }),
        }
    }
}

/// What those do that stay.
#[derive(Clone, Copy, Debug)]
struct Habit {
    /// How many of all they are.
    share: f64,
    requests: u32,
    pause: Duration,
}
