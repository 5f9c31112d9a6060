//! The flags about which worker gets the next connection.

use std::num::NonZeroU32;

use clap::Args;

use crate::config::Config;
use crate::config::strategy::{StrategyName, Weights, parse_weight};

/// Flags.
#[derive(Debug, Args)]
pub(super) struct StrategyArgs {
    /// Which worker the master gives the next connection: `round-robin`, everybody in turn;
    /// `least-connections`, whoever has the fewest open; `power-of-two-choices`, the better of two
    /// taken at random; `weighted`, in turn by --weights; `source-hash`, a client (its address, of
    /// IPv6 the first 64 bits) always the same slot; `idle-first`, whoever has been free longest;
    /// `random`. A listener may say otherwise: -l 127.0.0.1:8000,strategy=random
    #[arg(long, value_name = "NAME", default_value_t, help_heading = "Listening")]
    strategy: StrategyName,

    /// With `weighted` and `source-hash`: how large a share the worker of slot 0 gets, of slot 1 and
    /// so on, 1 to 1000; the rest get 1. A worker may say otherwise of itself
    #[arg(
        long,
        value_name = "N,...",
        value_delimiter = ',',
        value_parser = parse_weight,
        help_heading = "Listening"
    )]
    weights: Vec<NonZeroU32>,
}

impl StrategyArgs {
    /// Puts what the flags say into the configuration.
    pub(super) fn apply(&self, config: &mut Config) {
        config.strategy = self.strategy;
        config.weights = Weights::new(self.weights.iter().copied());
    }
}
