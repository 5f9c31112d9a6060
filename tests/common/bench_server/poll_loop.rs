//! The loop: accepts, reads, answers. One thread, nothing allocated for a connection.

use std::io::{self, ErrorKind};
use std::mem;
use std::os::fd::{AsFd, AsRawFd};

use anyhow::{Result, bail};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::answer::{Answer, Request};
use super::burn::Burn;
use super::source::{Client, Source};

/// One thread's connections.
pub(crate) struct PollLoop<'a> {
    epoll: Epoll,
    source: Source,
    /// Kept for its memory.
    accepted: Vec<Client>,
    /// Those that have something to say yet, by the number of their descriptor.
    waiting: Vec<Option<Client>>,
    answer: &'a Answer,
    burn: Burn,
}

/// Whether a connection goes on.
enum Fate {
    Over,
    Waits,
}

impl<'a> PollLoop<'a> {
    pub(crate) fn new(source: Source, answer: &'a Answer, burn: Burn) -> Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&source, EpollEvent::new(EpollFlags::EPOLLIN, SOURCE))?;
        Ok(PollLoop {
            epoll,
            source,
            accepted: Vec::new(),
            waiting: Vec::new(),
            answer,
            burn,
        })
    }

    /// Until there will be no more connections, and the last one is over.
    pub(crate) fn run(mut self) -> Result<()> {
        let mut events = [EpollEvent::empty(); EVENTS];
        let mut is_open = true;
        while is_open || self.waiting.iter().any(Option::is_some) {
            let count = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Ok(count) => count,
                Err(Errno::EINTR) => continue,
                Err(err) => bail!("epoll_wait: {err}"),
            };
            for event in &events[..count] {
                if event.data() == SOURCE {
                    is_open = self.accept()?;
                } else {
                    self.go_on(usize::try_from(event.data())?);
                }
            }
        }
        Ok(())
    }

    /// Serves who has come; answers whether there will be more.
    fn accept(&mut self) -> Result<bool> {
        for _ in 0..ACCEPTS {
            match self.source.accept(&mut self.accepted) {
                Ok(()) if self.accepted.is_empty() => {
                    self.epoll.delete(&self.source)?;
                    return Ok(false);
                }
                Ok(()) => {}
                Err(err) if err.kind() == ErrorKind::WouldBlock => break,
                Err(err) => bail!("accept: {err}"),
            }
            let mut accepted = mem::take(&mut self.accepted);
            for client in accepted.drain(..) {
                self.begin(client)?;
            }
            self.accepted = accepted;
            if !self.source.gives_one_at_a_time() {
                break;
            }
        }
        Ok(true)
    }

    fn begin(&mut self, mut client: Client) -> Result<()> {
        match self.converse(&mut client) {
            Fate::Over => {}
            Fate::Waits => {
                let number = usize::try_from(client.as_fd().as_raw_fd())?;
                let event = EpollEvent::new(EpollFlags::EPOLLIN, number as u64);
                self.epoll.add(&client, event)?;
                if self.waiting.len() <= number {
                    self.waiting.resize_with(number + 1, || None);
                }
                self.waiting[number] = Some(client);
            }
        }
        Ok(())
    }

    fn go_on(&mut self, number: usize) {
        let Some(mut client) = self.waiting[number].take() else {
            return;
        };
        match self.converse(&mut client) {
            // To close it takes it out of the epoll set.
            Fate::Over => {}
            Fate::Waits => self.waiting[number] = Some(client),
        }
    }

    /// Answers what has come. A request that comes in pieces is not what load generators send: it
    /// ends the connection.
    fn converse(&self, client: &mut Client) -> Fate {
        let mut buffer = [0; 2048];
        let request = match client.read(&mut buffer) {
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => return Fate::Waits,
            Ok(0) | Err(_) => return Fate::Over,
            Ok(count) => Request::read(&buffer[..count]),
        };
        let (bytes, fate) = match request {
            Request::Partial => return Fate::Over,
            Request::Last => (self.answer.last(), Fate::Over),
            Request::KeepAlive => (self.answer.more(), Fate::Waits),
        };
        self.burn.run();
        // A client that is gone is no news.
        match client.write_all(bytes) {
            Ok(()) => fate,
            Err(_) => Fate::Over,
        }
    }
}

/// No descriptor has this number.
const SOURCE: u64 = u64::MAX;

const EVENTS: usize = 64;

/// How many connections are accepted before those are looked at that wait.
const ACCEPTS: usize = 64;
