//! A subscription: the queue of one who wants the messages of an action.

use std::iter;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvError, RecvTimeoutError, TryRecvError};

use super::mailbox::{Queued, SubscriptionId, Topic};
use super::message::Message;
use super::post::Post;

/// The messages of one action, or of all, in the order in which they arrived; see
/// [`Messenger::subscribe`](super::Messenger::subscribe).
///
/// Several threads may receive from one subscription; each message reaches one of them. Take what
/// comes, or drop the subscription: while [1 MiB](crate::message::RECEIVE_WINDOW_BYTES) waits in the
/// subscriptions of a process the master sends it no more messages, for no subscription. Replies
/// still come, unless their sender has sent messages that wait. Dropping it unsubscribes; what was waiting in it is dropped.
#[derive(Debug)]
pub struct Subscription {
    messages: Receiver<Queued>,
    topic: Topic,
    id: SubscriptionId,
    post: Arc<Post>,
}

impl Subscription {
    pub(super) fn to(topic: Topic, post: &Arc<Post>) -> Self {
        let (id, messages) = post.mailbox.subscribe(&topic);
        Subscription {
            messages,
            topic,
            id,
            post: Arc::clone(post),
        }
    }

    /// The next message; waits for it.
    ///
    /// # Errors
    /// When no more will come: the master is gone, or this process has left.
    pub fn recv(&self) -> Result<Message, RecvError> {
        Ok(self.take(self.messages.recv()?))
    }

    /// The next message, if it comes within that time.
    ///
    /// # Errors
    /// `Timeout` when none has come, `Disconnected` when none will.
    pub fn recv_timeout(&self, within: Duration) -> Result<Message, RecvTimeoutError> {
        Ok(self.take(self.messages.recv_timeout(within)?))
    }

    /// The next message, if it is there.
    ///
    /// # Errors
    /// `Empty` when there is none now, `Disconnected` when none will come.
    pub fn try_recv(&self) -> Result<Message, TryRecvError> {
        Ok(self.take(self.messages.try_recv()?))
    }

    /// The messages until there will be no more.
    pub fn iter(&self) -> impl Iterator<Item = Message> + '_ {
        iter::from_fn(|| self.recv().ok())
    }

    pub(super) fn id(&self) -> SubscriptionId {
        self.id
    }

    /// For a `select!`; what comes is to be [taken](Self::take).
    pub(crate) fn channel(&self) -> &Receiver<Queued> {
        &self.messages
    }

    pub(crate) fn take(&self, queued: Queued) -> Message {
        let Queued { letter, ticket } = queued;
        drop(ticket);
        Message::new(letter, &self.post)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        // In a forked child the lock may be held by a thread that is not there.
        if self.post.is_owner() {
            self.post.mailbox.unsubscribe(&self.topic, self.id);
        }
    }
}
