//! Events: what happens in a cluster, under names that do not change. Made of the supervisor's notices.
//!
//! | name | when |
//! |---|---|
//! | `setup` | the listeners are bound, and the cluster begins |
//! | `fork`, `fork-failed` | a process exists; it could not be started |
//! | `online` | it said `Hello` |
//! | `listening` | it got a listener: `listener`, `address`, `port`, `addressType` 4, 6 or -1 (Unix) |
//! | `ready`, `ready-timeout` | it can serve; it could not in time |
//! | `cluster-ready` | all of them could, once |
//! | `retiring`, `goodbye`, `worn` | it wants to be replaced; leaves; should be replaced |
//! | `replaced` | its successor has its slot |
//! | `hung`, `terminating`, `killing` | it is made to leave |
//! | `disconnect` | its control channel is over: exactly once, before `exit` |
//! | `exit` | it is gone, exactly once: `code` or `signal`, `core`, `oom`, `expected`, `uptime_ms`, `during` (`start`, `serving` or `leaving`), `stderr` (last lines of one that nobody had told to leave, as far as the master reads it) |
//! | `refork` | its slot is filled again after `delay_ms` |
//! | `refork-limit`, `parked`, `reopened` | restarts are too many; a slot stays empty; is filled again |
//! | `reload-start`, `-progress`, `-done`, `-rollback`, `-failed` | a reload |
//! | `reload-refused` | one that did not begin: `reason` |
//! | `scale-start`, `scale-done` | more workers, or fewer |
//! | `paused`, `resumed` | of one listener |
//! | `strategy` | the workers of one listener are chosen otherwise: `listener`, `from`, `to` |
//! | `pushed`, `adopted` | a value has a new version: `key`, `version`, `bytes`, `from`; all who watch it have taken it over |
//! | `leader` | who leads: `led`, `term`, `worker`, which is null if nobody does |
//! | `logs-reopened` | log files were moved away: `processes` were told, and the master's own if it has one (`log_file`) |
//! | `message` | it has sent the master a message: `action`, `contentType`, `bytes`, `payload` (the beginning of one that is text) |
//! | `unhealthy`, `stopping`, `stopped` | the cluster as a whole |
//! | `lost` | so many events were left out here: `count` |
//!
//! What happens to jobs is told in [`job`](super::job).
//!
//! What is about an agent has `agent-` before its name.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use nix::sys::signal;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use worker_proto::address::Address;
use worker_proto::ids::Role;
use worker_proto::message::ContentType;

use super::time::UnixTime;
use crate::supervisor::{Disconnect, ExitStatus, Next, Notice, RollbackCause, Stop, Who};

/// Something that happened in the cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClusterEvent {
    /// Counted from 1, without a gap.
    pub number: u64,
    /// When it happened.
    pub at: UnixTime,
    /// What happened.
    #[serde(flatten)]
    pub fact: Fact,
}

/// How far a process had come when it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum During {
    Start,
    Serving,
    Leaving,
}

/// What is known of an end beyond what the process told the kernel.
#[derive(Clone, Debug, Default)]
pub(crate) struct Circumstances {
    /// The kernel killed it for want of memory.
    pub(crate) out_of_memory: bool,
    /// Its last lines.
    pub(crate) stderr: Vec<String>,
}

/// What happened, without when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fact {
    /// One of the names in the table above.
    pub name: Cow<'static, str>,
    /// For a person, as in the log.
    pub text: String,
    /// For a program: everything else.
    #[serde(flatten)]
    pub fields: Map<String, Value>,
}

impl During {
    pub(crate) fn name(self) -> &'static str {
        match self {
            During::Start => "start",
            During::Serving => "serving",
            During::Leaving => "leaving",
        }
    }
}

impl Fact {
    /// Of an exit: what else is known of it.
    pub(crate) fn amid(mut self, during: During, circumstances: &Circumstances) -> Fact {
        let more = json!({
            "during": during.name(),
            "oom": circumstances.out_of_memory,
            "stderr": last_lines(&circumstances.stderr),
        });
        self.fields.extend(object(more));
        self
    }

