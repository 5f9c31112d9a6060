//! Messages between processes, as data: whom they are for, who they are from, what became of them.
//!
//! The payload is opaque: nobody between the sender and the receiver looks into it. A sender says
//! whom a message is for and never who it is: that is the master's to say.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::ids::{Generation, Role, Slot, WorkerId};

/// Whom a message is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Recipient {
    /// One incarnation, and never its successor.
    Worker(WorkerId),
    /// Whoever holds the slot when the master reads the message.
    Slot {
        /// Of the workers or of the agents.
        role: Role,
        /// The position.
        slot: Slot,
    },
    /// The process of the cluster with this pid.
    Pid(u32),
    /// The agent of this name; without a name the first one. While it is not there, what is for it
    /// waits for a limited time.
    Agent(Option<String>),
    /// Every worker.
    Workers,
    /// One worker that serves, chosen by chance.
    AnyWorker,
    /// Every process, the sender included.
    Everyone,
    /// Every process but the sender.
    Others,
    /// The master, and whoever follows its events.
    Master,
}

/// Who a message is from, as the master knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Sender {
    /// The master itself, or an operator through it.
    Master,
    /// A process of the cluster.
    Process {
        /// The incarnation: what [`Recipient::Worker`] answers to.
        worker: WorkerId,
        /// Its position.
        slot: Slot,
        /// The version of the program that it belongs to.
        generation: Generation,
        /// What it is for.
        role: Role,
        /// Its process id.
        pid: u32,
    },
}

/// A message's number, counted by its sender. It never means anything without the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MessageId(pub u64);

/// What a message is, to those who carry it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// Nobody has to answer.
    Message,
    /// The receiver owes a reply, and the sender waits for it.
    Request,
    /// The reply to a request that the receiver of this sent.
    Reply {
        /// The request's number, as its sender counts.
        to: MessageId,
    },
    /// What the master holds under the key that the action names; from the master alone.
    Value {
        /// Raised by every change of the value, counted from 1.
        version: u64,
    },
}

/// How a payload is to be read: a tag that travels with it, and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ContentType(pub u8);

impl ContentType {
    /// Whatever sender and receiver have agreed upon.
    pub const BYTES: Self = ContentType(0);
    /// UTF-8.
    pub const TEXT: Self = ContentType(1);
    /// JSON, RFC 8259.
    pub const JSON: Self = ContentType(2);
    /// bincode 2 in its standard configuration, of a type that both sides know.
    pub const BINCODE: Self = ContentType(3);

    /// Whether it is one of those above.
    #[must_use]
    pub fn is_known(self) -> bool {
        self.0 <= Self::BINCODE.0
    }
}

impl fmt::Display for ContentType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::BYTES => f.write_str("bytes"),
            Self::TEXT => f.write_str("text"),
            Self::JSON => f.write_str("JSON"),
            Self::BINCODE => f.write_str("bincode"),
            ContentType(unknown) => write!(f, "content type {unknown}"),
        }
    }
}

/// What became of a message, for a sender that asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Receipt {
    /// It is on the control channel of each of them. That is as far as the master sees: a process
    /// that is killed now takes it along.
    Delivered {
        /// How many got it.
        receivers: u32,
        /// How many of those it was for did not: their outbox was full, or they ended.
        missed: u32,
    },
    /// There is nobody it could be for, or not any more.
    NoSuchPeer,
    /// The receiver reads more slowly than it is written to, or the master holds all the messages
    /// that it may.
    Full,
    /// The receiver is leaving, and takes nothing new.
    Draining,
    /// It waited for its receiver as long as it may.
    Expired,
    /// Longer than `--max-message`.
    TooLarge,
    /// The [`ContentType`] is none.
    UnknownContentType,
    /// The action is empty, longer than [`MAX_ACTION_BYTES`], or begins with
    /// [`RESERVED_ACTIONS`].
    BadAction,
    /// The sender has too many requests without a reply.
    TooManyRequests,
}

/// One message, or the first piece of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Send {
    /// The sender's number for it, greater than the one before.
    pub message: MessageId,
    /// Whom it is for.
    pub recipient: Recipient,
    /// What it is.
    pub kind: Kind,
    /// Whether a [`Receipt`] is to be sent. Of a request one is sent in any case when it cannot be
    /// delivered, and when its receiver is gone without a reply.
    pub wants_receipt: bool,
    /// How long it may wait for its receiver, and a request for its reply, in milliseconds. The
    /// master has limits of its own.
    pub within_ms: Option<u32>,
    /// What it is about, in the words of the program; at most [`MAX_ACTION_BYTES`].
    pub action: String,
    /// How to read it.
    pub content_type: ContentType,
    /// How long the whole payload is.
    pub len_bytes: u64,
    /// Its beginning, at most [`MAX_CHUNK_BYTES`]; the rest follows in pieces.
    pub chunk: Bytes,
}

/// One message as its receiver gets it, or the first piece of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deliver {
    /// Who sent it.
    pub from: Sender,
    /// The sender's number for it.
    pub message: MessageId,
    /// What it is.
    pub kind: Kind,
    /// What it is about.
    pub action: String,
    /// How to read it.
    pub content_type: ContentType,
    /// How long the whole payload is.
    pub len_bytes: u64,
    /// Its beginning; the rest follows in pieces.
    pub chunk: Bytes,
}

/// A further piece of the message that came before on the same channel. No other message comes
/// between the pieces of one, other frames may.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct More {
    /// Counts the pieces of a message; the first of these is 1.
    pub index: u32,
    /// At most [`MAX_CHUNK_BYTES`], and never empty.
    pub chunk: Bytes,
}

/// One process of the cluster, for who asked for its peers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// The incarnation.
    pub worker: WorkerId,
    /// Its position.
    pub slot: Slot,
    /// The version of the program that it belongs to.
    pub generation: Generation,
    /// What it is for.
    pub role: Role,
    /// Its process id.
    pub pid: u32,
    /// An agent's name.
    pub name: Option<String>,
    /// How far its life is.
    pub state: PeerState,
}

/// How far the life of a peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PeerState {
    /// It has joined the cluster and is not ready yet.
    Starting,
    /// It is ready.
    Ready,
    /// It takes nothing new, and will be gone.
    Draining,
    /// It is gone. Its id never comes again.
    Gone,
}

/// What a message costs beside its payload, in the master and in its receiver: the bounds of both
/// count it, so that empty messages are not free.
pub const MESSAGE_OVERHEAD_BYTES: u64 = 256;

/// How much a receiver may have that its program has not taken, overhead included; the master keeps
/// the rest. A single message may be larger.
pub const RECEIVE_WINDOW_BYTES: u64 = 1024 * 1024;

/// The longest piece of a payload in one frame.
pub const MAX_CHUNK_BYTES: usize = 32 * 1024;

/// The longest action.
pub const MAX_ACTION_BYTES: usize = 256;

/// How actions begin that are not the program's to use.
pub const RESERVED_ACTIONS: &str = "rr.";

/// How actions begin by which leaders and followers speak: they are reserved, and the only reserved
/// ones that processes send.
pub const SHARED_ACTIONS: &str = "rr.shared.";

/// Whether no process may send a message with this action.
#[must_use]
pub fn is_the_masters(action: &str) -> bool {
    action.starts_with(RESERVED_ACTIONS) && !action.starts_with(SHARED_ACTIONS)
}

/// How many entries one `Peers` frame has at most.
pub const MAX_PEERS: usize = 256;

/// The longest name of a leader's role, of a value or of a job.
pub const MAX_NAME_BYTES: usize = 128;
