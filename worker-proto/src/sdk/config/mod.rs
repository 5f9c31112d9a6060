//! The configuration: values that operators and files give the cluster while it runs.
//!
//! The master holds one version of each, and sends the next one when there is one. A process that
//! asks for a key holds its newest version, whoever of the program looks at it.

mod shelf;
mod watch;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::de::DeserializeOwned;

pub use watch::{ConfigHandler, ConfigWatch};

pub(crate) use shelf::Shelf;

use super::alarm::Alarm;
use super::messenger::{ContentError, Payload};
use crate::message::ContentType;
use crate::name::BadName;

/// What the cluster holds under a key, as it changes; see
/// [`Worker::config`](super::Worker::config). Cheap to clone.
///
/// A version counts as adopted, for who waits for it with `rr-ctl push --wait`, as soon as it is here, since [`current`](Self::current) answers with it from then on.
/// A program that has to do something to take it over says so with [`watch`](Self::watch) or
/// [`on_change`](Self::on_change): then it is adopted when that is done.
///
/// ```
/// # let (master, worker) = worker_proto::FakeMaster::new();
/// # master.push("greeting", "hello");
/// let greeting = worker.config("greeting")?;
/// worker.ready()?;
///
/// // For each request, for instance:
/// let text = greeting.current().map_or("hi".to_owned(), |value| value.text().unwrap_or("hi").to_owned());
/// assert_eq!(text, "hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Config {
    shelf: Arc<Shelf>,
    alarm: Alarm,
    key: Arc<str>,
}

/// One version of a value. Cheap to clone: clones share the bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct ConfigValue {
    version: u64,
    payload: Payload,
}

/// Why a key cannot be asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// It is no name.
    #[error("key {key:?}: {problem}")]
    BadKey {
        /// As it was given.
        key: String,
        /// What is wrong with it.
        problem: BadName,
    },
    /// The master is gone.
    #[error("ask for the value of {key:?}: the master is gone")]
    MasterGone {
        /// The key.
        key: String,
    },
    /// The master has not answered. It may do so later: ask again.
    #[error("the master has not said what {key:?} is within {within:?}")]
    NoAnswer {
        /// The key.
        key: String,
        /// How long it was waited for.
        within: Duration,
    },
}

impl Config {
    pub(super) fn of(shelf: &Arc<Shelf>, key: &str, alarm: Alarm) -> Result<Self, ConfigError> {
        shelf.ask(key, ANSWER_WITHIN)?;
        Ok(Config {
            shelf: Arc::clone(shelf),
            alarm,
            key: key.into(),
        })
    }

    /// What the key says now, if it says anything.
    #[must_use]
    pub fn current(&self) -> Option<ConfigValue> {
        self.shelf.current(&self.key)
    }

    /// The version of that, 0 if there is nothing.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.current().map_or(0, |value| value.version)
    }

    /// Each version from the one of now on, for a program that has to do something about it.
    #[must_use]
    pub fn watch(&self) -> ConfigWatch {
        ConfigWatch::of(&self.shelf, &self.key)
    }

    /// Has something done with each version from the one of now on, one after the other, on a thread
    /// of its own in which every signal is blocked, until what this returns is dropped. A failure is
    /// logged and told the master, and so is a panic: the version is not adopted then, and the next
    /// one is tried.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let (master, worker) = worker_proto::FakeMaster::new();
    /// # master.push("level", "debug");
    /// # let (tell, told) = std::sync::mpsc::channel();
    /// let level = worker.config("level")?;
    /// let _handler = level.on_change(move |value| {
    ///     tell.send(value.text()?.to_owned())?;
    ///     Ok(())
    /// })?;
    /// # assert_eq!(told.recv_timeout(Duration::from_secs(5))?, "debug");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn on_change(
        &self,
        take_over: impl FnMut(ConfigValue) -> super::HookResult + Send + 'static,
    ) -> std::io::Result<ConfigHandler> {
        ConfigHandler::start(self.watch(), self.alarm.clone(), take_over)
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl ConfigValue {
    /// Raised by every change, from 1.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// How it is to be read: what whoever pushed it said, or what the file is called.
    #[must_use]
    pub fn content_type(&self) -> ContentType {
        self.payload.content_type()
    }

    /// The value as it came.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        self.payload.as_bytes()
    }

    /// The value as text, whatever its content type.
    ///
    /// # Errors
    /// When it is not UTF-8.
    pub fn text(&self) -> Result<&str, ContentError> {
        self.payload.read_text()
    }

    /// What the value is the JSON of, whatever its content type.
    ///
    /// # Errors
    /// When it is no JSON, or that of something else.
    #[cfg(feature = "json")]
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, ContentError> {
        self.payload.read_json()
    }

    /// What the value is the bincode of.
    ///
    /// # Errors
    /// When its content type is another, or it is the bincode of something else.
    pub fn bincode<T: DeserializeOwned>(&self) -> Result<T, ContentError> {
        self.payload.read_bincode()
    }
}

/// Without the bytes, which may be secret.
impl fmt::Debug for ConfigValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigValue")
            .field("version", &self.version)
            .field("content_type", &self.content_type())
            .field("len", &self.payload.len())
            .finish_non_exhaustive()
    }
}

/// How long the master may take to say what a key says.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
