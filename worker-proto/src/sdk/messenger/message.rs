//! A message in the hands of the program: it has counted as taken from the moment it was given out.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::failure::SendFailure;
use super::letter::Letter;
use super::outgoing::Draft;
use super::payload::{ContentError, Payload};
use super::post::Post;
use crate::message::{ContentType, Kind, MessageId, Recipient, Sender};

/// A message that this process got. Cheap to clone: clones share the payload, and a reply.
///
/// ```
/// # let (_master, worker) = worker_proto::FakeMaster::new();
/// let messenger = worker.messenger();
/// let inbox = messenger.subscribe("colour");
/// messenger.broadcast("colour", "red")?;
///
/// let message = inbox.recv()?;
/// assert_eq!(message.action, "colour");
/// assert_eq!(message.text()?, "red");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Message {
    /// Who sent it: the master has seen to it that this is true.
    pub from: Sender,
    /// What it is about.
    pub action: String,
    /// How its payload is to be read. It may be one that this version does not know.
    pub content_type: ContentType,
    message: MessageId,
    payload: Payload,
    /// Of a request: whether it was replied to.
    replied: Option<Arc<AtomicBool>>,
    post: Arc<Post>,
}

impl Message {
    pub(super) fn new(letter: Letter, post: &Arc<Post>) -> Self {
        let Letter {
            from,
            message,
            kind: _,
            action,
            payload,
            replied,
        } = letter;
        Message {
            from,
            action,
            content_type: payload.content_type,
            message,
            payload,
            replied,
            post: Arc::clone(post),
        }
    }

    /// The payload as it came.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.payload.bytes
    }

    /// The payload, to be sent on.
    #[must_use]
    pub fn payload(&self) -> Payload {
        self.payload.clone()
    }

    /// The payload as text, whatever its content type.
    ///
    /// # Errors
    /// When it is not UTF-8.
    pub fn text(&self) -> Result<&str, ContentError> {
        self.payload.read_text()
    }

    /// What the payload is the JSON of, whatever its content type.
    ///
    /// # Errors
    /// When it is no JSON, or that of something else.
    #[cfg(feature = "json")]
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, ContentError> {
        self.payload.read_json()
    }

    /// What the payload is the bincode of.
    ///
    /// # Errors
    /// When its content type is another, or it is the bincode of something else.
    pub fn bincode<T: DeserializeOwned>(&self) -> Result<T, ContentError> {
        self.payload.read_bincode()
    }

    /// Whether its sender waits for a [`reply`](Self::reply).
    #[must_use]
    pub fn is_request(&self) -> bool {
        self.replied.is_some()
    }

    /// Replies to the incarnation that sent this request, and to no successor. A request that nobody
    /// replies to is not reported to its sender, who waits until its time is over.
    ///
    /// # Errors
    /// See [`SendFailure`]; after [`NotARequest`](SendFailure::NotARequest) and
    /// [`AlreadyReplied`](SendFailure::AlreadyReplied) nothing will help, after others it may be
    /// tried again.
    pub fn reply(&self, payload: impl Into<Payload>) -> Result<(), SendFailure> {
        let replied = self.replied.as_ref().ok_or(SendFailure::NotARequest)?;
        if replied.swap(true, Ordering::AcqRel) {
            return Err(SendFailure::AlreadyReplied);
        }
        let recipient = match self.from {
            Sender::Master => Recipient::Master,
            Sender::Process { worker, .. } => Recipient::Worker(worker),
        };
        let kind = Kind::Reply { to: self.message };
        let draft = Draft::new(recipient, kind, &self.action, payload.into());
        match self.post.send(draft, |_| ()) {
            Ok(_) => Ok(()),
            Err(failure) => {
                replied.store(false, Ordering::Release);
                Err(failure)
            }
        }
    }
}

/// Without the payload, which is nobody's business.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("from", &self.from)
            .field("action", &self.action)
            .field("content_type", &self.content_type)
            .field("len", &self.payload.len())
            .field("is_request", &self.is_request())
            .finish_non_exhaustive()
    }
}
