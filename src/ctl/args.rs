//! The command line of `rr-ctl`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use log::LevelFilter;

use super::push::PushArgs;
use crate::control::change::{Change, Recipients, ScaleTo, SignalNumber, Target, parse_level};
use crate::control::message::{Addressee, Content, Message};
use crate::control::protocol::{Command, When};
use crate::dispatch::StrategyName;
use crate::supervisor::Stop;

/// See and change a running rr-master.
///
/// Without --control or --pid it finds the only master of this user.
#[derive(Debug, Parser)]
#[command(name = "rr-ctl", version, after_help = AFTER_HELP, max_term_width = 100)]
pub(super) struct Args {
    /// The master's control socket
    #[arg(long, global = true, value_name = "PATH")]
    pub(super) control: Option<PathBuf>,

    /// The master's pid, if several run
    #[arg(long, global = true, value_name = "PID", conflicts_with = "control")]
    pub(super) pid: Option<u32>,

    /// Print what the master answers, as JSON
    #[arg(long, global = true)]
    pub(super) json: bool,

    /// How long to wait; 10s if not given, and with --wait as long as it takes
    #[arg(long, global = true, value_name = "TIME", value_parser = parse_time)]
    pub(super) timeout: Option<Duration>,

    #[command(subcommand)]
    pub(super) action: Action,
}

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Show the processes and the listeners
    Status {
        /// Show them again every second
        #[arg(long, short)]
        watch: bool,
    },
    /// Replace every worker by a new one, a few at a time
    Reload {
        /// Wait until it is done, or was rolled back (exit code 5)
        #[arg(long, short)]
        wait: bool,
        /// Take back the reload that is under way
        #[arg(long)]
        abort: bool,
    },
    /// Have N workers, or N more, or N fewer; the highest slots leave
    Scale {
        #[arg(value_name = "N|+N|-N", allow_hyphen_values = true)]
        workers: ScaleTo,
        /// Wait until they are ready, or gone
        #[arg(long, short)]
        wait: bool,
    },
    /// Stop the cluster; clients that wait are served first
    Stop {
        /// Stop at once
        #[arg(long)]
        fast: bool,
        /// Wait until it has stopped
        #[arg(long, short)]
        wait: bool,
    },
    /// Put somebody new into a slot: 3 is a worker's, agent:0 or agent:NAME an agent's
    Restart {
        slot: Target,
        /// Wait until it is ready and the one before is gone
        #[arg(long, short)]
        wait: bool,
    },
    /// Let whoever is in a slot finish and leave; it stays empty until `restart`
    Drain {
        slot: Target,
        /// Wait until it is gone
        #[arg(long, short)]
        wait: bool,
    },
    /// Kill whoever is in a slot, and those it started; it is replaced as after a crash
    Kill { slot: Target },
    /// Send a signal: to all, workers, agents, a slot such as 3, agent:0 or agent:NAME
    Signal {
        #[arg(value_name = "WHO")]
        to: Recipients,
        /// A name such as HUP or USR1, or a number
        signal: SignalNumber,
    },
    /// Accept nothing more: clients wait in the listen backlog
    Pause {
        /// One listener, by its name; all if not given
        listener: Option<String>,
    },
    /// Accept again
    Resume {
        /// One listener, by its name; all if not given
        listener: Option<String>,
    },
    /// Show how the next worker is chosen, or choose otherwise: round-robin, least-connections,
    /// power-of-two-choices, weighted, source-hash, idle-first, random
    Strategy {
        /// From now on, until the next change or a reload that changes it
        #[arg(value_name = "NAME")]
        strategy: Option<StrategyName>,
        /// One listener, by its name; all if not given
        listener: Option<String>,
    },
    /// Show what happened last
    Events {
        /// Go on with what happens
        #[arg(long, short)]
        follow: bool,
    },
    /// Give every process that watches KEY a new value of it, without a restart
    Push(PushArgs),
    /// Show the values, and which processes have them
    Values,
    /// What is run when: jobs of the configuration, and those that workers have registered
    #[command(subcommand)]
    Job(Job),
    /// The configuration
    #[command(subcommand)]
    Config(Config),
    /// The log files of the master and its processes
    #[command(subcommand)]
    Logs(Logs),
    /// Send processes a message: to all, workers, any (one worker), a slot such as 3, agent, agent:NAME,
    /// id:12 or pid:4711
    Send {
        #[arg(value_name = "WHO")]
        to: Addressee,
        /// What it is about: the word that programs subscribe to
        action: String,
        /// What it says; - reads it from standard input
        #[arg(
            default_value = "",
            hide_default_value = true,
            allow_hyphen_values = true
        )]
        payload: String,
        /// The payload is JSON, and tagged so
        #[arg(long)]
        as_json: bool,
        /// Ask, and wait for the answer; for one receiver
        #[arg(long, short)]
        wait: bool,
    },
    /// Change what the master logs: error, warn, info, debug, trace, off
    LogLevel {
        #[arg(value_parser = parse_level)]
        level: LevelFilter,
    },
}

#[derive(Clone, Copy, Debug, Subcommand)]
pub(super) enum Config {
    /// Show the configuration in force
    Show,
    /// Read the configuration anew, and say whether a reload would accept it
    Check,
}

#[derive(Clone, Copy, Debug, Subcommand)]
pub(super) enum Logs {
    /// Have them opened again, after they were moved away
    Reopen,
}

