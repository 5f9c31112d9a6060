//! The flags of the simulation.

use std::path::PathBuf;

use clap::Parser;
use rr_master::config::DEFAULT_WINDOW;
use rr_master::dispatch::StrategyName;

use crate::scenario::Scenario;

/// Simulate strategies of dispatch, with the code that the master runs, in virtual time.
///
/// Times in the results are in means of the work that one connection is: 3.0 is three milliseconds where
/// a worker needs one for a connection. Without flags everything in docs/strategies.md is simulated,
/// which takes minutes.
#[derive(Debug, Parser)]
#[command(name = "scripts/simulate")]
pub(crate) struct Args {
    /// Less of everything: seconds, and figures that say little
    #[arg(long)]
    pub(crate) quick: bool,

    /// Only this scenario; may be repeated
    #[arg(long = "scenario", value_name = "NAME", value_parser = scenario)]
    pub(crate) scenarios: Vec<Scenario>,

    /// Only this strategy; may be repeated
    #[arg(long = "strategy", value_name = "NAME")]
    pub(crate) strategies: Vec<StrategyName>,

    /// So many workers instead of several numbers; may be repeated
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) workers: Vec<u32>,

    /// Leave out larger clusters, which take longest
    #[arg(long, value_name = "N", conflicts_with = "workers", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_workers: Option<u32>,

    /// How much there is to do, in percent of what all workers can do; may be repeated
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(1..=200))]
    pub(crate) utilisation: Vec<u32>,

    /// How many connections may wait in one worker's accept queue
    #[arg(long, value_name = "N", default_value_t = DEFAULT_WINDOW.into(), value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) window: u64,

    /// How many things one worker does at a time: 1 is one event loop
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) servers: u32,

    /// How many connections to measure; before that others come until things have settled
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub(crate) connections: Option<u64>,

    /// Brings the same clients at the same times again
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,

    /// Write `simulation.csv` and the charts into this directory
    #[arg(long, value_name = "DIR")]
    pub(crate) into: Option<PathBuf>,
}

impl Args {
    /// How many connections are measured.
    pub(crate) fn connections(&self) -> u64 {
        let usual = if self.quick { 10_000 } else { 500_000 };
        self.connections.unwrap_or(usual)
    }
}

fn scenario(name: &str) -> Result<Scenario, String> {
    let mut all = Scenario::ALL.iter().copied();
    all.find(|scenario| scenario.name == name).ok_or_else(|| {
        let names = Scenario::ALL.iter().map(|scenario| scenario.name);
        format!("use one of {}", names.collect::<Vec<_>>().join(", "))
    })
}
