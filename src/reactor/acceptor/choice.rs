//! The choice: which strategy each listener has, and what each worker weighs.
//!
//! What a worker wants to weigh is believed until it is gone, and goes before what its slot weighs.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use worker_proto::frame::DispatchMode;
use worker_proto::ids::{Slot, WorkerId};

use super::Acceptor;
use crate::config::Config;
use crate::config::listener::ListenerSpec;
use crate::config::strategy::{StrategyName, Weights, clamped};
use crate::control::outcome::Rechosen;

/// What is chosen by.
#[derive(Debug, Default)]
pub(super) struct Choice {
    /// Of listeners that say nothing else, those to come included.
    pub(super) strategy: StrategyName,
    weights: Weights,
    wishes: BTreeMap<WorkerId, NonZeroU32>,
}

impl Choice {
    pub(super) fn weight(&self, worker: WorkerId, slot: Slot) -> NonZeroU32 {
        let wish = self.wishes.get(&worker).copied();
        wish.unwrap_or_else(|| self.weights.of(slot))
    }

    /// The worker is gone.
    pub(super) fn forget(&mut self, worker: WorkerId) {
        self.wishes.remove(&worker);
    }
}

impl Acceptor {
    /// Listeners to come are served with these.
    pub(crate) fn choosing_as(mut self, config: &Config) -> Self {
        self.choice.strategy = config.strategy;
        self.choice.weights = config.weights.clone();
        self
    }

    /// The configuration has changed. A listener keeps the strategy that an operator has chosen
    /// since, unless the configuration wants another one for it now.
    pub(crate) fn choose_as(&mut self, old: &Config, new: &Config) {
        if old.strategy != new.strategy {
            self.choice.strategy = new.strategy;
        }
        let of = |config: &Config, name: &str| {
            let spec = config.listeners.iter().find(|spec| spec.name() == name);
            let strategy_of = |spec: &ListenerSpec| config.strategy_of(spec);
            spec.map_or(config.strategy, strategy_of)
        };
        let chosen = self.serving.values_mut();
        for serving in chosen.filter(|it| it.mode() == DispatchMode::HandOff) {
            let [old, new] = [old, new].map(|config| of(config, serving.name()));
            if old != new {
                serving.choose_by(new);
            }
        }
        if old.weights != new.weights {
            self.choice.weights = new.weights.clone();
            self.weigh_all();
        }
    }

    /// Workers of this listener are chosen so from now on, or of all that the master accepts for and
    /// of those to come. Answers which had another strategy.
    pub(crate) fn choose_by(
        &mut self,
        strategy: StrategyName,
        name: Option<&str>,
    ) -> Vec<Rechosen> {
        if name.is_none() {
            self.choice.strategy = strategy;
        }
        let chosen = self.serving.values_mut().filter(|it| {
            it.mode() == DispatchMode::HandOff && name.is_none_or(|name| it.name() == name)
        });
        let changed = chosen.filter_map(|serving| {
            let from = serving.choose_by(strategy)?;
            Some(Rechosen {
                listener: serving.name().to_owned(),
                from: from.to_string(),
            })
        });
        changed.collect()
    }

    /// The worker wants to weigh so much; answers what it weighs now.
    pub(crate) fn wish(&mut self, worker: WorkerId, weight: u32) -> NonZeroU32 {
        let weight = clamped(NonZeroU32::new(weight).unwrap_or(NonZeroU32::MIN));
        if self.choice.wishes.insert(worker, weight) != Some(weight) {
            for serving in self.serving.values_mut() {
                serving.weigh(worker, weight);
            }
        }
        weight
    }

    fn weigh_all(&mut self) {
        for serving in self.serving.values_mut() {
            serving.weigh_all(|worker, slot| self.choice.weight(worker, slot));
        }
    }
}
