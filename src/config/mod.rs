//! The configuration: everything that a master needs to know before it starts. Data only; whether
//! this machine can run it is for `preflight` to find out.

pub mod control;
pub mod data_file;
pub mod diff;
pub mod dispatch;
pub mod farewell;
pub mod listener;
pub mod messages;
pub mod own_process;
pub(crate) mod placeholder;
pub mod program;
pub mod readiness;
pub mod restart;
pub mod rollout;
pub mod service;
pub mod strategy;
pub mod surroundings;
pub mod systemd;
pub mod watch;

use std::num::NonZeroU64;
use std::time::Duration;

use worker_proto::ids::Role;

use crate::config::control::ControlSocket;
use crate::config::data_file::DataFile;
use crate::config::dispatch::Dispatch;
use crate::config::farewell::{Farewell, StopSignal};
use crate::config::listener::ListenerSpec;
use crate::config::messages::MessageLimits;
use crate::config::own_process::OwnProcess;
use crate::config::program::Program;
use crate::config::rollout::{DEFAULT_ROLLOUT, Recycling};
use crate::config::strategy::{StrategyName, Weights};
use crate::config::watch::Watch;
use crate::jobs::Planned;
use crate::supervisor::{Plan, Restart, RolloutPlan};

/// What a master runs, and how.
#[derive(Clone, Debug)]
pub struct Config {
    /// How many workers; 0 only with an agent.
    pub workers: u32,
    /// How many workers more are ready to take the place of one that is missing.
    pub spare: u32,
    /// What every worker runs.
    pub program: Program,
    /// What the agents run, in the order in which they start.
    pub agents: Vec<Program>,
    /// The listeners bound at the start.
    pub listeners: Vec<ListenerSpec>,
    /// What a worker may have bound that is not among `listeners`.
    pub on_demand: OnDemand,
    /// How connections come to the workers.
    pub dispatch: Dispatch,
    /// How the master chooses among the workers, where a listener says nothing else.
    pub strategy: StrategyName,
    /// How much the worker of each slot weighs, unless it says so itself.
    pub weights: Weights,
    /// How many connections may wait in one worker's accept queue, 1 to [`MAX_WINDOW`].
    pub window: u32,
    /// What happens to clients while no worker has room.
    pub overflow: Overflow,
    /// How long a client may wait in the backlog for others to come, while many come; zero: not at
    /// all.
    pub coalesce: Duration,
    /// How many connections there may be at a time.
    pub connection_limits: ConnectionLimits,
    /// How long a worker may leave what waits in its queue unread before others get it, at least
    /// [`LEAST_STALL_TIMEOUT`]; `None` for ever.
    pub stall_timeout: Option<Duration>,
    /// How long an address that is in use is tried again.
    pub bind_retry: Duration,
    /// From a process's start to its `Ready`.
    pub ready_timeout: Duration,
    /// From the order to leave to SIGTERM.
    pub stop_timeout: Duration,
    /// What asks a program to finish and exit that does not speak to its master.
    pub stop_signal: StopSignal,
    /// When it gets that.
    pub farewell: Farewell,
    /// From SIGTERM or SIGABRT to SIGKILL.
    pub kill_timeout: Duration,
    /// How long a process that serves may do nothing before it counts as hung: SIGABRT, SIGKILL, a
    /// restart. At least [`LEAST_HANG_TIMEOUT`]; `None`, the default, means for ever: a stopped
    /// process may be under a debugger, and one whose threads are all busy with long connections
    /// looks just like one that hangs.
    pub hang_timeout: Option<Duration>,
    /// How long a process may go on after it lost its master.
    pub orphan_grace: Duration,
    /// What happens after an exit that nobody asked for.
    pub restart: Restart,
    /// Exit codes that say that a process is done and wants no replacement.
    pub stop_exit_codes: Vec<i32>,
    /// With fewer serving workers, or without one of the agents, the cluster is unhealthy.
    pub min_workers: u32,
    /// A cluster that was unhealthy for so long stops; `None`: never.
    pub unhealthy_exit: Option<Duration>,
    /// How a reload is made.
    pub rollout: RolloutPlan,
    /// When a worker that does nothing wrong is replaced.
    pub recycling: Recycling,
    /// What messages between processes may take of the master.
    pub messages: MessageLimits,
    /// Files that are the value of a key, each of another one.
    pub data_files: Vec<DataFile>,
    /// Files whose change is a reason for a reload.
    pub watch: Watch,
    /// What is to be run when.
    pub jobs: Vec<Planned>,
    /// Where operators reach the master.
    pub control: ControlSocket,
    /// What the program does in its own process, beside running the master.
    pub own_process: OwnProcess,
    /// Whether every process is started in a control group of its own (`cgroups(7)`, version 2), so
    /// that whatever it has started ends with it, even what has left its process group.
    pub cgroup: bool,
}

