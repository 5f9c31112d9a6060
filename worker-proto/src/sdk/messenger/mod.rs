//! The messenger: messages between the processes of a cluster.
//!
//! The master carries them: at most once, and in the order in which one process sent them to
//! another. Whatever a receiver does, only its own messages wait. Without a master this process is
//! the whole cluster.

mod assembly;
mod credit;
mod failure;
mod handler;
mod letter;
mod loopback;
mod mailbox;
mod message;
mod outgoing;
mod payload;
mod peers;
mod post;
mod requests;
mod subscription;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, after, select};

pub use failure::{BadAction, RequestFailure, SendFailure};
pub use handler::Handler;
pub use message::Message;
pub use payload::{ContentError, Payload};
pub use peers::Peers;
pub use subscription::Subscription;

pub(crate) use assembly::{Assembly, Nonsense};
#[cfg(any(test, feature = "testing"))]
pub(crate) use credit::charge;
pub(crate) use letter::Letter;
pub(crate) use loopback::Loopback;
pub(crate) use post::Post;

use super::alarm::Alarm;
use crate::message::{Kind, Receipt, Recipient};
use mailbox::Topic;
use outgoing::Draft;
use requests::{Answer, Awaited, Progress};

/// Sends messages to other processes of the cluster, and receives theirs. Cheap to clone, one
/// messenger for all clones; see [`Worker::messenger`](super::Worker::messenger).
///
/// A message has an *action*, the word by which it is subscribed to, and a [`Payload`]. What is sent
/// arrives at most once, and whole; what one process sends to another arrives in the order in which
/// it was sent. It goes to who is there now: who takes the place of a process that ended gets
/// nothing that was meant for it, and what is for an agent that is just restarting waits for it.
///
/// Sending returns when the message is on its way to the master. Whether anybody got it is known to
/// [`deliver`](Self::deliver), and what came of it to [`request`](Self::request).
///
/// Before [`Worker::ready`](super::Worker::ready) nothing is lost: what arrives before somebody
/// subscribes to it is kept until then. Afterwards it is dropped.
///
/// ```
/// # let (_master, worker) = worker_proto::FakeMaster::new();
/// let messenger = worker.messenger();
/// let inbox = messenger.subscribe("cache-cleared");
/// worker.ready()?;
///
/// messenger.broadcast("cache-cleared", "users")?;
/// assert_eq!(inbox.recv()?.text()?, "users");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Messenger {
    post: Arc<Post>,
    alarm: Alarm,
}

impl Messenger {
    pub(crate) fn new(post: Arc<Post>, alarm: Alarm) -> Self {
        Messenger { post, alarm }
    }

    /// Sends a message to whomever `recipient` names.
    ///
    /// # Errors
    /// See [`SendFailure`].
    pub fn send_to(
        &self,
        recipient: Recipient,
        action: &str,
        payload: impl Into<Payload>,
    ) -> Result<(), SendFailure> {
        let draft = Draft::new(recipient, Kind::Message, action, payload.into());
        self.post.send(draft, |_| ())?;
        Ok(())
    }

    /// Sends a message to the agent of this name; without a name to the first one. While it is not
    /// there the message waits, for a limited time.
    ///
    /// # Errors
    /// See [`SendFailure`].
    pub fn send_to_agent(
        &self,
        name: Option<&str>,
        action: &str,
        payload: impl Into<Payload>,
    ) -> Result<(), SendFailure> {
        self.send_to(Recipient::Agent(name.map(str::to_owned)), action, payload)
    }

    /// Sends a message to every worker; to this process, too, if it is one.
    ///
    /// # Errors
    /// See [`SendFailure`].
    pub fn send_to_workers(
        &self,
        action: &str,
        payload: impl Into<Payload>,
    ) -> Result<(), SendFailure> {
        self.send_to(Recipient::Workers, action, payload)
    }

    /// Sends a message to one worker that serves, chosen by chance; it may be this one.
    ///
    /// # Errors
    /// See [`SendFailure`].
    pub fn send_random(
        &self,
        action: &str,
        payload: impl Into<Payload>,
    ) -> Result<(), SendFailure> {
        self.send_to(Recipient::AnyWorker, action, payload)
    }

    /// Sends a message to everyone, workers and agents, this process included.
    ///
    /// # Errors
    /// See [`SendFailure`].
    pub fn broadcast(&self, action: &str, payload: impl Into<Payload>) -> Result<(), SendFailure> {
        self.send_to(Recipient::Everyone, action, payload)
    }

    /// Sends a message to everyone but this process.
    ///
    /// # Errors
    /// See [`SendFailure`].
    pub fn broadcast_to_others(
        &self,
        action: &str,
        payload: impl Into<Payload>,
    ) -> Result<(), SendFailure> {
        self.send_to(Recipient::Others, action, payload)
    }

    /// Sends a message to the master, which shows it to operators who follow its events.
    ///
    /// # Errors
    /// See [`SendFailure`].
    pub fn send_to_master(
        &self,
        action: &str,
        payload: impl Into<Payload>,
    ) -> Result<(), SendFailure> {
        self.send_to(Recipient::Master, action, payload)
    }

