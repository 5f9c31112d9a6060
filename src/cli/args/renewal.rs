//! The flags about replacing workers: reloads, recycling, spare workers, and when to give up.

use std::num::NonZeroU64;
use std::time::Duration;

use bytesize::ByteSize;
use clap::Args;

use super::{parse_count, parse_time, parse_timeout};
use crate::cli::{Failure, usage};
use crate::config::Config;
use crate::config::rollout::Recycling;
use crate::supervisor::{Jitter, RolloutPlan};

/// Flags.
#[derive(Debug, Args)]
pub(super) struct Renewal {
    /// How many workers more are ready to take the place of one that is missing; they get no
    /// connections before that
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        help_heading = "Processes"
    )]
    spare: u32,

    /// During a reload: how many workers more than wanted there may be
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Reload")]
    surge: u32,

    /// During a reload: how many of the wanted workers may be missing
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Reload")]
    unavailable: u32,

    /// During a reload: how long the first new worker has to serve before old ones leave. If it fails
    /// before that, or any new worker before the end, everything goes back
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = parse_time, help_heading = "Reload")]
    canary: Duration,

    /// Replace a worker that is that old
    #[arg(long, value_name = "TIME", value_parser = parse_timeout, help_heading = "Recycling")]
    max_age: Option<Duration>,

    /// Replace a worker that has received that many connections
    #[arg(long, value_name = "N", value_parser = parse_count, help_heading = "Recycling")]
    max_received: Option<NonZeroU64>,

    /// Replace a worker whose resident memory stays above SIZE, such as 512MiB
    #[arg(long, value_name = "SIZE", value_parser = parse_size, help_heading = "Recycling")]
    max_rss: Option<NonZeroU64>,

    /// By how much these limits are lowered for each worker, so that they do not reach them together
    #[arg(long, value_name = "PERCENT", default_value = "10%", value_parser = parse_percent, help_heading = "Recycling")]
    recycle_jitter: u8,

    /// With fewer serving workers, or without one of the agents, the cluster is unhealthy: see
    /// --unhealthy-exit. More than --workers counts as all of them
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Life")]
    min_workers: u32,

    /// Stop with code 8 when the cluster was unhealthy for so long. By default it is given all the
    /// time there is
    #[arg(long, value_name = "TIME", value_parser = parse_timeout, help_heading = "Life")]
    unhealthy_exit: Option<Duration>,

    /// Exit codes with which a process says that it is done and wants no replacement. Code 78 always
    /// says that a replacement is of no use
    #[arg(
        long,
        value_name = "CODE,...",
        value_delimiter = ',',
        help_heading = "Life"
    )]
    stop_exit_codes: Vec<u8>,
}

impl Renewal {
    /// Puts what the flags say into the configuration.
    pub(super) fn apply(&self, config: &mut Config) -> Result<(), Failure> {
        if self.surge == 0 && self.unavailable == 0 {
            return Err(usage(
                "--surge 0 with --unavailable 0: nobody could ever be replaced; allow 1 of either",
            ));
        }
        config.spare = self.spare;
        config.rollout = RolloutPlan {
            surge: self.surge,
            unavailable: self.unavailable,
            canary: self.canary,
        };
        config.recycling = Recycling {
            max_age: self.max_age,
            max_received: self.max_received,
            max_rss: self.max_rss,
            jitter: Jitter {
                percent: self.recycle_jitter,
            },
        };
        config.min_workers = self.min_workers;
        config.unhealthy_exit = self.unhealthy_exit;
        config.stop_exit_codes = self
            .stop_exit_codes
            .iter()
            .map(|code| i32::from(*code))
            .collect();
        Ok(())
    }
}

pub(super) fn parse_size(text: &str) -> Result<NonZeroU64, String> {
    let ByteSize(bytes) = text
        .parse()
        .map_err(|err| format!("{err}: write a size such as 512MiB or 2GB"))?;
    NonZeroU64::new(bytes).ok_or_else(|| "must be more than nothing".to_owned())
}

fn parse_percent(text: &str) -> Result<u8, String> {
    let number = text.strip_suffix('%').unwrap_or(text);
    match number.parse() {
        Ok(percent) if percent <= 100 => Ok(percent),
        Ok(_) | Err(_) => Err("write a share from 0% to 100%".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_shares_are_read_as_people_write_them() {
        assert_eq!(parse_size("512MiB").unwrap().get(), 512 << 20);
        assert_eq!(parse_size("1000").unwrap().get(), 1000);
        assert!(parse_size("0").is_err() && parse_size("much").is_err());
        assert_eq!((parse_percent("25%"), parse_percent("0")), (Ok(25), Ok(0)));
        assert!(parse_percent("101%").is_err() && parse_percent("-1").is_err());
    }
}
