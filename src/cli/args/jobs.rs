//! The flag about jobs: a table of the configuration file, on the command line.

use std::time::Duration;

use clap::Args;
use serde::Deserialize;
use worker_proto::ids::Slot;
use worker_proto::job::{JobSpec, JobTarget, OnLost, Overlap, Schedule};

use super::{parse_time, parse_timeout};
use crate::config::Config;
use crate::jobs::{self, Planned, Standing};

/// Flags.
#[derive(Debug, Args)]
pub(super) struct JobArgs {
    /// Have workers run a job: name="sweep", interval="30s" or cron="*/5 * * * *". In the file a
    /// table [[job]]. Other keys are target, overlap, timeout, jitter, on-lost, immediate, enabled, and
    /// time-zone for cron. May be repeated
    #[arg(long, value_name = "KEY=VALUE,...", value_parser = parse_job, help_heading = "Jobs")]
    job: Vec<Planned>,
}

impl JobArgs {
    /// Puts what the flags say into the configuration.
    pub(super) fn apply(&self, config: &mut Config) {
        config.jobs.clone_from(&self.job);
    }
}

/// A job as it is written.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Written {
    name: String,
    interval: Option<String>,
    cron: Option<String>,
    time_zone: Option<String>,
    #[serde(default)]
    immediate: bool,
    #[serde(default = "one")]
    target: String,
    #[serde(default)]
    overlap: WrittenOverlap,
    #[serde(default)]
    on_lost: WrittenOnLost,
    timeout: Option<String>,
    jitter: Option<String>,
    #[serde(default = "yes")]
    enabled: bool,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum WrittenOverlap {
    #[default]
    Skip,
    Queue,
    Allow,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum WrittenOnLost {
    #[default]
    Drop,
    Retry,
}

/// A table of TOML in one line, with its braces or without.
fn parse_job(text: &str) -> Result<Planned, String> {
    let text = text.trim();
    let table = match text.starts_with('{') {
        true => format!("job = {text}"),
        false => format!("job = {{ {text} }}"),
    };
    let Wrapped { job } = toml::from_str(&table).map_err(|err| {
        let what = err.message().replace('\n', ", ");
        format!("{what}: write name=\"sweep\", interval=\"30s\"")
    })?;
    let planned = job.planned()?;
    jobs::check(&planned.spec).map_err(|err| err.to_string())?;
    Ok(planned)
}

#[derive(Deserialize)]
struct Wrapped {
    job: Written,
}

impl Written {
    fn planned(self) -> Result<Planned, String> {
        let schedule = self.schedule()?;
        let time =
            |key: &str, text: &Option<String>, parse: fn(&str) -> Result<Duration, String>| {
                let time = text.as_deref().map(parse).transpose();
                time.map_err(|err| format!("{key}: {err}"))
            };
        let spec = JobSpec {
            schedule,
            immediate: self.immediate,
            target: parse_target(&self.target)?,
            overlap: match self.overlap {
                WrittenOverlap::Skip => Overlap::Skip,
                WrittenOverlap::Queue => Overlap::Queue,
                WrittenOverlap::Allow => Overlap::Allow,
            },
            timeout: time("timeout", &self.timeout, parse_timeout)?,
            jitter: time("jitter", &self.jitter, parse_time)?.unwrap_or_default(),
            on_lost: match self.on_lost {
                WrittenOnLost::Drop => OnLost::Drop,
                WrittenOnLost::Retry => OnLost::Retry,
            },
            name: self.name,
        };
        let standing = match self.enabled {
            true => Standing::Enabled,
            false => Standing::Disabled,
        };
        Ok(Planned { spec, standing })
    }

    fn schedule(&self) -> Result<Schedule, String> {
        match (&self.interval, &self.cron, &self.time_zone) {
            (Some(interval), None, None) => {
                let interval = parse_timeout(interval).map_err(|err| format!("interval: {err}"))?;
                Ok(Schedule::Interval(interval))
            }
            (None, Some(expression), time_zone) => Ok(Schedule::Cron {
                expression: expression.clone(),
                time_zone: time_zone.clone(),
            }),
            (None, None, None) => Ok(Schedule::Never),
            (Some(_), Some(_), _) => Err("interval and cron: one of them".to_owned()),
            (_, None, Some(_)) => Err("time-zone: only cron has one".to_owned()),
        }
    }
}

fn parse_target(text: &str) -> Result<JobTarget, String> {
    let wrong = || {
        format!(
            "target {text:?}: write one, all, agent, agent:NAME, or \"slot 3\" for the worker in slot 3"
        )
    };
    match text {
        "one" => Ok(JobTarget::One),
        "all" => Ok(JobTarget::All),
        "agent" => Ok(JobTarget::Agent(None)),
        _ => {
            let (kind, which) = text.split_once([' ', ':']).ok_or_else(wrong)?;
            match kind {
                "agent" if !which.is_empty() => Ok(JobTarget::Agent(Some(which.to_owned()))),
                "slot" if which.bytes().all(|byte| byte.is_ascii_digit()) => {
                    let slot = which.parse().map_err(|_| wrong())?;
                    Ok(JobTarget::Slot(Slot(slot)))
                }
                _ => Err(wrong()),
            }
        }
    }
}

fn one() -> String {
    "one".to_owned()
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_read_with_every_key() {
        let planned = parse_job(
            r#"name="sweep", interval="1m 30s", immediate=true, target="slot 3", overlap="queue",
               on-lost="retry", timeout="10s", jitter="2s", enabled=false"#,
        )
        .unwrap();
        let expected = "sweep (every 1m 30s, slot 3, queue, retry, timeout 10s, jitter 2s, \
                        immediate, disabled)";
        assert_eq!(planned.to_string(), expected);
        let planned = parse_job(r#"{ name = "a", cron = "@daily", time-zone = "UTC" }"#).unwrap();
        assert_eq!(
            planned.to_string(),
            "a (cron @daily (UTC), one, skip, drop)"
        );
        let planned = parse_job(r#"name = "a""#).unwrap();
        assert_eq!(planned.to_string(), "a (never, one, skip, drop)");
    }

    #[test]
    fn what_is_wrong_is_said_with_what_would_be_right() {
        for (text, says) in [
            ("", "missing field `name`"),
            ("sweep", "write name=\"sweep\""),
            (r#"name="a", every="1s""#, "unknown field `every`"),
            (r#"name="""#, "a job needs a name"),
            (r#"name="a", interval="1s", cron="@daily""#, "one of them"),
            (r#"name="a", interval="1s", time-zone="UTC""#, "only cron"),
            (r#"name="a", interval="1""#, "interval: "),
            (r#"name="a", interval="1ms""#, "interval 1ms: from 10ms"),
            (r#"name="a", interval="1s", jitter="1s""#, "jitter 1s: less"),
            (r#"name="a", timeout="0s""#, "timeout: "),
            (r#"name="a", cron="61 * * * *""#, "minute \"61\""),
            (
                r#"name="a", cron="* * * * *", time-zone="Moon""#,
                "\"Moon\"",
            ),
            (r#"name="a", target="slot -1""#, "slot 3"),
            (r#"name="a", target="agent:""#, "agent:NAME"),
            (r#"name="a", target="both""#, "target \"both\""),
            (r#"name="a", overlap="twice""#, "expected one of `skip`"),
            (r#"name="a", on-lost="cry""#, "`drop`"),
        ] {
            let said = parse_job(text).unwrap_err();
            assert!(said.contains(says), "{text}: {said}");
        }
    }
}
