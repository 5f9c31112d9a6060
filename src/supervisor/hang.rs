//! A hang: what becomes of a process that does not do what it is there for, whoever found out.

use std::time::Instant;

use super::*;

impl Supervisor {
    /// It hangs: asking it to leave would be of no use, and a core dump shows where it is. Changes
    /// nothing for a process that does not serve.
    pub(super) fn hung(&mut self, now: Instant, worker: WorkerId, symptom: Symptom) {
        if !self.is_serving(worker) {
            return;
        }
        let next = self
            .vacate(now, worker, &Failure::Hung)
            .unwrap_or(Next::NotReplaced);
        self.leave_rotation(worker);
        let departure = Departure::Unasked;
        let until = after(now, self.plan.kill_timeout);
        let step = Step::Aborted { until };
        if let Some(process) = self.processes.get_mut(&worker) {
            process.turn(now, Phase::Leaving { departure, step });
            let who = process.who();
            // Before the signal: whoever tells it can still see what the process is doing.
            self.notify(Notice::Hung { who, symptom, next });
            self.signal(worker, Signal::Abort);
        }
    }
}
