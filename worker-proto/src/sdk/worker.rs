//! The worker: this process as a member of the cluster, or on its own.
//!
//! A process that has a master never outlives it: [`Worker::connect`] trades the parent-death
//! signal, with which it was started, for the watch of the control thread.

use std::io;
use std::os::fd::AsFd;
use std::process::{self, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::control::{Control, Farewell, Orphan};
use super::draining::Draining;
use super::event::{EVENTS, Event};
use super::inherit;
use super::listener::{ListenError, Listener};
use super::standalone::OwnSocket;
use super::wait;
use crate::address::Address;
use crate::frame::{DeclaredListener, FromMaster, ListenOptions, MAX_BATCH, ToMaster, Welcome};
use crate::handshake::{self, PROTOCOL};
use crate::ids::{Generation, Role, Slot, WorkerId};
use crate::scm::Wait;
use crate::socket::{Inbox, ReceiveError, SendError, WorkerChannel};

/// This process as a member of a cluster, or on its own when no master started it.
///
/// The control channel stays open as long as the worker or one of its listeners lives. When the
/// last is dropped the master takes the process for one that is leaving; [`leave`](Self::leave)
/// says so properly.
#[derive(Debug)]
pub struct Worker {
    identity: Identity,
    declared: Vec<DeclaredListener>,
    draining: Draining,
    events: Receiver<Event>,
    ready: AtomicBool,
    membership: Membership,
}

/// Who this process is in its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Identity {
    /// This incarnation; 0 without a master, which counts from 1.
    pub worker: WorkerId,
    /// The position, `0..count`; 0 without a master.
    pub slot: Slot,
    /// The generation; 0 without a master, which counts from 1.
    pub generation: Generation,
    /// What the process is for; a worker without a master.
    pub role: Role,
    /// How many slots the role has; 1 without a master.
    pub count: u32,
    /// The process id.
    pub pid: u32,
}

#[derive(Debug)]
enum Membership {
    Cluster(Arc<Control>),
    /// Holds the sender so that the events never end.
    Alone(Sender<Event>),
}

impl Worker {
    /// Joins the cluster of the master that started this process; on its own if none did.
    ///
    /// Call it first thing in `main`, from the main thread and before other threads start: it
    /// takes the `RR_*` variables (see [`crate::env`]) out of the environment, so that no
    /// grandchild takes them for its own, and that is safe only while there is one thread. With
    /// more it leaves them and logs a warning. Call it once: a second call is an error.
    ///
    /// # Errors
    /// See [`ConnectError`]. A program that was started by a master and cannot reach it should
    /// exit: on its own it would compete with the cluster.
    pub fn connect() -> Result<Self, ConnectError> {
        let Some(channel) = inherit::control_channel()? else {
            return Self::alone();
        };
        let (welcome, channel) = introduce(channel)?;
        let code = match welcome.role {
            Role::Worker => 0,
            Role::Agent => ORPHANED_AGENT,
        };
        let grace = welcome.limits.orphan_grace;
        let worker = Self::welcomed(welcome, channel, Orphan::Exits { grace, code })?;
        // The master's parent-death signal is SIGKILL, at once. From now on the control thread
        // guarantees the end, and after the grace only.
        nix::sys::prctl::set_pdeathsig(None).map_err(io::Error::from)?;
        Ok(worker)
    }

