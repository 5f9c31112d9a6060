//! The reaper: kills workers chosen by chance, at moments chosen by chance.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use nix::unistd::Pid;

use crate::common::client::Server;
use crate::victim::Victim;

pub(crate) struct Reaper {
    master: Pid,
    every: Duration,
    dice: fastrand::Rng,
    due: Instant,
    alive: BTreeMap<u64, Victim>,
    killed: BTreeSet<u64>,
}

impl Reaper {
    pub(crate) fn of(master: Pid, every: Duration, seed: u64) -> Self {
        Reaper {
            master,
            every,
            dice: fastrand::Rng::with_seed(seed),
            due: Instant::now() + every,
            alive: BTreeMap::new(),
            killed: BTreeSet::new(),
        }
    }

    /// A worker is ready.
    pub(crate) fn note(&mut self, worker: &Server) {
        if let Some(victim) = Victim::of(self.master, worker.pid()) {
            self.alive.insert(worker.id, victim);
        }
    }

    pub(crate) fn kill_due(&mut self) {
        if self.every.is_zero() || self.due > Instant::now() {
            return;
        }
        self.due = Instant::now() + self.every * 2 * self.dice.u32(..1000) / 1000;
        if self.alive.is_empty() {
            return;
        }
        let chosen = self.dice.usize(..self.alive.len());
        let worker = *self.alive.keys().nth(chosen).expect("that many");
        if self.alive.remove(&worker).is_some_and(|it| it.kill()) {
            self.killed.insert(worker);
        }
    }

    /// Whoever was killed, and was there to be killed.
    pub(crate) fn into_killed(self) -> BTreeSet<u64> {
        self.killed
    }
}
