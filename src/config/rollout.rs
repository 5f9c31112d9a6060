//! How generations and workers are replaced: the rules of reloads and of recycling.

use std::num::NonZeroU64;
use std::time::Duration;

use crate::supervisor::{Jitter, RolloutPlan};

/// When a worker that does nothing wrong is replaced. Its successor is always ready first, and never
/// are two replaced at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recycling {
    /// When it is that old.
    pub max_age: Option<Duration>,
    /// When it has received that many connections.
    pub max_received: Option<NonZeroU64>,
    /// When its resident memory was more than that many bytes for a while.
    pub max_rss: Option<NonZeroU64>,
    /// By how much these are lowered, so that workers do not reach them together.
    pub jitter: Jitter,
}

impl Default for Recycling {
    fn default() -> Self {
        Recycling {
            max_age: None,
            max_received: None,
            max_rss: None,
            jitter: Jitter { percent: 10 },
        }
    }
}

/// How a reload is made when nobody says otherwise: one more worker at a time and nobody missing, and
/// the first of the new generation serves for two seconds before the others follow.
pub const DEFAULT_ROLLOUT: RolloutPlan = RolloutPlan {
    surge: 1,
    unavailable: 0,
    canary: Duration::from_secs(2),
};
