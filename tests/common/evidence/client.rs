//! A client that makes one connection and says exactly how it ended.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use super::origin::Origin;
use super::wire::{ANSWER_BYTES, Answer, request};

/// How a connection ended, as its client saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// One whole answer, and nothing after it.
    Once(Answer),
    /// More than one answer.
    Twice,
    /// An answer that is not the one to this request.
    Wrong,
    /// Not let in.
    Refused,
    Reset,
    TimedOut,
    /// It ended before the answer did.
    Short {
        received: usize,
    },
}

/// One connection's end.
#[derive(Clone, Copy, Debug)]
pub struct Account {
    pub origin: Origin,
    pub ending: Ending,
    pub took: Duration,
}

/// A connection that is there, with nothing sent yet.
pub struct Caller {
    origin: Origin,
    stream: TcpStream,
    since: Instant,
}

/// Connects, asks, and waits for the end.
pub fn call(server: SocketAddr) -> Account {
    match Caller::connect(server) {
        Ok(caller) => caller.ask(),
        Err(refused) => refused,
    }
}

impl Caller {
    /// Connects; the account of a connection that nobody lets in is complete.
    pub fn connect(server: SocketAddr) -> Result<Self, Account> {
        let since = Instant::now();
        let (origin, socket) = bound();
        let failed = |err: io::Error| Account {
            origin,
            ending: failure(&err, Ending::Refused),
            took: since.elapsed(),
        };
        let connected = socket
            .set_write_timeout(Some(PATIENCE))
            .and_then(|()| socket.set_read_timeout(Some(PATIENCE)))
            .and_then(|()| socket.connect(&server.into()));
        connected.map_err(failed)?;
        Ok(Caller {
            origin,
            stream: socket.into(),
            since,
        })
    }

    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// Asks, and waits for the end.
    pub fn ask(mut self) -> Account {
        let ending = match self.stream.write_all(&request(self.origin.0)) {
            Ok(()) => self.hear(),
            Err(err) => failure(&err, Ending::Reset),
        };
        // All is said, so the server's half need not linger: leaves no FIN_WAIT2, no TIME_WAIT.
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        Account {
            origin: self.origin,
            ending,
            took: self.since.elapsed(),
        }
    }

    /// Reads one byte more than an answer has, or to the end.
    fn hear(&mut self) -> Ending {
        let mut bytes = [0; ANSWER_BYTES + 1];
        let mut received = 0;
        while received < bytes.len() {
            match self.stream.read(&mut bytes[received..]) {
                Ok(0) => break,
                Ok(count) => received += count,
                Err(err) if err.kind() == ErrorKind::Interrupted => {}
                // What was answered was answered.
                Err(err) if received < ANSWER_BYTES || timed_out(&err) => {
                    return failure(&err, Ending::Reset);
                }
                Err(_) => break,
            }
        }
        match received {
            ..ANSWER_BYTES => Ending::Short { received },
            ANSWER_BYTES => {
                let answer = bytes[..ANSWER_BYTES].try_into().expect("as long as it is");
                Answer::decode(answer, self.origin.0).map_or(Ending::Wrong, Ending::Once)
            }
            _ => Ending::Twice,
        }
    }
}

impl Ending {
    /// As the table has it.
    pub fn name(self) -> &'static str {
        match self {
            Ending::Once(_) => "answered once",
            Ending::Twice => "answered twice",
            Ending::Wrong => "answered wrongly",
            Ending::Refused => "refused",
            Ending::Reset => "reset",
            Ending::TimedOut => "timed out",
            Ending::Short { .. } => "short",
        }
    }
}

/// A socket with the address of the next connection whose address nobody else has.
fn bound() -> (Origin, Socket) {
    loop {
        let origin = Origin::next();
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("make a socket");
        match socket.bind(&SockAddr::from(origin.address())) {
            Ok(()) => return (origin, socket),
            Err(err) if err.kind() == ErrorKind::AddrInUse => {}
            Err(err) => panic!("bind {}: {err}", origin.address()),
        }
    }
}

fn failure(err: &io::Error, otherwise: Ending) -> Ending {
    if timed_out(err) {
        Ending::TimedOut
    } else {
        otherwise
    }
}

/// A timeout of `socket(7)`: of a read or write, or of a connect.
fn timed_out(err: &io::Error) -> bool {
    matches!(err.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
        || err.raw_os_error() == Some(libc::EINPROGRESS)
}

/// How long a client waits for anything.
const PATIENCE: Duration = Duration::from_secs(30);
