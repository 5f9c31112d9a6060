//! An accept queue: connections on their way to one worker from one listener.
//!
//! The kernel's queue decides who owns a connection: a packet is received whole by exactly one
//! reader. The master keeps a duplicate of the receiving end, so what no worker has received can
//! be taken back, bytes intact.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use socket2::{SockAddr, SockRef};
use worker_proto::address::Address;
use worker_proto::codec;
use worker_proto::frame::{Connections, ListenOptions, MAX_BATCH};
use worker_proto::scm::Wait;
use worker_proto::socket::{Inbox, QueueReceiver, QueueSender, ReceiveError, SendError, pair};

use super::contents::Contents;
use super::counters::QueueCounters;
use crate::dispatch::{Pace, Watch};
use crate::sys::closing::Closing;
use crate::sys::listening::Accepted;
use crate::sys::window::Window;

/// One worker's queue for one listener.
#[derive(Debug)]
pub(crate) struct AcceptQueue {
    sender: QueueSender,
    /// The worker's end, kept to reclaim what it leaves unread.
    receiver: QueueReceiver,
    nonblocking: bool,
    max_batch: usize,
    /// In packets.
    window: Window,
    /// How many connections it holds.
    connections: u64,
    /// Of packets that may have several.
    contents: Contents,
    watch: Watch,
    /// The packets that were moved here from a stalled worker: each is moved once at most.
    moved: VecDeque<u64>,
    counters: QueueCounters,
    /// Dispatched in this turn and not sent yet; at most `max_batch`.
    pending: Vec<Accepted>,
    /// The packet being built; kept for its memory.
    frame: Connections,
}

impl AcceptQueue {
    /// A queue that holds at most `window` connections from a listener at `address`, and the
    /// descriptor to give to the worker. A packet has at most half of them, so that there is always
    /// one to be received while another one comes.
    pub(crate) fn create(
        options: ListenOptions,
        window: u32,
        address: &Address,
        taker: Taker,
    ) -> io::Result<(Self, OwnedFd)> {
        let (sender, receiver): (QueueSender, QueueReceiver) = pair()?;
        let connections = usize::try_from(window).unwrap_or(usize::MAX).max(1);
        let half = (connections / 2).max(1);
        let max_batch = usize::from(options.max_batch.clamp(1, MAX_BATCH)).min(half);
        let largest = FRAME_BYTES + max_batch * peer_bytes(address);
        let kept = Window::measure(connections, largest)?;
        kept.apply(&sender)?;
        if let Taker::Program = taker {
            fill(&receiver)?;
        }
        // The worker has nothing to say on this channel.
        receiver.shutdown(Shutdown::Write)?;
        let worker_end = receiver.try_clone()?;
        let packet_bytes = kept.packet_bytes();
        let queue = AcceptQueue {
            sender,
            receiver,
            nonblocking: options.nonblocking,
            max_batch,
            window: kept,
            connections: connections as u64,
            contents: Contents::with_room(if max_batch > 1 { connections } else { 0 }),
            watch: Watch::default(),
            moved: VecDeque::new(),
            counters: QueueCounters::default(),
            pending: Vec::with_capacity(max_batch),
            frame: Connections {
                sequence: 0,
                peers: Vec::with_capacity(max_batch),
                // A packet with one connection needs the most.
                padding: Vec::with_capacity(packet_bytes),
            },
        };
        Ok((queue, worker_end.into()))
    }

    /// Whether this worker wants its connections with `O_NONBLOCK`.
    pub(crate) fn is_nonblocking(&self) -> bool {
        self.nonblocking
    }

    /// Gives the sending end a name, by which a program that has the worker's end and knows nothing
    /// else of it can tell what it is: `rr-queue/UNIQUE/b|n/ADDRESS`, in the abstract namespace of
    /// `unix(7)`. `b` and `n` say whether connections come blocking. A long address is cut.
    pub(crate) fn announce(&self, unique: &str, address: &Address) -> io::Result<()> {
        let flag = if self.nonblocking { 'n' } else { 'b' };
        let name = format!("\0rr-queue/{unique}/{flag}/{address}");
        let name = &name.as_bytes()[..name.len().min(NAME_BYTES)];
        SockRef::from(&self.sender).bind(&SockAddr::unix(OsStr::from_bytes(name))?)
    }

    /// As long as it is open, the queue does not end.
    pub(crate) fn clone_sender(&self) -> io::Result<OwnedFd> {
        self.sender.try_clone().map(Into::into)
    }

