//! A process as the reactor knows it: descriptors and names. Its phase is the supervisor's.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Instant;

use mio::unix::SourceFd;
use mio::{Interest, Registry};
use worker_proto::frame::{DeclaredListener, Limits, Welcome};
use worker_proto::handshake::PROTOCOL;
use worker_proto::ids::{Generation, ListenerId, Role, Slot, WorkerId};
use worker_proto::scoreboard::Scoreboard;
use worker_proto::socket::MasterChannel;

use super::link::Link;
use super::token::Source;
use crate::config::Config;
use crate::config::farewell::StopSignal;
use crate::supervisor::{ExitStatus, Signal, Who};
use crate::sys::activity::Activity;
use crate::sys::describe;
use crate::sys::pidfd::Pidfd;

/// One worker or agent.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) worker: WorkerId,
    pub(crate) slot: Slot,
    pub(crate) generation: Generation,
    pub(crate) role: Role,
    connection: Connection,
    pidfd: Option<Pidfd>,
    /// Known once its remains were taken.
    ended: Option<ExitStatus>,
    /// When its group first got a signal to leave.
    told: Option<Instant>,
    complaints: u32,
    /// The pid of the first process of a program for which a preloaded library asked.
    attached: Option<u32>,
    /// The sending ends of queues that get nothing any more: the program would take their end for
    /// clients, for ever.
    silent: Vec<(ListenerId, OwnedFd)>,
    /// Its page of the scoreboard, until it goes to the program with its first listener.
    page: Option<OwnedFd>,
    /// The strongest signal that the supervisor had sent to it.
    signalled: Option<Signal>,
}

/// The control channel of a process over its life.
#[derive(Debug)]
pub(crate) enum Connection {
    /// Nothing is read before the process is known to exist.
    Prepared(MasterChannel),
    Open(Link),
    Over,
}

impl Process {
    pub(crate) fn prepare(
        worker: WorkerId,
        slot: Slot,
        generation: Generation,
        role: Role,
        channel: MasterChannel,
    ) -> Self {
        let connection = Connection::Prepared(channel);
        Process {
            worker,
            slot,
            generation,
            role,
            connection,
            pidfd: None,
            ended: None,
            told: None,
            complaints: 0,
            attached: None,
            silent: Vec::new(),
            page: None,
            signalled: None,
        }
    }

    /// What comes before each line that it says.
    pub(crate) fn name(&self) -> String {
        match self.role {
            Role::Worker => format!("{} slot={}", self.worker, self.slot),
            Role::Agent => format!("agent slot={}", self.slot),
        }
    }

    /// The process exists: listen to it, and watch for its end.
    pub(crate) fn start(&mut self, pidfd: Pidfd, registry: &Registry) -> io::Result<()> {
        let exit = Source::Exit(self.worker).into();
        let pidfd = self.pidfd.insert(pidfd);
        registry.register(&mut SourceFd(&pidfd.as_raw_fd()), exit, Interest::READABLE)?;
        match std::mem::replace(&mut self.connection, Connection::Over) {
            Connection::Prepared(channel) => {
                let link = Link::new(channel);
                let control = Source::Control(self.worker).into();
                let both = Interest::READABLE | Interest::WRITABLE;
                registry.register(&mut SourceFd(&link.as_raw_fd()), control, both)?;
                self.connection = Connection::Open(link);
            }
            started @ (Connection::Open(_) | Connection::Over) => self.connection = started,
        }
        Ok(())
    }

    pub(crate) fn link(&self) -> Option<&Link> {
        match &self.connection {
            Connection::Open(link) => Some(link),
            Connection::Prepared(_) | Connection::Over => None,
        }
    }

