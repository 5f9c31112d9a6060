//! What other threads ask of the loop, and what it answers. Signals, handles and operators all come
//! through here.

use crossbeam_channel::Sender;

use super::acceptor::ListenerStatus;
use super::load::WorkerLoad;
use super::reload::ReloadOutcome;
use crate::supervisor::{Refused, Stop, WorkerView};

/// What a handle asks for.
#[derive(Debug)]
pub(crate) enum Command {
    Stop(Stop),
    Reload(Sender<ReloadOutcome>),
    Scale(u32, Sender<Result<(), Refused>>),
    Status(Sender<Status>),
    AwaitReady(Sender<()>),
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
