//! The pulse: everybody who serves is asked now and then whether it is alive, and hangs when it
//! stays silent for too long.
//!
//! Silence is counted in beats, not in time. A beat is a turn of the master's own loop, at least a
//! period after the one before. However long the master was stopped, the machine slept or the clock
//! jumped, the beat that follows is one, and one is never too many.

use std::time::{Duration, Instant};

use worker_proto::ids::WorkerId;

use super::*;

/// When the beats come, and how much silence is too much.
#[derive(Debug)]
pub(super) struct Rhythm {
    period: Duration,
    /// So many periods of silence are too many.
    patience: u32,
    /// `None` before the first beat.
    next: Option<Instant>,
}

/// What one process was asked, and what it answered.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    /// The token of the latest ping.
    asked: u64,
    /// The token of the latest ping that was answered.
    answered: u64,
    /// The beats since the latest sign of life, the one of the ping among them. So there was one
    /// period less of silence.
    beats: u32,
}

impl Rhythm {
    pub(super) fn new(hang_timeout: Duration) -> Rhythm {
        let patience = hang_timeout.as_secs() / LONGEST_PERIOD.as_secs();
        let patience = u32::try_from(patience).map_or(u32::MAX, |it| it.max(LEAST_PATIENCE));
        Rhythm {
            period: (hang_timeout / patience).max(SHORTEST_PERIOD),
            patience,
            next: None,
        }
    }

    /// Whether a beat is due. If so the next one is a period away, however late this one is.
    fn strikes(&mut self, now: Instant) -> bool {
        let is_due = self.next.is_none_or(|next| next <= now);
        if is_due {
            self.next = Some(after(now, self.period));
        }
        is_due
    }
}

impl Pulse {
    /// A beat: the token of a ping to send, unless the one before is not answered yet. So a process
    /// that does not read its channel finds one ping in it, however long that takes.
    fn beat(&mut self) -> Option<u64> {
        if self.asked != self.answered {
            self.beats += 1;
            return None;
        }
        self.asked += 1;
        self.beats = 1;
        Some(self.asked)
    }

    fn answer(&mut self, token: u64) {
        self.beats = 0;
        if token == self.asked {
            self.answered = token;
        }
    }
}

impl Supervisor {
    /// Asks everybody who serves, and gives up those who were silent for too long. Who starts has
    /// its ready timeout, and who leaves has its own deadlines.
    pub(super) fn beat(&mut self, now: Instant) {
        let Some(rhythm) = &mut self.rhythm else {
            return;
        };
        if !rhythm.strikes(now) {
            return;
        }
        let (patience, lasted) = (rhythm.patience, rhythm.period * rhythm.patience);
        let mut silent = Vec::new();
        for process in self.processes.values_mut().filter(|it| it.is_serving()) {
            let worker = process.worker;
            if let Some(token) = process.pulse.beat() {
                self.actions.push_back(Action::Ping { worker, token });
            } else if process.pulse.beats > patience {
                silent.push(worker);
            }
        }
        for worker in silent {
            self.hung(now, worker, Symptom::Silent { lasted });
        }
    }

    /// It answered: whatever it was asked, it is alive.
    pub(super) fn pong(&mut self, worker: WorkerId, token: u64) {
        if let Some(process) = self.processes.get_mut(&worker) {
            process.pulse.answer(token);
        }
    }

    /// It was not asked after all, so its silence means nothing.
    pub(super) fn untold(&mut self, worker: WorkerId) {
        if let Some(process) = self.processes.get_mut(&worker) {
            process.pulse.beats = 0;
        }
    }

    /// When the next beat is due, if there is anybody to ask.
    pub(super) fn next_beat(&self) -> Option<Instant> {
        let mut processes = self.processes.values();
        let next = self.rhythm.as_ref()?.next?;
        processes.any(Process::is_serving).then_some(next)
    }
}

/// With fewer beats, one that is late after a pause of the master would weigh too much.
const LEAST_PATIENCE: u32 = 4;

/// Long timeouts have more beats, so that a process is heard of now and then.
const LONGEST_PERIOD: Duration = Duration::from_secs(10);

/// Keeps the beats apart whatever the timeout.
const SHORTEST_PERIOD: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beats_add_up_to_the_timeout() {
        for (timeout_ms, period_ms, patience) in [
            (0, 50, 4),
            (200, 50, 4),
            (500, 125, 4),
            (49_000, 12_250, 4),
            (50_000, 10_000, 5),
            (3_600_000, 10_000, 360),
        ] {
            let rhythm = Rhythm::new(Duration::from_millis(timeout_ms));
            let period = Duration::from_millis(period_ms);
            assert_eq!((rhythm.period, rhythm.patience), (period, patience));
        }
    }

    #[test]
    fn a_timeout_without_end_is_possible() {
        assert_eq!(Rhythm::new(Duration::MAX).patience, u32::MAX);
    }
}
