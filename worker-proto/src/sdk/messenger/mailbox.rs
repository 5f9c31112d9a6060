//! The mailbox: who of the program gets which message.
//!
//! What arrives is given out under one lock, so that every subscription sees the order in which it
//! arrived. Tickets are dropped outside of it: that may take a frame to the master.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::{Receiver, SendError, Sender, unbounded};

use super::credit::Ticket;
use super::letter::Letter;
use crate::message::RESERVED_ACTIONS;

/// The subscriptions, and what none of them has got.
#[derive(Debug)]
pub(crate) struct Mailbox(Mutex<State>);

/// A message in a subscription's queue. The queues have no bound of their own: the window is one
/// for all of them.
#[derive(Clone, Debug)]
pub(crate) struct Queued {
    pub(crate) letter: Letter,
    pub(crate) ticket: Arc<Ticket>,
}

/// Which messages a subscription gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Topic {
    Action(Box<str>),
    /// Every action of the program's own.
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SubscriptionId(u64);

#[derive(Debug)]
struct State {
    phase: Phase,
    next: u64,
    by_action: HashMap<Box<str>, Vec<Entry>>,
    all: Vec<Entry>,
    unclaimed: u64,
}

#[derive(Debug)]
enum Phase {
    /// Who is not ready yet may still subscribe to what is kept here.
    Starting { kept: VecDeque<Queued> },
    /// What nobody has subscribed to is dropped.
    Started,
    /// Nothing comes any more.
    Ended,
}

#[derive(Debug)]
struct Entry {
    id: SubscriptionId,
    queue: Sender<Queued>,
}

impl Mailbox {
    pub(crate) fn new() -> Self {
        Mailbox(Mutex::new(State {
            phase: Phase::Starting {
                kept: VecDeque::new(),
            },
            next: 0,
            by_action: HashMap::new(),
            all: Vec::new(),
            unclaimed: 0,
        }))
    }

    /// Gives a message to all who have subscribed to it.
    pub(crate) fn deliver(&self, letter: Letter, ticket: Arc<Ticket>) {
        let queued = Queued { letter, ticket };
        // What is left here is dropped after the lock.
        let _left = self.state().deliver(queued);
    }

    /// A new subscription: what was kept for it is in its queue already.
    pub(crate) fn subscribe(&self, topic: &Topic) -> (SubscriptionId, Receiver<Queued>) {
        let (queue, messages) = unbounded();
        let mut state = self.state();
        let id = SubscriptionId(state.next);
        state.next += 1;
        match &mut state.phase {
            Phase::Starting { kept } => {
                for queued in std::mem::take(kept) {
                    if topic.covers(&queued.letter.action) {
                        // We hold the other end.
                        _ = queue.send(queued);
                    } else {
                        kept.push_back(queued);
                    }
                }
            }
            Phase::Started => {}
            Phase::Ended => return (id, messages),
        }
        let entry = Entry { id, queue };
        match topic {
            Topic::Action(action) => state
                .by_action
                .entry(action.clone())
                .or_default()
                .push(entry),
            Topic::All => state.all.push(entry),
        }
        (id, messages)
    }

    pub(crate) fn unsubscribe(&self, topic: &Topic, id: SubscriptionId) {
        let mut state = self.state();
        match topic {
            Topic::Action(action) => {
                if let Some(entries) = state.by_action.get_mut(action) {
                    entries.retain(|entry| entry.id != id);
                    if entries.is_empty() {
                        state.by_action.remove(action);
                    }
                }
            }
            Topic::All => state.all.retain(|entry| entry.id != id),
        }
    }

    /// Nobody subscribes to what is kept any more.
    pub(crate) fn started(&self) {
        let mut state = self.state();
        let before = match &state.phase {
            Phase::Starting { .. } => std::mem::replace(&mut state.phase, Phase::Started),
            Phase::Started | Phase::Ended => return,
        };
        let count = before.kept();
        state.unclaimed += count;
        drop(state);
        if count > 0 {
            log::debug!("dropped {count} messages that nobody had subscribed to before ready");
        }
        drop(before);
    }

    /// Every subscription ends after what is in its queue.
    pub(crate) fn ended(&self) {
        let mut state = self.state();
        let before = std::mem::replace(&mut state.phase, Phase::Ended);
        state.by_action.clear();
        state.all.clear();
        drop(state);
        drop(before);
    }

    /// How many messages were dropped because nobody had subscribed to them.
    pub(crate) fn unclaimed(&self) -> u64 {
        self.state().unclaimed
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock can leave it half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Answers with what nobody wanted.
    fn deliver(&mut self, queued: Queued) -> Option<Queued> {
        let action = queued.letter.action.as_str();
        let of_action = self.by_action.get(action).map_or(&[][..], Vec::as_slice);
        let of_all = if Topic::All.covers(action) {
            self.all.as_slice()
        } else {
            &[]
        };
        let mut queues = of_action.iter().chain(of_all).map(|entry| &entry.queue);
        if let Some(last) = queues.next_back() {
            // A queue without its other end is about to unsubscribe.
            for queue in queues {
                _ = queue.send(queued.clone());
            }
            return last.send(queued).err().map(SendError::into_inner);
        }
        match &mut self.phase {
            Phase::Starting { kept } => {
                kept.push_back(queued);
                None
            }
            Phase::Started => {
                self.unclaimed += 1;
                Some(queued)
            }
            Phase::Ended => Some(queued),
        }
    }
}

impl Phase {
    fn kept(&self) -> u64 {
        match self {
            Phase::Starting { kept } => kept.len() as u64,
            Phase::Started | Phase::Ended => 0,
        }
    }
}

impl Topic {
    fn covers(&self, action: &str) -> bool {
        match self {
            Topic::Action(wanted) => **wanted == *action,
            Topic::All => !action.starts_with(RESERVED_ACTIONS),
        }
    }
}
