//! What a follower knows: who leads, and which values have come for whom.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::failure::SharedFailure;
use crate::ids::WorkerId;
use crate::sdk::messenger::Payload;

/// Shared by the follower's thread and all who ask.
#[derive(Debug, Default)]
pub(super) struct Following {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    term: u64,
    leader: Option<WorkerId>,
    refused: Option<String>,
    is_draining: bool,
    is_closed: bool,
    keys: BTreeMap<String, Key>,
    next_tap: u64,
}

#[derive(Debug, Default)]
struct Key {
    /// Term and number of the newest value, and the value.
    last: Option<((u64, u64), Payload)>,
    taps: Vec<Tap>,
}

/// One who has subscribed.
#[derive(Debug)]
struct Tap {
    id: TapId,
    give: Sender<Payload>,
    /// Makes room for the newest.
    take: Receiver<Payload>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TapId(u64);

impl Following {
    /// Somebody leads, or nobody does; answers the keys that a new leader has to know of.
    pub(super) fn change(&self, term: u64, leader: Option<WorkerId>) -> Vec<String> {
        let mut state = self.state();
        let is_new = (state.term, state.leader) != (term, leader);
        (state.term, state.leader) = (term, leader);
        self.changed.notify_all();
        match leader {
            Some(_) if is_new => state.keys.keys().cloned().collect(),
            Some(_) | None => Vec::new(),
        }
    }

    pub(super) fn refuse(&self, reason: String) {
        self.state().refused = Some(reason);
        self.changed.notify_all();
    }

    pub(super) fn drain(&self) {
        self.state().is_draining = true;
        self.changed.notify_all();
    }

    /// Nothing comes any more.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.is_closed = true;
        state.keys.clear();
        self.changed.notify_all();
    }

    pub(super) fn leader(&self) -> Option<(u64, WorkerId)> {
        self.state().leader()
    }

    /// Waits for a leader of a later term than that; `None` if there is none. Who has to finish does not wait long: it may be
    /// that nobody will lead any more.
    pub(super) fn await_leader(
        &self,
        tried: u64,
        within: Duration,
    ) -> Result<Option<(u64, WorkerId)>, SharedFailure> {
        let is_open = |state: &mut State| state.is_waiting(tried) && !state.is_draining;
        let waited = self
            .changed
            .wait_timeout_while(self.state(), within, is_open);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let shortly = within.min(DRAINING_PATIENCE);
        let is_open = |state: &mut State| state.is_waiting(tried) && state.is_draining;
        let waited = self.changed.wait_timeout_while(state, shortly, is_open);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if state.is_closed {
            return Err(SharedFailure::Closed);
        }
        if let Some(reason) = &state.refused {
            return Err(SharedFailure::Refused(reason.clone()));
        }
        Ok(state.leader().filter(|(term, _)| *term > tried))
    }

    /// Whether somebody wants the key, and this is still the term.
    pub(super) fn is_wanted(&self, key: &str, term: u64) -> bool {
        let state = self.state();
        !state.is_closed && state.term == term && state.keys.contains_key(key)
    }

    /// Waits a little, but no longer than the term lasts.
    pub(super) fn pause(&self, term: u64, within: Duration) {
        let is_open = |state: &mut State| !state.is_closed && state.term == term;
        _ = self
            .changed
            .wait_timeout_while(self.state(), within, is_open);
    }

    /// Somebody subscribes; answers whether it is the first for this key.
    pub(super) fn tap(&self, key: &str) -> (TapId, Receiver<Payload>, bool) {
        let (give, take) = bounded(MOST_VALUES);
        let mut state = self.state();
        let id = TapId(state.next_tap);
        state.next_tap += 1;
        if state.is_closed {
            return (id, take, false);
        }
        let is_new = !state.keys.contains_key(key);
        let entry = state.keys.entry(key.to_owned()).or_default();
        let tap = Tap {
            id,
            give,
            take: take.clone(),
        };
        if let Some((_, last)) = &entry.last {
            tap.push(last.clone());
        }
        entry.taps.push(tap);
        (id, take, is_new)
    }

