//! The flags of the soak.

use clap::Parser;

/// Load a master while its workers die, and account for every connection.
#[derive(Debug, Parser)]
#[command(name = "scripts/soak")]
pub(crate) struct Args {
    /// How many SIGKILLs of workers, at points of their protocol and at random
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub(crate) kills: u64,

    /// How many connections at least
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) connections: u64,

    /// How many workers
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub(crate) workers: usize,

    /// How many clients at a time
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub(crate) concurrency: usize,

    /// Draws the same fates for the same workers again
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
}