/// What a worker may have bound that was not declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnDemand {
    /// Any address: the default when no listener is declared. None at all if the workers are
    /// another user than the master, or in other groups: they must not have bound for them what they
    /// may not bind themselves.
    Any,
    /// These and no others: the default, with none, when a listener is declared.
    Only(Vec<worker_proto::address::Address>),
}

/// What happens to clients while no worker has room for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// They wait in the listen backlog, for as long as it takes.
    #[default]
    Wait,
    /// They are refused once nobody had room for that long.
    Refuse {
        /// In which way.
        how: Refusal,
        /// From the moment that nobody had room.
        after: Duration,
    },
}

/// How a client is refused that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The connection ends as after an empty answer.
    Close,
    /// The connection is reset (`SO_LINGER`, `socket(7)`); on a Unix socket the same as `Close`.
    Reset,
}

/// How many connections there may be at a time, as far as workers say what they have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// In one worker, those on their way to it included.
    pub per_worker: Option<NonZeroU64>,
    /// In all workers together.
    pub total: Option<NonZeroU64>,
}

impl Config {
    /// A configuration with every default, no listener declared, and one worker.
    #[must_use]
    pub fn new(program: Program) -> Self {
        Config {
            workers: 1,
            spare: 0,
            program,
            agents: Vec::new(),
            listeners: Vec::new(),
            on_demand: OnDemand::Any,
            dispatch: Dispatch::default(),
            strategy: StrategyName::default(),
            weights: Weights::default(),
            window: DEFAULT_WINDOW,
            overflow: Overflow::Wait,
            coalesce: DEFAULT_COALESCE,
            connection_limits: ConnectionLimits::default(),
            stall_timeout: Some(DEFAULT_STALL_TIMEOUT),
            bind_retry: Duration::ZERO,
            ready_timeout: Duration::from_secs(30),
            stop_timeout: Duration::from_secs(30),
            stop_signal: StopSignal::TERM,
            farewell: Farewell::default(),
            kill_timeout: Duration::from_secs(1),
            hang_timeout: None,
            orphan_grace: Duration::from_millis(500),
            restart: restart::default(),
            stop_exit_codes: Vec::new(),
            min_workers: 1,
            unhealthy_exit: None,
            rollout: DEFAULT_ROLLOUT,
            recycling: Recycling::default(),
            messages: MessageLimits::default(),
            data_files: Vec::new(),
            watch: Watch::default(),
            jobs: Vec::new(),
            control: ControlSocket::default(),
            own_process: OwnProcess::default(),
            cgroup: false,
        }
    }

    /// The same configuration with this many workers.
    #[must_use]
    pub fn workers(mut self, workers: u32) -> Self {
        self.workers = workers;
        self
    }

    /// The same configuration with one more listener. Workers may then have nothing bound on
    /// their own, unless `on_demand` says so afterwards.
    #[must_use]
    pub fn listen(mut self, listener: ListenerSpec) -> Self {
        self.listeners.push(listener);
        self.on_demand = OnDemand::Only(Vec::new());
        self
    }

    /// How many slots a role has.
    pub(crate) fn count(&self, role: Role) -> u32 {
        match role {
            Role::Worker => self.workers,
            Role::Agent => u32::try_from(self.agents.len()).unwrap_or(u32::MAX),
        }
    }

    /// What the supervisor has to keep alive.
    #[must_use]
    pub fn plan(&self) -> Plan {
        Plan {
            workers: self.workers,
            agents: self.count(Role::Agent),
            ready_timeout: self.ready_timeout,
            stop_timeout: self.stop_timeout,
            kill_timeout: self.kill_timeout,
            hang_timeout: self.hang_timeout,
            restart: self.restart.clone(),
            stop_exit_codes: self.stop_exit_codes.clone(),
            spare: self.spare,
            max_age: self.recycling.max_age,
            jitter: self.recycling.jitter,
            min_workers: self.min_workers,
            unhealthy_exit: self.unhealthy_exit,
        }
    }
}

/// The shortest `hang_timeout`: a process that was not scheduled for so long on a busy machine does
/// not hang.
pub const LEAST_HANG_TIMEOUT: Duration = Duration::from_millis(200);

/// The widest window: what fits into the largest send buffer that an unprivileged process may have
/// (`net.core.wmem_max`), with room for kernels whose packets are larger.
pub const MAX_WINDOW: u32 = 256;

/// The window of a master that nobody told otherwise. Throughput and the master's CPU time do not
/// change from 4 upwards (ab, 20 and 200 clients, 4 workers), so this is room enough; a worker that
/// hangs delays no more clients than this.
pub const DEFAULT_WINDOW: u32 = 32;

/// Far less than clients notice, and enough for several of them to come.
pub const DEFAULT_COALESCE: Duration = Duration::from_micros(200);

/// The shortest `stall_timeout`: a worker may wait longer than less for its turn on a busy CPU.
pub const LEAST_STALL_TIMEOUT: Duration = Duration::from_millis(20);

/// Ten times what a worker may be delayed by a busy machine, and less than a person notices.
pub const DEFAULT_STALL_TIMEOUT: Duration = Duration::from_millis(500);