    /// Sends a message and waits for the master's word on what became of it, which comes within
    /// `within` or says `Expired`.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use worker_proto::message::{Receipt, Recipient};
    /// # let (_master, worker) = worker_proto::FakeMaster::new();
    /// let nobody = Recipient::Agent(Some("log-rotation".to_owned()));
    /// let receipt = worker.messenger().deliver(nobody, "rotate", "", Duration::from_secs(1))?;
    /// assert_eq!(receipt, Receipt::NoSuchPeer);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// See [`SendFailure`].
    pub fn deliver(
        &self,
        recipient: Recipient,
        action: &str,
        payload: impl Into<Payload>,
        within: Duration,
    ) -> Result<Receipt, SendFailure> {
        let draft = Draft::new(recipient, Kind::Message, action, payload.into());
        let (message, answer) = self.post.send(draft.with_receipt(within), |message| {
            self.post.requests.register(message, Awaited::Receipt)
        })?;
        let answer = match answer.recv_timeout(within.saturating_add(RECEIPT_AFTER)) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Disconnected) => return Err(SendFailure::MasterGone),
            Err(RecvTimeoutError::Timeout) => {
                self.post.requests.give_up(message);
                // It may have come in the meantime.
                let late = answer.try_recv();
                late.map_err(|_| SendFailure::NoReceipt { within })?
            }
        };
        match answer {
            Answer::Receipt(receipt) => Ok(receipt),
            Answer::Reply(_) | Answer::PeerGone | Answer::TimedOut(_) => {
                Err(SendFailure::NoReceipt { within })
            }
        }
    }

    /// Sends a request and waits for the reply to it. Any number of threads may do so at once. A
    /// request is for one process: [`Recipient::Workers`], `Everyone` and `Others` are nobody to ask,
    /// and neither is the master.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use worker_proto::message::Recipient;
    /// # let (_master, worker) = worker_proto::FakeMaster::new();
    /// let messenger = worker.messenger();
    /// let _greets = messenger.on("greet", |request| {
    ///     let name = request.text().unwrap_or("stranger");
    ///     _ = request.reply(format!("hello, {name}"));
    /// })?;
    ///
    /// let to = Recipient::Worker(worker.identity().worker);
    /// let reply = messenger.request(to, "greet", "Ada", Duration::from_secs(5))?;
    /// assert_eq!(reply.text()?, "hello, Ada");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// See [`RequestFailure`].
    pub fn request(
        &self,
        recipient: Recipient,
        action: &str,
        payload: impl Into<Payload>,
        within: Duration,
    ) -> Result<Message, RequestFailure> {
        let over = after(within);
        let draft = Draft::new(recipient, Kind::Request, action, payload.into());
        let (message, answer) = self.post.send(draft.with_receipt(within), |message| {
            self.post.requests.register(message, Awaited::Reply)
        })?;
        let answer = select! {
            recv(answer) -> answer => answer.map_err(|_| RequestFailure::MasterGone)?,
            recv(over) -> _ => {
                let progress = self.post.requests.give_up(message);
                let delivered = progress == Some(Progress::Delivered);
                // It may have come in the meantime.
                let late = answer.try_recv();
                late.map_err(|_| RequestFailure::TimedOut { within, delivered })?
            }
        };
        match answer {
            Answer::Reply(letter) => Ok(Message::new(letter, &self.post)),
            Answer::PeerGone => Err(RequestFailure::PeerGone),
            Answer::TimedOut(progress) => {
                let delivered = progress == Progress::Delivered;
                Err(RequestFailure::TimedOut { within, delivered })
            }
            Answer::Receipt(receipt) => Err(RequestFailure::Undelivered(receipt)),
        }
    }

    /// The messages of this action from now on, and those that came before
    /// [`Worker::ready`](super::Worker::ready) and nobody had subscribed to. Every subscription of
    /// an action gets each of its messages once.
    #[must_use]
    pub fn subscribe(&self, action: &str) -> Subscription {
        Subscription::to(Topic::Action(action.into()), &self.post)
    }

    /// The messages of every action that does not begin with
    /// [`RESERVED_ACTIONS`](crate::message::RESERVED_ACTIONS), as [`subscribe`](Self::subscribe).
    #[must_use]
    pub fn subscribe_all(&self) -> Subscription {
        Subscription::to(Topic::All, &self.post)
    }

    /// Has each message of this action handled, one after the other, on a thread of its own in which
    /// every signal is blocked, until what this returns is dropped. A panic of the handler is logged
    /// and told the master, and the next message is handled.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn on(
        &self,
        action: &str,
        handle: impl FnMut(Message) + Send + 'static,
    ) -> io::Result<Handler> {
        let topic = Topic::Action(action.into());
        Handler::start(topic, &self.post, self.alarm.clone(), handle)
    }

    /// Who is in the cluster. The first call asks the master, whose answer
    /// [`Peers::changed`] waits for.
    #[must_use]
    pub fn peers(&self) -> Peers {
        Peers::on(Arc::clone(self.post.watch_peers()))
    }

    /// How many messages were dropped because nobody had subscribed to their action.
    #[must_use]
    pub fn unclaimed(&self) -> u64 {
        self.post.mailbox.unclaimed()
    }

    pub(crate) fn post(&self) -> &Arc<Post> {
        &self.post
    }
}

/// How much later than the master's own limit a receipt may come.
const RECEIPT_AFTER: Duration = Duration::from_secs(5);
