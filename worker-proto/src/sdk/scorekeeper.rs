//! The scorekeeper: counts on this process's page of the scoreboard, if it was given one.
//!
//! Counting makes no system call, unless the master has asked to be told. Without a page nothing
//! here does anything.

use std::os::fd::{AsFd, OwnedFd};
use std::process;
use std::sync::{Arc, Weak};

use crate::frame::ToMaster;
use crate::scm::Wait;
use crate::socket::WorkerChannel;
use crate::tally::Tally;

/// Counts, or not. Cheap to clone, one page for all clones.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scorekeeper(Option<Arc<Attached>>);

#[derive(Debug)]
struct Attached {
    tally: Tally,
    /// Whose page it is: a child that was forked shares it, but the master listens to its parent.
    owner: u32,
    /// Connections may outlive the channel, and do not keep it.
    channel: Weak<WorkerChannel>,
}

impl Scorekeeper {
    /// Counts on `page`, which came with `Welcome` on `channel`. A page that cannot be used is as
    /// good as none.
    pub(crate) fn on(page: OwnedFd, channel: &Arc<WorkerChannel>) -> Self {
        match Tally::attach(page.as_fd()) {
            Ok(tally) => Scorekeeper(Some(Arc::new(Attached {
                tally,
                owner: process::id(),
                channel: Arc::downgrade(channel),
            }))),
            Err(err) => {
                log::warn!("serving without a scoreboard: {err}");
                Scorekeeper(None)
            }
        }
    }

    /// Counts connections that were taken out of an accept queue.
    pub(crate) fn received(&self, connections: usize) {
        if let Some(attached) = &self.0 {
            attached.tally.received(connections as u64);
        }
    }

    /// Counts a connection that was closed or given up.
    pub(crate) fn finished(&self) {
        if let Some(attached) = &self.0
            && attached.tally.finished(1)
            && !attached.tell_relieved()
        {
            attached.tally.remain_asked();
        }
    }

    /// Counts a request.
    pub(crate) fn request(&self) {
        if let Some(attached) = &self.0 {
            attached.tally.request();
        }
    }

    /// Says that nothing new is taken any more.
    pub(crate) fn draining(&self) {
        if let Some(attached) = &self.0 {
            attached.tally.draining();
        }
    }
}

impl Attached {
    /// Tells the master, without ever waiting; answers whether it is told.
    fn tell_relieved(&self) -> bool {
        if process::id() != self.owner {
            return false;
        }
        let Some(channel) = self.channel.upgrade() else {
            return false;
        };
        let told = channel.send(&ToMaster::Relieved, &[], Wait::Never);
        told.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scoreboard::Scoreboard;
    use crate::socket::{self, Inbox, MasterChannel};

    #[test]
    fn a_master_that_cannot_be_told_now_is_told_later() {
        let (mut scoreboard, page) = Scoreboard::create().unwrap();
        let (master, channel): (MasterChannel, WorkerChannel) = socket::pair().unwrap();
        let channel = Arc::new(channel);
        let scorekeeper = Scorekeeper::on(page, &channel);
        let mut waiting = 0;
        while channel.send(&ToMaster::Ready, &[], Wait::Never).is_ok() {
            waiting += 1;
        }
        scorekeeper.received(2);
        scoreboard.ask_for_relief();
        scorekeeper.finished();
        assert_eq!(scoreboard.read(2).score.unwrap().finished, 1);
        let mut inbox = Inbox::new();
        let mut next = || master.receive(&mut inbox, Wait::Never).unwrap().frame;
        for _ in 0..waiting {
            assert_eq!(next(), ToMaster::Ready);
        }
        scorekeeper.finished();
        assert_eq!(next(), ToMaster::Relieved);
    }

    #[test]
    fn without_a_page_nothing_is_counted() {
        let scorekeeper = Scorekeeper::default();
        scorekeeper.received(1);
        scorekeeper.request();
        scorekeeper.draining();
        scorekeeper.finished();
    }
}
