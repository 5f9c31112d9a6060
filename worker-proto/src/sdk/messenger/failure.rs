//! What keeps a message from being sent, or a request from being answered.

use std::io;
use std::time::Duration;

use thiserror::Error;

use crate::message::{MAX_ACTION_BYTES, RESERVED_ACTIONS, Receipt, is_the_masters};
use crate::socket::SendError;

/// A message that was not sent.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SendFailure {
    /// The channel to the master has ended. To a child that was forked from this process it never
    /// was there.
    #[error("send a message: the master is gone")]
    MasterGone,
    /// This process has said goodbye.
    #[error("send a message: this process has left the cluster")]
    Left,
    /// The payload is longer than the master carries.
    #[error("send a message of {len} bytes: the master carries at most {max} (--max-message)")]
    TooLarge {
        /// How long it is.
        len: u64,
        /// How long it may be.
        max: u64,
    },
    /// The action is none.
    #[error("send a message: {0}")]
    BadAction(#[from] BadAction),
    /// No agent can have that name.
    #[error("send a message to an agent with a name of {len} bytes: at most {MAX_ACTION_BYTES}")]
    BadName {
        /// How long it is.
        len: usize,
    },
    /// The master has read nothing for 5 s. A message that fits one frame (32 KiB) was not sent.
    /// Of a longer one a part may have been: the rest of it then goes with the next message, so
    /// that it may still arrive.
    #[error("send a message: the master reads nothing")]
    TimedOut,
    /// The message was sent, and its receipt has not come.
    #[error("no receipt within {within:?}")]
    NoReceipt {
        /// How long it was waited for.
        within: Duration,
    },
    /// Only requests can be replied to.
    #[error("reply to a message that is no request")]
    NotARequest,
    /// A request is replied to once, whichever of its copies it is done with.
    #[error("reply to a request that was replied to")]
    AlreadyReplied,
    /// The system refuses.
    #[error("send a message")]
    Io(#[source] io::Error),
}

/// An action that a message cannot have.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BadAction {
    /// There is nothing to subscribe to.
    #[error("the action is empty")]
    Empty,
    /// It is longer than [`MAX_ACTION_BYTES`].
    #[error("the action has {len} bytes, at most {MAX_ACTION_BYTES} are allowed")]
    TooLong {
        /// How long it is.
        len: usize,
    },
    /// It begins with [`RESERVED_ACTIONS`].
    #[error("the action {action:?} begins with {RESERVED_ACTIONS:?}, which is for the master")]
    Reserved {
        /// What it is.
        action: String,
    },
}

/// A request without a reply.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RequestFailure {
    /// No reply has come in time. One that comes later is ignored.
    #[error("no reply within {within:?}{}", if *.delivered { "" } else { ", and the request was not delivered" })]
    TimedOut {
        /// How long it was waited for.
        within: Duration,
        /// Whether the receiver has got the request; if not, it does not get it any more.
        delivered: bool,
    },
    /// Nobody has got the request.
    #[error("nobody got the request: {}", words(*.0))]
    Undelivered(Receipt),
    /// The receiver got the request, and was gone before it replied. Whether it did anything is
    /// unknown.
    #[error("the receiver was gone before it replied")]
    PeerGone,
    /// The master was gone before the reply came.
    #[error("the master was gone before the reply came")]
    MasterGone,
    /// The request was not sent.
    #[error(transparent)]
    Unsent(SendFailure),
}

impl BadAction {
    /// Whether a program may send this.
    pub(super) fn check(action: &str) -> Result<(), Self> {
        if action.is_empty() {
            return Err(BadAction::Empty);
        }
        let len = action.len();
        if len > MAX_ACTION_BYTES {
            return Err(BadAction::TooLong { len });
        }
        if is_the_masters(action) {
            let action = action.to_owned();
            return Err(BadAction::Reserved { action });
        }
        Ok(())
    }
}

impl From<SendError> for SendFailure {
    fn from(err: SendError) -> Self {
        match err {
            SendError::Gone => SendFailure::MasterGone,
            SendError::Full => SendFailure::TimedOut,
            SendError::Exhausted(err) | SendError::Io(err) => SendFailure::Io(err),
            SendError::TooLarge(err) => {
                SendFailure::Io(io::Error::new(io::ErrorKind::InvalidInput, err))
            }
        }
    }
}

impl From<SendFailure> for RequestFailure {
    fn from(failure: SendFailure) -> Self {
        if matches!(failure, SendFailure::MasterGone) {
            RequestFailure::MasterGone
        } else {
            RequestFailure::Unsent(failure)
        }
    }
}

fn words(receipt: Receipt) -> &'static str {
    match receipt {
        Receipt::Delivered { .. } => "who it was for is full, or ended",
        Receipt::NoSuchPeer => "there is nobody it could be for",
        Receipt::Full => "too much waits for the receiver already",
        Receipt::Draining => "the receiver is leaving",
        Receipt::Expired => "the receiver was not there in time",
        Receipt::TooLarge => "it is longer than the master carries",
        Receipt::UnknownContentType => "the master does not know its content type",
        Receipt::BadAction => "the master does not take its action",
        Receipt::TooManyRequests => "too many requests wait for a reply",
    }
}
