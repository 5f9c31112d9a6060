//! The peers: who is in the cluster, as far as the master has told.
//!
//! What it tells is a list at first and changes from then on. An id never comes again, so who is
//! gone stays gone.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_channel::RecvTimeoutError;

use crate::ids::WorkerId;
use crate::message::{Peer, PeerState};

/// Who is in the cluster, this process included; see [`Messenger::peers`](super::Messenger::peers).
///
/// ```
/// # use std::time::Duration;
/// # let (master, worker) = worker_proto::FakeMaster::new();
/// let mut peers = worker.peers();
/// let there = peers.changed(Duration::from_secs(5))?;
/// assert_eq!(there[0].worker, worker.identity().worker);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Peers {
    roll: Arc<Roll>,
    /// Which version of the roll was seen.
    seen: u64,
}

/// The list, shared by all who look at it.
#[derive(Debug)]
pub(crate) struct Roll {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    peers: BTreeMap<WorkerId, Peer>,
    version: u64,
    has_ended: bool,
}

impl Peers {
    pub(crate) fn on(roll: Arc<Roll>) -> Self {
        Peers { roll, seen: 0 }
    }

    /// Who is there, by id. Empty until the master has answered, which
    /// [`changed`](Self::changed) waits for.
    #[must_use]
    pub fn now(&self) -> Vec<Peer> {
        self.roll.state().list()
    }

    /// Waits until there is another list than this has answered with before, and answers with it.
    /// Changes that come in quick succession may be seen as one.
    ///
    /// # Errors
    /// `Timeout` when nothing has changed within that time, `Disconnected` when nothing will any
    /// more: the master is gone, or this process has left.
    pub fn changed(&mut self, within: Duration) -> Result<Vec<Peer>, RecvTimeoutError> {
        let state = self.roll.state();
        let seen = self.seen;
        let waited = self
            .roll
            .changed
            .wait_timeout_while(state, within, |state| {
                state.version == seen && !state.has_ended
            });
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if state.version != seen {
            self.seen = state.version;
            Ok(state.list())
        } else if state.has_ended {
            Err(RecvTimeoutError::Disconnected)
        } else {
            Err(RecvTimeoutError::Timeout)
        }
    }
}

impl Roll {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Roll {
            state: Mutex::new(State {
                peers: BTreeMap::new(),
                version: 0,
                has_ended: false,
            }),
            changed: Condvar::new(),
        })
    }

    pub(crate) fn update(&self, changed: Vec<Peer>) {
        let mut state = self.state();
        for peer in changed {
            match peer.state {
                PeerState::Starting | PeerState::Ready | PeerState::Draining => {
                    state.peers.insert(peer.worker, peer);
                }
                PeerState::Gone => {
                    state.peers.remove(&peer.worker);
                }
            }
        }
        state.version += 1;
        self.changed.notify_all();
    }

    pub(crate) fn ended(&self) {
        self.state().has_ended = true;
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock can leave it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn list(&self) -> Vec<Peer> {
        self.peers.values().cloned().collect()
    }
}
