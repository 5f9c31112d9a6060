//! The ration: how often operators are told of what a process can cause as often as it likes.

use std::time::{Duration, Instant};

/// How often operators were told of late: a process that offers and resigns, or registers and
/// unregisters, all the time fills no log.
#[derive(Debug, Default)]
pub(super) struct Ration {
    began: Option<Instant>,
    told: u32,
}

impl Ration {
    pub(super) fn may_be_told(&mut self, now: Instant) -> bool {
        let is_over = |began: Instant| now.saturating_duration_since(began) >= SPELL;
        if self.began.is_none_or(is_over) {
            (self.began, self.told) = (Some(now), 0);
        }
        self.told = self.told.saturating_add(1);
        self.told <= TOLD_PER_SPELL
    }
}

/// For how long they are counted.
const SPELL: Duration = Duration::from_secs(10);

/// How many changes operators are told of within that.
const TOLD_PER_SPELL: u32 = 100;

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "any moment will do as the beginning"
)]
mod tests {
    use super::*;

    #[test]
    fn operators_are_told_of_so_many_changes_in_a_while() {
        let (mut ration, beginning) = (Ration::default(), Instant::now());
        let mut told = |seconds| ration.may_be_told(beginning + Duration::from_secs(seconds));
        assert_eq!((0..1000).filter(|_| told(1)).count(), 100);
        assert!(!told(9));
        assert!(told(11));
    }
}
