//! A change: what a signal, an operator or a handle may ask of the cluster. One list for all three
//! doors. Data only; the reactor does it.

use std::fmt;
use std::str::FromStr;

use log::LevelFilter;
use nix::sys::signal;
use serde::{Deserialize, Serialize, Serializer, de};
use worker_proto::ids::{Role, Slot};

use super::message::Message;
use crate::dispatch::StrategyName;
use crate::supervisor::Stop;

/// What is to be different.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The cluster ends.
    Stop(Stop),
    /// Every worker is replaced by one of a new generation.
    Reload,
    /// The reload under way goes back.
    AbortReload,
    /// More workers, or fewer.
    Scale(ScaleTo),
    /// Somebody new for the slot.
    Restart(Target),
    /// The slot is emptied and stays empty.
    Drain(Target),
    /// SIGKILL for whoever is in the slot, and those it started.
    Kill(Target),
    /// A signal of the operator's choice.
    Signal {
        /// For whom.
        to: Recipients,
        /// Which.
        signal: SignalNumber,
    },
    /// The master accepts no more; clients wait in the listen backlog. All listeners, or this one.
    Pause(Option<String>),
    /// It accepts again.
    Resume(Option<String>),
    /// Another way to choose the next worker, for all listeners that the master accepts for, or for
    /// this one.
    Choose {
        /// From now on.
        strategy: StrategyName,
        /// By its name.
        listener: Option<String>,
    },
    /// A job is run although it is not due.
    RunJob(String),
    /// What is logged from now on.
    LogLevel(LevelFilter),
    /// Everybody opens their log files again, the master too.
    ReopenLogs,
    /// A message for processes. Who waits for the end waits for the reply.
    Send(Message),
}

/// How many workers there are to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScaleTo {
    /// So many.
    Exactly(u32),
    /// So many more than now.
    More(u32),
    /// So many fewer than now.
    Fewer(u32),
}

/// One slot: `3`, `worker:3`, `agent:0`, or `agent:NAME` with the agent's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A slot of a role.
    Slot {
        /// Of which role.
        role: Role,
        /// Which.
        slot: Slot,
    },
    /// An agent, by its name: what `--agent` calls it, otherwise its program's file name.
    Agent {
        /// The program's file name.
        name: String,
    },
}

/// Whom a signal is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recipients {
    /// Every process.
    All,
    /// Every process of a role.
    Role(Role),
    /// One.
    One(Target),
}

/// A signal that exists, by name (`HUP`, `SIGHUP`) or number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignalNumber(i32);

impl SignalNumber {
    /// As `kill(2)` takes it.
    #[must_use]
    pub fn number(self) -> i32 {
        self.0
    }
}

impl ScaleTo {
    /// How many that are if there are so many now, as far as there can be as few or as many.
    #[must_use]
    pub fn from(self, now: u32) -> Option<u32> {
        match self {
            ScaleTo::Exactly(workers) => Some(workers),
            ScaleTo::More(more) => now.checked_add(more),
            ScaleTo::Fewer(fewer) => now.checked_sub(fewer),
        }
    }
}

/// What to log, as it is written on a command line.
///
/// # Errors
/// What to write.
pub(crate) fn parse_level(text: &str) -> Result<LevelFilter, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is no level: write error, warn, info, debug, trace or off"))
}

impl FromStr for ScaleTo {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (digits, make): (_, fn(u32) -> ScaleTo) = match text.split_at_checked(1) {
            Some(("+", digits)) => (digits, ScaleTo::More),
            Some(("-", digits)) => (digits, ScaleTo::Fewer),
            _ => (text, ScaleTo::Exactly),
        };
        number(digits).map(make).ok_or_else(|| {
            format!(
                "{text:?} is no number of workers: write 6, +2 for two more, or -1 for one fewer"
            )
        })
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!("{text:?} is no slot: write 3 for a worker, agent:0 or agent:NAME for an agent")
        };
        let (role, which) = match text.split_once(':') {
            Some(("agent", which)) => (Role::Agent, which),
            Some(("worker", which)) => (Role::Worker, which),
            Some(_) => return Err(wrong()),
            None => (Role::Worker, text),
        };
        match (number(which), role) {
            (Some(slot), role) => {
                let slot = Slot(slot);
                Ok(Target::Slot { role, slot })
            }
            (None, Role::Agent) if !which.is_empty() => {
                let name = which.to_owned();
                Ok(Target::Agent { name })
            }
            (None, Role::Agent | Role::Worker) => Err(wrong()),
        }
    }
}

impl FromStr for Recipients {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Recipients::All),
            "workers" => Ok(Recipients::Role(Role::Worker)),
            "agents" => Ok(Recipients::Role(Role::Agent)),
            other => other.parse().map(Recipients::One).map_err(|_| {
                format!(
                    "{text:?} is nobody: write all, workers, agents, a slot such as 3, agent:0 or agent:NAME"
                )
            }),
        }
    }
}

