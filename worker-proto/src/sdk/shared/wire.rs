//! What leaders and followers say to each other: the payloads of messages under actions of their own.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::message::{ContentType, SHARED_ACTIONS};
use crate::sdk::messenger::{Message, Payload};

/// What a follower wants of its leader: a request. A process has one follower or several, each with a
/// number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum ToLeader {
    /// The values of a key, the last one at once.
    Subscribe { key: String, follower: u64 },
    /// No more of them.
    Unsubscribe { key: String, follower: u64 },
    /// A value for a key.
    Publish { key: String, value: Content },
    /// A call.
    Invoke { method: String, argument: Content },
}

/// What a leader answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Answer {
    Done,
    Returned(Content),
    Failed(String),
    /// Not, or no longer: ask whoever does.
    NotLeading,
}

/// What a leader tells its followers: a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum ToFollower {
    Value {
        /// Of the leader.
        term: u64,
        /// Counts the leader's values.
        number: u64,
        key: String,
        value: Content,
    },
}

/// A payload inside of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Content {
    content_type: ContentType,
    bytes: Bytes,
}

impl From<Payload> for Content {
    fn from(payload: Payload) -> Self {
        Content {
            content_type: payload.content_type(),
            bytes: payload.into_bytes(),
        }
    }
}

impl From<Content> for Payload {
    fn from(content: Content) -> Self {
        Payload::new(content.content_type, content.bytes)
    }
}

/// What is asked of the leader of this name.
pub(super) fn leader_action(name: &str) -> String {
    format!("{SHARED_ACTIONS}lead.{name}")
}

/// What the followers of this name are told.
pub(super) fn follower_action(name: &str) -> String {
    format!("{SHARED_ACTIONS}follow.{name}")
}

pub(super) fn encode<T: Serialize>(what: &T) -> Payload {
    Payload::bincode(what).expect("texts, numbers and bytes")
}

/// What a message says; another version of this library may say what this one does not know.
pub(super) fn decode<T: DeserializeOwned>(message: &Message) -> Option<T> {
    match message.bincode() {
        Ok(said) => Some(said),
        Err(err) => {
            log::debug!("ignores a message of {:?}: {err}", message.action);
            None
        }
    }
}
