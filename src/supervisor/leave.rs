//! How a process is made to leave: free to go by itself, then SIGTERM, then SIGKILL, each step with
//! a deadline. One that hangs gets SIGABRT instead of SIGTERM. Nothing here decides who leaves.

use std::time::{Duration, Instant};

use super::*;

impl Supervisor {
    /// It serves no more, and has that long to leave by itself. Changes nothing for a process that
    /// is leaving already.
    pub(super) fn let_go(
        &mut self,
        now: Instant,
        worker: WorkerId,
        departure: Departure,
        patience: Duration,
    ) {
        self.leave_rotation(worker);
        if let Some(process) = self.in_phase(worker, is_starting_or_serving) {
            let until = after(now, patience);
            let step = Step::Free { until };
            process.turn(now, Phase::Leaving { departure, step });
        }
    }

    /// It gets SIGTERM, unless it got it before.
    pub(super) fn terminate(&mut self, now: Instant, worker: WorkerId, departure: Departure) {
        self.leave_rotation(worker);
        let until = after(now, self.plan.kill_timeout);
        let step = Step::Terminated { until };
        let Some(process) = self.processes.get_mut(&worker) else {
            return;
        };
        match &mut process.phase {
            Phase::Starting { .. } | Phase::Serving { .. } => {
                process.turn(now, Phase::Leaving { departure, step });
            }
            Phase::Leaving { step: taken, .. } => match taken {
                Step::Free { .. } | Step::Asked { .. } => *taken = step,
                Step::Terminated { .. } | Step::Aborted { .. } | Step::Killed => return,
            },
            Phase::Spawning { .. } => return,
        }
        self.signal(worker, Signal::Terminate);
    }

    /// It has finished, or has to begin to stop by itself: it gets its stop signal, once.
    pub(super) fn idle(&mut self, worker: WorkerId) {
        let Some(process) = self.processes.get_mut(&worker) else {
            return;
        };
        if let Phase::Leaving { step, .. } = &mut process.phase
            && let Step::Free { until } = *step
        {
            *step = Step::Asked { until };
            self.signal(worker, Signal::Ask);
        }
    }

    /// Acts on every deadline of a process that has passed.
    pub(super) fn enforce_deadlines(&mut self, now: Instant) {
        let overdue = self.processes.values().filter(|it| it.is_overdue(now));
        let overdue: Vec<WorkerId> = overdue.map(|process| process.worker).collect();
        for worker in overdue {
            // Without patience all three steps come at once.
            while let Some(process) = self.processes.get(&worker)
                && process.is_overdue(now)
            {
                self.press(now, process.who(), process.phase, process.channel);
            }
        }
    }

    /// Takes a process whose deadline has passed one step further.
    fn press(&mut self, now: Instant, who: Who, phase: Phase, channel: Channel) {
        let worker = who.worker;
        match phase {
            Phase::Spawning { .. } => {
                let reason = "the start takes too long".to_owned();
                self.spawn_failed(now, worker, reason);
            }
            Phase::Starting { .. } => {
                let next = self
                    .vacate(now, worker, &Failure::NotReady)
                    .unwrap_or(Next::NotReplaced);
                self.terminate(now, worker, Departure::Unasked);
                let after = self.plan.ready_timeout;
                self.notify(Notice::ReadyTimeout {
                    who,
                    after,
                    was_heard: channel != Channel::Silent,
                    next,
                });
            }
            Phase::Leaving { departure, step } => match step {
                Step::Free { .. } | Step::Asked { .. } => {
                    self.terminate(now, worker, departure);
                    let why = Why::Overstayed;
                    self.notify(Notice::Terminating { who, why });
                    if self.stage.stopping() == Some(Stop::Graceful) {
                        self.verdict.spoil();
                    }
                }
                Step::Terminated { .. } => self.kill(who, departure, Signal::Terminate),
                Step::Aborted { .. } => self.kill(who, departure, Signal::Abort),
                Step::Killed => {}
            },
            Phase::Serving { .. } => {}
        }
    }

    /// It gets SIGKILL: it lives despite that signal.
    fn kill(&mut self, who: Who, departure: Departure, despite: Signal) {
        let Some(process) = self.processes.get_mut(&who.worker) else {
            return;
        };
        let step = Step::Killed;
        process.phase = Phase::Leaving { departure, step };
        self.signal(who.worker, Signal::Kill);
        let after = self.plan.kill_timeout;
        self.notify(Notice::Killing {
            who,
            after,
            despite,
        });
        if self.stage.stopping().is_some() {
            self.verdict.spoil();
        }
    }

    pub(super) fn signal(&mut self, worker: WorkerId, signal: Signal) {
        self.order(Action::Signal { worker, signal });
    }
}