    /// Something about the cluster as a whole; `fields` is an object.
    pub(crate) fn of_cluster(name: &'static str, text: impl Into<String>, fields: Value) -> Fact {
        Fact {
            name: name.into(),
            text: text.into(),
            fields: object(fields),
        }
    }

    /// Something about one process.
    pub(crate) fn of_process(
        name: &'static str,
        who: Who,
        text: impl Into<String>,
        more: Value,
    ) -> Fact {
        let mut fields = object(json!({
            "worker": who.worker.0,
            "slot": who.slot.0,
            "generation": who.generation.0,
            "role": who.role.to_string(),
            "pid": who.pid,
        }));
        fields.extend(object(more));
        Fact {
            name: of_role(name, who.role),
            text: text.into(),
            fields,
        }
    }

    /// The process got a listener.
    pub(crate) fn listening(who: Who, listener: &str, address: &Address) -> Fact {
        let inet = address.inet();
        let kind = match inet {
            Some(inet) if inet.is_ipv4() => 4,
            Some(_) => 6,
            None => -1,
        };
        let text = format!("{who} listening on {address}");
        let host = match inet {
            Some(inet) => inet.ip().to_string(),
            None => address.to_string(),
        };
        let more = json!({
            "listener": listener,
            "address": host,
            "port": inet.map(|inet| inet.port()),
            "addressType": kind,
        });
        Fact::of_process("listening", who, text, more)
    }

    /// A process has sent the master a message; `text` is its beginning, if it is one for people.
    pub(crate) fn message(
        who: Who,
        action: &str,
        (content_type, len_bytes): (ContentType, u64),
        text: Option<&str>,
    ) -> Fact {
        let text = text.map(short);
        let shown = match &text {
            Some(text) => format!("{who} {action}: {text}"),
            None => format!("{who} {action}: {len_bytes} bytes"),
        };
        let more = json!({
            "action": action,
            "contentType": content_type.to_string(),
            "bytes": len_bytes,
            "payload": text,
        });
        Fact::of_process("message", who, shown, more)
    }

    /// A reload did not begin.
    pub(crate) fn reload_refused(reason: &str) -> Fact {
        let reason = short(reason);
        let text = format!("reload: {reason}: everything stays as it is");
        Fact::of_cluster("reload-refused", text, json!({ "reason": reason }))
    }

    /// Events were left out here.
    pub(crate) fn lost(count: u64) -> Fact {
        let text = format!("{count} events left out: read faster");
        Fact::of_cluster("lost", text, json!({ "count": count }))
    }
}

/// `12:00:00.123 exit w3 slot=2 gen=1 pid=4711 exited after 3 s: signal SIGSEGV`, without the date.
impl fmt::Display for ClusterEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at.to_string();
        let time = at.split_once('T').map_or(at.as_str(), |(_, time)| time);
        write!(f, "{time} {:<15} {}", self.fact.name, self.fact.text)
    }
}

