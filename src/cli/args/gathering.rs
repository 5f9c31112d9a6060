//! The flags about when the master accepts a connection.

use std::time::Duration;

use clap::Args;

use super::parse_time;
use crate::config::Config;
use crate::config::listener::parse_deferral;

/// Flags.
#[derive(Debug, Args)]
pub(super) struct GatheringArgs {
    /// While many clients come, let each wait for up to TIME, so that the master accepts several at
    /// once: that takes less of a CPU. 0s: every client wakes the master
    #[arg(
        long,
        value_name = "TIME",
        default_value = "200us",
        value_parser = parse_coalesce,
        help_heading = "Listening"
    )]
    coalesce: Duration,

    /// Accept a TCP client when it has sent something, or after about TIME if it says nothing
    /// (TCP_DEFER_ACCEPT): the worker can then read at once, which takes less of a CPU. `no` for
    /// protocols in which the server speaks first, such as SMTP or SSH: their clients would wait that
    /// long. A listener may say otherwise: -l 127.0.0.1:8000,defer-accept=1s
    #[arg(
        long,
        value_name = "TIME|no",
        default_value = "no",
        value_parser = parse_deferral,
        help_heading = "Listening"
    )]
    defer_accept: Duration,
}

impl GatheringArgs {
    /// Puts what the flags say into the configuration.
    pub(super) fn apply(&self, config: &mut Config) {
        config.coalesce = self.coalesce;
        config.dispatch.defer_accept = self.defer_accept;
    }
}

fn parse_coalesce(text: &str) -> Result<Duration, String> {
    match parse_time(text)? {
        time if time > LONGEST_COALESCE => Err("must be at most 10ms".to_owned()),
        time => Ok(time),
    }
}

/// Clients notice more.
const LONGEST_COALESCE: Duration = Duration::from_millis(10);
