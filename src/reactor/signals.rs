//! Signals, obeyed: one arm per wish.

use std::time::Instant;

use super::Reactor;
use crate::supervisor::{Event, Stop};
use crate::sys::signals::{Asked, Received};

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
                self.supervisor.handle(now, Event::Stop(Stop::Graceful));
            }
            Some(Asked::Reload) => {
                log::info!("{signal} received");
                // There is no reload yet: it stops, as it always has.
                self.supervisor.handle(now, Event::Stop(Stop::Graceful));
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
}
