//! The master as a library: bind it, run it, and talk to it through a [`Handle`].
//!
//! A master touches nothing of the process it lives in: no signal, no limit, no foreign child.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use mio::Waker;
use thiserror::Error;

use crate::config::Config;
use crate::config::listener::ListenerSpec;
use crate::exit_code::ExitCode;
use crate::preflight::{self, PreflightError};
use crate::reactor::acceptor::ListenerStatus;
use crate::reactor::command::{Command, Status};
use crate::reactor::reload::ReloadOutcome;
use crate::reactor::{Host, Reactor};
use crate::supervisor::{Refused, Stop};
use crate::sys::cgroup::{Cgroup, CgroupError};
use crate::sys::listening::{BindError, ListeningSocket};

/// A master whose listeners are bound, ready to [`run`](Master::run).
pub struct Master {
    reactor: Reactor,
    handle: Handle,
    listeners: Vec<ListenerStatus>,
}

/// The way to talk to a running master, from any thread.
#[derive(Clone, Debug)]
pub struct Handle {
    commands: Sender<Command>,
    waker: Arc<Waker>,
}

/// A master that could not start. Nothing was started and nothing is left behind.
#[derive(Debug, Error)]
pub enum StartError {
    /// The configuration cannot be run.
    #[error(transparent)]
    Preflight(#[from] PreflightError),
    /// A listener could not be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Processes cannot have control groups of their own.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// A signal came before the listeners were bound.
    #[error("asked to stop while waiting for an address")]
    Interrupted,
    /// The system refused something that every master needs.
    #[error("prepare the loop: {0}")]
    Io(#[from] io::Error),
}

/// A master that is no longer there to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the master has ended")]
pub struct Ended;

impl StartError {
    /// What the binary exits with.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            StartError::Preflight(PreflightError::Inherited(_)) => ExitCode::Bind,
            StartError::Preflight(_) | StartError::Cgroup(_) => ExitCode::Usage,
            StartError::Bind(_) => ExitCode::Bind,
            StartError::Interrupted => ExitCode::Clean,
            StartError::Io(_) => ExitCode::Internal,
        }
    }
}

impl Master {
    /// Checks the configuration and binds its listeners. No process is started yet.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn bind(config: Config) -> Result<Self, StartError> {
        Self::bind_in(preflight::check(config)?, Host::default())
    }

    /// As [`bind`](Self::bind), with a configuration that was checked, in a process that gives the
    /// master its signals.
    pub(crate) fn bind_in(config: Config, mut host: Host) -> Result<Self, StartError> {
        if config.cgroup {
            host.cgroup = Some(Cgroup::create()?);
        }
        let sockets = bind_listeners(&config, &host)?;
        let (commands, inbox): (_, Receiver<Command>) = bounded(COMMANDS);
        let (reactor, waker) = Reactor::new(config, sockets, host, inbox)?;
        let listeners = reactor.listeners();
        Ok(Master {
            reactor,
            handle: Handle { commands, waker },
            listeners,
        })
    }

    /// The listeners, with the addresses really bound.
    #[must_use]
    pub fn listeners(&self) -> &[ListenerStatus] {
        &self.listeners
    }

    /// A handle, to be given to other threads before [`run`](Self::run).
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Starts the cluster and runs it until it has stopped. Blocks; every process is gone when it
    /// returns.
    ///
    /// # Errors
    /// When the kernel's event queue fails. The processes then see their master gone.
    pub fn run(self) -> io::Result<ExitCode> {
        self.reactor.run()
    }
}

impl Handle {
    /// Asks the cluster to end; [`Master::run`] returns when it has.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn stop(&self, how: Stop) -> Result<(), Ended> {
        self.command(Command::Stop(how))
    }

    /// Begins a new generation of workers, one slot after the other, and waits for the outcome. A reload
    /// that is under way is followed by another, which whoever asked meanwhile shares.
    ///
    /// # Errors
    /// When the master has ended.
    pub fn reload(&self) -> Result<ReloadOutcome, Ended> {
        let (reply, answer) = bounded(1);
        self.command(Command::Reload(reply))?;
        answer.recv().map_err(|_| Ended)
    }

    /// From now on there are that many workers; answers whether that was possible, and does not wait
    /// for those that come or leave.
    ///
    /// # Errors
    /// When the master has ended.
    pub fn scale(&self, workers: u32) -> Result<Result<(), Refused>, Ended> {
        let (reply, answer) = bounded(1);
        self.command(Command::Scale(workers, reply))?;
        answer.recv().map_err(|_| Ended)
    }

    /// The cluster now.
    ///
    /// # Errors
    /// When the master has ended.
    pub fn status(&self) -> Result<Status, Ended> {
        let (reply, answer) = bounded(1);
        self.command(Command::Status(reply))?;
        answer.recv().map_err(|_| Ended)
    }

    /// Waits until every process is ready; answers whether it came to that within `timeout`.
    ///
    /// # Errors
    /// When the master has ended.
    pub fn await_ready(&self, timeout: Duration) -> Result<bool, Ended> {
        let (reply, answer) = bounded(1);
        self.command(Command::AwaitReady(reply))?;
        match answer.recv_timeout(timeout) {
            Ok(()) => Ok(true),
            Err(err) if err.is_timeout() => Ok(false),
            Err(_) => Err(Ended),
        }
    }

    fn command(&self, command: Command) -> Result<(), Ended> {
        self.commands.send(command).map_err(|_| Ended)?;
        self.waker.wake().map_err(|_| Ended)
    }
}

/// Binds every listener, or none.
fn bind_listeners(config: &Config, host: &Host) -> Result<Vec<ListeningSocket>, StartError> {
    let mut patience = config.bind_retry;
    let listeners = config.listeners.iter();
    listeners
        .map(|spec| bind_listener(spec, &mut patience, host))
        .collect()
}

/// Binds one listener; while somebody else has its address, as often as the patience allows.
fn bind_listener(
    spec: &ListenerSpec,
    patience: &mut Duration,
    host: &Host,
) -> Result<ListeningSocket, StartError> {
    let mut bound = ListeningSocket::open(spec);
    if let Err(err) = &bound
        && err.is_in_use()
        && !patience.is_zero()
    {
        log::info!("{err}; trying again");
    }
    while let Err(err) = &bound
        && err.is_in_use()
        && !patience.is_zero()
    {
        let pause = (*patience).min(BIND_RETRY_EVERY);
        *patience -= pause;
        if host.wait(pause)? {
            return Err(StartError::Interrupted);
        }
        bound = ListeningSocket::open(spec);
    }
    Ok(bound?)
}

/// How many commands may wait for the loop; who sends one more waits too.
const COMMANDS: usize = 64;

/// How often an address that is in use is tried.
const BIND_RETRY_EVERY: Duration = Duration::from_millis(100);