    /// Adds a connection to the packet being built; answers whether the packet is full now.
    pub(crate) fn push(&mut self, mut connection: Accepted) -> bool {
        // Workers of one listener may differ in what they want.
        if let Err(err) = connection.set_nonblocking(self.nonblocking) {
            log::error!("set O_NONBLOCK: {err}");
        }
        self.pending.push(connection);
        self.pending.len() >= self.max_batch
    }

    /// Hands off the packet being built; answers how many connections that were.
    ///
    /// The master's copies are to be closed soon: else the client would not see the worker's FIN.
    /// After an error nothing was handed off: see [`take_pending`](Self::take_pending).
    pub(crate) fn flush(
        &mut self,
        scratch: &mut Vec<u8>,
        closing: &mut Closing,
    ) -> Result<usize, SendError> {
        let count = self.pending.len();
        let Some(first) = self.pending.first() else {
            return Ok(0);
        };
        let mut descriptors = [first.stream.as_fd(); MAX_BATCH as usize];
        if self.max_batch > 1 && self.contents.connections() + count as u64 > self.connections {
            self.contents.keep(self.unread());
            if self.contents.connections() + count as u64 > self.connections {
                return Err(SendError::Full);
            }
        }
        self.frame.peers.clear();
        for (place, connection) in descriptors.iter_mut().zip(&self.pending) {
            *place = connection.stream.as_fd();
            self.frame.peers.push(connection.peer.clone());
        }
        Self::pad(&mut self.frame, self.window.packet_bytes(), scratch)?;
        self.sender
            .send_with(&self.frame, &descriptors[..count], Wait::Never, scratch)?;
        self.frame.sequence += 1;
        if self.max_batch > 1 {
            self.contents.add(count);
        }
        for connection in self.pending.drain(..) {
            closing.add(connection.stream);
        }
        self.counters.handed_off += count as u64;
        Ok(count)
    }

    /// Hands off connections that another, stalled worker left unread; in several packets if this
    /// worker takes fewer at once. Answers how many that were; after an error the rest is in
    /// [`take_pending`](Self::take_pending).
    pub(crate) fn hand_over(
        &mut self,
        connections: Vec<Accepted>,
        scratch: &mut Vec<u8>,
        closing: &mut Closing,
    ) -> (usize, Result<(), SendError>) {
        let mut count = 0;
        let mut rest = connections.into_iter().peekable();
        while let Some(connection) = rest.next() {
            if !self.push(connection) && rest.peek().is_some() {
                continue;
            }
            match self.flush(scratch, closing) {
                Ok(flushed) => count += flushed,
                Err(err) => {
                    self.pending.extend(rest);
                    return (count, Err(err));
                }
            }
        }
        (count, Ok(()))
    }

    /// Remembers that what was sent from this packet on was moved here, and stays.
    pub(crate) fn keep_from(&mut self, first: u64) {
        self.moved.extend(first..self.frame.sequence);
    }

    /// Makes the packet being built as large as every other.
    fn pad(
        frame: &mut Connections,
        packet_bytes: usize,
        scratch: &mut Vec<u8>,
    ) -> Result<(), SendError> {
        frame.padding.clear();
        if packet_bytes > 0 {
            codec::encode(frame, scratch)?;
            // From 251 on the padding's own length takes two bytes more, see `Window::measure`.
            let missing = packet_bytes.saturating_sub(scratch.len());
            frame.padding.resize(missing, 0);
        }
        Ok(())
    }

    /// Takes back what could not be handed off, in the order of its arrival.
    pub(crate) fn take_pending(&mut self) -> Vec<Accepted> {
        std::mem::take(&mut self.pending)
    }

    /// How many packets the worker has not received: asked of the kernel, each time.
    pub(crate) fn unread(&self) -> u64 {
        let unread = self.window.unreceived(&self.sender);
        // Nothing that waits is lost by not seeing it now.
        unread.unwrap_or_else(|err| {
            log::error!("look into an accept queue: {err}");
            0
        })
    }

    /// How many packets were sent.
    pub(crate) fn sent(&self) -> u64 {
        self.frame.sequence
    }

    /// The number of the first packet that nobody has received; of the next one to be sent if there
    /// is none.
    pub(crate) fn first_unread(&self) -> u64 {
        self.frame.sequence.saturating_sub(self.unread())
    }

    /// How many connections may be on their way to the worker, at most.
    pub(crate) fn under_way(&self) -> u64 {
        self.unread() * self.max_batch as u64 + self.pending.len() as u64
    }

