//! The control protocol: JSON, a line for each request and each answer.
//!
//! The master speaks first: `{"hello":{"protocol":1,"version":"0.1.0","pid":4711}}`. Then come
//! requests, such as `{"id":1,"command":"scale","workers":6,"wait":true}`, and for each of them exactly
//! one `{"id":1,"ok":{…}}` or `{"id":1,"error":{"kind":"refused","message":"…"}}`. Before that, whoever
//! waits is told of the progress, and who follows the events gets one in each `{"id":1,"event":{…}}`.
//!
//! Pure: bytes in, values out. Nothing that a line contains makes [`decode`] panic.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

use super::change::{Change, Recipients, ScaleTo, SignalNumber, Target, parse_level};
use super::event::ClusterEvent;
use super::message::{Addressee, Content, Message};
use super::push::{self, Piece};
use crate::dispatch::UnknownStrategy;
use crate::printable;
use crate::supervisor::Stop;

/// The version of what this file describes. It is raised when a program that knows the old one would
/// misunderstand the new one; fields and events that are added do not count.
pub const PROTOCOL: u32 = 1;

/// The longest request, its end of line not included.
pub const LONGEST_LINE: usize = 64 * 1024;

/// One line from an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Chosen by the operator; every answer has it.
    pub id: u64,
    /// What is wanted.
    pub command: Command,
}

/// What an operator can ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// The cluster now.
    Status,
    /// What happened last, and if the operator follows, what happens from now on.
    Events {
        /// Whether more is wanted than what happened already.
        follow: bool,
    },
    /// Every job.
    JobList,
    /// The configuration in force.
    ConfigShow,
    /// Whether the configuration, read anew, would be accepted.
    ConfigCheck,
    /// The values, and who has them.
    Values,
    /// A value, or a piece of one.
    Push(Piece),
    /// Something is to be different.
    Change {
        /// What.
        change: Change,
        /// When it is answered.
        answer: When,
    },
}

/// When a change is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// As soon as it is begun.
    Begun,
    /// When it has come to its end, with the progress before that.
    Done,
}

/// A line that is no request.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct BadRequest {
    /// The request's `id`, if it has one.
    pub id: Option<u64>,
    /// What is wrong with it, and what would be right.
    pub message: String,
}

/// One line from the master.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// Of the request that it answers; `None` for `hello`, and if the request had none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// What it says.
    #[serde(flatten)]
    pub said: Said,
}

/// What a line from the master says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Said {
    /// Who it is.
    Hello(Hello),
    /// It is done, or the answer.
    Ok(Value),
    /// It is not done.
    Error(Fault),
    /// What happens on the way there.
    Progress(ClusterEvent),
    /// What happened in the cluster.
    Event(ClusterEvent),
    /// So many events were left out, since the operator read too slowly.
    Lost(u64),
}

/// The first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// Of the master.
    pub version: String,
    /// The master's.
    pub pid: u32,
}

/// Why something is not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// For programs: `bad-request`, `refused`, `not-found`, `rolled-back`, `failed`, `busy`, `ended`.
    pub kind: String,
    /// For people.
    pub message: String,
}

/// A request as it is written. [`Command`] is what the rest of the program sees of it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(
    tag = "command",
    rename_all = "kebab-case",
    deny_unknown_fields,
    expecting = "write an object"
)]
enum Wire {
    Status {},
    Events {
        #[serde(default)]
        follow: bool,
    },
    JobList {},
    JobRun {
        name: String,
        #[serde(default)]
        wait: bool,
    },
    ConfigShow {},
    ConfigCheck {},
    Values {},
    Push(push::Wire),
    Stop {
        #[serde(default)]
        fast: bool,
        #[serde(default)]
        wait: bool,
    },
    Reload {
        #[serde(default)]
        wait: bool,
    },
    AbortReload {
        #[serde(default)]
        wait: bool,
    },
    Scale {
        workers: ScaleTo,
        #[serde(default)]
        wait: bool,
    },
    Restart {
        slot: Target,
        #[serde(default)]
        wait: bool,
    },
    Drain {
        slot: Target,
        #[serde(default)]
        wait: bool,
    },
    Kill {
        slot: Target,
    },
    Signal {
        to: Recipients,
        signal: SignalNumber,
    },
    Pause {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        listener: Option<String>,
    },
    Resume {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        listener: Option<String>,
    },
    Strategy {
        strategy: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        listener: Option<String>,
    },
    LogLevel {
        level: String,
    },
    LogsReopen {},
    Send {
        to: Addressee,
        action: String,
        #[serde(default)]
        payload: String,
        #[serde(default)]
        content: Content,
        #[serde(default)]
        wait: bool,
    },
}