/// What a notice tells, in the order in which it happened.
pub(crate) fn facts(notice: &Notice) -> Vec<Fact> {
    let text = short(&notice.to_string());
    let fact = match notice {
        Notice::Spawned { who } => about("fork", *who, text, json!({})),
        Notice::SpawnFailed { who, reason, .. } => about(
            "fork-failed",
            *who,
            text,
            json!({ "reason": short(reason) }),
        ),
        Notice::Online { who } => about("online", *who, text, json!({})),
        Notice::Ready { who, took } => {
            let more = json!({ "took_ms": millis(*took) });
            about("ready", *who, text, more)
        }
        Notice::ClusterReady {
            workers,
            agents,
            took,
        } => {
            let fields = json!({ "workers": workers, "agents": agents, "took_ms": millis(*took) });
            Fact::of_cluster("cluster-ready", text, fields)
        }
        Notice::ReadyTimeout {
            who,
            after,
            was_heard: _,
            next: _,
        } => {
            let more = json!({ "after_ms": millis(*after) });
            about("ready-timeout", *who, text, more)
        }
        Notice::Hung { who, symptom, .. } => {
            let more = json!({ "symptom": symptom.to_string() });
            about("hung", *who, text, more)
        }
        Notice::Goodbye { who, .. } => about("goodbye", *who, text, json!({})),
        Notice::Retiring { who, reason, .. } => {
            let more = json!({ "reason": short(reason) });
            about("retiring", *who, text, more)
        }
        Notice::Worn { who, why, .. } => {
            let more = json!({ "why": why.to_string() });
            about("worn", *who, text, more)
        }
        Notice::Replaced { who, by } => {
            let more = json!({ "by": by.worker.0 });
            about("replaced", *who, text, more)
        }
        Notice::Scaled { from, to } => {
            let fields = json!({ "from": from, "to": to });
            Fact::of_cluster("scale-start", text, fields)
        }
        Notice::Reopened { role, slot } => of_slot("reopened", *role, slot.0, text),
        Notice::Parked { role, slot, .. } => of_slot("parked", *role, slot.0, text),
        Notice::ReloadStarted {
            generation,
            from,
            workers,
        } => {
            let fields = json!({ "generation": generation.0, "from": from.0, "workers": workers });
            Fact::of_cluster("reload-start", text, fields)
        }
        Notice::ReloadProgress {
            generation,
            renewed,
            workers,
        } => {
            let fields =
                json!({ "generation": generation.0, "renewed": renewed, "workers": workers });
            Fact::of_cluster("reload-progress", text, fields)
        }
        Notice::ReloadDone { generation, took } => {
            let fields = json!({ "generation": generation.0, "took_ms": millis(*took) });
            Fact::of_cluster("reload-done", text, fields)
        }
        Notice::RollingBack {
            generation,
            to,
            cause,
        } => {
            let fields = json!({
                "generation": generation.0,
                "to": to.0,
                "cause": short(&cause.to_string()),
                "why": rollback(cause),
            });
            Fact::of_cluster("reload-rollback", text, fields)
        }
        Notice::RolledBack {
            generation,
            to,
            cause,
            took,
        } => {
            let fields = json!({
                "generation": generation.0,
                "to": to.0,
                "cause": short(&cause.to_string()),
                "why": rollback(cause),
                "took_ms": millis(*took),
            });
            Fact::of_cluster("reload-failed", text, fields)
        }
        Notice::Unhealthy {
            serving,
            least,
            agents,
            patience,
        } => {
            let fields = json!({
                "serving": serving,
                "least": least,
                "agents": agents,
                "patience_ms": millis(*patience),
            });
            Fact::of_cluster("unhealthy", text, fields)
        }
        Notice::Disconnected { who, cause, .. } => {
            let (kind, what) = match cause {
                Disconnect::Closed | Disconnect::Ended { .. } => ("closed", None),
                Disconnect::Rejected { what } => ("rejected", Some(short(what))),
                Disconnect::Violation { what } => ("violation", Some(short(what))),
            };
            let more = json!({ "cause": kind, "what": what });
            about("disconnect", *who, text, more)
        }
        Notice::Exited {
            who,
            status,
            uptime,
            expected,
            next: _,
        } => {
            let mut more = ended(*status);
            more["uptime_ms"] = millis(*uptime).into();
            more["expected"] = (*expected).into();
            about("exit", *who, text, more)
        }
        Notice::Terminating { who, why } => {
            let more = json!({ "why": why.to_string() });
            about("terminating", *who, text, more)
        }
        Notice::Killing {
            who,
            after,
            despite,
        } => {
            let more = json!({ "after_ms": millis(*after), "despite": despite.to_string() });
            about("killing", *who, text, more)
        }
        Notice::RestartLimitReached {
            role,
            limit,
            policy,
        } => {
            let fields = json!({
                "role": role.to_string(),
                "count": limit.count,
                "window_ms": millis(limit.window),
                "policy": policy.to_string(),
            });
            let mut fact = Fact::of_cluster("refork-limit", text, fields);
            fact.name = of_role("refork-limit", *role);
            fact
        }
        Notice::Stopping { how, cause } => {
            let how = match how {
                Stop::Graceful => "graceful",
                Stop::Fast => "fast",
            };
            let fields = json!({ "how": how, "cause": cause.to_string() });
            Fact::of_cluster("stopping", text, fields)
        }
    };
    let refork = aftermath(notice).and_then(|(who, next)| refork(who, next));
    std::iter::once(fact).chain(refork).collect()
}

