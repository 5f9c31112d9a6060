//! The request counter: a handle for those who answer requests.

use super::scorekeeper::Scorekeeper;

/// Counts the requests of this worker, for whoever operates the cluster: a connection may bring
/// many of them, or none, and only the program knows. Cheap to clone, one count for all clones.
#[derive(Clone, Debug)]
pub struct RequestCounter(Scorekeeper);

impl RequestCounter {
    pub(crate) fn on(scorekeeper: Scorekeeper) -> Self {
        RequestCounter(scorekeeper)
    }

    /// Counts one request. Costs next to nothing, and nothing without a master.
    pub fn count(&self) {
        self.0.request();
    }
}
