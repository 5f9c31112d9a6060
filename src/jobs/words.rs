//! A job in words, as a person writes it into the configuration.

use std::fmt;
use std::time::Duration;

use worker_proto::job::{JobSpec, JobTarget, OnLost, Overlap, Schedule};

use super::event::{Planned, Standing};

/// `every 30s`, `cron 30 4 * * * (Europe/Berlin)`, or `never`.
#[must_use]
pub fn schedule(spec: &JobSpec) -> String {
    match &spec.schedule {
        Schedule::Never => "never".to_owned(),
        Schedule::Interval(interval) => format!("every {}", time(*interval)),
        Schedule::Cron {
            expression,
            time_zone: None,
        } => format!("cron {expression}"),
        Schedule::Cron {
            expression,
            time_zone: Some(zone),
        } => format!("cron {expression} ({zone})"),
    }
}

/// `one`, `all`, `agent`, `agent:NAME` or `slot 3`.
#[must_use]
pub fn target(spec: &JobSpec) -> String {
    match &spec.target {
        JobTarget::One => "one".to_owned(),
        JobTarget::All => "all".to_owned(),
        JobTarget::Agent(None) => "agent".to_owned(),
        JobTarget::Agent(Some(name)) => format!("agent:{name}"),
        JobTarget::Slot(slot) => format!("slot {slot}"),
    }
}

/// `skip`, `queue` or `allow`.
#[must_use]
pub fn overlap(spec: &JobSpec) -> &'static str {
    match spec.overlap {
        Overlap::Skip => "skip",
        Overlap::Queue => "queue",
        Overlap::Allow => "allow",
    }
}

/// `drop` or `retry`.
#[must_use]
pub fn on_lost(spec: &JobSpec) -> &'static str {
    match spec.on_lost {
        OnLost::Drop => "drop",
        OnLost::Retry => "retry",
    }
}

/// `sweep (every 30s, one, skip, drop, timeout 10s)`
impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Planned { spec, standing } = self;
        let (schedule, target) = (schedule(spec), target(spec));
        let (overlap, on_lost) = (overlap(spec), on_lost(spec));
        let name = &spec.name;
        write!(f, "{name} ({schedule}, {target}, {overlap}, {on_lost}")?;
        if let Some(timeout) = spec.timeout {
            write!(f, ", timeout {}", time(timeout))?;
        }
        if !spec.jitter.is_zero() {
            write!(f, ", jitter {}", time(spec.jitter))?;
        }
        if spec.immediate {
            f.write_str(", immediate")?;
        }
        match standing {
            Standing::Enabled => f.write_str(")"),
            Standing::Disabled => f.write_str(", disabled)"),
        }
    }
}

fn time(time: Duration) -> String {
    humantime::format_duration(time).to_string()
}