    /// Joins over a given channel; the process outlives the other end.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn over(channel: WorkerChannel) -> Result<Self, ConnectError> {
        let (welcome, channel) = introduce(channel)?;
        Self::welcomed(welcome, channel, Orphan::Remains)
    }

    fn welcomed(
        welcome: Welcome,
        channel: WorkerChannel,
        orphan: Orphan,
    ) -> Result<Self, ConnectError> {
        let draining = Draining::new()?;
        let (tell, events) = bounded(EVENTS);
        let control = Control::start(channel, tell, draining.clone(), orphan)?;
        Ok(Worker {
            identity: Identity {
                worker: welcome.worker,
                slot: welcome.slot,
                generation: welcome.generation,
                role: welcome.role,
                count: welcome.count,
                pid: process::id(),
            },
            declared: welcome.listeners,
            draining,
            events,
            ready: AtomicBool::new(false),
            membership: Membership::Cluster(Arc::new(control)),
        })
    }

    fn alone() -> Result<Self, ConnectError> {
        let (tell, events) = bounded(EVENTS);
        Ok(Worker {
            identity: Identity {
                worker: WorkerId(0),
                slot: Slot(0),
                generation: Generation(0),
                role: Role::Worker,
                count: 1,
                pid: process::id(),
            },
            declared: Vec::new(),
            draining: Draining::new()?,
            events,
            ready: AtomicBool::new(false),
            membership: Membership::Alone(tell),
        })
    }

    /// Whether there is no master. The program then binds for itself.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        matches!(self.membership, Membership::Alone(_))
    }

    /// Who this process is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The listeners declared on the master's command line, in its order. Empty without a master.
    #[must_use]
    pub fn declared(&self) -> &[DeclaredListener] {
        &self.declared
    }

    /// Listens on a declared listener, by its name, or on an address such as `127.0.0.1:8000`,
    /// `[::1]:0` or `unix:/run/app.sock`.
    ///
    /// # Errors
    /// See [`ListenError`].
    pub fn listen(&self, target: &str) -> Result<Listener, ListenError> {
        self.listen_with(target, ListenOptions::default())
    }

    /// As [`listen`](Self::listen), with options.
    ///
    /// # Errors
    /// See [`ListenError`].
    pub fn listen_with(
        &self,
        target: &str,
        options: ListenOptions,
    ) -> Result<Listener, ListenError> {
        self.listen_within(target, options, LISTEN_WITHIN)
    }

    /// Every declared listener if the master has any, otherwise the given address: what a
    /// program wants that does not care where it is served.
    ///
    /// # Errors
    /// See [`ListenError`]; the listeners got before the error are given back.
    pub fn listen_declared_or(&self, address: &str) -> Result<Vec<Listener>, ListenError> {
        if self.declared.is_empty() {
            return Ok(vec![self.listen(address)?]);
        }
        let declared = self.declared.iter();
        declared
            .map(|declared| self.listen(&declared.name))
            .collect()
    }

    /// Says that this process can serve; call it after `listen`. Only the first call counts.
    ///
    /// # Errors
    /// `BrokenPipe` when the master is gone, `TimedOut` when it takes nothing.
    pub fn ready(&self) -> io::Result<()> {
        if self.ready.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        match &self.membership {
            Membership::Cluster(control) => control.send(&ToMaster::Ready).map_err(io_error),
            Membership::Alone(tell) => {
                // Room for it: this is the first and only event.
                _ = tell.try_send(Event::ClusterReady);
                Ok(())
            }
        }
    }

    /// What happens in the cluster. All receivers share one queue, so each event reaches one of
    /// them; the queue holds 16, far more than a life brings, and drops what comes beyond. It
    /// ends after [`Event::MasterGone`] and when the worker is dropped, and never without a
    /// master.
    #[must_use]
    pub fn events(&self) -> Receiver<Event> {
        self.events.clone()
    }

    /// The switch that says when to finish.
    #[must_use]
    pub fn draining(&self) -> Draining {
        self.draining.clone()
    }

    /// Leaves the cluster in peace, after the last connection is served: says goodbye, waits at
    /// most 5 s until the master has read everything sent before, and answers with what `main`
    /// is to return.
    #[must_use = "return the exit code from main"]
    pub fn leave(self) -> ExitCode {
        let Membership::Cluster(control) = &self.membership else {
            return ExitCode::SUCCESS;
        };
        match (control.leave(LEAVE_WITHIN), self.identity.role) {
            (Farewell::MasterGone, Role::Agent) => ExitCode::from(ORPHANED_AGENT),
            (Farewell::MasterGone, Role::Worker) | (Farewell::Said, _) => ExitCode::SUCCESS,
            (Farewell::TimedOut, _) => {
                log::warn!("the master has not answered goodbye within {LEAVE_WITHIN:?}");
                ExitCode::SUCCESS
            }
        }
    }

    pub(crate) fn listen_within(
        &self,
        target: &str,
        options: ListenOptions,
        within: Duration,
    ) -> Result<Listener, ListenError> {
        if !(1..=MAX_BATCH).contains(&options.max_batch) {
            return Err(ListenError::Refused {
                errno: libc::EINVAL,
                reason: format!(
                    "max_batch is {}, it must be from 1 to {MAX_BATCH}",
                    options.max_batch
                ),
            });
        }
        match &self.membership {
            Membership::Cluster(control) => {
                let (listening, queue) = control.listen(target, options, within)?;
                let control = Arc::clone(control);
                Ok(Listener::over_queue(
                    listening,
                    queue,
                    options.nonblocking,
                    control,
                ))
            }
            Membership::Alone(_) => {
                let address: Address = target.parse()?;
                OwnSocket::bind(&address, options)
                    .and_then(|socket| Listener::over_socket(target, socket))
                    .map_err(|source| ListenError::Bind { address, source })
            }
        }
    }
}

