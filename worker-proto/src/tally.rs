//! The tally: a worker's own page of the scoreboard, on which it counts.
//!
//! Counting is one atomic addition: no system call, no lock. Any thread may count, and so may a
//! child that was forked, since it shares the mapping.

use std::os::fd::BorrowedFd;
use std::sync::atomic::Ordering;

use crate::page::{Page, Unfit};
use crate::scoreboard::{ASKED, DRAINING, MAGIC, NOT_ASKED, SERVING, VERSION};

/// A worker's own page; see [`scoreboard`](crate::scoreboard) for what stands on it.
#[derive(Debug)]
pub struct Tally {
    page: Page,
}

impl Tally {
    /// Maps the page that came with `Welcome`, and says so on it. The descriptor may be closed
    /// after this.
    ///
    /// # Errors
    /// When it is not a page of this version. A worker serves as well without.
    pub fn attach(page: BorrowedFd<'_>) -> Result<Self, AttachError> {
        let page = Page::open(page)?;
        if page.magic.load(Ordering::Relaxed) != MAGIC {
            return Err(AttachError::Foreign);
        }
        let version = page.version.load(Ordering::Relaxed);
        if version != VERSION {
            return Err(AttachError::Version { theirs: version });
        }
        page.state.store(SERVING, Ordering::Release);
        Ok(Tally { page })
    }

    /// Counts connections that were taken out of an accept queue.
    pub fn received(&self, connections: u64) {
        // Whoever finishes them has been given them after this: the order of `finished` is enough.
        self.page.received.fetch_add(connections, Ordering::Relaxed);
    }

    /// Counts connections that were closed or given up. Answers whether the master is to be told
    /// now, with `Relieved`: it has asked, and is told once.
    #[must_use = "the master waits to be told"]
    pub fn finished(&self, connections: u64) -> bool {
        self.page.finished.fetch_add(connections, Ordering::SeqCst);
        // Seldom asked: looking alone leaves the line shared between all threads that finish.
        self.page.wake.load(Ordering::SeqCst) == ASKED
            && self.page.wake.swap(NOT_ASKED, Ordering::SeqCst) == ASKED
    }

    /// The master could not be told: whoever finishes the next connection is to try again.
    pub fn remain_asked(&self) {
        self.page.wake.store(ASKED, Ordering::SeqCst);
    }

    /// Counts a request.
    pub fn request(&self) {
        self.page.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Says that nothing new is taken any more.
    pub fn draining(&self) {
        self.page.state.store(DRAINING, Ordering::Release);
    }
}

/// Why a page is not written.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// Not a page that could be shared without danger.
    #[error(transparent)]
    Page(#[from] Unfit),
    /// Something else stands on it.
    #[error("the page is not a scoreboard")]
    Foreign,
    /// The master has another layout.
    #[error("the scoreboard has version {theirs}, this program knows {VERSION}")]
    Version {
        /// The master's version.
        theirs: u32,
    },
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::scoreboard::Scoreboard;

    #[test]
    fn a_page_of_another_version_is_left_alone() {
        let (page, fd) = Page::create().unwrap();
        let refusal = || Tally::attach(fd.as_fd()).unwrap_err().to_string();
        assert_eq!(refusal(), "the page is not a scoreboard");
        page.magic.store(MAGIC, Ordering::Relaxed);
        page.version.store(VERSION + 1, Ordering::Relaxed);
        assert_eq!(
            refusal(),
            "the scoreboard has version 2, this program knows 1"
        );
        assert_eq!(page.state.load(Ordering::Relaxed), 0, "nothing was written");
    }

    #[test]
    fn the_master_is_told_once_for_each_time_it_asks() {
        let (scoreboard, fd) = Scoreboard::create().unwrap();
        let tally = Tally::attach(fd.as_fd()).unwrap();
        tally.received(5);
        assert!(!tally.finished(1));
        scoreboard.ask_for_relief();
        assert!(tally.finished(1));
        assert!(!tally.finished(1));
        // It was not told after all.
        tally.remain_asked();
        assert!(tally.finished(1));
        assert!(!tally.finished(1));
    }
}
