//! Strategies: how the master chooses among the workers of each listener, and what they weigh. Data
//! only.

use std::num::NonZeroU32;

use worker_proto::ids::Slot;

use super::Config;
use super::listener::ListenerSpec;
pub use crate::dispatch::StrategyName;

/// How much the worker of each slot weighs, for a strategy that weighs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Weights(Vec<NonZeroU32>);

impl Weights {
    /// These, from slot 0 on, each at most [`MAX_WEIGHT`]; every further slot weighs 1.
    #[must_use]
    pub fn new(weights: impl IntoIterator<Item = NonZeroU32>) -> Self {
        Weights(weights.into_iter().map(clamped).collect())
    }

    /// The weight of this slot.
    #[must_use]
    pub fn of(&self, slot: Slot) -> NonZeroU32 {
        let index = usize::try_from(slot.0).unwrap_or(usize::MAX);
        self.0.get(index).copied().unwrap_or(NonZeroU32::MIN)
    }

    /// Those that were given.
    pub fn iter(&self) -> impl Iterator<Item = NonZeroU32> {
        self.0.iter().copied()
    }

    /// Whether none was given: everybody weighs the same.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// At most [`MAX_WEIGHT`].
#[must_use]
pub fn clamped(weight: NonZeroU32) -> NonZeroU32 {
    weight.min(MAX_WEIGHT)
}

/// Reads a weight.
///
/// # Errors
/// What to write instead.
pub fn parse_weight(text: &str) -> Result<NonZeroU32, String> {
    let weight = text.parse().ok().filter(|it| *it <= MAX_WEIGHT);
    weight.ok_or_else(|| format!("a weight is a number from 1 to {MAX_WEIGHT}"))
}

impl Config {
    /// How the workers of this listener are chosen.
    #[must_use]
    pub fn strategy_of(&self, spec: &ListenerSpec) -> StrategyName {
        spec.strategy.unwrap_or(self.strategy)
    }
}

/// The listeners as they are, with the strategies that they are to have: everything else of a
/// listener takes a restart of the master.
#[must_use]
pub(crate) fn followed(listeners: &[ListenerSpec], new: &[ListenerSpec]) -> Vec<ListenerSpec> {
    let mut followed = listeners.to_vec();
    for spec in &mut followed {
        if let Some(new) = new.iter().find(|new| new.name() == spec.name()) {
            spec.strategy = new.strategy;
        }
    }
    followed
}

/// More than 1,000 times as fast no machine is.
pub const MAX_WEIGHT: NonZeroU32 = NonZeroU32::new(1000).unwrap();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_without_a_weight_weigh_one() {
        let weights = ["3", "1000"].map(|text| parse_weight(text).unwrap());
        let weights = Weights::new(weights);
        let of = [0, 1, 2, u32::MAX].map(|slot| weights.of(Slot(slot)).get());
        assert_eq!(of, [3, 1000, 1, 1]);
        assert!(!weights.is_empty() && Weights::default().is_empty());
    }

    #[test]
    fn a_weight_is_neither_nothing_nor_endless() {
        for wrong in ["0", "1001", "-1", "x", "", "1.5", "4294967296"] {
            let reason = parse_weight(wrong).unwrap_err();
            assert_eq!(reason, "a weight is a number from 1 to 1000", "{wrong:?}");
        }
        assert_eq!(clamped(NonZeroU32::MAX), MAX_WEIGHT);
    }

    #[test]
    fn only_strategies_are_followed() {
        let specs = |texts: &[&str]| -> Vec<ListenerSpec> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let old = specs(&["a=127.0.0.1:1", "b=127.0.0.1:2,strategy=random"]);
        let new = specs(&[
            "b=127.0.0.1:3",
            "c=127.0.0.1:4",
            "a=127.0.0.1:1,strategy=weighted",
        ]);
        let expected = specs(&["a=127.0.0.1:1,strategy=weighted", "b=127.0.0.1:2"]);
        assert_eq!(followed(&old, &new), expected);
    }
}
