//! The porch: where connections stand until it is known whose they are, so that one that says
//! nothing keeps nobody waiting. Of a fixed size: when it is full, no more are received.
//!
//! Its descriptor is an epoll instance of its own, with the listener's in it, those of the
//! connections and a timer: it is readable when there may be something to accept, or to refuse.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::ProxyProtocol;
use super::greeting::{Greeting, Step};
use crate::scm::Wait;
use crate::sdk::connection::Connection;

/// Where connections come from, as far as a porch has to know.
pub(crate) trait Ways {
    /// The next connection, now or `WouldBlock`; `None` when there will be no more.
    fn accept_now(&self) -> io::Result<Option<Connection>>;

    /// The descriptors that become readable when that has another answer.
    fn descriptors(&self) -> Vec<BorrowedFd<'_>>;
}

pub(crate) struct Porch {
    protocol: ProxyProtocol,
    wait: Wait,
    epoll: Epoll,
    timer: TimerFd,
    standing: Mutex<Standing>,
}

/// Who stands there.
struct Standing {
    /// By their numbers, so the first one came first and is late first.
    greetings: BTreeMap<u64, Greeting>,
    next: u64,
    door: Door,
    /// For whom the timer is set.
    timed: Option<u64>,
}

/// Whether the listener's descriptors are in the epoll instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    Open,
    Shut,
}

impl Porch {
    pub(crate) fn new(protocol: ProxyProtocol, wait: Wait, ways: &impl Ways) -> io::Result<Self> {
        let porch = Porch {
            protocol,
            wait,
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            timer: TimerFd::new(
                ClockId::CLOCK_MONOTONIC,
                TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK,
            )?,
            standing: Mutex::new(Standing {
                greetings: BTreeMap::new(),
                next: 0,
                door: Door::Shut,
                timed: None,
            }),
        };
        porch.watch(&porch.timer, OTHER)?;
        porch.set_door(&mut porch.standing(), Door::Open, ways)?;
        Ok(porch)
    }

    pub(crate) fn protocol(&self) -> &ProxyProtocol {
        &self.protocol
    }

    /// The next connection whose client is known.
    pub(crate) fn accept(&self, ways: &impl Ways) -> io::Result<Option<Connection>> {
        // Held while waiting: several threads that accept take turns, as at a listening socket.
        let mut standing = self.standing();
        loop {
            // Before new ones: those who stand here came first.
            if !standing.greetings.is_empty()
                && let Seen::Client(connection) = self.look(&mut standing, EpollTimeout::ZERO)?
            {
                self.set_timer(&mut standing)?;
                return Ok(Some(connection));
            }
            let entrance = self.let_in(&mut standing, ways);
            self.set_timer(&mut standing)?;
            let door = match entrance? {
                Entrance::Client(connection) => return Ok(Some(connection)),
                Entrance::Ended if standing.greetings.is_empty() => return Ok(None),
                Entrance::Ended | Entrance::Full => Door::Shut,
                Entrance::Empty => Door::Open,
            };
            self.set_door(&mut standing, door, ways)?;
            let timeout = match self.wait {
                Wait::Never => EpollTimeout::ZERO,
                Wait::AsSet => EpollTimeout::NONE,
            };
            match (self.look(&mut standing, timeout)?, self.wait) {
                (Seen::Client(connection), _) => {
                    self.set_timer(&mut standing)?;
                    return Ok(Some(connection));
                }
                (Seen::Nothing, Wait::Never) => return Err(io::ErrorKind::WouldBlock.into()),
                (Seen::Nothing, Wait::AsSet) | (Seen::Something, _) => {}
            }
        }
    }

    /// One who stands here, for somebody who waits with it alone.
    pub(crate) fn take(&self) -> Option<Greeting> {
        let mut standing = self.standing();
        let (_, greeting) = standing.greetings.pop_first()?;
        self.forget(&greeting);
        Some(greeting)
    }

    /// All who stand here, when nobody accepts any more.
    pub(crate) fn into_greetings(self) -> impl Iterator<Item = Greeting> {
        let standing = self.standing.into_inner();
        let standing = standing.unwrap_or_else(PoisonError::into_inner);
        standing.greetings.into_values()
    }