/// Why there is no worker.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// What was inherited from the master is not usable, or was taken before.
    #[error("{0}")]
    Inherited(String),
    /// The master does not take this program.
    #[error("the master rejects this program: {reason}")]
    Rejected {
        /// What is wrong, for a person.
        reason: String,
    },
    /// The master speaks another version.
    #[error(
        "the master speaks protocol {theirs}, this program speaks {PROTOCOL}: build it with the matching worker-proto"
    )]
    Protocol {
        /// The master's version.
        theirs: u16,
    },
    /// The master did not answer.
    #[error("the master did not answer within {within:?}")]
    NoAnswer {
        /// How long it was waited for.
        within: Duration,
    },
    /// The master closed the channel without an answer.
    #[error("the master closed the control channel")]
    MasterGone,
    /// The master's answer is not one.
    #[error("the master's answer makes no sense: {0}")]
    Answer(String),
    /// The system refuses something.
    #[error("set up the worker: {0}")]
    Io(#[from] io::Error),
}

impl From<inherit::InheritError> for ConnectError {
    fn from(err: inherit::InheritError) -> Self {
        match err {
            inherit::InheritError::Io(err) => ConnectError::Io(err),
            inherit::InheritError::Taken | inherit::InheritError::Descriptor { .. } => {
                ConnectError::Inherited(err.to_string())
            }
        }
    }
}

/// The hand-shake: `Hello`, and the answer to it.
fn introduce(channel: WorkerChannel) -> Result<(Welcome, WorkerChannel), ConnectError> {
    match channel.send(&ToMaster::Hello(handshake::hello()), &[], Wait::Never) {
        Ok(()) => {}
        Err(SendError::Gone) => return Err(ConnectError::MasterGone),
        Err(err) => return Err(io_error(err).into()),
    }
    if wait::readable([channel.as_fd()], Some(WELCOME_WITHIN))? == [false] {
        return Err(ConnectError::NoAnswer {
            within: WELCOME_WITHIN,
        });
    }
    let answer = match channel.receive(&mut Inbox::new(), Wait::Never) {
        Ok(received) => received.frame,
        Err(ReceiveError::Closed) => return Err(ConnectError::MasterGone),
        Err(ReceiveError::Io(err)) => return Err(err.into()),
        Err(err @ (ReceiveError::Empty | ReceiveError::Violation(_))) => {
            return Err(ConnectError::Answer(err.to_string()));
        }
    };
    match answer {
        FromMaster::Welcome(welcome) if welcome.protocol == PROTOCOL => Ok((welcome, channel)),
        FromMaster::Welcome(Welcome { protocol, .. }) => {
            Err(ConnectError::Protocol { theirs: protocol })
        }
        FromMaster::Rejected { reason } => Err(ConnectError::Rejected { reason }),
        FromMaster::Listening(_)
        | FromMaster::NotListening { .. }
        | FromMaster::Unlistened { .. }
        | FromMaster::ClusterReady
        | FromMaster::Drain { .. }
        | FromMaster::Ping { .. }
        | FromMaster::Farewell => Err(ConnectError::Answer(
            "another frame than Welcome came first".to_owned(),
        )),
    }
}

fn io_error(err: SendError) -> io::Error {
    match err {
        SendError::Exhausted(err) | SendError::Io(err) => err,
        SendError::Gone => io::ErrorKind::BrokenPipe.into(),
        SendError::Full => io::ErrorKind::TimedOut.into(),
        SendError::TooLarge(err) => io::Error::new(io::ErrorKind::InvalidInput, err),
    }
}

/// The exit code of an agent whose master is gone: nobody asked it to leave.
const ORPHANED_AGENT: u8 = 110;

const WELCOME_WITHIN: Duration = Duration::from_secs(10);
const LISTEN_WITHIN: Duration = Duration::from_secs(30);
const LEAVE_WITHIN: Duration = Duration::from_secs(5);
