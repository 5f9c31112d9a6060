//! Signals, obeyed: one arm per wish.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::Reactor;
use super::command::{Answer, Origin};
use crate::control::change::{Change, ScaleTo};
use crate::control::protocol::When;
use crate::supervisor::Stop;
use crate::sys::signals::{Asked, Received, Signals};

impl Reactor {
    pub(super) fn read_signals(&mut self, now: Instant) {
        while let Some(signals) = &self.signals {
            match signals.next() {
                Ok(Some(received)) => self.note_signal(received, now),
                Ok(None) => break,
                Err(err) => {
                    log::error!("read signals: {err}");
                    break;
                }
            }
        }
    }

    fn note_signal(&mut self, Received { signal, asked }: Received, now: Instant) {
        match asked {
            Some(Asked::Stop(how)) => {
                self.carry_out(now, Origin::Signal(signal), &Change::Stop(how));
            }
            Some(Asked::Hangup) => self.hang_up(now),
            Some(Asked::Reload) => self.carry_out(now, Origin::Signal(signal), &Change::Reload),
            Some(Asked::ReloadUnlessHangup) => {
                log::info!("{signal} received");
                self.doubt = Some(now + LAST_MOMENT);
            }
            Some(Asked::ReopenLogs) => {
                self.carry_out(now, Origin::Signal(signal), &Change::ReopenLogs);
            }
            Some(Asked::OneMore) => {
                let one_more = Change::Scale(ScaleTo::More(1));
                self.carry_out(now, Origin::Signal(signal), &one_more);
            }
            Some(Asked::OneLess) => {
                let one_less = Change::Scale(ScaleTo::Fewer(1));
                self.carry_out(now, Origin::Signal(signal), &one_less);
            }
            None => log::info!("{signal} received: ignored"),
        }
    }

    /// A shell that had a moment to end has ended, or meant what it sent.
    pub(super) fn resolve_doubt(&mut self, now: Instant) {
        if self.doubt.is_none_or(|due| now < due) {
            return;
        }
        self.doubt = None;
        if self
            .signals
            .as_ref()
            .is_some_and(Signals::has_lost_terminal)
        {
            self.hang_up(now);
        } else {
            self.carry_out(now, Origin::Signal(Signal::SIGHUP), &Change::Reload);
        }
    }

    /// Nobody is there any more who wants the cluster. Of that the master may hear from the shell and
    /// from the kernel: it is no second order, which would be one to hurry.
    fn hang_up(&mut self, now: Instant) {
        if !self.is_ending() {
            self.carry_out(now, Origin::Hangup, &Change::Stop(Stop::Graceful));
        }
    }

    fn carry_out(&mut self, now: Instant, origin: Origin, change: &Change) {
        self.change(now, change, (origin, When::Begun), Answer::Nobody);
    }
}

/// A shell that sends SIGHUP to its jobs as it exits is gone by then.
const LAST_MOMENT: Duration = Duration::from_millis(200);
