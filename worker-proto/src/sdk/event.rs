//! The events: what a program is told beside its connections.

use std::time::Duration;

/// Something happened in the cluster; see [`Worker::events`](super::Worker::events).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// All processes of the cluster are ready. Stand-alone: this one is.
    ClusterReady,
    /// Take nothing new, finish, exit. The listeners end by themselves.
    Drain {
        /// How long until the master sends SIGTERM; without a master there is no end to it.
        within: Duration,
    },
    /// The master is gone. The process is draining, and is ended by force after a short grace.
    MasterGone,
    /// Open your log files again, under the names that they had at first: what has these names now is
    /// another file, or none. Several such orders that nobody has taken yet are one. See
    /// [`Worker::reopen_logs`](super::Worker::reopen_logs).
    ReopenLogs,
}

/// How many events wait for a program that does not look. A master sends only a few in a whole
/// life, and of orders to open log files again one waits; of a program that never looks, those beyond
/// are dropped with a line in the log.
pub(crate) const EVENTS: usize = 16;
