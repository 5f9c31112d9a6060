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
    /// One in a hundred asks a hundred times more, 20 ms after each answer.
    Some,
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
            about: "clients come in bursts of 10 ms, three times as dense",
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
            stays: Stays::Some,
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
        match self {
            Stays::Some if drawn < STAYING_SHARE => STAYING_REQUESTS,
            Stays::Some | Stays::Never => 0,
        }
    }

    /// How much work a connection is in all, in means.
    pub(crate) fn work(self) -> f64 {
        match self {
            Stays::Some => 1.0 + STAYING_SHARE * f64::from(STAYING_REQUESTS),
            Stays::Never => 1.0,
        }
    }

    /// How long it takes until what there is of them is what there will be, in means of work.
    pub(crate) fn settling(self) -> f64 {
        match self {
            Stays::Some => {
                let pause = STAYING_PAUSE.div_duration_f64(MEAN);
                3.0 * f64::from(STAYING_REQUESTS) * (1.0 + pause)
            }
            Stays::Never => 0.0,
        }
    }
}

/// Connections that stay: how many of all, for how many more requests, each how long after an answer.
const STAYING_SHARE: f64 = 0.01;
const STAYING_REQUESTS: u32 = 100;
pub(crate) const STAYING_PAUSE: Duration = Duration::from_millis(20);
