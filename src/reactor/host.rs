//! The host: what the process that the master lives in gives to it. Only the binary gives anything: an
//! embedded master has neither signals nor a title, and is only a part of its service.

use std::io;
use std::time::Duration;

use crossbeam_channel::Sender;
use log::LevelFilter;
use nix::poll::PollTimeout;

use super::reload::Source;
use super::service::Service;
use crate::sys::cgroup::Cgroup;
use crate::sys::limits::NofileLimit;
use crate::sys::orphans::Orphans;
use crate::sys::signals::{Asked, Received, Signals};
use crate::sys::title::Title;

/// What belongs to the whole process.
#[derive(Debug, Default)]
pub(crate) struct Host {
    /// What asks the master for something.
    pub(crate) signals: Option<Signals>,
    /// The control group that the master may use.
    pub(crate) cgroup: Option<Cgroup>,
    /// The children that the binary did not start, and gets.
    pub(crate) orphans: Option<Orphans>,
    /// The limit that the binary was started with, if it raised its own.
    pub(crate) nofile: Option<NofileLimit>,
    /// Whom to tell how the cluster is.
    pub(crate) service: Option<Service>,
    /// What `ps` shows of the process.
    pub(crate) title: Option<Title>,
    /// Has the log file opened again when something is sent there; full if it is about to be.
    pub(crate) log_file: Option<Sender<()>>,
    /// Changes what is logged, if the log is the binary's.
    pub(crate) set_log_level: Option<fn(LevelFilter)>,
    /// Where a reload gets its configuration from; the one in force stays if there is none.
    pub(crate) source: Option<Source>,
}

impl Host {
    /// Waits; answers whether a signal that ends the master came first. Others shorten the wait.
    pub(crate) fn wait(&self, pause: Duration) -> io::Result<bool> {
        match &self.signals {
            Some(signals) if signals.wait(pause)? => {
                Ok(signals.next()?.as_ref().is_some_and(is_end))
            }
            Some(_) => Ok(false),
            None => {
                let pause = PollTimeout::try_from(pause).unwrap_or(PollTimeout::MAX);
                nix::poll::poll(&mut [], pause)?;
                Ok(false)
            }
        }
    }
}

fn is_end(received: &Received) -> bool {
    match received.asked {
        Some(Asked::Stop(_) | Asked::Hangup) => true,
        // Nothing runs yet that could be changed.
        Some(
            Asked::Reload
            | Asked::ReloadUnlessHangup
            | Asked::ReopenLogs
            | Asked::OneMore
            | Asked::OneLess,
        )
        | None => false,
    }
}
