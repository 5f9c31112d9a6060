//! The strategies, by the names that `--strategy` has for them.

use std::fmt;

use rr_master::dispatch::{RoundRobin, Strategy};

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Choice {
    RoundRobin,
}

impl Choice {
    /// In the order of the tables and charts.
    pub(crate) const ALL: &[Choice] = &[Choice::RoundRobin];

    /// The code that the master runs.
    pub(crate) fn strategy(self, _seed: u64) -> Box<dyn Strategy> {
        match self {
            Choice::RoundRobin => Box::new(RoundRobin::default()),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Choice::RoundRobin => "round-robin",
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
