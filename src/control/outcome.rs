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
    /// Of these listeners it was another.
    StrategyChanged {
        strategy: String,
        changed: Vec<Rechosen>,
    },
    Levelled {
        level: String,
    },
    LogsReopened {
        processes: usize,
        log_file: bool,
    },
    Checked {
        changes: Vec<String>,
    },
    /// So much of a value is there.
    Receiving {
        received: u64,
        size: u64,
    },
    Pushed {
        key: String,
        version: u64,
        watchers: u32,
    },
    /// It says what it said before.
    Unchanged {
        key: String,
        version: u64,
    },
    Adopted {
        key: String,
        version: u64,
        processes: u32,
    },
    Sent {
        receivers: u32,
    },
    Answered {
        reply: Reply,
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

/// A listener that had another strategy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Rechosen {
    pub(crate) listener: String,
    pub(crate) from: String,
}

/// What a process answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Reply {
    pub(crate) content: String,
    pub(crate) len_bytes: u64,
    /// Left out if it is long, or no text.
    pub(crate) payload: Option<String>,
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
            Outcome::StrategyChanged { strategy, changed } if changed.is_empty() => {
                write!(f, "the strategy is {strategy} already")
            }
            Outcome::StrategyChanged { strategy, changed } => {
                let changed = changed.iter();
                let changed: Vec<String> = changed
                    .map(|Rechosen { listener, from }| format!("{listener}: {from} -> {strategy}"))
                    .collect();
                f.write_str(&changed.join(", "))
            }
            Outcome::Checked { changes } if changes.is_empty() => {
                f.write_str("the configuration is right, and nothing has changed")
            }
            Outcome::Checked { changes } => {
                write!(f, "the configuration is right; a reload changes ")?;
                f.write_str(&changes.join(", "))
            }
            Outcome::Receiving { received, size } => write!(f, "{received} of {size} bytes"),
            Outcome::Pushed {
                key,
                version,
                watchers,
            } => {
                let who = match watchers {
                    0 => "nobody watches it".to_owned(),
                    1 => "1 process watches it".to_owned(),
                    many => format!("{many} processes watch it"),
                };
                write!(f, "{key:?} is at version {version}; {who}")
            }
            Outcome::Unchanged { key, version } => {
                write!(f, "{key:?} stays at version {version}, which says the same")
            }
            Outcome::Adopted {
                key,
                version,
                processes,
            } => {
                let who = match processes {
                    0 => "nobody watches it".to_owned(),
                    1 => "the process that watches it has taken it over".to_owned(),
                    many => format!("all {many} processes that watch it have taken it over"),
                };
                write!(f, "{key:?} is at version {version}; {who}")
            }
            Outcome::Sent { receivers: 1 } => f.write_str("sent to 1 process"),
            Outcome::Sent { receivers } => write!(f, "sent to {receivers} processes"),
            Outcome::Answered { reply } => match &reply.payload {
                Some(payload) => f.write_str(payload),
                None => write!(
                    f,
                    "answered: {} bytes of {}",
                    reply.len_bytes, reply.content
                ),
            },
            Outcome::JobRunning { job, run } => write!(f, "job {job}: run {run}"),
            Outcome::JobDone { job, run, result } => write!(f, "job {job} run {run}: {result}"),
            Outcome::Levelled { level } => write!(f, "log level is {level}"),
            Outcome::LogsReopened {
                processes,
                log_file,
            } => {
                let plural = if *processes == 1 { "" } else { "es" };
                write!(f, "{processes} process{plural} told, ")?;
                f.write_str(match log_file {
                    true => "the log file is opened again",
                    false => "there is no log file",
                })
            }
        }
    }
}

fn listed(names: &[String]) -> String {
    match names {
        [] => "no listener".to_owned(),
        names => names.join(", "),
    }
}
