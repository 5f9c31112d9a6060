//! The elections: who leads what, as the master has told it, and who of the program wants to know.
//!
//! Without a master whoever offers leads: nobody else is there.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::uplink::Uplink;
use super::work::{Gate, Work};
use crate::frame::ToMaster;
use crate::ids::WorkerId;

/// All names that the program has to do with.
#[derive(Debug)]
pub(crate) struct Elections {
    /// `None` without a master.
    master: Option<Uplink>,
    own: WorkerId,
    gate: Gate,
    /// Held while the master is asked, so that an offer and its end reach it in their order. The
    /// thread that reads the channel never takes it.
    asking: Mutex<()>,
    state: Mutex<State>,
}

/// What one who wants to know is told. The last of it counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Somebody leads, or nobody does.
    Leader { term: u64, leader: Option<WorkerId> },
    /// The master will not have it.
    Refused(String),
    /// This process has to finish.
    Draining,
}

#[derive(Debug, Default)]
struct State {
    names: HashMap<String, Name>,
    next_number: u64,
    is_draining: bool,
    has_ended: bool,
}

#[derive(Debug, Default)]
struct Name {
    term: u64,
    leader: Option<WorkerId>,
    candidate: Candidate,
    is_followed: bool,
    watchers: Vec<(Concern, Sender<Turn>)>,
}

/// Whether this process wants to lead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Candidate {
    #[default]
    None,
    Offered,
    Refused,
}

/// As what somebody wants to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Concern {
    Candidate,
    Follower,
}

impl Elections {
    pub(crate) fn by_master(uplink: Uplink, own: WorkerId, gate: Gate) -> Self {
        Elections {
            master: Some(uplink),
            own,
            gate,
            asking: Mutex::default(),
            state: Mutex::default(),
        }
    }

    pub(crate) fn alone(own: WorkerId, gate: Gate) -> Self {
        Elections {
            master: None,
            own,
            gate,
            asking: Mutex::default(),
            state: Mutex::default(),
        }
    }

    /// Which process this is.
    pub(crate) fn own(&self) -> WorkerId {
        self.own
    }

    /// What a leader is asked for is waited for; `None` when this process waits for nothing any more.
    pub(crate) fn begin_work(&self) -> Option<Work> {
        self.gate.begin()
    }

    /// A number that nobody else of this process has.
    pub(crate) fn number(&self) -> u64 {
        let mut state = lock(&self.state);
        state.next_number += 1;
        state.next_number
    }

    /// This process has to finish.
    pub(crate) fn draining(&self) {
        let mut state = lock(&self.state);
        state.is_draining = true;
        for name in state.names.values_mut() {
            name.tell(&Turn::Draining, |_| true);
        }
    }

    /// Offers to lead; `None` if this process does so already. The receiver ends with the master.
    pub(crate) fn offer(&self, name: &str) -> Option<Receiver<Turn>> {
        let _asking = lock(&self.asking);
        let (tell, turns) = unbounded();
        {
            let mut state = lock(&self.state);
            let has_ended = state.has_ended;
            let entry = state.names.entry(name.to_owned()).or_default();
            if entry.candidate != Candidate::None {
                return None;
            }
            entry.candidate = Candidate::Offered;
            if !has_ended {
                entry.watchers.push((Concern::Candidate, tell));
            }
            if self.master.is_none() {
                entry.change(entry.term + 1, Some(self.own));
            }
        }
        self.ask(&ToMaster::Lead {
            name: name.to_owned(),
        });
        Some(turns)
    }

    /// Does not offer it any more.
    pub(crate) fn resign(&self, name: &str) {
        let _asking = lock(&self.asking);
        {
            let mut state = lock(&self.state);
            let Some(entry) = state.names.get_mut(name) else {
                return;
            };
            entry.candidate = Candidate::None;
            entry
                .watchers
                .retain(|(concern, _)| *concern != Concern::Candidate);
            if self.master.is_none() {
                entry.change(entry.term + 1, None);
            }
        }
        self.ask(&ToMaster::Resign {
            name: name.to_owned(),
        });
    }

    /// Wants to know who leads. The receiver ends with the master.
    pub(crate) fn follow(&self, name: &str) -> Receiver<Turn> {
        let _asking = lock(&self.asking);
        let (tell, turns) = unbounded();
        let is_new = {
            let mut state = lock(&self.state);
            if state.has_ended {
                return turns;
            }
            if state.is_draining {
                // The other end is here.
                _ = tell.send(Turn::Draining);
            }
            let entry = state.names.entry(name.to_owned()).or_default();
            if entry.term > 0 {
                // The other end is here.
                _ = tell.send(entry.turn());
            }
            entry.watchers.push((Concern::Follower, tell));
            !std::mem::replace(&mut entry.is_followed, true)
        };
        if is_new {
            self.ask(&ToMaster::Follow {
                name: name.to_owned(),
            });
        }
        turns
    }

    /// Who leads has changed.
    pub(crate) fn changed(&self, name: &str, term: u64, leader: Option<WorkerId>) {
        if let Some(entry) = lock(&self.state).names.get_mut(name) {
            entry.change(term, leader);
        }
    }

    /// The master will not have it. Whether it is the candidate or a follower that it will not have
    /// it does not say: a candidate is asked for more, and more is refused.
    pub(crate) fn refused(&self, name: &str, reason: &str) {
        if let Some(entry) = lock(&self.state).names.get_mut(name) {
            let whom = match entry.candidate {
                Candidate::Offered => Concern::Candidate,
                Candidate::None | Candidate::Refused => Concern::Follower,
            };
            if whom == Concern::Candidate {
                entry.candidate = Candidate::Refused;
            }
            entry.tell(&Turn::Refused(reason.to_owned()), |concern| concern == whom);
        }
    }

    /// Nothing comes any more.
    pub(crate) fn ended(&self) {
        let mut state = lock(&self.state);
        state.has_ended = true;
        for name in state.names.values_mut() {
            name.watchers.clear();
        }
    }

    fn ask(&self, question: &ToMaster) {
        if let Some(master) = &self.master
            && let Err(err) = master.send(question)
        {
            log::debug!("failed to ask the master who leads: {err}");
        }
    }
}

impl Name {
    fn turn(&self) -> Turn {
        Turn::Leader {
            term: self.term,
            leader: self.leader,
        }
    }

    fn change(&mut self, term: u64, leader: Option<WorkerId>) {
        (self.term, self.leader) = (term, leader);
        let turn = self.turn();
        self.tell(&turn, |_| true);
    }

    /// Tells those who are still there.
    fn tell(&mut self, turn: &Turn, is_for: impl Fn(Concern) -> bool) {
        self.watchers
            .retain(|(concern, tell)| !is_for(*concern) || tell.send(turn.clone()).is_ok());
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that holds the lock can leave it half changed.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
