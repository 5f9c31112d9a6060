//! The post: what all messengers of a process share, and the thread that reads its channel.
//!
//! Locks are taken in the order outgoing, requests or mailbox, and nothing waits for the master
//! while it holds one of the latter two.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::credit::{Credit, Ticket};
use super::failure::{BadAction, SendFailure};
use super::letter::Letter;
use super::loopback::Loopback;
use super::mailbox::Mailbox;
use super::outgoing::{Draft, Outgoing};
use super::peers::Roll;
use super::requests::Requests;
use crate::frame::ToMaster;
use crate::message::{Kind, MAX_ACTION_BYTES, MessageId, Peer, PeerState, Receipt, Recipient};
use crate::sdk::uplink::Uplink;

/// Everything that messages need.
#[derive(Debug)]
pub(crate) struct Post {
    route: Route,
    max_message_bytes: u64,
    outgoing: Mutex<Outgoing>,
    pub(super) requests: Requests,
    pub(super) mailbox: Mailbox,
    credit: Arc<Credit>,
    roll: Arc<Roll>,
    watches_peers: AtomicBool,
}

/// Which way messages go.
#[derive(Debug)]
enum Route {
    Master(Uplink),
    Alone(Loopback),
}

impl Post {
    pub(crate) fn by_master(uplink: Uplink, max_message_bytes: u64) -> Arc<Self> {
        let credit = Credit::with_master(uplink.clone());
        Self::new(Route::Master(uplink), max_message_bytes, credit)
    }

    pub(crate) fn alone(loopback: Loopback) -> Arc<Self> {
        Self::new(Route::Alone(loopback), ALONE_MAX_BYTES, Credit::alone())
    }

    fn new(route: Route, max_message_bytes: u64, credit: Arc<Credit>) -> Arc<Self> {
        Arc::new(Post {
            route,
            max_message_bytes,
            outgoing: Mutex::new(Outgoing::new()),
            requests: Requests::new(),
            mailbox: Mailbox::new(),
            credit,
            roll: Roll::new(),
            watches_peers: AtomicBool::new(false),
        })
    }

    /// Sends a message; `register` is told its number before anybody can answer it.
    pub(super) fn send<T>(
        &self,
        draft: Draft,
        register: impl FnOnce(MessageId) -> T,
    ) -> Result<(MessageId, T), SendFailure> {
        self.check(&draft)?;
        let mut outgoing = self.outgoing();
        let message = outgoing.number()?;
        let registered = register(message);
        let sent = match &self.route {
            Route::Master(uplink) => outgoing.send(uplink, message, draft),
            Route::Alone(loopback) => {
                self.loop_back(loopback, message, draft);
                Ok(())
            }
        };
        drop(outgoing);
        // What could not be reported because the channel was full is reported now.
        self.credit.settle();
        match sent {
            Ok(()) => Ok((message, registered)),
            Err(failure) => {
                self.requests.give_up(message);
                Err(failure)
            }
        }
    }

    fn check(&self, draft: &Draft) -> Result<(), SendFailure> {
        // Before any lock: the thread that holds it may not exist in a forked child.
        if !self.is_owner() {
            return Err(SendFailure::MasterGone);
        }
        match draft.kind {
            // It has the request's action, which may be the master's own.
            Kind::Reply { .. } => {}
            Kind::Message | Kind::Request | Kind::Value { .. } => BadAction::check(&draft.action)?,
        }
        if let Recipient::Agent(Some(name)) = &draft.recipient
            && name.len() > MAX_ACTION_BYTES
        {
            return Err(SendFailure::BadName { len: name.len() });
        }
        let (len, max) = (draft.payload.len() as u64, self.max_message_bytes);
        if len > max {
            return Err(SendFailure::TooLarge { len, max });
        }
        Ok(())
    }

    /// Does what a master does.
    fn loop_back(&self, loopback: &Loopback, message: MessageId, draft: Draft) {
        let len = draft.payload.len();
        let receipt = if !loopback.is_for_us(&draft.recipient, draft.kind) {
            Receipt::NoSuchPeer
        } else if !self.credit.has_room_for(len) {
            Receipt::Full
        } else {
            Receipt::Delivered {
                receivers: 1,
                missed: 0,
            }
        };
        self.receipt(message, receipt);
        if let Receipt::Delivered { .. } = receipt {
            let from = loopback.sender();
            let letter = Letter::new(from, message, draft.kind, draft.action, draft.payload);
            self.arrived(letter, self.credit.ticket(len));
        }
    }

    /// Whether this is the process that joined the cluster, and not a child forked from it.
    pub(super) fn is_owner(&self) -> bool {
        match &self.route {
            Route::Master(uplink) => uplink.is_owner(),
            Route::Alone(loopback) => loopback.is_owner(),
        }
    }

    /// Asks the master for the peers, once.
    pub(super) fn watch_peers(&self) -> &Arc<Roll> {
        if self.is_owner() && !self.watches_peers.swap(true, Ordering::AcqRel) {
            match &self.route {
                Route::Master(uplink) => {
                    if let Err(err) = uplink.send(&ToMaster::WatchPeers) {
                        log::warn!("failed to ask for the peers: {err}");
                        self.watches_peers.store(false, Ordering::Release);
                    }
                }
                Route::Alone(loopback) => {
                    self.roll.update(vec![loopback.peer(PeerState::Ready)]);
                }
            }
        }
        &self.roll
    }

    /// The ticket of a message of `len` bytes that came from the master.
    pub(crate) fn ticket(&self, len: usize) -> Arc<Ticket> {
        self.credit.ticket(len)
    }

    /// Reports what could not be reported before.
    pub(crate) fn settle(&self) {
        self.credit.settle();
    }

    pub(crate) fn arrived(&self, letter: Letter, ticket: Arc<Ticket>) {
        match letter.kind {
            Kind::Message | Kind::Request => self.mailbox.deliver(letter, ticket),
            // Taken at once: who waits for it is there.
            Kind::Reply { to } => self.requests.reply(to, letter),
            Kind::Value { .. } => {}
        }
    }

    pub(crate) fn receipt(&self, message: MessageId, receipt: Receipt) {
        self.requests.receipt(message, receipt);
    }

    pub(crate) fn peers_changed(&self, changed: Vec<Peer>) {
        self.roll.update(changed);
    }

    /// The process is ready: what nobody has subscribed to is dropped.
    pub(crate) fn started(&self) {
        self.mailbox.started();
    }

    /// From now on nothing is sent: what comes next on the channel is `Goodbye`.
    pub(crate) fn leave(&self) {
        if !self.is_owner() {
            return;
        }
        match &self.route {
            Route::Master(uplink) => self.outgoing().leave(uplink),
            Route::Alone(_) => self.ended(),
        }
    }

    /// Nothing comes any more.
    pub(crate) fn ended(&self) {
        self.mailbox.ended();
        self.requests.ended();
        self.roll.ended();
    }

    fn outgoing(&self) -> MutexGuard<'_, Outgoing> {
        // Nothing that holds the lock can leave it half changed.
        self.outgoing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The longest payload without a master: what a master carries if nobody says otherwise.
const ALONE_MAX_BYTES: u64 = 64 << 20;