/// Every `command` there is.
pub const COMMANDS: &[&str] = &[
    "status",
    "events",
    "job-list",
    "job-run",
    "config-show",
    "config-check",
    "values",
    "push",
    "stop",
    "reload",
    "abort-reload",
    "scale",
    "restart",
    "drain",
    "kill",
    "signal",
    "pause",
    "resume",
    "strategy",
    "log-level",
    "logs-reopen",
    "send",
];

/// Reads one line, without its end.
///
/// # Errors
/// When it is no request; the message says what would be one.
pub fn decode(line: &[u8]) -> Result<Request, BadRequest> {
    let mut id = None;
    decode_with(line, &mut id).map_err(|message| {
        let message = quotable(&message);
        BadRequest { id, message }
    })
}

fn decode_with(line: &[u8], id: &mut Option<u64>) -> Result<Request, String> {
    let mut fields: Map<String, Value> = serde_json::from_slice(line).map_err(|err| {
        format!("no JSON object: {err}; write one line such as {{\"id\":1,\"command\":\"status\"}}")
    })?;
    *id = match fields.remove("id") {
        None => None,
        Some(id) => Some(id.as_u64().ok_or("id: write a number, 0 or more")?),
    };
    let command = fields
        .get("command")
        .ok_or("there is no \"command\"")?
        .as_str()
        .ok_or("command: write a text")?;
    if !COMMANDS.contains(&command) {
        return Err(unknown_command(command));
    }
    let id = id.ok_or("there is no \"id\": write a number, which every answer will have")?;
    let wire: Wire =
        serde_json::from_value(Value::Object(fields)).map_err(|err| err.to_string())?;
    let command = Command::try_from(wire)?;
    if let Command::Change { change, .. } = &command
        && names(change).is_some_and(|name| name.len() > LONGEST_NAME)
    {
        return Err(format!("a name has at most {LONGEST_NAME} bytes"));
    }
    Ok(Request { id, command })
}

/// What an operator calls something in the change: it goes into the log.
fn names(change: &Change) -> Option<&str> {
    match change {
        Change::Pause(listener) | Change::Resume(listener) => listener.as_deref(),
        Change::Choose { listener, .. } => listener.as_deref(),
        Change::RunJob(name) => Some(name),
        Change::Restart(target)
        | Change::Drain(target)
        | Change::Kill(target)
        | Change::Signal {
            to: Recipients::One(target),
            ..
        } => match target {
            Target::Agent { name } => Some(name),
            Target::Slot { .. } => None,
        },
        Change::Signal { .. }
        | Change::Stop(_)
        | Change::Reload
        | Change::AbortReload
        | Change::Scale(_)
        | Change::LogLevel(_)
        | Change::ReopenLogs
        | Change::Send(_) => None,
    }
}

/// What was given is in the message, and may contain anything, and much of it.
fn quotable(message: &str) -> String {
    let mut quoted = String::new();
    for c in message.chars() {
        if quoted.len() >= LONGEST_MESSAGE {
            quoted.push('…');
            break;
        }
        printable::push(&mut quoted, c);
    }
    quoted
}

/// Writes a request, its end of line included.
#[must_use]
pub fn encode(request: &Request) -> Vec<u8> {
    let wire = Wire::from(&request.command);
    let mut value = serde_json::to_value(&wire).expect("texts, numbers and nothing else");
    if let Value::Object(fields) = &mut value {
        fields.insert("id".to_owned(), request.id.into());
    }
    to_line(&value)
}

impl Reply {
    /// The line, its end included.
    #[must_use]
    pub fn to_line(&self) -> Vec<u8> {
        to_line(self)
    }

    /// Reads one line, without its end.
    ///
    /// # Errors
    /// When it is none of this protocol.
    pub fn decode(line: &[u8]) -> Result<Reply, serde_json::Error> {
        serde_json::from_slice(line)
    }
}

fn to_line(value: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).expect("texts, numbers and maps of them");
    line.push(b'\n');
    line
}

fn unknown_command(given: &str) -> String {
    let likeness = |known: &&&str| strsim::jaro_winkler(given, known);
    let nearest = COMMANDS
        .iter()
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    let mut shown: String = given.chars().take(LONGEST_QUOTE).collect();
    if shown.len() < given.len() {
        shown.push('…');
    }
    match nearest.filter(|known| likeness(known) > ALIKE) {
        Some(nearest) => format!("unknown command {shown:?}: did you mean {nearest:?}?"),
        None => format!(
            "unknown command {shown:?}: there are {}",
            COMMANDS.join(", ")
        ),
    }
}