impl FromStr for SignalNumber {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unknown =
            || format!("{text:?} is no signal: write a name such as HUP or USR1, or a number");
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            let number: i32 = text.parse().map_err(|_| unknown())?;
            return match number {
                1..=LAST_SIGNAL => Ok(SignalNumber(number)),
                _ => Err(unknown()),
            };
        }
        let name = text.to_ascii_uppercase();
        let name = name.strip_prefix("SIG").unwrap_or(&name);
        match format!("SIG{name}").parse::<signal::Signal>() {
            Ok(signal) => Ok(SignalNumber(signal as i32)),
            Err(_) => Err(unknown()),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Stop(how) => write!(f, "stop {how}"),
            Change::Reload => f.write_str("reload"),
            Change::AbortReload => f.write_str("abort the reload"),
            Change::Scale(to) => write!(f, "scale {to}"),
            Change::Restart(target) => write!(f, "restart {target}"),
            Change::Drain(target) => write!(f, "drain {target}"),
            Change::Kill(target) => write!(f, "kill {target}"),
            Change::Signal { to, signal } => write!(f, "signal {to} {signal}"),
            Change::Pause(None) => f.write_str("pause"),
            Change::Pause(Some(listener)) => write!(f, "pause {listener:?}"),
            Change::Resume(None) => f.write_str("resume"),
            Change::Resume(Some(listener)) => write!(f, "resume {listener:?}"),
            Change::Choose {
                strategy,
                listener: None,
            } => write!(f, "strategy {strategy}"),
            Change::Choose {
                strategy,
                listener: Some(listener),
            } => write!(f, "strategy {strategy} for {listener:?}"),
            Change::RunJob(job) => write!(f, "run job {job:?}"),
            Change::LogLevel(level) => write!(f, "log level {}", level.as_str().to_lowercase()),
            Change::ReopenLogs => f.write_str("reopen logs"),
            Change::Send(Message { to, action, .. }) => write!(f, "send {to} {action}"),
        }
    }
}

impl fmt::Display for ScaleTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ScaleTo::Exactly(workers) => write!(f, "{workers}"),
            ScaleTo::More(more) => write!(f, "+{more}"),
            ScaleTo::Fewer(fewer) => write!(f, "-{fewer}"),
        }
    }
}

/// As it is read: an agent's name may be anything that a file's name may be.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Slot { role, slot } => write!(f, "{role}:{slot}"),
            Target::Agent { name } => write!(f, "agent:{name}"),
        }
    }
}

impl fmt::Display for Recipients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Recipients::All => f.write_str("all"),
            Recipients::Role(role) => write!(f, "{role}s"),
            Recipients::One(target) => target.fmt(f),
        }
    }
}

/// `SIGHUP`, or the number of one without a name.
impl fmt::Display for SignalNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match signal::Signal::try_from(self.0) {
            Ok(signal) => f.write_str(signal.as_str()),
            Err(_) => self.0.fmt(f),
        }
    }
}

/// As JSON: a number where it is one, otherwise the text that the command line takes, too.
macro_rules! as_text {
    ($($type:ty),*) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = match NumberOrText::deserialize(deserializer)? {
                    NumberOrText::Number(number) => number.to_string(),
                    NumberOrText::Text(text) => text,
                };
                text.parse().map_err(de::Error::custom)
            }
        }
    )*};
}
as_text!(ScaleTo, Target, Recipients, SignalNumber);

#[derive(Deserialize)]
#[serde(untagged, expecting = "write a number or a text")]
enum NumberOrText {
    Number(u64),
    Text(String),
}

/// Digits alone: `u32::from_str` takes a sign, too.
fn number(digits: &str) -> Option<u32> {
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().ok()).flatten()
}

/// `SIGRTMAX` on every architecture of ours.
const LAST_SIGNAL: i32 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_workers_may_be_relative() {
        let from_four = |text: &str| text.parse::<ScaleTo>().unwrap().from(4);
        assert_eq!(
            ["6", "+2", "-1", "-4", "-5", "0"].map(from_four),
            [Some(6), Some(6), Some(3), Some(0), None, Some(0)]
        );
        for wrong in ["", "+", "-", "++1", "six", "4294967296", "1.5", " 1"] {
            assert!(wrong.parse::<ScaleTo>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_signal_goes_by_name_or_number() {
        for (text, expected) in [
            ("HUP", 1),
            ("sighup", 1),
            ("9", 9),
            ("Usr1", 10),
            ("34", 34),
        ] {
            assert_eq!(text.parse::<SignalNumber>().unwrap().number(), expected);
        }
        for wrong in ["", "0", "65", "-1", "+1", "HUPP", "SIGSIGHUP", "9 "] {
            assert!(wrong.parse::<SignalNumber>().is_err(), "{wrong:?}");
        }
        assert_eq!(SignalNumber(10).to_string(), "SIGUSR1");
        assert_eq!(SignalNumber(34).to_string(), "34");
    }

    #[test]
    fn a_slot_is_written_as_it_is_read() {
        for text in [
            "worker:3",
            "agent:0",
            "agent:logrotate",
            "agent:a \"b\"\\\u{7f}",
        ] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
        assert_eq!("3".parse::<Target>(), "worker:3".parse());
        for wrong in ["", "agent:", "worker:", "worker:x", "-1", "slot:3", "agent"] {
            assert!(wrong.parse::<Target>().is_err(), "{wrong:?}");
        }
    }
}
