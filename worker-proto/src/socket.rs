//! A typed packet socket: one frame is one packet, `SOCK_SEQPACKET`, no length prefix.
//!
//! What can go wrong is classified here, once: full, exhausted, gone, or a violation by the peer.

use std::io;
use std::marker::PhantomData;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::sys::socket::{self, AddressFamily, SockFlag, SockType};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::address::Address;
use crate::codec::{self, DecodeError, EncodeError, MAX_FRAME_BYTES};
use crate::frame::{Connections, FromMaster, ToMaster};
use crate::scm::{self, Packet, Wait};

/// The master's end of a control channel.
pub type MasterChannel = FrameSocket<FromMaster, ToMaster>;
/// The worker's or agent's end of a control channel.
pub type WorkerChannel = FrameSocket<ToMaster, FromMaster>;
/// The master's end of an accept queue: it sends connections and receives nothing.
pub type QueueSender = FrameSocket<Connections, Nothing>;
/// The worker's end of an accept queue.
pub type QueueReceiver = FrameSocket<Nothing, Connections>;

/// The frame of a direction in which nothing is ever sent.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub enum Nothing {}

/// One end of a pair: sends `Out`, receives `In`.
#[derive(Debug)]
pub struct FrameSocket<Out, In> {
    fd: OwnedFd,
    frames: PhantomData<fn(Out) -> In>,
}

/// A frame with the descriptors that came with it.
#[derive(Debug)]
pub struct Received<In> {
    /// What was said.
    pub frame: In,
    /// Who said it, on a socket with `SO_PASSCRED`.
    pub sender_pid: Option<u32>,
}

/// A reusable place for one packet: receiving into it allocates nothing.
#[derive(Debug)]
pub struct Inbox {
    buffer: Box<[u8]>,
    /// The descriptors of the last packet received, in its order.
    pub descriptors: Vec<OwnedFd>,
}

