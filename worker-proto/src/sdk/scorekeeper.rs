//! The scorekeeper: counts on this process's page of the scoreboard, if it was given one.
//!
//! Cheap to clone, one page for all clones. Without a page everything here does nothing.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use crate::tally::Tally;

/// Counts, or not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scorekeeper(Option<Arc<Tally>>);

impl Scorekeeper {
    /// Counts on `page`, which came with `Welcome`. A page that it cannot use is as good as none.
    pub(crate) fn on(page: OwnedFd) -> Self {
        match Tally::attach(page.as_fd()) {
            Ok(tally) => Scorekeeper(Some(Arc::new(tally))),
            Err(err) => {
                log::warn!("serving without a scoreboard: {err}");
                Scorekeeper(None)
            }
        }
    }

    /// Says that nothing new is taken any more.
    pub(crate) fn draining(&self) {
        if let Some(tally) = &self.0 {
            tally.draining();
        }
    }
}