    /// A look at whether the worker receives; `period` is how often one looks.
    pub(crate) fn look(&mut self, now: Instant, period: Duration) -> Pace {
        let unread = self.unread();
        let pace = self.watch.look(now, self.frame.sequence, unread, period);
        self.forget_moved_before(self.watch.head());
        pace
    }

    /// The worker has said why it receives nothing.
    pub(crate) fn forgive(&mut self) {
        self.watch.forgive();
    }

    /// Whether another packet would fit in.
    pub(crate) fn has_room(&mut self) -> bool {
        let unread = self.unread();
        self.contents.keep(unread);
        let connections = self.contents.connections();
        unread < self.window.packets() && connections + self.max_batch as u64 <= self.connections
    }

    /// Has the kernel say when about three quarters of what is in it now were received. It would say
    /// so at once of a queue that is full of large packets: it counts packets.
    pub(crate) fn await_room(&self) -> io::Result<()> {
        match self.max_batch {
            1 => Ok(()),
            _ => self.window.narrow(&self.sender, self.unread()),
        }
    }

    /// There is room again.
    pub(crate) fn note_room(&self) -> io::Result<()> {
        match self.max_batch {
            1 => Ok(()),
            _ => self.window.apply(&self.sender),
        }
    }

    /// What the looks have shown.
    pub(crate) fn watch(&self) -> &Watch {
        &self.watch
    }

    /// Whether the last look has shown it empty, and nothing was sent since.
    pub(crate) fn is_idle(&self) -> bool {
        self.watch.is_idle(self.frame.sequence)
    }

    /// The first packet that nobody has received, and how it came here.
    pub(crate) fn head(&mut self) -> Head {
        let unread = self.unread();
        let head = self.frame.sequence.saturating_sub(unread);
        self.forget_moved_before(head);
        match self.moved.front() {
            _ if unread == 0 => Head::None,
            Some(&moved) if moved == head && unread > self.moved.len() as u64 => {
                Head::MovedBeforeOthers
            }
            Some(&moved) if moved == head => Head::Moved,
            Some(_) | None => Head::Fresh,
        }
    }

    fn forget_moved_before(&mut self, head: u64) {
        while self.moved.front().is_some_and(|&moved| moved < head) {
            self.moved.pop_front();
        }
    }

    /// What happened to its connections.
    pub(crate) fn counters(&self) -> QueueCounters {
        self.counters
    }

    /// Ends the queue after what is in it: the worker sees the end when it has received the rest.
    pub(crate) fn end(&self) -> io::Result<()> {
        self.sender.shutdown(Shutdown::Write)
    }

    /// Takes back one packet that the worker has not received; `None` when there is none left.
    ///
    /// One at a time, since every connection taken back is a descriptor of the master's.
    ///
    /// # Errors
    /// `EMFILE` when the master may not open the descriptors of the next packet, which then stays
    /// where it is.
    pub(crate) fn reclaim(&mut self, inbox: &mut Inbox) -> io::Result<Option<Vec<Accepted>>> {
        match self.receive_unread(inbox) {
            Ok(peers) => {
                let streams = std::mem::take(&mut inbox.descriptors).into_iter();
                let reclaimed = streams.zip(peers);
                let reclaimed: Vec<_> = reclaimed
                    .map(|(stream, peer)| Accepted {
                        stream,
                        peer,
                        nonblocking: self.nonblocking,
                    })
                    .collect();
                self.counters.reclaimed += reclaimed.len() as u64;
                self.watch.shift(1);
                Ok(Some(reclaimed))
            }
            Err(ReceiveError::Empty | ReceiveError::Closed) => Ok(None),
            Err(err @ ReceiveError::Violation(_)) => {
                log::error!("reclaim connections from an accept queue: {err}");
                Ok(Some(Vec::new()))
            }
            Err(ReceiveError::Io(err)) => Err(err),
        }
    }

    fn receive_unread(&self, inbox: &mut Inbox) -> Result<Vec<Address>, ReceiveError> {
        // Descriptors beyond the limit would be lost with their packet.
        match self.receiver.next_beyond_limit(inbox, Wait::Never) {
            Ok(None) => {}
            Ok(Some(_)) => {
                return Err(ReceiveError::Io(io::Error::from_raw_os_error(libc::EMFILE)));
            }
            // The worker can make a peek see nothing (`SO_PEEK_OFF`), but not what follows.
            Err(ReceiveError::Empty) if self.unread() > 0 => {}
            Err(err) => return Err(err),
        }
        Ok(self.receiver.receive(inbox, Wait::Never)?.frame.peers)
    }
}

