//! A member: one process as the relay knows it, from its `Hello` to the end of its channel.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use worker_proto::frame::FromMaster;
use worker_proto::ids::{Generation, Role, Slot, WorkerId};
use worker_proto::message::{MAX_PEERS, Peer, PeerState, Sender};

use super::assembly::Assembly;
use super::outbox::Outbox;
use crate::supervisor::WorkerState;

/// Who a process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The incarnation.
    pub worker: WorkerId,
    /// Its position.
    pub slot: Slot,
    /// The version of its program.
    pub generation: Generation,
    /// What it is for.
    pub role: Role,
    /// Its process id.
    pub pid: u32,
    /// An agent's name.
    pub name: Option<String>,
}

/// One process.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) identity: Identity,
    pub(super) state: WorkerState,
    pub(super) assembly: Assembly,
    pub(super) outbox: Outbox,
    /// What became of its own messages; goes before everything else.
    receipts: VecDeque<FromMaster>,
    /// What it has not been told of its peers, if it wants to know.
    news: Option<BTreeMap<WorkerId, Arc<Peer>>>,
    /// How many of those the next frame tells.
    told: usize,
    /// Whom it has been told of, and not that they are gone.
    known: BTreeSet<WorkerId>,
}

impl Member {
    pub(super) fn new(identity: Identity, bound: u64) -> Self {
        Member {
            identity,
            state: WorkerState::Starting,
            assembly: Assembly::default(),
            outbox: Outbox::new(bound),
            receipts: VecDeque::new(),
            news: None,
            told: 0,
            known: BTreeSet::new(),
        }
    }

    /// Whether new messages are for it.
    pub(super) fn is_open(&self) -> bool {
        self.state != WorkerState::Leaving
    }

    /// Whether its own words are not read for now: it does not read what became of those before.
    pub(super) fn is_swamped(&self) -> bool {
        self.receipts.len() >= MOST_RECEIPTS
    }

    pub(super) fn push_receipt(&mut self, receipt: FromMaster) {
        self.receipts.push_back(receipt);
    }

    pub(super) fn watch(&mut self, peers: impl Iterator<Item = Arc<Peer>>) {
        if self.news.is_none() {
            self.news = Some(peers.map(|peer| (peer.worker, peer)).collect());
        }
    }

    /// Has it told, if it wants to know; answers whether it does. Of who came and went while it read
    /// nothing it is not told at all: they may be ever so many.
    pub(super) fn note_peer(&mut self, peer: &Arc<Peer>) -> bool {
        let Some(news) = &mut self.news else {
            return false;
        };
        if peer.state == PeerState::Gone && !self.known.contains(&peer.worker) {
            news.remove(&peer.worker);
        } else {
            news.insert(peer.worker, Arc::clone(peer));
        }
        true
    }

    /// What is to be sent to it next.
    pub(super) fn frame(&mut self) -> Option<FromMaster> {
        if let Some(receipt) = self.receipts.front() {
            return Some(receipt.clone());
        }
        if let Some(news) = self.news.as_ref().filter(|news| !news.is_empty()) {
            let page: Vec<Peer> = news
                .values()
                .take(MAX_PEERS)
                .map(|peer| Peer::clone(peer))
                .collect();
            self.told = page.len();
            return Some(FromMaster::Peers(page));
        }
        self.outbox.frame()
    }

    /// Whether there is something to send to it.
    pub(super) fn has_frame(&self) -> bool {
        let has_news = self.news.as_ref().is_some_and(|news| !news.is_empty());
        !self.receipts.is_empty() || has_news || self.outbox.is_sendable()
    }

    /// What [`frame`](Self::frame) gave last is sent; answers with the message if it was the end of
    /// one.
    pub(super) fn note_sent(&mut self) -> Option<Arc<super::Envelope>> {
        if self.receipts.pop_front().is_some() {
            return None;
        }
        if let Some(news) = self.news.as_mut().filter(|news| !news.is_empty()) {
            for _ in 0..self.told {
                match news.pop_first() {
                    Some((worker, peer)) if peer.state == PeerState::Gone => {
                        self.known.remove(&worker);
                    }
                    Some((worker, _)) => {
                        self.known.insert(worker);
                    }
                    None => {}
                }
            }
            return None;
        }
        self.outbox.note_sent()
    }

    pub(super) fn peer(&self) -> Arc<Peer> {
        self.peer_in(match self.state {
            WorkerState::Spawning | WorkerState::Starting => PeerState::Starting,
            WorkerState::Standby | WorkerState::Serving => PeerState::Ready,
            WorkerState::Leaving => PeerState::Draining,
        })
    }

    pub(super) fn peer_in(&self, state: PeerState) -> Arc<Peer> {
        let Identity {
            worker,
            slot,
            generation,
            role,
            pid,
            name,
        } = self.identity.clone();
        Arc::new(Peer {
            worker,
            slot,
            generation,
            role,
            pid,
            name,
            state,
        })
    }

    /// The stamp on what it sends.
    pub(super) fn sender(&self) -> Sender {
        Sender::Process {
            worker: self.identity.worker,
            slot: self.identity.slot,
            generation: self.identity.generation,
            role: self.identity.role,
            pid: self.identity.pid,
        }
    }
}

/// How many receipts a process may leave unread until nothing more is read of it.
const MOST_RECEIPTS: usize = 1024;
