//! The master as a library: bind it, run it, and talk to it through a [`Handle`].
//!
//! A master touches nothing of the process it lives in: no signal, no limit, no foreign child.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use mio::Waker;
use thiserror::Error;

use crate::config::Config;
use crate::config::control::ControlSocket;
use crate::config::listener::ListenerSpec;
use crate::control::change::{Change, Recipients, ScaleTo, SignalNumber, Target};
use crate::control::denied::Denied;
use crate::control::event::ClusterEvent;
use crate::control::message::Message;
use crate::control::outcome::Outcome;
use crate::control::place;
use crate::dispatch::StrategyName;
use crate::exit_code::ExitCode;
use crate::preflight::{self, PreflightError};
use crate::reactor::acceptor::ListenerStatus;
use crate::reactor::command::{Answer, Command, Status};
use crate::reactor::reload::ReloadOutcome;
use crate::reactor::{Host, Reactor};
use crate::supervisor::Stop;
use crate::sys::cgroup::{Cgroup, CgroupError};
use crate::sys::describe;
use crate::sys::listening::{BindError, Keeping, ListeningSocket};
use crate::values::Content;

/// A master whose listeners are bound, ready to [`run`](Master::run).
pub struct Master {
    reactor: Reactor,
    handle: Handle,
    listeners: Vec<ListenerStatus>,
    control: Option<PathBuf>,
}

/// The way to talk to a running master, from any thread.
#[derive(Clone, Debug)]
pub struct Handle {
    commands: Sender<Command>,
    waker: Arc<Waker>,
}

/// What happens in the cluster, in order; ends with the master.
///
/// It holds [`EVENTS`] events. Those that come while it is full are left out; in their place comes one
/// called `lost`, which says how many they were.
#[derive(Clone, Debug)]
pub struct Events(Receiver<ClusterEvent>);

impl Events {
    /// The next one; `None` at the end, or if none comes within `timeout`.
    #[must_use]
    pub fn next_within(&self, timeout: Duration) -> Option<ClusterEvent> {
        self.0.recv_timeout(timeout).ok()
    }
}

impl Iterator for Events {
    type Item = ClusterEvent;

