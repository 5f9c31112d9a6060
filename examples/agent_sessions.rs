//! An agent that keeps the sessions of `examples/sessions` in its memory: a small Redis for those who
//! have none.
//!
//! ```text
//! cargo build --example agent_sessions --example sessions
//! rr-master -w 4 --agent sessions=target/debug/examples/agent_sessions target/debug/examples/sessions
//! ```
//!
//! A reload leaves it alone, so sessions survive that; they do not survive the agent itself. Its memory is
//! bounded: when there is no room for one more session, the one goes that would have ended first.
//!
//! | request `session` | reply |
//! |---|---|
//! | `put ID SECONDS NAME` | `ok` |
//! | `get ID SECONDS` | `name NAME`, and it lasts for so long from now on; or `none` |
//! | `remove ID` | `ok` |
//! | anything else | `bad request` |

use std::collections::{BTreeSet, HashMap};
use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use worker_proto::{Event, Worker};

/// Keep sessions; an agent of rr-master.
#[derive(Parser)]
struct Args {
    /// How many sessions there may be
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = at_least_one)]
    max_sessions: usize,
}

fn main() -> ExitCode {
    keep(&Args::parse()).unwrap_or_else(|err| {
        eprintln!("agent_sessions: {err}");
        ExitCode::FAILURE
    })
}

fn keep(args: &Args) -> Result<ExitCode, Box<dyn Error>> {
    let worker = Worker::connect()?;
    if worker.is_alone() {
        return Err("nobody would ask: start it with rr-master --agent".into());
    }
    let alarm = worker.alarm();
    let mut sessions = Sessions::at_most(args.max_sessions);
    let _answers = worker.messenger().on("session", move |request| {
        let answer = request
            .text()
            .ok()
            .and_then(|question| sessions.answer(question, now()));
        let answer = answer.unwrap_or_else(|| "bad request".to_owned());
        if request.is_request()
            && let Err(err) = request.reply(answer)
        {
            alarm.report(&format!("sessions: {err}"));
        }
    })?;
    worker.ready()?;
    let is_end = |event: &Event| matches!(event, Event::Drain { .. } | Event::MasterGone);
    worker.events().iter().find(is_end);
    Ok(worker.leave())
}

/// The sessions that there are.
struct Sessions {
    most: usize,
    /// By their ids.
    all: HashMap<String, Session>,
    /// The same in the order in which they end.
    ends: BTreeSet<(Instant, String)>,
}

struct Session {
    name: String,
    end: Instant,
}

impl Sessions {
    fn at_most(most: usize) -> Self {
        Sessions {
            most,
            all: HashMap::new(),
            ends: BTreeSet::new(),
        }
    }

    /// `None` if it is no question.
    fn answer(&mut self, question: &str, now: Instant) -> Option<String> {
        self.forget_ended(now);
        let words: Vec<&str> = question.splitn(4, ' ').collect();
        let answer = match words[..] {
            ["put", id, seconds, name] if id.len() <= LONGEST && name.len() <= LONGEST => {
                let end = end(now, seconds)?;
                self.remove(id);
                while self.all.len() >= self.most
                    && let Some((_, first)) = self.ends.pop_first()
                {
                    self.all.remove(&first);
                }
                self.insert(id, name.to_owned(), end);
                "ok".to_owned()
            }
            ["get", id, seconds] => {
                let end = end(now, seconds)?;
                match self.remove(id) {
                    Some(Session { name, .. }) => {
                        let answer = format!("name {name}");
                        self.insert(id, name, end);
                        answer
                    }
                    None => "none".to_owned(),
                }
            }
            ["remove", id] => {
                self.remove(id);
                "ok".to_owned()
            }
            _ => return None,
        };
        Some(answer)
    }

    fn forget_ended(&mut self, now: Instant) {
        while self.ends.first().is_some_and(|(end, _)| *end <= now) {
            if let Some((_, id)) = self.ends.pop_first() {
                self.all.remove(&id);
            }
        }
    }

    fn insert(&mut self, id: &str, name: String, end: Instant) {
        self.ends.insert((end, id.to_owned()));
        self.all.insert(id.to_owned(), Session { name, end });
    }

    fn remove(&mut self, id: &str) -> Option<Session> {
        let (id, session) = self.all.remove_entry(id)?;
        self.ends.remove(&(session.end, id));
        Some(session)
    }
}

fn end(now: Instant, seconds: &str) -> Option<Instant> {
    let ttl = Duration::from_secs(seconds.parse().ok()?);
    now.checked_add(ttl)
}

#[expect(clippy::disallowed_methods, reason = "the one look at the clock")]
fn now() -> Instant {
    Instant::now()
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("at least 1".to_owned()),
        Ok(most) => Ok(most),
        Err(err) => Err(format!("{err}: write a number")),
    }
}

/// The longest id, and the longest name.
const LONGEST: usize = 64;
