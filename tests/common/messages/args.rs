//! The flags.

use std::time::Duration;

use clap::Parser;

/// Have workers write to each other while they are killed, and account for every message.
#[derive(Debug, Parser)]
#[command(name = "scripts/messages-soak")]
pub(crate) struct Args {
    /// How many messages are to be received at least
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    pub(crate) messages: u64,

    /// How many workers
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub(crate) workers: usize,

    /// How many threads of each send
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub(crate) threads: usize,

    /// How long it takes on average from one SIGKILL to the next; 0s for none
    #[arg(long, value_name = "TIME", default_value = "50ms", value_parser = humantime::parse_duration)]
    pub(crate) kill_every: Duration,

    /// Kills the same workers again, if they come in the same order
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
}