    /// Waits for the next one.
    fn next(&mut self) -> Option<ClusterEvent> {
        self.0.recv().ok()
    }
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
    /// Operators cannot reach it where they should.
    #[error("control socket {}: {}: give another --control, or --no-control", path.display(), describe(source))]
    Control {
        /// Where it was to be.
        path: PathBuf,
        /// What is wrong with that.
        source: io::Error,
    },
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
            StartError::Bind(_) | StartError::Control { .. } => ExitCode::Bind,
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
        let door = config.control.clone();
        let (mut reactor, waker) = Reactor::new(config, sockets, host, inbox)?;
        let control = open_door(&mut reactor, door)?;
        let listeners = reactor.listeners();
        Ok(Master {
            reactor,
            control,
            handle: Handle { commands, waker },
            listeners,
        })
    }

    /// The listeners, with the addresses really bound.
    #[must_use]
    pub fn listeners(&self) -> &[ListenerStatus] {
        &self.listeners
    }

    /// Where operators reach it, if they do.
    #[must_use]
    pub fn control(&self) -> Option<&Path> {
        self.control.as_deref()
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
        self.command(Command::Change(Change::Stop(how), Answer::Nobody))
    }

    /// Takes the reload that is under way back.
    ///
    /// # Errors
    /// See [`Denied`]; so it is with all that follows.
    pub fn abort_reload(&self) -> Result<(), Denied> {
        self.change(Change::AbortReload).map(drop)
    }

    /// More workers, or fewer.
    ///
    /// # Errors
    /// See [`Denied`].
    pub fn scale(&self, to: ScaleTo) -> Result<(), Denied> {
        self.change(Change::Scale(to)).map(drop)
    }

    /// Somebody new for the slot.
    ///
    /// # Errors
    /// See [`Denied`].
    pub fn restart(&self, target: Target) -> Result<(), Denied> {
        self.change(Change::Restart(target)).map(drop)
    }

    /// Whoever is in the slot finishes and leaves, and it stays empty until it is
    /// [restarted](Self::restart).
    ///
    /// # Errors
    /// See [`Denied`].
    pub fn drain(&self, target: Target) -> Result<(), Denied> {
        self.change(Change::Drain(target)).map(drop)
    }

    /// SIGKILL for whoever is in the slot, and those it started. Nobody in it is no error.
    ///
    /// # Errors
    /// See [`Denied`].
    pub fn kill(&self, target: Target) -> Result<(), Denied> {
        self.change(Change::Kill(target)).map(drop)
    }

    /// Sends processes a signal; answers how many.
    ///
    /// # Errors
    /// See [`Denied`].
    pub fn signal(&self, to: Recipients, signal: SignalNumber) -> Result<usize, Denied> {
        let outcome = self.change(Change::Signal { to, signal })?;
        if let Outcome::Signalled { processes } = outcome {
            Ok(processes)
        } else {
            Err(Denied::Failed(outcome.to_string()))
        }
    }

    /// Sends processes a message; answers how many there are to get it. What they send to the master is
    /// among the [`events`](Self::events).
    ///
    /// # Errors
    /// See [`Denied`].
    pub fn send(&self, message: Message) -> Result<u32, Denied> {
        let outcome = self.change(Change::Send(message))?;
        if let Outcome::Sent { receivers } = outcome {
            Ok(receivers)
        } else {
            Err(Denied::Failed(outcome.to_string()))
        }
    }

    /// Accepts nothing more on this listener, or on any: clients wait in the listen backlog.
    ///
    /// # Errors
    /// See [`Denied`].
    pub fn pause(&self, listener: Option<&str>) -> Result<(), Denied> {
        let listener = listener.map(str::to_owned);
        self.change(Change::Pause(listener)).map(drop)
    }

    /// Accepts again.
    ///
    /// # Errors
    /// See [`Denied`].
    pub fn resume(&self, listener: Option<&str>) -> Result<(), Denied> {
        let listener = listener.map(str::to_owned);
        self.change(Change::Resume(listener)).map(drop)
    }

    /// The workers of this listener, or of all that the master accepts for, are chosen so from now
    /// on, until the next change, or a reload that changes it.
    ///
    /// # Errors
    /// See [`Denied`].
    pub fn choose_by(&self, strategy: StrategyName, listener: Option<&str>) -> Result<(), Denied> {
        let listener = listener.map(str::to_owned);
        self.change(Change::Choose { strategy, listener }).map(drop)
    }

    /// Gives every process that watches the key a new value of it; answers its version, which is the
    /// one before if it says the same.
    ///
    /// # Errors
    /// See [`Denied`].
    pub fn push(&self, key: &str, content: Content) -> Result<u64, Denied> {
        let (reply, answer) = bounded(1);
        let command = Command::Push(key.to_owned(), content, Answer::Handle(reply));
        self.command(command).map_err(|Ended| Denied::Ended)?;
        let outcome = answer.recv().map_err(|_| Denied::Ended)??;
        if let Outcome::Pushed { version, .. } | Outcome::Unchanged { version, .. } = outcome {
            Ok(version)
        } else {
            Err(Denied::Failed(outcome.to_string()))
        }
    }

    /// Has every process open its log files again, after they were moved away; answers how many were
    /// told. One that has just been started is told a little later.
    ///
    /// # Errors
    /// See [`Denied`].
    pub fn reopen_logs(&self) -> Result<usize, Denied> {
        let outcome = self.change(Change::ReopenLogs)?;
        if let Outcome::LogsReopened { processes, .. } = outcome {
            Ok(processes)
        } else {
            Err(Denied::Failed(outcome.to_string()))
        }
    }

    /// Has a job run although it is not due; answers the number of the run, which its events have.
    ///
    /// # Errors
    /// See [`Denied`].
    pub fn run_job(&self, name: &str) -> Result<u64, Denied> {
        let outcome = self.change(Change::RunJob(name.to_owned()))?;
        if let Outcome::JobRunning { run, .. } = outcome {
            Ok(run)
        } else {
            Err(Denied::Failed(outcome.to_string()))
        }
    }

    /// What happens in the cluster from now on.
    ///
    /// # Errors
    /// When the master has ended.
    pub fn events(&self) -> Result<Events, Ended> {
        let (sender, events) = bounded(EVENTS);
        self.command(Command::Events(sender))?;
        Ok(Events(events))
    }

    fn change(&self, change: Change) -> Result<Outcome, Denied> {
        let (reply, answer) = bounded(1);
        let command = Command::Change(change, Answer::Handle(reply));
        self.command(command).map_err(|Ended| Denied::Ended)?;
        answer.recv().map_err(|_| Denied::Ended)?
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

/// Opens the control socket as it is wanted; answers where it is.
fn open_door(reactor: &mut Reactor, wanted: ControlSocket) -> Result<Option<PathBuf>, StartError> {
    let (path, is_required) = match wanted {
        ControlSocket::None => return Ok(None),
        ControlSocket::At(path) => (path, true),
        ControlSocket::Usual => match place::own() {
            Some(path) => (path, false),
            None => {
                // Nobody asked for one, and there is nothing to mend in a master without a session.
                log::info!(
                    "no control socket: no directory for it: set RR_CONTROL_DIR, or give --control PATH, or --no-control"
                );
                return Ok(None);
            }
        },
    };
    place::sweep_beside(&path);
    match reactor.open_door(&path) {
        Ok(()) => Ok(Some(path)),
        Err(source) if is_required => Err(StartError::Control { path, source }),
        Err(err) => {
            let (path, why) = (path.display(), describe(&err));
            log::warn!("no control socket: {path}: {why}: give --control PATH, or --no-control");
            Ok(None)
        }
    }
}

/// Binds every listener, or none.
fn bind_listeners(config: &Config, host: &Host) -> Result<Vec<ListeningSocket>, StartError> {
    let mut patience = config.bind_retry;
    let listeners = config.listeners.iter();
    listeners
        .map(|spec| {
            let keeping = Keeping::of(config.mode_of(spec));
            bind_listener((spec, keeping), &mut patience, host)
        })
        .collect()
}

/// Binds one listener; while somebody else has its address, as often as the patience allows.
fn bind_listener(
    (spec, keeping): (&ListenerSpec, Keeping),
    patience: &mut Duration,
    host: &Host,
) -> Result<ListeningSocket, StartError> {
    let mut bound = ListeningSocket::open(spec, keeping);
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
        bound = ListeningSocket::open(spec, keeping);
    }
    Ok(bound?)
}

/// How many events wait for a reader of [`Events`].
pub const EVENTS: usize = 1024;

/// How many commands may wait for the loop; who sends one more waits too.
const COMMANDS: usize = 64;

/// How often an address that is in use is tried.
const BIND_RETRY_EVERY: Duration = Duration::from_millis(100);