/// Whose slot a notice is about, and what becomes of it.
pub(crate) fn aftermath(notice: &Notice) -> Option<(Who, Next)> {
    match notice {
        Notice::SpawnFailed { who, next, .. }
        | Notice::ReadyTimeout { who, next, .. }
        | Notice::Hung { who, next, .. }
        | Notice::Goodbye { who, next }
        | Notice::Retiring { who, next, .. } => Some((*who, *next)),
        Notice::Disconnected { who, next, .. } | Notice::Exited { who, next, .. } => {
            next.map(|next| (*who, next))
        }
        Notice::Spawned { .. }
        | Notice::Online { .. }
        | Notice::Ready { .. }
        | Notice::ClusterReady { .. }
        | Notice::Worn { .. }
        | Notice::Replaced { .. }
        | Notice::Scaled { .. }
        | Notice::Reopened { .. }
        | Notice::ReloadStarted { .. }
        | Notice::ReloadProgress { .. }
        | Notice::ReloadDone { .. }
        | Notice::RollingBack { .. }
        | Notice::RolledBack { .. }
        | Notice::Unhealthy { .. }
        | Notice::Terminating { .. }
        | Notice::Killing { .. }
        | Notice::RestartLimitReached { .. }
        | Notice::Parked { .. }
        | Notice::Stopping { .. } => None,
    }
}

/// A restart was ordered.
fn refork(who: Who, next: Next) -> Option<Fact> {
    match next {
        Next::RestartIn(delay) => {
            let delay_ms = millis(delay);
            let text = format!("{who}: its slot is filled again in {delay_ms} ms");
            let more = json!({ "delay_ms": delay_ms });
            Some(Fact::of_process("refork", who, text, more))
        }
        Next::Parked | Next::NotReplaced | Next::PredecessorStays | Next::RolledBack => None,
    }
}

fn about(name: &'static str, who: Who, text: String, more: Value) -> Fact {
    Fact::of_process(name, who, text, more)
}

fn of_slot(name: &'static str, role: Role, slot: u32, text: String) -> Fact {
    let fields = json!({ "role": role.to_string(), "slot": slot });
    Fact {
        name: of_role(name, role),
        ..Fact::of_cluster(name, text, fields)
    }
}

fn of_role(name: &'static str, role: Role) -> Cow<'static, str> {
    match role {
        Role::Worker => name.into(),
        Role::Agent => format!("agent-{name}").into(),
    }
}

fn ended(status: ExitStatus) -> Value {
    match status {
        ExitStatus::Code(code) => json!({ "code": code, "signal": null, "core": false }),
        ExitStatus::Signal {
            signal,
            core_dumped,
        } => {
            let name = signal::Signal::try_from(signal).map(signal::Signal::as_str);
            let name = name.map_or_else(|_| signal.to_string(), str::to_owned);
            json!({ "code": null, "signal": name, "core": core_dumped })
        }
    }
}

fn rollback(cause: &RollbackCause) -> &'static str {
    match cause {
        RollbackCause::Asked => "asked",
        RollbackCause::Failed { .. } => "failed",
        RollbackCause::Stopping => "stopping",
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Map::new()
        }
    }
}

/// The last lines, as far as all of them together are short.
fn last_lines(lines: &[String]) -> Vec<String> {
    let mut room = LONGEST_TEXT;
    let fits = |line: &&String| {
        let left = room.checked_sub(line.len());
        room = left.unwrap_or(0);
        left.is_some()
    };
    let count = lines.iter().rev().take_while(fits).count();
    match (count, lines) {
        (0, [.., last]) => vec![short(last)],
        _ => lines[lines.len() - count..].to_vec(),
    }
}

