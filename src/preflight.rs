//! The last look before the start: can this machine run this configuration?
//!
//! What is refused here is refused before anything is bound or started, with the value and the
//! remedy.

mod preload;
mod surroundings;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::RawFd;
use std::time::Duration;

use thiserror::Error;
use worker_proto::ids::Role;
use worker_proto::job::JobTarget;

pub use self::preload::PreloadError;
pub use self::surroundings::SurroundingsError;

use crate::config::dispatch::{self, DispatchMode, Misfit};
use crate::config::listener::{ListenerSpec, Source};
use crate::config::program::Program;
use crate::config::readiness::ReadyOn;
use crate::config::watch::Watch;
use crate::config::{Config, LEAST_HANG_TIMEOUT, LEAST_STALL_TIMEOUT, OnDemand};
use crate::jobs::{self, MOST_JOBS, Planned};
use crate::sys::limits::NofileLimit;
use crate::sys::listening::BindError;
use crate::sys::program::{ProgramError, locate};
use crate::sys::{describe, inherited};

/// A configuration that cannot be run.
#[derive(Debug, Error)]
pub enum PreflightError {
    /// No process at all.
    #[error("workers 0: at least 1 worker or an agent is needed (--workers 4, or --workers auto)")]
    NoProcess,
    /// Settings that do not go with how connections come to the workers.
    #[error(transparent)]
    Dispatch(#[from] Misfit),
    /// More workers than one master is made for.
    #[error("workers {workers}: at most {MAX_WORKERS} are possible")]
    TooManyWorkers {
        /// How many were asked for.
        workers: u32,
    },
    /// A process that waits for a CPU would count as hung.
    #[error(
        "hang timeout {given:?}: a process may have to wait that long for a CPU, use at least {LEAST_HANG_TIMEOUT:?}"
    )]
    HangTimeoutTooShort {
        /// What was asked for.
        given: Duration,
    },
    /// A process that waits for a CPU would count as stalled.
    #[error(
        "stall timeout {given:?}: a process may have to wait that long for a CPU, use at least {LEAST_STALL_TIMEOUT:?}"
    )]
    StallTimeoutTooShort {
        /// What was asked for.
        given: Duration,
    },
    /// A job that cannot be one.
    #[error("job {name:?}: {reason}")]
    Job {
        /// What it is called.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// More workers than the limit on open descriptors allows.
    #[error(
        "workers {workers}: they need {needed} descriptors, but the limit is {limit}: use at most {possible} workers, or raise it (ulimit -n {needed}, LimitNOFILE={needed})"
    )]
    TooFewDescriptors {
        /// How many were asked for.
        workers: u32,
        /// How many descriptors that takes.
        needed: u64,
        /// How many there may be.
        limit: u64,
        /// How many workers the limit allows.
        possible: u64,
    },
    /// Two listeners of one name.
    #[error("listener {name:?}: the name is given twice: give one another name, NAME=ADDRESS")]
    DuplicateListener {
        /// The name.
        name: String,
    },
    /// Two listeners instead of one port of the program.
    #[error(
        "listeners {one:?} and {other:?}: both are served as the program's port {port}, which can only be one of them"
    )]
    DuplicatePort {
        /// The name of one.
        one: String,
        /// The name of the other.
        other: String,
        /// The port.
        port: u16,
    },
    /// A program that knows its master gets listeners by name.
    #[error(
        "listener {name:?}: a program's port {port} can be served elsewhere only with --preload: otherwise write NAME=ADDRESS, and let the program ask for the name"
    )]
    Remapped {
        /// The name.
        name: String,
        /// The program's port.
        port: u16,
    },
    /// Two agents of one name.
    #[error("agent {name:?}: the name is given twice: give one another name, NAME='CMD ARGS'")]
    DuplicateAgent {
        /// The name.
        name: String,
    },
    /// One inherited descriptor for two listeners.
    #[error("listeners {one:?} and {other:?}: both take fd:{fd}, which can be had only once")]
    DuplicateDescriptor {
        /// The name of one.
        one: String,
        /// The name of the other.
        other: String,
        /// The descriptor.
        fd: RawFd,
    },
    /// An inherited descriptor that is no listening socket.
    #[error(transparent)]
    Inherited(#[from] BindError),
    /// A program that cannot be started.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// Something around the processes that this master cannot give them.
    #[error(transparent)]
    Surroundings(#[from] SurroundingsError),
    /// A library that cannot be loaded into the workers' program.
    #[error(transparent)]
    Preload(#[from] PreloadError),
    /// A slot for which there is no port.
    #[error("ready-on {ready_on}: there is no such port for slot {slot}: use a smaller one")]
    ReadyOn {
        /// As it was given.
        ready_on: String,
        /// The last one.
        slot: u32,
    },
    /// A path to watch that is not there.
    #[error("watch {path}: {reason}: create it, or check --watch")]
    Watch {
        /// As it was given.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A directory that processes cannot be started in.
    #[error("directory {path}: {reason}")]
    Directory {
        /// As it was given.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl PreflightError {
    /// The setting that it is about, by the name of its flag, if it is about one alone.
    pub(crate) fn setting(&self) -> Option<&'static str> {
        match self {
            PreflightError::NoProcess
            | PreflightError::TooManyWorkers { .. }
            | PreflightError::TooFewDescriptors { .. } => Some("workers"),
            PreflightError::Dispatch(_) => Some("dispatch"),
            PreflightError::HangTimeoutTooShort { .. } => Some("hang-timeout"),
            PreflightError::StallTimeoutTooShort { .. } => Some("stall-timeout"),
            PreflightError::DuplicateListener { .. }
            | PreflightError::DuplicatePort { .. }
            | PreflightError::Remapped { .. }
            | PreflightError::DuplicateDescriptor { .. } => Some("listen"),
            PreflightError::DuplicateAgent { .. } => Some("agent"),
            PreflightError::Job { .. } => Some("job"),
            PreflightError::Directory { .. } => Some("cwd"),
            PreflightError::Watch { .. } => Some("watch"),
            PreflightError::ReadyOn { .. } => Some("ready-on"),
            PreflightError::Preload(_) => Some("preload"),
            // A socket may come from systemd, a program may be an agent's, and surroundings have many.
            PreflightError::Inherited(_)
            | PreflightError::Program(_)
            | PreflightError::Surroundings(_) => None,
        }
    }
}

/// Finds the programs and checks what can be checked without starting anything.
pub(crate) fn check(mut config: Config) -> Result<Config, PreflightError> {
    if config.workers == 0 && config.agents.is_empty() {
        return Err(PreflightError::NoProcess);
    }
    if let Some(given) = config.hang_timeout
        && given < LEAST_HANG_TIMEOUT
    {
        return Err(PreflightError::HangTimeoutTooShort { given });
    }
    if let Some(given) = config.stall_timeout
        && given < LEAST_STALL_TIMEOUT
    {
        return Err(PreflightError::StallTimeoutTooShort { given });
    }
    check_workers(&config, config.workers)?;
    check_listeners(&config.listeners)?;
    check_remapped(&config)?;
    dispatch::check(&config)?;
    check_agents(&config.agents)?;
    check_jobs(&config)?;
    config.watch = check_watch(config.watch)?;
    check_ready_on(&config.program.ready_on, config.workers)?;
    let workers = config.plan().slots();
    config.program = check_program(config.program, Role::Worker, workers)?;
    preload::check(&config.program)?;
    let agents = config.agents.into_iter().zip(0..);
    config.agents = agents
        .map(|(program, slot)| check_program(program, Role::Agent, slot + 1))
        .collect::<Result<_, _>>()?;
    if config.on_demand == OnDemand::Any && surroundings::has_fewer_rights(&config.program) {
        // Workers must not have bound for them what they may not bind themselves.
        config.on_demand = OnDemand::Only(Vec::new());
    }
    Ok(config)
}

/// Whether the master can have so many workers, beside the spare ones.
pub(crate) fn check_workers(config: &Config, workers: u32) -> Result<(), PreflightError> {
    let slots = workers.saturating_add(config.spare);
    if slots > MAX_WORKERS {
        return Err(PreflightError::TooManyWorkers { workers: slots });
    }
    check_descriptors(config, workers)
}

/// No name and no inherited descriptor can be had twice.
fn check_listeners(listeners: &[ListenerSpec]) -> Result<(), PreflightError> {
    for (index, one) in listeners.iter().enumerate() {
        if let Source::Inherited(fd) = one.source {
            inherited::check(fd).map_err(|err| BindError::new(one, err))?;
        }
        for other in &listeners[index + 1..] {
            if one.name() == other.name() {
                return Err(PreflightError::DuplicateListener { name: one.name() });
            }
            if let Source::Inherited(fd) = one.source
                && one.source == other.source
            {
                return Err(PreflightError::DuplicateDescriptor {
                    one: one.name(),
                    other: other.name(),
                    fd,
                });
            }
        }
    }
    Ok(())
}

/// Every port of the program's that is served elsewhere is so in one place, and can be asked for.
fn check_remapped(config: &Config) -> Result<(), PreflightError> {
    let mut seen: BTreeMap<u16, String> = BTreeMap::new();
    for spec in &config.listeners {
        let Some(port) = spec.stands_for else {
            continue;
        };
        let name = spec.name();
        if config.program.preload.is_none() {
            return Err(PreflightError::Remapped { name, port });
        }
        if let Some(one) = seen.insert(port, name.clone()) {
            let other = name;
            return Err(PreflightError::DuplicatePort { one, other, port });
        }
    }
    Ok(())
}

/// Names that were given tell agents apart; those of files may be the same.
fn check_agents(agents: &[Program]) -> Result<(), PreflightError> {
    let mut names = BTreeSet::new();
    for name in agents.iter().filter_map(|agent| agent.name.as_ref()) {
        if !names.insert(name) {
            let name = name.clone();
            return Err(PreflightError::DuplicateAgent { name });
        }
    }
    Ok(())
}

/// Every job can be one, has a name of its own, and somebody who could do it.
fn check_jobs(config: &Config) -> Result<(), PreflightError> {
    let mut names = BTreeSet::new();
    for Planned { spec, .. } in &config.jobs {
        let unfit = |reason: String| PreflightError::Job {
            name: spec.name.clone(),
            reason,
        };
        jobs::check(spec).map_err(|err| unfit(err.to_string()))?;
        if !names.insert(&spec.name) {
            return Err(unfit("there are two of that name".to_owned()));
        }
        let workers = config.workers;
        let agents: Vec<String> = config.agents.iter().map(Program::name).collect();
        match &spec.target {
            JobTarget::Slot(slot) if slot.0 >= workers => {
                let reason = format!("slot {slot}: there are {workers} workers, counted from 0");
                return Err(unfit(reason));
            }
            JobTarget::Agent(name)
                if agents.is_empty() || name.as_ref().is_some_and(|it| !agents.contains(it)) =>
            {
                let reason = match (name, &agents[..]) {
                    (_, []) => "there is no agent: add one with --agent".to_owned(),
                    (name, agents) => {
                        let name = name.as_deref().unwrap_or_default();
                        let agents = agents.join(", ");
                        format!("there is no agent {name:?}; the agents are: {agents}")
                    }
                };
                return Err(unfit(reason));
            }
            JobTarget::One | JobTarget::All | JobTarget::Agent(_) | JobTarget::Slot(_) => {}
        }
    }
    match config.jobs.get(MOST_JOBS) {
        Some(one) => Err(PreflightError::Job {
            name: one.spec.name.clone(),
            reason: format!("it is one too many: at most {MOST_JOBS} are possible"),
        }),
        None => Ok(()),
    }
}

/// Every slot has a port. Later ones are seen to when they are there.
fn check_ready_on(ready_on: &ReadyOn, workers: u32) -> Result<(), PreflightError> {
    let slot = workers.saturating_sub(1);
    match ready_on {
        ReadyOn::Tcp(address) if address.at(slot).is_none() => Err(PreflightError::ReadyOn {
            ready_on: ready_on.to_string(),
            slot,
        }),
        ReadyOn::Message | ReadyOn::Delay(_) | ReadyOn::Tcp(_) => Ok(()),
    }
}

/// The same paths, absolute: who runs the master may change its directory. Every one is there now;
/// later it may be gone for a while.
fn check_watch(mut watch: Watch) -> Result<Watch, PreflightError> {
    for path in &mut watch.paths {
        let absolute = path.metadata().and_then(|_| std::path::absolute(&*path));
        *path = absolute.map_err(|err| PreflightError::Watch {
            path: path.display().to_string(),
            reason: describe(&err),
        })?;
    }
    Ok(watch)
}

fn check_descriptors(config: &Config, workers: u32) -> Result<(), PreflightError> {
    let Ok(limit) = NofileLimit::current() else {
        return Ok(());
    };
    let listeners = config.listeners.len() as u64;
    // A queue that must not end is kept open, and so is the page of a program's processes.
    let kept = u64::from(config.program.preload.is_some());
    // Of a group everybody has a socket.
    let modes = config.listeners.iter().map(|spec| config.mode_of(spec));
    let grouped = modes.filter(|mode| *mode == DispatchMode::ReusePort);
    let each = DESCRIPTORS_PER_PROCESS
        + kept
        + grouped.count() as u64
        + (DESCRIPTORS_PER_QUEUE + kept) * listeners.max(1)
        + config.program.surroundings.streams_read();
    let agents = config.agents.iter();
    let of_agents = agents.map(|it| each + it.surroundings.streams_read());
    // A rollout has at least one more, and whoever leaves is still there.
    let others = u64::from(config.spare) + u64::from(config.rollout.surge.max(1));
    let own = DESCRIPTORS_OF_MASTER + listeners + of_agents.sum::<u64>() + each * others;
    let needed = own + each * u64::from(workers);
    if needed <= limit.hard {
        return Ok(());
    }
    Err(PreflightError::TooFewDescriptors {
        workers,
        needed,
        limit: limit.hard,
        possible: limit.hard.saturating_sub(own) / each,
    })
}

/// The same program, found: its path is absolute and executable, its directory exists.
fn check_program(mut program: Program, role: Role, slots: u32) -> Result<Program, PreflightError> {
    program.path = locate(&program.path)?;
    check_directory(&program)?;
    Ok(surroundings::check(program, role, slots)?)
}

fn check_directory(program: &Program) -> Result<(), PreflightError> {
    let Some(cwd) = &program.cwd else {
        return Ok(());
    };
    let refused = |reason: String| PreflightError::Directory {
        path: cwd.display().to_string(),
        reason,
    };
    match cwd.metadata() {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(refused("not a directory: check --cwd".to_owned())),
        Err(err) => Err(refused(format!(
            "{}: create it, or check --cwd",
            describe(&err)
        ))),
    }
}

/// The most workers that one master takes.
const MAX_WORKERS: u32 = 4096;

/// Control channel and pidfd.
const DESCRIPTORS_PER_PROCESS: u64 = 2;
/// Both ends of an accept queue.
const DESCRIPTORS_PER_QUEUE: u64 = 2;
/// Standard streams and copies of them, epoll and waker of two threads, signals, pid file, what one
/// start takes, and connections on their way.
const DESCRIPTORS_OF_MASTER: u64 = 32;
