//! Signals, obeyed: one arm per wish.

use std::time::{Duration, Instant};

use super::Reactor;
use crate::supervisor::{Event, Stop};
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
                self.reload(now);
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
            Some(Asked::OneMore | Asked::OneLess) => {
                log::info!("{signal} received: ignored, the number of workers is fixed");
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
            self.reload(now);
        }
    }

    /// Nobody is there any more who wants the cluster.
    fn hang_up(&mut self, now: Instant) {
        self.supervisor.handle(now, Event::Stop(Stop::Graceful));
    }

    fn reload(&mut self, now: Instant) {
        // There is no reload yet: it stops, as it always has.
        self.supervisor.handle(now, Event::Stop(Stop::Graceful));
    }
}

/// A shell that sends SIGHUP to its jobs as it exits is gone by then.
const LAST_MOMENT: Duration = Duration::from_millis(200);