#[derive(Clone, Debug, Subcommand)]
pub(super) enum Job {
    /// Show the jobs, how their last run ended, and when they are due
    List,
    /// Run a job now, although it is not due
    Run {
        name: String,
        /// Wait until it has ended, and print its result
        #[arg(long, short)]
        wait: bool,
    },
}

impl Args {
    /// How long to wait for an answer that comes at once.
    pub(super) fn patience(&self) -> Option<Duration> {
        Some(self.timeout.unwrap_or(ANSWER_TIMEOUT))
    }
}

impl Action {
    /// What the master is asked; `None` for what takes several questions.
    pub(super) fn command(&self) -> Option<Command> {
        let (change, wait) = match self {
            Action::Status { .. } => return Some(Command::Status),
            Action::Events { follow } => return Some(Command::Events { follow: *follow }),
            Action::Config(Config::Show) => return Some(Command::ConfigShow),
            Action::Config(Config::Check) => return Some(Command::ConfigCheck),
            Action::Values => return Some(Command::Values),
            Action::Push(_) => return None,
            Action::Job(Job::List) => return Some(Command::JobList),
            Action::Job(Job::Run { name, wait }) => (Change::RunJob(name.clone()), *wait),
            Action::Reload { wait, abort: false } => (Change::Reload, *wait),
            Action::Reload { wait, abort: true } => (Change::AbortReload, *wait),
            Action::Scale { workers, wait } => (Change::Scale(*workers), *wait),
            Action::Stop { fast: true, wait } => (Change::Stop(Stop::Fast), *wait),
            Action::Stop { fast: false, wait } => (Change::Stop(Stop::Graceful), *wait),
            Action::Restart { slot, wait } => (Change::Restart(slot.clone()), *wait),
            Action::Drain { slot, wait } => (Change::Drain(slot.clone()), *wait),
            Action::Kill { slot } => (Change::Kill(slot.clone()), false),
            Action::Signal { to, signal } => {
                let (to, signal) = (to.clone(), *signal);
                (Change::Signal { to, signal }, false)
            }
            Action::Pause { listener } => (Change::Pause(listener.clone()), false),
            Action::Resume { listener } => (Change::Resume(listener.clone()), false),
            Action::Strategy { strategy: None, .. } => return Some(Command::Status),
            Action::Strategy {
                strategy: Some(strategy),
                listener,
            } => {
                let (strategy, listener) = (*strategy, listener.clone());
                (Change::Choose { strategy, listener }, false)
            }
            Action::LogLevel { level } => (Change::LogLevel(*level), false),
            Action::Logs(Logs::Reopen) => (Change::ReopenLogs, false),
            Action::Send {
                to,
                action,
                payload,
                as_json,
                wait,
            } => {
                let message = Message {
                    to: to.clone(),
                    action: action.clone(),
                    payload: payload.clone(),
                    content: if *as_json {
                        Content::Json
                    } else {
                        Content::Text
                    },
                };
                (Change::Send(message), *wait)
            }
        };
        let answer = if wait { When::Done } else { When::Begun };
        Some(Command::Change { change, answer })
    }

    /// What to look at when the answer did not come in time.
    pub(super) fn when_it_takes_longer(&self) -> &'static str {
        match self {
            Action::Push(_) => {
                "; it may still happen: rr-ctl values shows who is behind, the master's log why"
            }
            Action::Send { .. } => {
                "; it may still come: or nobody there has subscribed to this action, or replies to it"
            }
            Action::Job(_) => "; it may still happen: see rr-ctl job list",
            Action::Status { .. }
            | Action::Reload { .. }
            | Action::Scale { .. }
            | Action::Stop { .. }
            | Action::Restart { .. }
            | Action::Drain { .. }
            | Action::Kill { .. }
            | Action::Signal { .. }
            | Action::Pause { .. }
            | Action::Resume { .. }
            | Action::Strategy { .. }
            | Action::Events { .. }
            | Action::Values
            | Action::Config(_)
            | Action::Logs(_)
            | Action::LogLevel { .. } => "; it may still happen: see rr-ctl status",
        }
    }

    pub(super) fn is_strategy(&self) -> bool {
        matches!(self, Action::Strategy { .. })
    }

    pub(super) fn is_watch(&self) -> bool {
        matches!(self, Action::Status { watch: true })
    }
}

fn parse_time(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(time) if time.is_zero() || time > LONGEST_TIMEOUT => {
            Err("must be more than nothing and at most a year".to_owned())
        }
        Ok(time) => Ok(time),
        Err(err) => Err(format!("{err}: write a time such as 500ms, 30s or 5m")),
    }
}

/// The loop answers within milliseconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

const LONGEST_TIMEOUT: Duration = Duration::from_secs(366 * 24 * 3600);

const AFTER_HELP: &str = "\
Exit codes:
  0  done
  1  the master refused, or it did not work
  2  a flag or an argument is wrong
  3  no master could be reached
  4  no answer, or not done, in time
  5  the reload was rolled back";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_flags_do_not_contradict_each_other() {
        Args::command().debug_assert();
    }

    #[test]
    fn fewer_workers_are_no_flag() {
        let args = Args::try_parse_from(["rr-ctl", "scale", "-2", "--wait"]).unwrap();
        let change = Change::Scale(ScaleTo::Fewer(2));
        let answer = When::Done;
        let command = Command::Change { change, answer };
        assert_eq!(args.action.command(), Some(command));
        assert!(Args::try_parse_from(["rr-ctl", "scale", "--wiat"]).is_err());
    }
}