/// Processes may have much to say, and all of it is remembered for a while.
fn short(text: &str) -> String {
    match text.char_indices().nth(LONGEST_TEXT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// How many characters of a text are told.
const LONGEST_TEXT: usize = 1000;

pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use worker_proto::ids::{Generation, Slot, WorkerId};

    use super::*;

    fn who(role: Role) -> Who {
        Who {
            worker: WorkerId(3),
            slot: Slot(1),
            generation: Generation(2),
            role,
            pid: Some(4711),
        }
    }

    #[test]
    fn last_words_are_short() {
        let lines = |texts: &[&str]| texts.iter().map(|&it| it.to_owned()).collect::<Vec<_>>();
        let long = "x".repeat(LONGEST_TEXT);
        assert_eq!(last_lines(&[]), lines(&[]));
        assert_eq!(last_lines(&lines(&["a", "b"])), lines(&["a", "b"]));
        assert_eq!(last_lines(&lines(&["a", &long])), lines(&[&long]));
        assert_eq!(last_lines(&lines(&[&long, "b"])), lines(&["b"]));
        let longer = format!("{long}x");
        let cut = format!("{long}…");
        assert_eq!(last_lines(&lines(&["a", &longer])), lines(&[&cut]));
    }

    #[test]
    fn a_crash_is_an_exit_and_a_refork() {
        let notice = Notice::Exited {
            who: who(Role::Worker),
            status: ExitStatus::Signal {
                signal: 11,
                core_dumped: true,
            },
            uptime: Duration::from_secs(3),
            expected: false,
            next: Some(Next::RestartIn(Duration::from_millis(100))),
        };
        let facts = facts(&notice);
        let names: Vec<_> = facts.iter().map(|fact| &*fact.name).collect();
        assert_eq!(names, ["exit", "refork"]);
        let expected = json!({
            "worker": 3, "slot": 1, "generation": 2, "role": "worker", "pid": 4711,
            "code": null, "signal": "SIGSEGV", "core": true, "expected": false, "uptime_ms": 3000,
        });
        assert_eq!(Value::Object(facts[0].fields.clone()), expected);
        assert_eq!(facts[1].fields["delay_ms"], 100);
    }

    #[test]
    fn what_an_agent_does_has_a_name_of_its_own() {
        let who = who(Role::Agent);
        let facts = facts(&Notice::Spawned { who });
        assert_eq!(facts[0].name, "agent-fork");
    }

    #[test]
    fn a_listener_is_told_with_address_port_and_kind() {
        for (address, host, port, kind) in [
            ("127.0.0.1:80", "127.0.0.1", json!(80), 4),
            ("[::1]:80", "::1", json!(80), 6),
            ("unix:/run/x.sock", "unix:/run/x.sock", json!(null), -1),
        ] {
            let bound = address.parse().unwrap();
            let fact = Fact::listening(who(Role::Worker), "web", &bound);
            assert_eq!(fact.fields["address"], host);
            assert_eq!(fact.fields["port"], port);
            assert_eq!(fact.fields["addressType"], kind);
        }
    }

    #[test]
    fn an_event_is_read_as_it_is_written() {
        let event = ClusterEvent {
            number: 7,
            at: UnixTime(Duration::from_millis(1_769_860_800_123)),
            fact: facts(&Notice::Scaled { from: 1, to: 2 }).remove(0),
        };
        let written = serde_json::to_string(&event).unwrap();
        assert_eq!(
            written,
            r#"{"number":7,"at":"2026-01-31T12:00:00.123Z","name":"scale-start","text":"scale from 1 to 2 workers","from":1,"to":2}"#
        );
        assert_eq!(
            serde_json::from_str::<ClusterEvent>(&written).unwrap(),
            event
        );
    }
}
