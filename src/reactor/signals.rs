//! Signals, obeyed: one arm per wish.

use std::time::{Duration, Instant};

use super::Reactor;
use crate::supervisor::{Event, Refused, Stop};
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
                log::info!("{signal} received");
                self.supervisor.handle(now, Event::Stop(how));
            }
            Some(Asked::Hangup) => {
                log::info!("{signal} received: the terminal is gone");
                self.hang_up(now);
            }
            Some(Asked::Reload) => {
                log::info!("{signal} received");
                self.reload(now, None);
            }
            Some(Asked::ReloadUnlessHangup) => {
                log::info!("{signal} received");
                self.doubt = Some(now + LAST_MOMENT);
            }
            Some(Asked::ReopenLog) => match &self.log_file {
                Some(reopen) => {
                    let _ = reopen.try_send(());
                    log::info!("{signal} received: the log file is opened again");
                }
                None => log::info!("{signal} received: ignored, there is no log file"),
            },
            Some(Asked::OneMore) => {
                log::info!("{signal} received");
                self.scale_by_one(now, self.supervisor.wanted().checked_add(1));
            }
            Some(Asked::OneLess) => {
                log::info!("{signal} received");
                self.scale_by_one(now, self.supervisor.wanted().checked_sub(1));
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
            log::info!("the terminal is gone");
            self.hang_up(now);
        } else {
            self.reload(now, None);
        }
    }

    /// Nobody is there any more who wants the cluster. Of that the master may hear from the shell and
    /// from the kernel: it is no second order, which would be one to hurry.
    fn hang_up(&mut self, now: Instant) {
        if !self.is_ending() {
            self.supervisor.handle(now, Event::Stop(Stop::Graceful));
        }
    }

    /// One worker more, or one less.
    fn scale_by_one(&mut self, now: Instant, workers: Option<u32>) {
        let refused = match workers {
            Some(workers) => self.supervisor.scale(now, workers).err(),
            None => Some(Refused::NobodyLeft),
        };
        if let Some(refused) = refused {
            log::error!("scale: {refused}");
        }
    }
}

/// A shell that sends SIGHUP to its jobs as it exits is gone by then.
const LAST_MOMENT: Duration = Duration::from_millis(200);