    /// Lets connections in until one is known: what is received is to be started.
    fn let_in(&self, standing: &mut Standing, ways: &impl Ways) -> io::Result<Entrance> {
        while standing.greetings.len() < ROOM {
            let connection = match ways.accept_now() {
                Ok(Some(connection)) => connection,
                Ok(None) => return Ok(Entrance::Ended),
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => return Ok(Entrance::Empty),
                Err(err) => return Err(err),
            };
            match Greeting::begin(connection, &self.protocol).map(Greeting::advance) {
                Some(Step::Done(connection)) => return Ok(Entrance::Client(connection)),
                Some(Step::Refused) | None => {}
                Some(Step::Pending(greeting)) => {
                    let number = standing.next;
                    standing.next += 1;
                    self.watch(&greeting, number)?;
                    standing.greetings.insert(number, greeting);
                }
            }
        }
        Ok(Entrance::Full)
    }

    /// Waits until something happens. One thing at a time: what is seen here is not shown again,
    /// and a program may wait for the descriptor after each connection.
    fn look(&self, standing: &mut Standing, timeout: EpollTimeout) -> io::Result<Seen> {
        let mut event = [EpollEvent::empty()];
        let mut seen = match self.epoll.wait(&mut event, timeout) {
            Ok(0) | Err(Errno::EINTR) => Seen::Nothing,
            Ok(_) => self.advance(standing, event[0].data()),
            Err(err) => return Err(err.into()),
        };
        while !matches!(seen, Seen::Client(_))
            && let Some((&number, greeting)) = standing.greetings.first_key_value()
            && greeting.deadline().left().is_zero()
        {
            seen = self.advance(standing, number);
        }
        Ok(seen)
    }

    fn advance(&self, standing: &mut Standing, number: u64) -> Seen {
        let Some(greeting) = standing.greetings.remove(&number) else {
            return Seen::Something;
        };
        // While it still has its descriptor.
        self.forget(&greeting);
        match greeting.advance() {
            Step::Done(connection) => return Seen::Client(connection),
            Step::Refused => {}
            Step::Pending(greeting) => match self.watch(&greeting, number) {
                Ok(()) => _ = standing.greetings.insert(number, greeting),
                Err(err) => log::error!("failed to wait for a PROXY header: {err}"),
            },
        }
        Seen::Something
    }

    /// Sets the timer for the first one, or for nobody.
    fn set_timer(&self, standing: &mut Standing) -> io::Result<()> {
        let first = standing.greetings.first_key_value();
        let timed = first.map(|(number, _)| *number);
        if timed == standing.timed {
            return Ok(());
        }
        match first {
            None => self.timer.unset()?,
            Some((_, greeting)) => {
                // Zero would be never.
                let left = greeting.deadline().left().clamp(MOMENT, LONGEST);
                let expiration = Expiration::OneShot(TimeSpec::from_duration(left));
                self.timer.set(expiration, TimerSetTimeFlags::empty())?;
            }
        }
        standing.timed = timed;
        Ok(())
    }

    fn set_door(&self, standing: &mut Standing, door: Door, ways: &impl Ways) -> io::Result<()> {
        if standing.door == door {
            return Ok(());
        }
        for fd in ways.descriptors() {
            match door {
                Door::Open => self.watch(fd, OTHER)?,
                Door::Shut => self.epoll.delete(fd)?,
            }
        }
        standing.door = door;
        Ok(())
    }

    fn watch(&self, fd: impl AsFd, number: u64) -> io::Result<()> {
        let event = EpollEvent::new(EpollFlags::EPOLLIN, number);
        Ok(self.epoll.add(fd, event)?)
    }

    fn forget(&self, greeting: &Greeting) {
        if let Err(err) = self.epoll.delete(greeting) {
            log::error!("failed to let a connection off the porch: {err}");
        }
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a look shows.
enum Seen {
    Nothing,
    /// Somebody at the door, a header that goes on, one that is refused.
    Something,
    Client(Connection),
}

/// What comes in at the door.
enum Entrance {
    /// It is known whose it is.
    Client(Connection),
    /// Nobody now.
    Empty,
    /// There is no room.
    Full,
    /// Nobody ever again.
    Ended,
}

impl AsFd for Porch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }
}

/// The number of what is no connection.
const OTHER: u64 = u64::MAX;

/// How many connections may stand there. A balancer sends its header with the first packet, so
/// there are few.
const ROOM: usize = 128;

const MOMENT: Duration = Duration::from_micros(1);

/// What a timer takes, and more than anybody waits.
const LONGEST: Duration = Duration::from_secs(1 << 30);
