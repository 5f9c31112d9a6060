//! A handler: what is done with each message of an action, on a thread of its own.
//!
//! A panic is the end of one message, not of the handler.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::mailbox::{SubscriptionId, Topic};
use super::message::Message;
use super::post::Post;
use super::subscription::Subscription;
use crate::sdk::alarm::Alarm;
use crate::sdk::{control, hook};

/// A handler that is called until this is dropped; see [`Messenger::on`](super::Messenger::on).
///
/// Dropping it does not wait: the handler may be busy with a last message, and is not called for
/// those that wait behind it.
#[derive(Debug)]
#[must_use = "the handler is called no more when this is dropped"]
pub struct Handler {
    over: Arc<AtomicBool>,
    topic: Topic,
    id: SubscriptionId,
    post: Arc<Post>,
}

impl Handler {
    pub(super) fn start(
        topic: Topic,
        post: &Arc<Post>,
        alarm: Alarm,
        mut handle: impl FnMut(Message) + Send + 'static,
    ) -> io::Result<Self> {
        let over = Arc::new(AtomicBool::new(false));
        let subscription = Subscription::to(topic.clone(), post);
        let handler = Handler {
            over: Arc::clone(&over),
            topic,
            id: subscription.id(),
            post: Arc::clone(post),
        };
        control::start_thread("rr-on", move || {
            for message in subscription.iter() {
                if over.load(Ordering::Acquire) {
                    break;
                }
                let action = message.action.clone();
                let handled = hook::attempt(|| {
                    handle(message);
                    Ok::<_, Infallible>(())
                });
                if let Err(failure) = handled {
                    let problem = format!("the handler of {action:?} {failure}");
                    log::error!("{problem}");
                    alarm.report(&problem);
                }
            }
        })?;
        Ok(handler)
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        // Ends the wait of the thread, too. In a forked child there is no such thread.
        if self.post.is_owner() {
            self.post.mailbox.unsubscribe(&self.topic, self.id);
        }
    }
}