    /// Somebody has unsubscribed; answers whether it was the last for this key.
    pub(super) fn untap(&self, key: &str, id: TapId) -> bool {
        let mut state = self.state();
        let Some(entry) = state.keys.get_mut(key) else {
            return false;
        };
        entry.taps.retain(|tap| tap.id != id);
        let is_last = entry.taps.is_empty();
        if is_last {
            state.keys.remove(key);
        }
        is_last
    }

    /// A value has come; one that is not newer than the last one is another follower's.
    pub(super) fn deliver(&self, key: &str, at: (u64, u64), value: &Payload) {
        let mut state = self.state();
        let Some(entry) = state.keys.get_mut(key) else {
            return;
        };
        if entry.last.as_ref().is_some_and(|(last, _)| at <= *last) {
            return;
        }
        entry.last = Some((at, value.clone()));
        for tap in &entry.taps {
            tap.push(value.clone());
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock can leave it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn leader(&self) -> Option<(u64, WorkerId)> {
        self.leader.map(|leader| (self.term, leader))
    }

    fn is_waiting(&self, tried: u64) -> bool {
        let is_led = self.leader().is_some_and(|(term, _)| term > tried);
        !self.is_closed && self.refused.is_none() && !is_led
    }
}

impl Tap {
    /// The oldest one makes room if there is none.
    fn push(&self, value: Payload) {
        let mut value = value;
        while let Err(TrySendError::Full(back)) = self.give.try_send(value) {
            value = back;
            _ = self.take.try_recv();
        }
    }
}

/// How many values wait for one who does not take them.
const MOST_VALUES: usize = 64;

/// How long one that has to finish waits for a leader.
const DRAINING_PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn text(payload: &Payload) -> String {
        payload.read_text().unwrap().to_owned()
    }

    #[test]
    fn who_comes_late_gets_the_last_value_and_nobody_gets_one_twice() {
        let following = Following::default();
        let (_, first, is_new) = following.tap("k");
        assert!(is_new);
        following.deliver("k", (1, 1), &"a".into());
        following.deliver("k", (1, 2), &"b".into());
        // Sent again for another follower of this process, and by one who led before.
        following.deliver("k", (1, 2), &"b".into());
        following.deliver("k", (2, 1), &"c".into());
        following.deliver("k", (1, 3), &"late".into());
        following.deliver("other", (1, 1), &"x".into());
        let (id, second, is_new) = following.tap("k");
        assert!(!is_new);
        let got =
            |values: &Receiver<Payload>| values.try_iter().map(|it| text(&it)).collect::<Vec<_>>();
        assert_eq!(got(&first), ["a", "b", "c"]);
        assert_eq!(got(&second), ["c"]);
        assert!(!following.untap("k", id));
        following.close();
        assert!(first.recv().is_err());
    }

    #[test]
    fn the_newest_values_stay_of_too_many() {
        let following = Following::default();
        let (_, values, _) = following.tap("k");
        for number in 0..100 {
            let value = number.to_string();
            following.deliver("k", (1, number), &value.as_str().into());
        }
        let got: Vec<_> = values.try_iter().map(|it| text(&it)).collect();
        assert_eq!(got.len(), MOST_VALUES);
        assert_eq!(got.last().unwrap(), "99");
    }

    #[test]
    fn a_leader_is_waited_for_that_was_not_tried() {
        let following = Following::default();
        let shortly = Duration::from_millis(1);
        assert_eq!(following.await_leader(0, shortly), Ok(None));
        following.change(1, Some(WorkerId(7)));
        assert_eq!(
            following.await_leader(0, shortly),
            Ok(Some((1, WorkerId(7))))
        );
        assert_eq!(following.await_leader(1, shortly), Ok(None));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| following.await_leader(1, Duration::from_secs(60)));
            following.change(2, None);
            following.change(3, Some(WorkerId(8)));
            assert_eq!(waiting.join().unwrap(), Ok(Some((3, WorkerId(8)))));
            let waiting = scope.spawn(|| following.await_leader(3, Duration::from_secs(60)));
            following.close();
            assert_eq!(waiting.join().unwrap(), Err(SharedFailure::Closed));
        });
    }
}
