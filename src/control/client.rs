//! The operator's side of the control socket: one connection, one request at a time. Blocking, for a
//! program of its own.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};
use thiserror::Error;

use super::protocol::{self, Command, Fault, Hello, PROTOCOL, Reply, Request, Said};

/// A connection to a master.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
    hello: Hello,
    latest: u64,
}

/// Why a master could not be talked to.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nobody could be reached.
    #[error("connect: {0}")]
    Connect(#[source] io::Error),
    /// It said nothing for so long.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// It hung up.
    #[error("the master hung up")]
    Closed,
    /// It let nobody in.
    #[error("{}", .0.message)]
    TurnedAway(Fault),
    /// It speaks another version of the protocol.
    #[error(
        "the master (version {version}) speaks version {theirs} of the control protocol, this program {PROTOCOL}: use the rr-ctl that came with it"
    )]
    Mismatch {
        /// The master's own version.
        version: String,
        /// Of the protocol.
        theirs: u32,
    },
    /// It said what is no reply.
    #[error("not a master's reply: {0}")]
    Garbled(String),
    /// The connection failed.
    #[error("talk to the master: {0}")]
    Io(#[source] io::Error),
}

impl Client {
    /// Connects, and waits for the master's first line.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn connect(path: &Path, timeout: Duration) -> Result<Self, ClientError> {
        let stream = reach(path, timeout)?;
        let hello = Hello {
            protocol: PROTOCOL,
            version: String::new(),
            pid: 0,
        };
        let mut client = Client {
            stream: BufReader::new(stream),
            hello,
            latest: 0,
        };
        match client.next_reply(Some(timeout))?.said {
            Said::Hello(hello) if hello.protocol != PROTOCOL => Err(ClientError::Mismatch {
                version: hello.version,
                theirs: hello.protocol,
            }),
            Said::Hello(hello) => {
                client.hello = hello;
                Ok(client)
            }
            Said::Error(fault) => Err(ClientError::TurnedAway(fault)),
            other @ (Said::Ok(_) | Said::Progress(_) | Said::Event(_) | Said::Lost(_)) => {
                Err(ClientError::Garbled(format!("{other:?}")))
            }
        }
    }

    /// Who it is.
    #[must_use]
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Sends a request; its replies come with [`next_reply`](Self::next_reply).
    ///
    /// # Errors
    /// When the master is gone, or does not read.
    pub fn ask(&mut self, command: Command) -> Result<u64, ClientError> {
        self.latest += 1;
        let id = self.latest;
        let line = protocol::encode(&Request { id, command });
        let sent = self.stream.get_mut().write_all(&line);
        sent.map_err(|err| {
            if err.kind() == io::ErrorKind::BrokenPipe {
                ClientError::Closed
            } else {
                ClientError::Io(err)
            }
        })?;
        Ok(id)
    }

    /// The next line; without a timeout for as long as it takes.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn next_reply(&mut self, timeout: Option<Duration>) -> Result<Reply, ClientError> {
        let timeout = timeout.map(|timeout| timeout.max(Duration::from_millis(1)));
        let stream = self.stream.get_ref();
        stream.set_read_timeout(timeout).map_err(ClientError::Io)?;
        let mut line = Vec::new();
        let mut limited = (&mut self.stream).take(LONGEST_REPLY);
        match limited.read_until(b'\n', &mut line) {
            Ok(_) if line.ends_with(b"\n") => Reply::decode(line.trim_ascii_end())
                .map_err(|err| ClientError::Garbled(err.to_string())),
            Ok(_) => Err(ClientError::Closed),
            Err(err) => Err(match (err.kind(), timeout) {
                (io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut, Some(timeout)) => {
                    ClientError::Timeout(timeout)
                }
                (io::ErrorKind::ConnectionReset, _) => ClientError::Closed,
                _ => ClientError::Io(err),
            }),
        }
    }
}

/// A master that does not let anybody in, since it is stopped, has a full backlog after a while; then
/// connecting takes as long as sending may, `unix(7)`.
fn reach(path: &Path, timeout: Duration) -> Result<UnixStream, ClientError> {
    let connect = || -> io::Result<Socket> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_write_timeout(Some(timeout))?;
        socket.connect(&SockAddr::unix(path)?)?;
        Ok(socket)
    };
    match connect() {
        Ok(socket) => Ok(UnixStream::from(OwnedFd::from(socket))),
        Err(err) if err.kind() == io::ErrorKind::WouldBlock => Err(ClientError::Timeout(timeout)),
        Err(err) => Err(ClientError::Connect(err)),
    }
}

/// A status of the most workers that there can be is a tenth of this.
const LONGEST_REPLY: u64 = 16 * 1024 * 1024;