impl TryFrom<Wire> for Command {
    type Error = String;

    fn try_from(wire: Wire) -> Result<Command, String> {
        let (change, waits) = match wire {
            Wire::Status {} => return Ok(Command::Status),
            Wire::Events { follow } => return Ok(Command::Events { follow }),
            Wire::JobList {} => return Ok(Command::JobList),
            Wire::JobRun { name, wait } => (Change::RunJob(name), wait),
            Wire::ConfigShow {} => return Ok(Command::ConfigShow),
            Wire::ConfigCheck {} => return Ok(Command::ConfigCheck),
            Wire::Values {} => return Ok(Command::Values),
            Wire::Push(wire) => return Ok(Command::Push(wire.try_into()?)),
            Wire::Stop { fast: true, wait } => (Change::Stop(Stop::Fast), wait),
            Wire::Stop { fast: false, wait } => (Change::Stop(Stop::Graceful), wait),
            Wire::Reload { wait } => (Change::Reload, wait),
            Wire::AbortReload { wait } => (Change::AbortReload, wait),
            Wire::Scale { workers, wait } => (Change::Scale(workers), wait),
            Wire::Restart { slot, wait } => (Change::Restart(slot), wait),
            Wire::Drain { slot, wait } => (Change::Drain(slot), wait),
            Wire::Kill { slot } => (Change::Kill(slot), false),
            Wire::Signal { to, signal } => (Change::Signal { to, signal }, false),
            Wire::Pause { listener } => (Change::Pause(listener), false),
            Wire::Resume { listener } => (Change::Resume(listener), false),
            Wire::Strategy { strategy, listener } => {
                let strategy = strategy
                    .parse()
                    .map_err(|err: UnknownStrategy| err.to_string())?;
                (Change::Choose { strategy, listener }, false)
            }
            Wire::LogLevel { level } => (Change::LogLevel(parse_level(&level)?), false),
            Wire::LogsReopen {} => (Change::ReopenLogs, false),
            Wire::Send {
                to,
                action,
                payload,
                content,
                wait,
            } => {
                let message = Message {
                    to,
                    action,
                    payload,
                    content,
                };
                message.check()?;
                (Change::Send(message), wait)
            }
        };
        let answer = if waits { When::Done } else { When::Begun };
        Ok(Command::Change { change, answer })
    }
}

impl From<&Command> for Wire {
    fn from(command: &Command) -> Wire {
        let (change, answer) = match command {
            Command::Status => return Wire::Status {},
            Command::Events { follow } => return Wire::Events { follow: *follow },
            Command::JobList => return Wire::JobList {},
            Command::ConfigShow => return Wire::ConfigShow {},
            Command::ConfigCheck => return Wire::ConfigCheck {},
            Command::Values => return Wire::Values {},
            Command::Push(piece) => return Wire::Push(piece.into()),
            Command::Change { change, answer } => (change.clone(), answer),
        };
        let wait = match answer {
            When::Begun => false,
            When::Done => true,
        };
        match change {
            Change::Stop(how) => {
                let fast = how == Stop::Fast;
                Wire::Stop { fast, wait }
            }
            Change::Reload => Wire::Reload { wait },
            Change::AbortReload => Wire::AbortReload { wait },
            Change::Scale(workers) => Wire::Scale { workers, wait },
            Change::Restart(slot) => Wire::Restart { slot, wait },
            Change::Drain(slot) => Wire::Drain { slot, wait },
            Change::Kill(slot) => Wire::Kill { slot },
            Change::Signal { to, signal } => Wire::Signal { to, signal },
            Change::Pause(listener) => Wire::Pause { listener },
            Change::Resume(listener) => Wire::Resume { listener },
            Change::Choose { strategy, listener } => Wire::Strategy {
                strategy: strategy.to_string(),
                listener,
            },
            Change::RunJob(name) => Wire::JobRun { name, wait },
            Change::LogLevel(level) => Wire::LogLevel {
                level: level.as_str().to_lowercase(),
            },
            Change::ReopenLogs => Wire::LogsReopen {},
            Change::Send(Message {
                to,
                action,
                payload,
                content,
            }) => Wire::Send {
                to,
                action,
                payload,
                content,
                wait,
            },
        }
    }
}

/// Of a listener, an agent or a job.
const LONGEST_NAME: usize = 256;

/// Enough for every field that there is.
const LONGEST_MESSAGE: usize = 500;

