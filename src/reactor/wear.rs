//! Wear: which workers have received too many connections, or take too much memory, and so should be
//! replaced. Age is the supervisor's.
//!
//! Everybody is looked at once in a while; one that takes too much memory for a moment is left alone.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use worker_proto::ids::WorkerId;

use crate::config::rollout::Recycling;
use crate::supervisor::Wear;
use crate::sys::memory;

/// Looks for workers that are worn.
#[derive(Debug)]
pub(crate) struct WearWatch {
    rules: Recycling,
    next: Option<Instant>,
    /// In how many looks in a row a worker took too much memory.
    heavy: BTreeMap<WorkerId, u32>,
}

/// A worker to be looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sight {
    pub(crate) worker: WorkerId,
    pub(crate) pid: u32,
    /// How many connections it was given, and which were not taken back.
    pub(crate) given: u64,
}

impl WearWatch {
    pub(crate) fn new(rules: Recycling) -> Self {
        WearWatch {
            rules,
            next: None,
            heavy: BTreeMap::new(),
        }
    }

    pub(crate) fn adopt(&mut self, rules: Recycling) {
        self.rules = rules;
    }

    /// When to look next; `None` if nobody wants anything looked at.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.is_wanted().then_some(self.next).flatten()
    }

    /// Whether it is time to look, which it is then not again for a while.
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        if !self.is_wanted() {
            return false;
        }
        let is_due = self.next.is_none_or(|next| next <= now);
        if is_due {
            self.next = Some(now + LOOK_EVERY);
        }
        is_due
    }

    /// Who of them should be replaced, and why.
    pub(crate) fn look(&mut self, sights: &[Sight]) -> Vec<(WorkerId, Wear)> {
        self.heavy
            .retain(|worker, _| sights.iter().any(|sight| sight.worker == *worker));
        sights
            .iter()
            .filter_map(|sight| {
                let wear = self.received(sight).or_else(|| self.memory(sight))?;
                Some((sight.worker, wear))
            })
            .collect()
    }

    fn received(&self, sight: &Sight) -> Option<Wear> {
        let limit = self.rules.max_received?.get();
        let received = sight.given;
        let limit = self.rules.jitter.limit(sight.worker, limit);
        (received >= limit).then_some(Wear::Connections { received })
    }

    fn memory(&mut self, sight: &Sight) -> Option<Wear> {
        let limit = self.rules.max_rss?.get();
        let resident = memory::resident(sight.pid)?;
        if resident <= self.rules.jitter.limit(sight.worker, limit) {
            self.heavy.remove(&sight.worker);
            return None;
        }
        let looks = self.heavy.entry(sight.worker).or_default();
        *looks += 1;
        (*looks >= HEAVY_LOOKS).then_some(Wear::Memory { resident })
    }

    fn is_wanted(&self) -> bool {
        self.rules.max_received.is_some() || self.rules.max_rss.is_some()
    }
}

/// Short beside the time in which memory leaks, long beside a look.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A worker that takes too much memory in so many looks in a row does so for good.
const HEAVY_LOOKS: u32 = 3;

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;
    use crate::supervisor::Jitter;

    fn watch(max_received: u64, max_rss: u64) -> WearWatch {
        WearWatch::new(Recycling {
            max_age: None,
            max_received: NonZeroU64::new(max_received),
            max_rss: NonZeroU64::new(max_rss),
            jitter: Jitter { percent: 0 },
        })
    }

    fn own(given: u64) -> Sight {
        Sight {
            worker: WorkerId(1),
            pid: std::process::id(),
            given,
        }
    }

    #[test]
    fn who_was_given_as_many_as_it_may_have_is_worn() {
        let mut watch = watch(100, 0);
        assert_eq!(watch.look(&[own(99)]), []);
        let received = 100;
        assert_eq!(
            watch.look(&[own(100)]),
            [(WorkerId(1), Wear::Connections { received })]
        );
    }

    #[test]
    fn who_takes_too_much_memory_is_worn_after_several_looks() {
        let mut watch = watch(0, 1);
        for _ in 1..HEAVY_LOOKS {
            assert_eq!(watch.look(&[own(0)]), []);
        }
        let worn = watch.look(&[own(0)]);
        assert!(matches!(worn[..], [(WorkerId(1), Wear::Memory { .. })]));
    }

    #[test]
    fn who_is_gone_is_forgotten() {
        let mut watch = watch(0, 1);
        watch.look(&[own(0)]);
        watch.look(&[]);
        assert!(watch.heavy.is_empty());
    }

    #[test]
    fn without_limits_nobody_is_looked_at() {
        #[expect(clippy::disallowed_methods, reason = "any moment will do")]
        let now = Instant::now();
        let mut idle = watch(0, 0);
        assert!(!idle.is_due(now) && idle.deadline().is_none());
        let mut busy = watch(1, 0);
        assert!(busy.is_due(now) && !busy.is_due(now));
        assert_eq!(busy.deadline(), Some(now + LOOK_EVERY));
    }
}
