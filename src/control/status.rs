//! The status as it is written on the control socket. Data only; times are milliseconds.

use serde::{Deserialize, Serialize};

/// The cluster at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// The master itself.
    pub master: Master,
    /// Every process, agents first, then workers by slot.
    pub workers: Vec<Worker>,
    /// Every listener.
    pub listeners: Vec<Listener>,
}

/// The master.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Master {
    /// Its pid.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// Since it runs.
    pub uptime_ms: u64,
    /// `idle`, `booting`, `serving`, `closing`, `stopping` or `finished`.
    pub stage: String,
    /// The generation that the cluster is at.
    pub generation: u64,
    /// How many workers there are to be.
    pub wanted: u32,
    /// Whether nothing is under way.
    pub settled: bool,
    /// How many problems processes have reported and survived, since the start.
    pub problems: u64,
    /// The reload under way.
    pub rollout: Option<Rollout>,
    /// The program that workers run, and its arguments.
    pub program: Vec<String>,
}

/// A reload under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// The generation before.
    pub from: u64,
    /// The new one.
    pub to: u64,
    /// Whether it goes back to the one before.
    pub rollback: bool,
    /// How many slots have passed to the new one.
    pub renewed: u32,
    /// Since when.
    pub since_ms: u64,
}

/// A worker or an agent, or a slot that nobody is in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worker {
    /// Its identity; `None` for an empty slot.
    pub worker: Option<u64>,
    /// Its position.
    pub slot: u32,
    /// Its generation.
    pub generation: u64,
    /// `worker` or `agent`.
    pub role: String,
    /// An agent's: what `--agent` calls it, otherwise its program's file name.
    pub name: Option<String>,
    /// `None` until it exists.
    pub pid: Option<u32>,
    /// `spawning`, `starting`, `serving` or `leaving`; of a spare worker `standby`, of an agent `ready`; of
    /// an empty slot `vacant`, if it is to be filled again, or `parked`.
    pub state: String,
    /// For how long it is in that state; `None` for an empty slot, here and below.
    pub state_ms: Option<u64>,
    /// For how long it exists.
    pub uptime_ms: Option<u64>,
    /// How often its slot was filled again after a failure.
    pub restarts: u64,
    /// Its connections; `None` for an agent, and before it has said `Hello`.
    pub load: Option<Load>,
}

/// The connections of a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// Handed to it and not taken back; `None` for one that accepts connections itself.
    pub given: Option<u64>,
    /// Those that it has not received; `None` as well.
    pub unread: Option<u64>,
    /// Those that it has received; `None` for a program without a scoreboard, here and below.
    pub received: Option<u64>,
    /// Those of the received that it has not closed.
    pub active: Option<u64>,
    /// Requests, if the program counts them.
    pub requests: Option<u64>,
    /// How large its share is, for a strategy that weighs.
    #[serde(default = "one")]
    pub weight: u32,
    /// Why it gets nothing for now: `stalled`, `no-room`, `at-limit`, `saturated`.
    pub aside: Vec<String>,
}

/// A listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// What workers ask for.
    pub name: String,
    /// The address really bound.
    pub address: String,
    /// How connections come to the workers: `hand-off`, `shared` or `reuseport`. Unless by hand-off
    /// the master knows nothing of most of them.
    #[serde(default = "hand_off")]
    pub mode: String,
    /// How the master chooses the next worker; `None` where workers accept themselves.
    #[serde(default)]
    pub strategy: Option<String>,
    /// Whether the master accepts nothing, since an operator wants it so.
    pub paused: bool,
    /// Accepted, and waiting in the master.
    pub held: u64,
    /// Taken from the kernel; `None` where workers accept themselves.
    pub accepted: Option<u64>,
    /// Put into an accept queue.
    pub handed_off: u64,
    /// Taken back out of one, unread.
    pub reclaimed: u64,
    /// Those of them that were taken from a stalled worker.
    pub moved: u64,
    /// Taken out of a listening socket that had lost its worker, and handed off.
    #[serde(default)]
    pub rescued: u64,
    /// How often a worker had shut the listening socket down, and it was listened again.
    #[serde(default)]
    pub mended: u64,
    /// Closed by the master.
    pub refused: u64,
    /// Failed before they were accepted.
    pub aborted: u64,
    /// Turns that workers missed: those they were chosen for and could not take, and with
    /// `round-robin` those that were passed over while they stood aside. With another strategy
    /// nobody has turns that could be passed over.
    pub skipped: u64,
    /// From a readable socket to a sent descriptor.
    #[serde(default)]
    pub handoff_delay: HandoffDelay,
}

fn one() -> u32 {
    1
}

fn hand_off() -> String {
    "hand-off".to_owned()
}

/// How long the latest hand-offs of a listener took, in the master.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandoffDelay {
    /// They are those of so much time: half a minute to a minute, less at the beginning.
    pub over_ms: u64,
    /// How many connections were measured.
    pub count: u64,
    /// Half of them took no longer. This and the others may be up to 6 % too large.
    pub p50_us: u64,
    /// 99 of 100 took no longer.
    pub p99_us: u64,
    /// 999 of 1,000 took no longer.
    pub p999_us: u64,
    /// None took longer.
    pub max_us: u64,
    /// Handed off along with clients that waited for room or were taken back: not measured.
    pub waited_for_room: u64,
}
