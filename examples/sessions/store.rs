//! The store: where sessions are kept, so that every worker finds them there, and the next ones, too.
//!
//! Each use of a session begins its time anew. A store that cannot be reached is an error at once, or
//! after [`PATIENCE`]: a client waits no longer.

use std::fs::File;
use std::io::Read;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::{Client, Cmd, Connection, FromRedisValue, RedisError, cmd};
use worker_proto::message::{Receipt, Recipient};
use worker_proto::{Messenger, RequestFailure};

/// Where the sessions are.
pub(crate) enum Store {
    Redis(RedisStore),
    /// In the memory of the agent called `sessions`; see `agent_sessions.rs`.
    Agent(Messenger, Duration),
}

/// The store cannot be reached, or does not do what it should.
#[derive(Debug, thiserror::Error)]
#[error("sessions: {0}")]
pub(crate) struct Unavailable(String);

/// What a client shows to be known again: whoever knows it, is that client.
pub(crate) struct SessionId(String);

impl SessionId {
    /// One that nobody can guess.
    pub(crate) fn fresh() -> Result<Self, Unavailable> {
        let mut bytes = [0; 16];
        File::open("/dev/urandom")
            .and_then(|mut file| file.read_exact(&mut bytes))
            .map_err(|err| Unavailable(format!("/dev/urandom: {err}")))?;
        let id = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(SessionId(id))
    }

    /// Anything else is no session: nothing that a client makes up gets to the store.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (text.len() == 32 && text.bytes().all(is_hex)).then(|| SessionId(text.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Store {
    pub(crate) fn agent(messenger: Messenger, ttl: Duration) -> Self {
        Store::Agent(messenger, ttl)
    }

    /// Begins a session.
    pub(crate) fn put(&self, id: &SessionId, name: &str) -> Result<(), Unavailable> {
        let SessionId(id) = id;
        match self {
            Store::Redis(redis) => {
                let key = key(id);
                redis.ask(cmd("SETEX").arg(key).arg(redis.ttl.as_secs()).arg(name))
            }
            Store::Agent(messenger, ttl) => {
                ask_agent(messenger, &format!("put {id} {} {name}", ttl.as_secs()))?;
                Ok(())
            }
        }
    }

    /// Whose session it is, if it is one.
    pub(crate) fn get(&self, id: &SessionId) -> Result<Option<String>, Unavailable> {
        let SessionId(id) = id;
        match self {
            Store::Redis(redis) => {
                let ttl = redis.ttl.as_secs();
                redis.ask(cmd("GETEX").arg(key(id)).arg("EX").arg(ttl))
            }
            Store::Agent(messenger, ttl) => {
                let answer = ask_agent(messenger, &format!("get {id} {}", ttl.as_secs()))?;
                Ok(answer.strip_prefix("name ").map(str::to_owned))
            }
        }
    }

    /// Ends it; one that is none is no error.
    pub(crate) fn remove(&self, id: &SessionId) -> Result<(), Unavailable> {
        let SessionId(id) = id;
        match self {
            Store::Redis(redis) => redis.ask(cmd("DEL").arg(key(id))),
            Store::Agent(messenger, _) => {
                ask_agent(messenger, &format!("remove {id}"))?;
                Ok(())
            }
        }
    }
}

fn key(id: &str) -> String {
    format!("session:{id}")
}

fn ask_agent(messenger: &Messenger, question: &str) -> Result<String, Unavailable> {
    let agent = Recipient::Agent(Some("sessions".to_owned()));
    let asked = messenger.request(agent, "session", question, PATIENCE);
    let reply = asked.map_err(|err| {
        let is_nobody = matches!(err, RequestFailure::Undelivered(Receipt::NoSuchPeer));
        let remedy = match is_nobody {
            true => ": start the master with --agent sessions=..., or this with --redis",
            false => "",
        };
        Unavailable(format!("agent: {err}{remedy}"))
    })?;
    match reply.text() {
        Ok(answer) if !answer.starts_with("bad") => Ok(answer.to_owned()),
        Ok(_) | Err(_) => Err(Unavailable("agent: it is another program".to_owned())),
    }
}

/// A Redis, and the connections to it that nobody uses now: never more than there are threads.
pub(crate) struct RedisStore {
    client: Client,
    ttl: Duration,
    idle: Mutex<Vec<Connection>>,
}

impl RedisStore {
    /// Does not connect yet: a worker may be ready before its Redis is.
    pub(crate) fn at(place: &str, ttl: Duration) -> Result<Self, String> {
        let url = match place.contains("://") {
            true => place.to_owned(),
            false => format!("redis://{place}"),
        };
        // The URL may have a password in it.
        let client = Client::open(url).map_err(|err| {
            format!("--redis or REDIS_URL: {err}: write HOST:PORT, redis://... or unix://...")
        })?;
        Ok(RedisStore {
            client,
            ttl,
            idle: Mutex::default(),
        })
    }

    /// Asks on a connection that is idle, otherwise on a new one. A question may be asked twice, and
    /// ours mean the same then.
    fn ask<T: FromRedisValue>(&self, question: &Cmd) -> Result<T, Unavailable> {
        // Not the URL: it may have a password in it.
        let place = self.client.get_connection_info().addr();
        let failed = |err: RedisError| Unavailable(format!("redis: {place}: {err}"));
        while let Some(mut kept) = self.take_idle() {
            match question.query(&mut kept) {
                Ok(answer) => {
                    self.idle().push(kept);
                    return Ok(answer);
                }
                // Of a Redis that is gone; there may be another by now.
                Err(err) if err.is_io_error() && !err.is_timeout() => {}
                Err(err) => return Err(failed(err)),
            }
        }
        let mut fresh = self.connect().map_err(failed)?;
        let answer = question.query(&mut fresh).map_err(failed)?;
        self.idle().push(fresh);
        Ok(answer)
    }

    fn connect(&self) -> Result<Connection, RedisError> {
        let connection = self.client.get_connection_with_timeout(PATIENCE)?;
        connection.set_read_timeout(Some(PATIENCE))?;
        connection.set_write_timeout(Some(PATIENCE))?;
        Ok(connection)
    }

    /// Without the lock, as the question may take its time.
    fn take_idle(&self) -> Option<Connection> {
        self.idle().pop()
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long one answer of the store is waited for.
const PATIENCE: Duration = Duration::from_secs(1);
