//! The reaper: kills every worker from outside, some time after it was ready, unless its fate
//! was quicker.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::{Duration, Instant};

use nix::unistd::Pid;

use crate::common::client::Server;
use crate::common::evidence::fate::Fate;
use crate::victim::Victim;

pub(crate) struct Reaper {
    master: Pid,
    seed: u64,
    victims: BTreeMap<u64, Victim>,
    due: BinaryHeap<Reverse<(Instant, u64)>>,
    /// Those that were there when they were killed.
    killed: BTreeSet<u64>,
}

impl Reaper {
    pub(crate) fn of(master: Pid, seed: u64) -> Self {
        Reaper {
            master,
            seed,
            victims: BTreeMap::new(),
            due: BinaryHeap::new(),
            killed: BTreeSet::new(),
        }
    }

    /// A worker is ready.
    pub(crate) fn note(&mut self, worker: &Server) {
        let Some(victim) = Victim::of(self.master, worker.pid()) else {
            return; // Gone already.
        };
        let span = if Fate::drawn(self.seed, worker.id).is_some() {
            TIME_FOR_FATE
        } else {
            LONGEST_LIFE
        };
        // As good as random, and the same for the same seed.
        let noise = (self.seed ^ worker.id).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
        let life = span * u32::try_from(noise % 1000).expect("below 1000") / 1000;
        self.victims.insert(worker.id, victim);
        self.due.push(Reverse((Instant::now() + life, worker.id)));
    }

    /// Kills whose time has come.
    pub(crate) fn kill_due(&mut self) {
        while let Some(&Reverse((due, worker))) = self.due.peek()
            && due <= Instant::now()
        {
            self.due.pop();
            self.kill(worker);
        }
    }

    /// Kills everybody who is left.
    pub(crate) fn kill_all(&mut self) {
        while let Some(Reverse((_, worker))) = self.due.pop() {
            self.kill(worker);
        }
    }

    /// Whoever was killed, and was there to be killed.
    pub(crate) fn killed(&self) -> &BTreeSet<u64> {
        &self.killed
    }

    pub(crate) fn into_killed(self) -> BTreeSet<u64> {
        self.killed
    }

    fn kill(&mut self, worker: u64) {
        if self
            .victims
            .remove(&worker)
            .is_some_and(|victim| victim.kill())
        {
            self.killed.insert(worker);
        }
    }
}

/// Long beside a restart, so that several workers live at any time.
const LONGEST_LIFE: Duration = Duration::from_millis(100);

/// Those who have a fate get the time to meet it.
const TIME_FOR_FATE: Duration = Duration::from_millis(400);