    pub(crate) fn connection_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }

    pub(crate) fn link_mut(&mut self) -> Option<&mut Link> {
        match &mut self.connection {
            Connection::Open(link) => Some(link),
            Connection::Prepared(_) | Connection::Over => None,
        }
    }

    /// A preloaded library speaks for the program, first in this process of it.
    pub(crate) fn note_attached(&mut self, pid: u32) {
        self.attached.get_or_insert(pid);
    }

    /// Whether a preloaded library speaks for the program.
    pub(crate) fn is_attached(&self) -> bool {
        self.attached.is_some()
    }

    /// The queue stays as it is as long as the program has it, and it is not given back.
    pub(crate) fn keep_silent(&mut self, listener: ListenerId, sender: OwnedFd) {
        self.silent.push((listener, sender));
    }

    /// A program's page of the scoreboard: the first listener that it gets takes it along.
    pub(crate) fn keep_page(&mut self, page: Option<OwnedFd>) {
        self.page = page;
    }

    pub(crate) fn take_page(&mut self) -> Option<OwnedFd> {
        self.page.take()
    }

    /// The program has given its queue back: nobody polls it any more.
    pub(crate) fn give_back(&mut self, listener: ListenerId) {
        self.silent.retain(|(kept, _)| *kept != listener);
    }

    /// Logs what the process did wrong, if it has not done so too often.
    pub(crate) fn complain(&mut self, what: &str) {
        self.complaints = self.complaints.saturating_add(1);
        match self.complaints {
            ..MOST_COMPLAINTS => log::warn!("{} {what}", self.worker),
            MOST_COMPLAINTS => log::warn!("{} {what}; no more of this is logged", self.worker),
            _ => log::debug!("{} {what}", self.worker),
        }
    }

    /// Closes the control channel: the process sees its end.
    pub(crate) fn disconnect(&mut self, registry: &Registry) {
        if let Connection::Open(link) = &self.connection {
            let _ = registry.deregister(&mut SourceFd(&link.as_raw_fd()));
        }
        self.connection = Connection::Over;
    }

    /// How the process ended; `None` while it lives, and once its remains were taken.
    pub(crate) fn exit_status(&self) -> io::Result<Option<ExitStatus>> {
        self.pidfd.as_ref().map_or(Ok(None), Pidfd::exit_status)
    }

    /// How the process ended, if it has.
    pub(crate) fn end(&self) -> Option<ExitStatus> {
        self.ended.or_else(|| self.exit_status().ok().flatten())
    }

    /// Gives away what is to be reaped, and when its group was told to leave.
    pub(crate) fn take_remains(&mut self, registry: &Registry) -> Option<(Pidfd, Option<Instant>)> {
        self.ended = self.end();
        let pidfd = self.pidfd.take()?;
        let _ = registry.deregister(&mut SourceFd(&pidfd.as_raw_fd()));
        Some((pidfd, self.told))
    }

    /// Signals the process, and those it started if the signal is for them too, unless it is gone.
    pub(crate) fn signal(&mut self, signal: Signal, now: Instant) -> io::Result<()> {
        let Some(pidfd) = &self.pidfd else {
            return Ok(());
        };
        match signal {
            Signal::Ask | Signal::Abort => {}
            Signal::Terminate | Signal::Kill => self.told = self.told.or(Some(now)),
        }
        self.signalled = Some(signal);
        pidfd.signal(signal)
    }

    /// Asks the process and those it started to leave, with the signal that its program takes so.
    pub(crate) fn ask(&mut self, stop: StopSignal) -> io::Result<()> {
        self.signalled = Some(Signal::Ask);
        self.pidfd
            .as_ref()
            .map_or(Ok(()), |pidfd| pidfd.ask(stop.signal()))
    }

    /// Whether its SIGKILL, if it got one, is the master's.
    pub(crate) fn was_killed(&self) -> bool {
        self.signalled == Some(Signal::Kill)
    }

    /// Sends the process alone a signal by its number; answers whether it is there to get it.
    pub(crate) fn send(&self, signal: i32) -> io::Result<bool> {
        let Some(pidfd) = &self.pidfd else {
            return Ok(false);
        };
        pidfd.send(signal).map(|()| true)
    }

    /// Whom it is, for those who are told of it.
    pub(crate) fn who(&self) -> Who {
        Who {
            worker: self.worker,
            slot: self.slot,
            generation: self.generation,
            role: self.role,
            pid: self.pidfd.as_ref().map(Pidfd::pid),
        }
    }

    /// What the process is doing at this moment, unless it is gone.
    pub(crate) fn activity(&self) -> Option<Activity> {
        self.pidfd.as_ref().map(|pidfd| Activity::of(pidfd.pid()))
    }

    /// Makes a page for the worker; the descriptor goes to it with its `Welcome`. It serves as well
    /// without.
    pub(crate) fn create_scoreboard(&self) -> Option<(Scoreboard, OwnedFd)> {
        match Scoreboard::create() {
            Ok(scoreboard) => Some(scoreboard),
            Err(err) => {
                let (worker, why) = (self.worker, describe(&err));
                log::warn!("{worker} goes without a page of the scoreboard: {why}");
                None
            }
        }
    }

    /// What the process is told when it has said `Hello`.
    pub(crate) fn welcome(
        &self,
        config: &Config,
        count: u32,
        listeners: Vec<DeclaredListener>,
    ) -> Welcome {
        Welcome {
            protocol: PROTOCOL,
            worker: self.worker,
            slot: self.slot,
            generation: self.generation,
            role: self.role,
            count,
            listeners,
            limits: Limits {
                orphan_grace: config.orphan_grace,
                max_message_bytes: config.messages.max_message,
            },
        }
    }
}

/// How often one process is worth a warning of this kind.
const MOST_COMPLAINTS: u32 = 10;
