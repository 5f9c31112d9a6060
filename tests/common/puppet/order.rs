//! What a puppet is told, and what it answers: a line of JSON each. Data only.
#![allow(unreachable_pub, reason = "the test and the worker each include it")]

use std::hash::{DefaultHasher, Hash, Hasher};

use serde::{Deserialize, Serialize};
use worker_proto::ids::{Generation, Role, Slot, WorkerId};
use worker_proto::message::{ContentType, Peer, Receipt, Recipient, Sender};

/// Who a puppet is: its first line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Introduction {
    pub worker: WorkerId,
    pub slot: Slot,
    pub generation: Generation,
    pub role: Role,
    pub pid: u32,
}

/// One thing to do. Each has one answer, except those after which there is nobody to answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Order {
    Ready,
    /// To everything. What it is not told to hear it does not take.
    Subscribe,
    Send(Way, Letter),
    /// As often as this, without waiting for anything.
    SendMany(Recipient, Letter, u32),
    /// Sends, and waits so many milliseconds for the receipt.
    Deliver(Recipient, Letter, u64),
    /// Sends, and waits so many milliseconds for the reply.
    Request(Recipient, Letter, u64),
    /// Waits so many milliseconds for the next message.
    Hear(u64),
    /// To the request that it heard last.
    Reply(Content),
    /// Waits so many milliseconds for the next change of its peers.
    Peers(u64),
    /// Broadcasts this, and ends at once.
    Last(Letter, End),
    Leave,
}

/// Which method of the messenger.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Way {
    To(Recipient),
    ToAgent(Option<String>),
    ToWorkers,
    Random,
    Broadcast,
    BroadcastToOthers,
    ToMaster,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Letter {
    pub action: String,
    pub content: Content,
}

/// A payload, or how to make it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Content {
    Text(String),
    /// That many bytes, always the same for the same seed.
    Noise {
        seed: u64,
        len: usize,
    },
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum End {
    Exit,
    Abort,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    Done,
    Failed(String),
    Receipt(Receipt),
    Heard(Heard),
    /// Nothing came in time.
    Silence,
    Peers(Vec<Peer>),
}

/// A message as it came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    pub from: Sender,
    pub action: String,
    pub content_type: ContentType,
    pub len: usize,
    pub hash: u64,
    /// If it is short.
    pub text: Option<String>,
    pub is_request: bool,
}

impl Content {
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Content::Text(text) => text.clone().into_bytes(),
            Content::Noise { seed, len } => {
                let mut state = seed | 1;
                let mut bytes = Vec::with_capacity(len + 8);
                while bytes.len() < *len {
                    // Marsaglia's xorshift.
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    bytes.extend_from_slice(&state.to_le_bytes());
                }
                bytes.truncate(*len);
                bytes
            }
        }
    }
}

/// Tells whether two payloads are the same.
pub fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}
