//! The shelf: the newest version of each value that the program has asked for, and how far it is
//! with it.
//!
//! The thread that reads the channel puts values here and waits for nobody; the master is told of a
//! version once, when all who watch it in this process have taken it over.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{ConfigError, ConfigValue};
use crate::frame::ToMaster;
use crate::name;
use crate::sdk::messenger::Payload;
use crate::sdk::uplink::Uplink;

/// All of them.
#[derive(Debug)]
pub(crate) struct Shelf {
    /// `None` without a master: there is nobody who could give a value.
    master: Option<Uplink>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<Box<str>, Entry>,
    next_watch: u64,
    has_ended: bool,
}

#[derive(Debug, Default)]
struct Entry {
    value: Option<ConfigValue>,
    /// The master has said what it is, or that there is nothing.
    is_answered: bool,
    /// What the master was told.
    adopted: u64,
    /// Those who watch it, with the version that they have taken over.
    watches: HashMap<WatchId, u64>,
}

/// One who watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct WatchId(u64);

/// What somebody who watches waits for.
#[derive(Debug)]
pub(super) enum Next {
    Value(ConfigValue),
    /// Not in that time.
    None,
    /// Not any more.
    Ended,
}

impl Shelf {
    pub(crate) fn by_master(uplink: Uplink) -> Self {
        Shelf {
            master: Some(uplink),
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    pub(crate) fn alone() -> Self {
        Shelf {
            master: None,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Asks for a key, if nobody of this process has, and waits for the answer.
    pub(super) fn ask(&self, key: &str, within: Duration) -> Result<(), ConfigError> {
        if let Err(problem) = name::check(key) {
            let key = key.to_owned();
            return Err(ConfigError::BadKey { key, problem });
        }
        let mut state = self.state();
        let is_new = !state.entries.contains_key(key);
        let entry = state.entries.entry(key.into()).or_default();
        let Some(master) = &self.master else {
            entry.is_answered = true;
            return Ok(());
        };
        if is_new {
            drop(state);
            let key = key.to_owned();
            let question = ToMaster::Watch { key: key.clone() };
            if master.send(&question).is_err() {
                self.state().entries.remove(key.as_str());
                return Err(ConfigError::MasterGone { key });
            }
            state = self.state();
        }
        let is_open = |state: &mut State| {
            let entry = state.entries.get(key);
            !state.has_ended && entry.is_some_and(|entry| !entry.is_answered)
        };
        let waited = self.changed.wait_timeout_while(state, within, is_open);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let key = key.to_owned();
        match state.entries.get(key.as_str()) {
            Some(entry) if entry.is_answered => Ok(()),
            Some(_) if !state.has_ended => Err(ConfigError::NoAnswer { key, within }),
            Some(_) | None => Err(ConfigError::MasterGone { key }),
        }
    }

    /// A version has come.
    pub(crate) fn arrived(&self, key: &str, version: u64, payload: Payload) {
        let mut state = self.state();
        let Some(entry) = state.entries.get_mut(key) else {
            return;
        };
        entry.is_answered = true;
        if entry.value.as_ref().is_none_or(|it| it.version < version) {
            entry.value = Some(ConfigValue { version, payload });
        }
        self.changed.notify_all();
        self.settle(state, key);
    }

    /// There is nothing.
    pub(crate) fn nothing(&self, key: &str) {
        if let Some(entry) = self.state().entries.get_mut(key) {
            entry.is_answered = true;
        }
        self.changed.notify_all();
    }

    /// Nothing comes any more.
    pub(crate) fn ended(&self) {
        self.state().has_ended = true;
        self.changed.notify_all();
    }

    pub(super) fn current(&self, key: &str) -> Option<ConfigValue> {
        self.state().entries.get(key)?.value.clone()
    }

    /// Somebody watches who has taken nothing over.
    pub(super) fn watch(&self, key: &str) -> WatchId {
        let mut state = self.state();
        let id = WatchId(state.next_watch);
        state.next_watch += 1;
        if let Some(entry) = state.entries.get_mut(key) {
            entry.watches.insert(id, 0);
        }
        id
    }

    pub(super) fn unwatch(&self, key: &str, id: WatchId) {
        let mut state = self.state();
        if let Some(entry) = state.entries.get_mut(key) {
            entry.watches.remove(&id);
        }
        self.settle(state, key);
    }

    /// Somebody who watches has taken a version over.
    pub(super) fn taken_over(&self, key: &str, id: WatchId, version: u64) {
        let mut state = self.state();
        let watch = state.entries.get_mut(key);
        if let Some(taken) = watch.and_then(|entry| entry.watches.get_mut(&id)) {
            *taken = version.max(*taken);
        }
        self.settle(state, key);
    }

    /// Waits for a version after `seen`, at most `within`.
    pub(super) fn after(&self, key: &str, seen: u64, within: Duration) -> Next {
        let is_open = |state: &mut State| !state.has_ended && state.newer(key, seen).is_none();
        let waited = self
            .changed
            .wait_timeout_while(self.state(), within, is_open);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match state.newer(key, seen) {
            Some(value) => Next::Value(value.clone()),
            None if state.has_ended => Next::Ended,
            None => Next::None,
        }
    }

    /// Wakes all who wait, to see whether they still have to.
    pub(super) fn wake(&self) {
        // Under the lock, so that nobody falls asleep who has just looked.
        let _state = self.state();
        self.changed.notify_all();
    }

    /// Waits for it for ever, unless it is stopped.
    pub(super) fn after_unless(&self, key: &str, seen: u64, stopped: impl Fn() -> bool) -> Next {
        let is_open =
            |state: &mut State| !state.has_ended && !stopped() && state.newer(key, seen).is_none();
        let state = self.changed.wait_while(self.state(), is_open);
        let state = state.unwrap_or_else(PoisonError::into_inner);
        match state.newer(key, seen) {
            _ if stopped() => Next::Ended,
            Some(value) => Next::Value(value.clone()),
            None => Next::Ended,
        }
    }

    /// Tells the master what all who watch have taken over.
    fn settle(&self, mut state: MutexGuard<'_, State>, key: &str) {
        let (Some(master), Some(entry)) = (&self.master, state.entries.get_mut(key)) else {
            return;
        };
        let newest = entry.value.as_ref().map_or(0, |value| value.version);
        let version = entry.watches.values().copied().min().unwrap_or(newest);
        if version <= entry.adopted {
            return;
        }
        entry.adopted = version;
        drop(state);
        let key = key.to_owned();
        if let Err(err) = master.send(&ToMaster::Adopted { key, version }) {
            log::debug!("failed to say that a value is adopted: {err}");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock can leave it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn newer(&self, key: &str, seen: u64) -> Option<&ConfigValue> {
        let value = self.entries.get(key)?.value.as_ref();
        value.filter(|value| value.version > seen)
    }
}
