//! The loopback: a cluster of one, for a program without a master.
//!
//! There is this process and nobody else: no agent, no other worker, nobody who follows events.

use std::process;

use crate::ids::Role;
use crate::message::{Kind, Peer, PeerState, Recipient, Sender};
use crate::sdk::Identity;

/// The one process there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Loopback(Identity);

impl Loopback {
    pub(crate) fn of(identity: Identity) -> Self {
        Loopback(identity)
    }

    /// Who every message is from.
    pub(crate) fn sender(&self) -> Sender {
        let Loopback(own) = self;
        Sender::Process {
            worker: own.worker,
            slot: own.slot,
            generation: own.generation,
            role: own.role,
            pid: own.pid,
        }
    }

    /// Whether this process is that one, and not a child forked from it.
    pub(crate) fn is_owner(&self) -> bool {
        process::id() == self.0.pid
    }

    /// Whether a message is for this process. A request is for one in particular.
    pub(crate) fn is_for_us(&self, recipient: &Recipient, kind: Kind) -> bool {
        let Loopback(own) = self;
        match recipient {
            Recipient::Workers | Recipient::Everyone if kind == Kind::Request => false,
            Recipient::Worker(worker) => *worker == own.worker,
            Recipient::Slot { role, slot } => (*role, *slot) == (own.role, own.slot),
            Recipient::Pid(pid) => *pid == own.pid,
            Recipient::Agent(None) => own.role == Role::Agent,
            Recipient::Workers | Recipient::AnyWorker => own.role == Role::Worker,
            Recipient::Everyone => true,
            Recipient::Agent(Some(_)) | Recipient::Others | Recipient::Master => false,
        }
    }

    /// This process as its peers would see it.
    pub(crate) fn peer(&self, state: PeerState) -> Peer {
        let Loopback(own) = self;
        Peer {
            worker: own.worker,
            slot: own.slot,
            generation: own.generation,
            role: own.role,
            pid: own.pid,
            name: None,
            state,
        }
    }
}
