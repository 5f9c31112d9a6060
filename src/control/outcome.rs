//! What became of a change.

use std::fmt;

use serde::Serialize;

/// What is under way now, or done. `did` is its stable name on the control socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "did", rename_all = "kebab-case")]
pub(crate) enum Outcome {
    Stopping,
    Stopped {
        code: u8,
    },
    Reloading,
    Reloaded {
        generation: u64,
        unapplied: Vec<String>,
    },
    RollingBack,
    RolledBack {
        generation: u64,
    },
    Scaling {
        from: u32,
        to: u32,
    },
    Scaled {
        workers: u32,
    },
    Restarting {
        slot: String,
    },
    Restarted {
        slot: String,
    },
    Draining {
        slot: String,
    },
    Drained {
        slot: String,
    },
    Killed {
        slot: String,
        processes: usize,
    },
    Signalled {
        processes: usize,
    },
    Paused {
        listeners: Vec<String>,
    },
    Resumed {
        listeners: Vec<String>,
    },
    Levelled {
        level: String,
    },
    Checked {
        changes: Vec<String>,
    },
    JobRunning {
        job: String,
        run: u64,
    },
    JobDone {
        job: String,
        run: u64,
        result: String,
    },
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Stopping => f.write_str("stopping"),
            Outcome::Stopped { code } => write!(f, "stopped with exit code {code}"),
            Outcome::Reloading => f.write_str("reloading"),
            Outcome::Reloaded {
                generation,
                unapplied,
            } => {
                write!(f, "all at generation {generation}")?;
                if unapplied.is_empty() {
                    return Ok(());
                }
                write!(
                    f,
                    "; takes a restart of the master: {}",
                    unapplied.join(", ")
                )
            }
            Outcome::RollingBack => f.write_str("rolling back"),
            Outcome::RolledBack { generation } => write!(f, "back at generation {generation}"),
            Outcome::Scaling { from, to } => write!(f, "scaling from {from} to {to} workers"),
            Outcome::Scaled { workers: 1 } => f.write_str("1 worker"),
            Outcome::Scaled { workers } => write!(f, "{workers} workers"),
            Outcome::Restarting { slot } => write!(f, "restarting {slot}"),
            Outcome::Restarted { slot } => write!(f, "{slot} restarted"),
            Outcome::Draining { slot } => write!(f, "draining {slot}"),
            Outcome::Drained { slot } => write!(f, "{slot} drained, and kept empty"),
            Outcome::Killed { slot, processes: 0 } => write!(f, "nobody is in {slot}"),
            Outcome::Killed { slot, .. } => write!(f, "{slot} killed"),
            Outcome::Signalled { processes: 1 } => f.write_str("1 process signalled"),
            Outcome::Signalled { processes } => write!(f, "{processes} processes signalled"),
            Outcome::Paused { listeners } => write!(f, "paused: {}", listed(listeners)),
            Outcome::Resumed { listeners } => write!(f, "resumed: {}", listed(listeners)),
            Outcome::Checked { changes } if changes.is_empty() => {
                f.write_str("the configuration is right, and nothing has changed")
            }
            Outcome::Checked { changes } => {
                write!(f, "the configuration is right; a reload changes ")?;
                f.write_str(&changes.join(", "))
            }
            Outcome::JobRunning { job, run } => write!(f, "job {job}: run {run}"),
            Outcome::JobDone { job, run, result } => write!(f, "job {job} run {run}: {result}"),
            Outcome::Levelled { level } => write!(f, "log level is {level}"),
        }
    }
}

fn listed(names: &[String]) -> String {
    match names {
        [] => "no listener".to_owned(),
        names => names.join(", "),
    }
}
