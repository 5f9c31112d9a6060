//! The curves: the master's descriptors and memory over time.

use std::time::{Duration, Instant};

use nix::unistd::Pid;

use crate::common::processes;

pub(crate) struct Curve {
    master: Pid,
    begun: Instant,
    next: Instant,
    points: Vec<Point>,
}

/// The master at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Point {
    pub(crate) at: Duration,
    pub(crate) descriptors: usize,
    pub(crate) resident_kib: u64,
}

impl Curve {
    pub(crate) fn of(master: Pid) -> Self {
        let begun = Instant::now();
        let mut curve = Curve {
            master,
            begun,
            next: begun + EVERY,
            points: Vec::new(),
        };
        curve.look();
        curve
    }

    /// Begins again: what was before is of no interest.
    pub(crate) fn restart(&mut self) {
        *self = Self::of(self.master);
    }

    /// Looks if it is time to.
    pub(crate) fn look_if_due(&mut self) {
        if self.next <= Instant::now() {
            self.next += EVERY;
            self.look();
        }
    }

    pub(crate) fn look(&mut self) {
        let resident = processes::status(self.master, "VmRSS");
        let digits = resident.trim_end_matches(" kB");
        self.points.push(Point {
            at: self.begun.elapsed(),
            descriptors: processes::descriptors(self.master),
            resident_kib: digits.parse().expect("a number of KiB"),
        });
    }

    pub(crate) fn first(&self) -> Point {
        self.points[0]
    }

    pub(crate) fn middle(&self) -> Point {
        self.points[self.points.len() / 2]
    }

    pub(crate) fn last(&self) -> Point {
        self.points[self.points.len() - 1]
    }
}

const EVERY: Duration = Duration::from_millis(500);
