//! Readiness of programs that say nothing: they are ready when they have lived for a while, or when
//! somebody takes connections where they listen.
//!
//! A look never blocks: an attempt to connect that is under way is looked at again the next time.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use worker_proto::ids::WorkerId;

use super::Reactor;
use crate::config::placeholder::Incumbent;
use crate::config::readiness::ReadyOn;
use crate::supervisor::Event;

/// Every process of which something else than a message shows that it is ready.
#[derive(Debug, Default)]
pub(super) struct Readiness(BTreeMap<WorkerId, Sign>);

/// What shows it.
#[derive(Debug)]
enum Sign {
    /// It lives at that moment.
    Alive(Instant),
    Connection(Attempts),
    /// It has shown.
    Seen,
}

/// Attempts to connect.
#[derive(Debug)]
struct Attempts {
    /// `None`: the process has a slot for which there is no port.
    address: Option<SocketAddr>,
    next: Instant,
    /// The one that is under way.
    current: Option<Socket>,
}

impl Readiness {
    /// Whether a message of that process says nothing about it.
    pub(super) fn is_shown_otherwise(&self, worker: WorkerId) -> bool {
        self.0.contains_key(&worker)
    }

    /// What is missing of a process, for people.
    pub(super) fn missing(&self, worker: WorkerId) -> Option<String> {
        match self.0.get(&worker)? {
            Sign::Connection(Attempts { address, .. }) => Some(match address {
                Some(address) => format!("nobody takes connections at {address}"),
                None => "there is no such port for its slot".to_owned(),
            }),
            Sign::Alive(_) => Some("--ready-on waits longer than --ready-timeout".to_owned()),
            Sign::Seen => None,
        }
    }

    pub(super) fn forget(&mut self, worker: WorkerId) {
        self.0.remove(&worker);
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.0.values().filter_map(Sign::deadline).min()
    }
}

impl Reactor {
    /// A process was started: from now on its sign is looked for, if it gives no message.
    pub(super) fn await_sign(&mut self, worker: WorkerId, now: Instant) {
        let Some(process) = self.processes.get(&worker) else {
            return;
        };
        let (role, slot, generation) = (process.role, process.slot, process.generation);
        let program = &self.generations.version(role, slot, generation).program;
        let sign = match &program.ready_on {
            ReadyOn::Message => return,
            ReadyOn::Delay(delay) => Sign::Alive(now + *delay),
            ReadyOn::Tcp(address) => Sign::Connection(Attempts {
                address: address.of(&Incumbent {
                    worker,
                    slot,
                    generation,
                    role,
                }),
                next: now,
                current: None,
            }),
        };
        self.readiness.0.insert(worker, sign);
        // Nothing will be heard of it: that is no reason to wonder.
        self.supervisor.handle(now, Event::Online { worker });
    }

    /// Looks for the signs of those whose time it is.
    pub(super) fn look_for_signs(&mut self, now: Instant) {
        for (worker, sign) in &mut self.readiness.0 {
            let is_due = sign.deadline().is_some_and(|at| at <= now);
            if !is_due || !sign.shows(now) {
                continue;
            }
            *sign = Sign::Seen;
            let worker = *worker;
            self.supervisor.handle(now, Event::Ready { worker });
            self.leadership.ready(worker);
        }
    }
}

impl Sign {
    fn deadline(&self) -> Option<Instant> {
        match self {
            Sign::Alive(at) => Some(*at),
            Sign::Connection(attempts) => attempts.address.map(|_| attempts.next),
            Sign::Seen => None,
        }
    }

    fn shows(&mut self, now: Instant) -> bool {
        match self {
            Sign::Alive(_) => true,
            Sign::Connection(attempts) => attempts.look(now),
            Sign::Seen => false,
        }
    }
}

impl Attempts {
    /// Whether one has succeeded.
    fn look(&mut self, now: Instant) -> bool {
        self.next = now + LOOK_EVERY;
        let Some(address) = self.address else {
            return false;
        };
        let socket = match self.current.take() {
            Some(socket) => socket,
            None => match begin(address) {
                Ok(socket) => socket,
                Err(err) => {
                    log::trace!("connect to {address}: {err}");
                    return false;
                }
            },
        };
        if is_connected(&socket) {
            return true;
        }
        let has_failed = socket.take_error().is_ok_and(|err| err.is_some());
        self.current = (!has_failed).then_some(socket);
        false
    }
}

/// Begins to connect; at the own host it has succeeded or failed by then.
fn begin(address: SocketAddr) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&address.into()) {
        Err(err) if err.raw_os_error() != Some(libc::EINPROGRESS) => Err(err),
        Ok(()) | Err(_) => Ok(socket),
    }
}

/// Whether somebody is at the other end. A socket that looks for a port of the own host may be given
/// that port itself, and then finds itself there.
fn is_connected(socket: &Socket) -> bool {
    let (Ok(peer), Ok(own)) = (socket.peer_addr(), socket.local_addr()) else {
        return false;
    };
    if peer.as_socket() != own.as_socket() {
        return true;
    }
    // Reset, or the port would be in use for a minute (`TIME_WAIT`), and it is the program's.
    if let Err(err) = socket.set_linger(Some(Duration::ZERO)) {
        log::debug!("reset a connection with itself: {err}");
    }
    false
}

const LOOK_EVERY: Duration = Duration::from_millis(50);
