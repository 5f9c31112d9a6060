//! What other threads ask of the loop, and what it answers. Signals, handles and operators are three
//! doors into one room: what they want to be different is a [`Change`].

use std::fmt;

use crossbeam_channel::Sender;
use nix::sys::signal::Signal;

use super::acceptor::ListenerStatus;
use super::load::WorkerLoad;
use super::reload::ReloadOutcome;
use crate::control::change::Change;
use crate::control::denied::Denied;
use crate::control::event::ClusterEvent;
use crate::control::outcome::Outcome;
use crate::control::server::ClientId;
use crate::supervisor::{Who, WorkerView};
use crate::sys::door::Peer;
use crate::values::Content;

/// What a handle asks for.
#[derive(Debug)]
pub(crate) enum Command {
    Reload(Sender<ReloadOutcome>),
    Status(Sender<Status>),
    AwaitReady(Sender<()>),
    Events(Sender<ClusterEvent>),
    Change(Change, Answer),
    /// This is what the key is to say.
    Push(String, Content, Answer),
}

/// Whom to tell what becomes of a change.
#[derive(Debug)]
pub(crate) enum Answer {
    Nobody,
    Handle(Sender<Result<Outcome, Denied>>),
    /// Its request has this id.
    Operator(ClientId, u64),
}

/// Who wants a change, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Signal(Signal),
    /// The terminal is gone that the master was started from.
    Hangup,
    Handle,
    Operator(Peer),
    Process(Who),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Signal(signal) => write!(f, "{signal} received"),
            Origin::Hangup => f.write_str("SIGHUP received: the terminal is gone"),
            Origin::Handle => f.write_str("handle"),
            Origin::Operator(Peer { uid, pid }) => write!(f, "control: uid {uid} pid {pid}"),
            Origin::Process(who) => write!(f, "{who} asks"),
        }
    }
}

/// The cluster at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Every process there is, in the order of their ids.
    pub workers: Vec<WorkerView>,
    /// Every listener, until nothing of it is on its way any more.
    pub listeners: Vec<ListenerStatus>,
    /// How many connections each worker has, in the order of their ids.
    pub loads: Vec<WorkerLoad>,
    /// How many problems the processes have reported and survived, since the start.
    pub problems: u64,
}