/// How much of an unknown command is repeated.
const LONGEST_QUOTE: usize = 40;

/// From here on a name is taken for another one misspelt.
const ALIKE: f64 = 0.75;

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(line: &str) -> String {
        decode(line.as_bytes()).unwrap_err().message
    }

    #[test]
    fn a_request_is_read_as_it_is_written() {
        let request = decode(br#"{"id":1,"command":"scale","workers":6,"wait":true}"#).unwrap();
        let change = Change::Scale(ScaleTo::Exactly(6));
        let answer = When::Done;
        let command = Command::Change { change, answer };
        assert_eq!(request, Request { id: 1, command });
        for line in [
            r#"{"command":"scale","id":2,"wait":false,"workers":"+2"}"#,
            r#"{"command":"signal","id":3,"signal":"SIGUSR1","to":"workers"}"#,
            r#"{"command":"kill","id":4,"slot":"worker:3"}"#,
            r#"{"command":"pause","id":5}"#,
            r#"{"command":"log-level","id":6,"level":"debug"}"#,
            r#"{"command":"strategy","id":9,"strategy":"random"}"#,
            r#"{"command":"strategy","id":9,"strategy":"source-hash","listener":"web"}"#,
            r#"{"command":"stop","fast":true,"id":7,"wait":true}"#,
            r#"{"command":"logs-reopen","id":8}"#,
        ] {
            let request = decode(line.as_bytes()).unwrap();
            let again = decode(encode(&request).trim_ascii_end()).unwrap();
            assert_eq!(again, request);
        }
    }

    #[test]
    fn every_command_is_known_by_its_name() {
        for command in COMMANDS {
            let line = format!(
                r#"{{"id":1,"command":"{command}","workers":1,"slot":1,"to":"all","signal":1,"level":"info"}}"#
            );
            let message = refusal(&line);
            assert!(message.starts_with("unknown field"), "{command}: {message}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_what_would_be_right() {
        for (line, expected) in [
            ("", "no JSON object"),
            ("[1]", "no JSON object"),
            (r#"{"id":1}"#, "there is no \"command\""),
            (r#"{"command":"status"}"#, "there is no \"id\""),
            (r#"{"id":-1,"command":"status"}"#, "id: write a number"),
            (r#"{"id":1,"command":"scal"}"#, "did you mean \"scale\"?"),
            (r#"{"id":1,"command":"zzz"}"#, "there are status, events"),
            (
                r#"{"id":1,"command":"scale","worker":6}"#,
                "unknown field `worker`, expected `workers` or `wait`",
            ),
            (r#"{"id":1,"command":"scale"}"#, "missing field `workers`"),
            (
                r#"{"id":1,"command":"scale","workers":-100}"#,
                "write a number or a text",
            ),
            (
                r#"{"id":1,"command":"kill","slot":"x"}"#,
                "\"x\" is no slot",
            ),
            (
                r#"{"id":1,"command":"signal","to":"all","signal":"NOPE"}"#,
                "\"NOPE\" is no signal",
            ),
            (
                r#"{"id":1,"command":"log-level","level":"loud"}"#,
                "error, warn, info",
            ),
            (
                r#"{"id":1,"command":"strategy","strategy":"randon"}"#,
                "did you mean \"random\"? There are round-robin,",
            ),
        ] {
            let message = refusal(line);
            assert!(message.contains(expected), "{line}: {message}");
        }
        let long = format!(
            r#"{{"id":1,"command":"pause","listener":"{}"}}"#,
            "x".repeat(300)
        );
        assert!(refusal(&long).contains("at most 256 bytes"));
        let wild = refusal(r#"{"id":1,"command":"status","\u001b[2J":1}"#);
        assert!(!wild.contains('\x1b'), "{wild}");
        let bad = decode(br#"{"id":9,"command":"x"}"#).unwrap_err();
        assert_eq!(bad.id, Some(9), "so that the answer can be told apart");
    }

    #[test]
    fn a_reply_has_one_key_beside_its_id() {
        let fault = Fault {
            kind: "refused".to_owned(),
            message: "no".to_owned(),
        };
        let reply = Reply {
            id: Some(1),
            said: Said::Error(fault),
        };
        let line = reply.to_line();
        let expected = "{\"id\":1,\"error\":{\"kind\":\"refused\",\"message\":\"no\"}}\n";
        assert_eq!(String::from_utf8_lossy(&line), expected);
        assert_eq!(Reply::decode(line.trim_ascii_end()).unwrap(), reply);
    }
}