/// Who polls the worker's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taker {
    /// Somebody who knows what it is.
    Worker,
    /// A program that takes it for a listening socket, which is never writable.
    Program,
}

/// Uses up what the worker's end may send, with a packet that nobody reads: it is not writable from
/// then on, see `unix_writable()` in the kernel's `af_unix.c`.
fn fill(receiver: &QueueReceiver) -> io::Result<()> {
    let socket = SockRef::from(receiver);
    // The kernel makes it the least there is.
    socket.set_send_buffer_size(0)?;
    socket.send(&[0; FILLER_BYTES]).map(drop)
}

/// The first unread packet of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Head {
    /// There is none.
    None,
    /// It was given to this worker first.
    Fresh,
    /// It was moved here from a stalled worker, and stays.
    Moved,
    /// The same, and something that may be moved waits behind it.
    MovedBeforeOthers,
}

impl AsRawFd for AcceptQueue {
    /// The sending end: it becomes writable when a full queue has room again.
    fn as_raw_fd(&self) -> RawFd {
        self.sender.as_raw_fd()
    }
}

/// The longest encoding of a client's address, for a listener at `address`.
fn peer_bytes(address: &Address) -> usize {
    match address {
        Address::V4 { .. } => 8,
        Address::V6 { .. } => 30,
        Address::Path(_) | Address::Abstract(_) | Address::Unnamed => 112,
    }
}

/// More than a quarter of the smallest send buffer, and less than all of it.
const FILLER_BYTES: usize = 2048;

/// The most that an abstract name may have, with its zero, see `unix(7)`.
const NAME_BYTES: usize = 108;

/// The longest encoding of what a `Connections` frame has beside its peers and its padding.
const FRAME_BYTES: usize = 16;

#[cfg(test)]
mod tests {
    use std::fs::File;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;

    const WINDOW: u32 = 32;

    /// A queue whose worker takes 8 connections at a time.
    fn queue() -> (AcceptQueue, QueueReceiver) {
        let options = ListenOptions {
            max_batch: 8,
            ..ListenOptions::default()
        };
        let address = "127.0.0.1:0".parse().unwrap();
        let made = AcceptQueue::create(options, WINDOW, &address, Taker::Worker);
        let (queue, worker_end) = made.unwrap();
        (queue, QueueReceiver::from(worker_end))
    }

    fn send(queue: &mut AcceptQueue, connections: usize) -> Result<usize, SendError> {
        for _ in 0..connections {
            queue.push(Accepted {
                stream: File::open("/dev/null").unwrap().into(),
                peer: "127.0.0.1:1".parse().unwrap(),
                nonblocking: false,
            });
        }
        let sent = queue.flush(&mut Vec::new(), &mut Closing::default());
        queue.take_pending();
        sent
    }

    fn receive(receiver: &QueueReceiver, packets: usize) {
        let mut inbox = Inbox::new();
        for _ in 0..packets {
            receiver.receive(&mut inbox, Wait::Never).unwrap();
        }
    }

    fn is_writable(queue: &AcceptQueue) -> bool {
        let mut polled = [PollFd::new(queue.sender.as_fd(), PollFlags::POLLOUT)];
        poll(&mut polled, PollTimeout::ZERO).unwrap() > 0
    }

    #[test]
    fn a_window_is_of_connections_however_they_are_packed() {
        for size in [1, 2, 3, 8] {
            let (mut queue, _receiver) = queue();
            let fit = WINDOW as usize / size;
            for _ in 0..fit {
                assert_eq!(send(&mut queue, size).unwrap(), size);
            }
            assert!(
                matches!(send(&mut queue, size), Err(SendError::Full)),
                "{size}"
            );
            assert_eq!(queue.unread(), fit as u64);
            assert!(!queue.has_room());
        }
    }

    #[test]
    fn a_queue_that_is_full_of_large_packets_becomes_writable_when_most_are_received() {
        let (mut queue, receiver) = queue();
        for _ in 0..4 {
            send(&mut queue, 8).unwrap();
        }
        assert!(matches!(send(&mut queue, 1), Err(SendError::Full)));
        assert!(is_writable(&queue), "the kernel counts packets");
        queue.await_room().unwrap();
        assert!(!is_writable(&queue));
        receive(&receiver, 3);
        assert!(is_writable(&queue));
        queue.note_room().unwrap();
        for _ in 0..3 {
            send(&mut queue, 8).unwrap();
        }
        assert!(matches!(send(&mut queue, 1), Err(SendError::Full)));
    }
}
