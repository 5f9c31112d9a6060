//! A reign: the time in which a process leads, and what it has published in it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::failure::SharedFailure;
use super::wire::{ToFollower, encode, follower_action};
use crate::ids::WorkerId;
use crate::message::Recipient;
use crate::sdk::messenger::{Messenger, Payload};

/// This process leads. Cheap to clone: hand it to whoever has something to publish.
#[derive(Clone, Debug)]
pub struct Reign(Arc<Court>);

#[derive(Debug)]
struct Court {
    action: String,
    term: u64,
    messenger: Messenger,
    is_over: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The last value of each key.
    last: BTreeMap<String, Numbered>,
    /// The followers of each process. A key that nobody wants any more stays as long as there is room:
    /// the leader has begun with it.
    subscribers: BTreeMap<String, BTreeMap<WorkerId, BTreeSet<u64>>>,
    published: u64,
}

/// A value, and how many came before it.
#[derive(Clone, Debug)]
struct Numbered {
    number: u64,
    value: Payload,
}

impl Reign {
    pub(super) fn begin(name: &str, term: u64, messenger: Messenger) -> Self {
        Reign(Arc::new(Court {
            action: follower_action(name),
            term,
            messenger,
            is_over: AtomicBool::new(false),
            state: Mutex::default(),
        }))
    }

    /// Gives all who have subscribed to the key this value, and those who do so later.
    ///
    /// # Errors
    /// `Closed` when this process does not lead any more; `Unsent` when the value is too long, or there
    /// are 1024 other keys already.
    pub fn publish(&self, key: &str, value: impl Into<Payload>) -> Result<(), SharedFailure> {
        let value = value.into();
        // The lock is held until all is sent, so that everybody gets the values in their order.
        let mut state = self.state();
        if self.is_over() {
            return Err(SharedFailure::Closed);
        }
        if !state.last.contains_key(key) && state.last.len() >= MOST_KEYS {
            let message = format!("value {key:?}: there are {MOST_KEYS} keys already");
            return Err(SharedFailure::Unsent(message));
        }
        state.published += 1;
        let number = state.published;
        let value = Numbered { number, value };
        let told = self.value(key, &value);
        state.last.insert(key.to_owned(), value);
        let subscribers = state.subscribers.get(key);
        for subscriber in subscribers.into_iter().flat_map(BTreeMap::keys) {
            self.tell(*subscriber, told.clone())?;
        }
        Ok(())
    }

    /// Whether this process leads no longer.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.is_over.load(Ordering::Acquire)
    }

    /// Raised by every change of the leader, not always by 1: of two that both believe to lead, because one of
    /// them does not know better yet, the higher one is right.
    #[must_use]
    pub fn term(&self) -> u64 {
        self.0.term
    }

    /// Somebody wants the values of a key; the last one is on its way to it when this returns.
    /// Answers whether nobody has wanted it before.
    pub(super) fn subscribe(
        &self,
        key: &str,
        (subscriber, follower): (WorkerId, u64),
    ) -> Result<bool, String> {
        let mut state = self.state();
        self.forget_absent(&mut state);
        let is_new = !state.subscribers.contains_key(key);
        if is_new && state.subscribers.len() >= MOST_KEYS {
            state.subscribers.retain(|_, wanted| !wanted.is_empty());
        }
        if is_new && state.subscribers.len() >= MOST_KEYS {
            return Err(format!("key {key:?}: there are {MOST_KEYS} keys already"));
        }
        let subscribers = state.subscribers.entry(key.to_owned()).or_default();
        subscribers.entry(subscriber).or_default().insert(follower);
        if let Some(last) = state.last.get(key) {
            let told = self.value(key, last);
            self.tell(subscriber, told).map_err(|err| err.to_string())?;
        }
        Ok(is_new)
    }

    pub(super) fn unsubscribe(&self, key: &str, (subscriber, follower): (WorkerId, u64)) {
        let mut state = self.state();
        let Some(subscribers) = state.subscribers.get_mut(key) else {
            return;
        };
        if let Some(followers) = subscribers.get_mut(&subscriber) {
            followers.remove(&follower);
        }
        subscribers.retain(|_, followers| !followers.is_empty());
    }

    pub(super) fn end(&self) {
        let _state = self.state();
        self.0.is_over.store(true, Ordering::Release);
    }

    /// Who is gone wants nothing.
    fn forget_absent(&self, state: &mut State) {
        let peers = self.0.messenger.peers().now();
        if peers.is_empty() {
            return;
        }
        let present: BTreeSet<WorkerId> = peers.into_iter().map(|peer| peer.worker).collect();
        let newest = present.last().copied();
        for subscribers in state.subscribers.values_mut() {
            // The list may not know the newest ones yet.
            subscribers.retain(|it, _| present.contains(it) || Some(*it) > newest);
        }
    }

    fn value(&self, key: &str, Numbered { number, value }: &Numbered) -> Payload {
        encode(&ToFollower::Value {
            term: self.0.term,
            number: *number,
            key: key.to_owned(),
            value: value.clone().into(),
        })
    }

    fn tell(&self, subscriber: WorkerId, what: Payload) -> Result<(), SharedFailure> {
        let (to, action) = (Recipient::Worker(subscriber), self.0.action.as_str());
        let sent = self.0.messenger.send_to(to, action, what);
        sent.map_err(|err| SharedFailure::Unsent(err.to_string()))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock can leave it half changed.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many keys a leader has values for, and how many are subscribed to.
const MOST_KEYS: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sdk::FakeMaster;

    const FOLLOWER: (WorkerId, u64) = (WorkerId(1), 1);

    #[test]
    fn keys_that_nobody_wants_any_more_make_room() {
        let (_master, worker) = FakeMaster::new();
        let reign = Reign::begin("board", 1, worker.messenger());
        for number in 0..3 * MOST_KEYS {
            let key = number.to_string();
            assert_eq!(reign.subscribe(&key, FOLLOWER), Ok(true));
            reign.unsubscribe(&key, FOLLOWER);
        }
        for number in 0..MOST_KEYS {
            assert_eq!(reign.subscribe(&format!("k{number}"), FOLLOWER), Ok(true));
        }
        assert_eq!(reign.subscribe("k0", FOLLOWER), Ok(false));
        let failure = reign.subscribe("one more", FOLLOWER).unwrap_err();
        assert!(failure.contains("1024 keys already"), "{failure}");
    }
}