/// A frame that was not sent.
#[derive(Debug, Error)]
pub enum SendError {
    /// The peer has not received what was sent before; the socket becomes writable when it has.
    #[error("the channel is full")]
    Full,
    /// The system or this user is out of what sending takes (`ETOOMANYREFS`, `ENOBUFS`,
    /// `ENOMEM`). Nothing will signal that there is more: try again later.
    #[error("out of resources for sending")]
    Exhausted(#[source] io::Error),
    /// The other end is closed.
    #[error("the other end is closed")]
    Gone,
    /// The frame is too large.
    #[error(transparent)]
    TooLarge(#[from] EncodeError),
    /// Anything else.
    #[error("send a frame")]
    Io(#[source] io::Error),
}

/// No frame, and why.
#[derive(Debug, Error)]
pub enum ReceiveError {
    /// Nothing is there now.
    #[error("nothing to receive")]
    Empty,
    /// The other end is closed and everything it sent was received.
    #[error("the other end is closed")]
    Closed,
    /// The peer sent what it must not send; what came with it is closed.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// Anything else.
    #[error("receive a frame")]
    Io(#[source] io::Error),
}

/// What a peer must not do.
#[derive(Debug, Error)]
pub enum Violation {
    /// Bytes that are not a frame.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
    /// A packet beyond [`MAX_FRAME_BYTES`].
    #[error("a packet larger than {MAX_FRAME_BYTES} bytes")]
    Oversized,
    /// Descriptors did not fit this process's `RLIMIT_NOFILE` and are lost.
    #[error("descriptors were lost: RLIMIT_NOFILE is too low for them")]
    DescriptorsLost,
    /// A frame with another number of descriptors than it must have.
    #[error("a frame with {found} descriptors instead of {expected}")]
    Descriptors {
        /// How many the frame must have.
        expected: usize,
        /// How many it had.
        found: usize,
    },
}

/// Makes a connected pair, both ends close-on-exec and blocking.
///
/// # Errors
/// Those of `socketpair(2)`.
pub fn pair<A, B>() -> io::Result<(FrameSocket<A, B>, FrameSocket<B, A>)> {
    let (one, other) = socket::socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )?;
    Ok((FrameSocket::from(one), FrameSocket::from(other)))
}

impl<Out: Serialize, In: DeserializeOwned> FrameSocket<Out, In> {
    /// Sends one frame with copies of `descriptors`.
    ///
    /// # Errors
    /// See [`SendError`]; after any of them the frame was not sent.
    pub fn send(
        &self,
        frame: &Out,
        descriptors: &[BorrowedFd<'_>],
        wait: Wait,
    ) -> Result<(), SendError> {
        let mut bytes = Vec::new();
        self.send_with(frame, descriptors, wait, &mut bytes)
    }

    /// As [`send`](Self::send), encoding into `scratch`, which is reused.
    ///
    /// # Errors
    /// See [`SendError`]; after any of them the frame was not sent.
    pub fn send_with(
        &self,
        frame: &Out,
        descriptors: &[BorrowedFd<'_>],
        wait: Wait,
        scratch: &mut Vec<u8>,
    ) -> Result<(), SendError> {
        codec::encode(frame, scratch)?;
        scm::send(self.as_fd(), scratch, descriptors, wait).map_err(classify_send)
    }

    /// Receives one frame; its descriptors are in `inbox.descriptors` until the next call.
    ///
    /// # Errors
    /// See [`ReceiveError`]. After a violation the inbox holds whatever descriptors came.
    pub fn receive(&self, inbox: &mut Inbox, wait: Wait) -> Result<Received<In>, ReceiveError> {
        let packet = self.receive_packet(inbox, wait)?;
        let frame = codec::decode(&inbox.buffer[..packet.len]).map_err(Violation::from)?;
        Ok(Received {
            frame,
            sender_pid: packet.sender_pid,
        })
    }

    /// Receives one whole packet.
    fn receive_packet(&self, inbox: &mut Inbox, wait: Wait) -> Result<Packet, ReceiveError> {
        inbox.descriptors.clear();
        let packet = after_reset(|| {
            scm::receive(
                self.as_fd(),
                &mut inbox.buffer,
                &mut inbox.descriptors,
                wait,
            )
        })?;
        if packet.len == 0 {
            return Err(ReceiveError::Closed);
        }
        if packet.bytes_lost {
            return Err(Violation::Oversized.into());
        }
        if packet.descriptors_lost {
            return Err(Violation::DescriptorsLost.into());
        }
        Ok(packet)
    }

    /// Waits for the next packet and leaves it where it is; answers with its frame if this process
    /// may not open all of its descriptors. `None`: [`receive`](Self::receive) it, also if it is
    /// not a frame.
    ///
    /// # Errors
    /// [`ReceiveError::Empty`], [`Closed`](ReceiveError::Closed) and [`Io`](ReceiveError::Io), as
    /// [`receive`](Self::receive).
    pub fn next_beyond_limit(
        &self,
        inbox: &mut Inbox,
        wait: Wait,
    ) -> Result<Option<In>, ReceiveError> {
        let mut copies = Vec::new();
        let peeked = after_reset(|| scm::peek(self.as_fd(), &mut inbox.buffer, &mut copies, wait))?;
        if peeked.len == 0 {
            return Err(ReceiveError::Closed);
        }
        if !peeked.descriptors_lost {
            return Ok(None);
        }
        Ok(codec::decode(&inbox.buffer[..peeked.len]).ok())
    }
}

impl QueueReceiver {
    /// As [`receive`](Self::receive), with the addresses of the clients in `peers`, which is reused:
    /// receives without allocating. As many descriptors are in `inbox.descriptors`.
    ///
    /// # Errors
    /// See [`ReceiveError`]. After a violation the inbox holds whatever descriptors came.
    pub fn receive_connections(
        &self,
        inbox: &mut Inbox,
        peers: &mut Vec<Address>,
        wait: Wait,
    ) -> Result<u64, ReceiveError> {
        let packet = self.receive_packet(inbox, wait)?;
        let bytes = &inbox.buffer[..packet.len];
        let sequence = codec::decode_connections(bytes, peers).map_err(Violation::from)?;
        let (expected, found) = (peers.len(), inbox.descriptors.len());
        if expected == found {
            Ok(sequence)
        } else {
            Err(Violation::Descriptors { expected, found }.into())
        }
    }
}

impl<Out, In> FrameSocket<Out, In> {
    /// Ends one or both directions, for every copy of this end.
    ///
    /// # Errors
    /// Those of `shutdown(2)`.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        let how = match how {
            Shutdown::Read => socket::Shutdown::Read,
            Shutdown::Write => socket::Shutdown::Write,
            Shutdown::Both => socket::Shutdown::Both,
        };
        Ok(socket::shutdown(self.fd.as_raw_fd(), how)?)
    }

    /// Another descriptor for the same open file description.
    ///
    /// # Errors
    /// Those of `fcntl(2)`.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self::from(self.fd.try_clone()?))
    }
}

impl Inbox {
    /// An empty inbox with room for the largest frame.
    #[must_use]
    pub fn new() -> Self {
        Self::with_room(MAX_FRAME_BYTES)
    }

    /// An empty inbox with room for frames of `bytes`.
    #[must_use]
    pub fn with_room(bytes: usize) -> Self {
        Inbox {
            buffer: vec![0; bytes].into_boxed_slice(),
            descriptors: Vec::new(),
        }
    }

    /// Takes exactly `expected` descriptors out of the last packet.
    ///
    /// # Errors
    /// When there is another number of them; they are closed.
    pub fn take_descriptors(&mut self, expected: usize) -> Result<Vec<OwnedFd>, Violation> {
        let found = self.descriptors.len();
        let descriptors = std::mem::take(&mut self.descriptors);
        if found == expected {
            Ok(descriptors)
        } else {
            Err(Violation::Descriptors { expected, found })
        }
    }
}

impl Default for Inbox {
    fn default() -> Self {
        Self::new()
    }
}

impl<Out, In> From<OwnedFd> for FrameSocket<Out, In> {
    fn from(fd: OwnedFd) -> Self {
        FrameSocket {
            fd,
            frames: PhantomData,
        }
    }
}

impl<Out, In> From<FrameSocket<Out, In>> for OwnedFd {
    fn from(socket: FrameSocket<Out, In>) -> Self {
        socket.fd
    }
}

impl<Out, In> AsFd for FrameSocket<Out, In> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl<Out, In> AsRawFd for FrameSocket<Out, In> {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

fn classify_send(err: io::Error) -> SendError {
    match err.raw_os_error() {
        Some(libc::EAGAIN) => SendError::Full,
        Some(libc::ETOOMANYREFS | libc::ENOBUFS | libc::ENOMEM) => SendError::Exhausted(err),
        Some(libc::EPIPE | libc::ECONNRESET | libc::ENOTCONN) => SendError::Gone,
        _ => SendError::Io(err),
    }
}

/// Receives what a reset hides: of a peer that closed with something unread in its queue the kernel
/// says so first and once, and only then gives what it had sent before, see unix(7).
fn after_reset(mut receive: impl FnMut() -> io::Result<Packet>) -> Result<Packet, ReceiveError> {
    match receive() {
        Err(err) if err.raw_os_error() == Some(libc::ECONNRESET) => receive(),
        received => received,
    }
    .map_err(classify_receive)
}

fn classify_receive(err: io::Error) -> ReceiveError {
    match err.raw_os_error() {
        Some(libc::EAGAIN) => ReceiveError::Empty,
        Some(libc::ECONNRESET) => ReceiveError::Closed,
        _ => ReceiveError::Io(err),
    }
}
