//! A pair of sockets, and what must still come out of it.

use std::collections::VecDeque;
use std::fs::File;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::stat::fstat;
use worker_proto::address::Address;
use worker_proto::codec;
use worker_proto::frame::Connections;
use worker_proto::scm::{self, Packet, Wait};
use worker_proto::socket::{self, Inbox, QueueReceiver, QueueSender, ReceiveError, Violation};

use super::sockets::{self, LowLimit};

/// One control message.
#[derive(Clone, Copy, Debug)]
pub enum Ancillary {
    /// `SCM_RIGHTS` with this many descriptors.
    Rights(u8),
    /// `SCM_CREDENTIALS` with the truth.
    Credentials,
    /// `SCM_CREDENTIALS` of somebody else; refused unless this process may do anything.
    FalseCredentials,
}

/// An accept queue, what is in it, and files to send.
pub struct Model {
    sender: QueueSender,
    receiver: QueueReceiver,
    inbox: Inbox,
    waiting: VecDeque<Sent>,
    has_credentials: bool,
    files: Vec<File>,
}

/// A packet that has not been received.
struct Sent {
    bytes: Vec<u8>,
    /// The descriptors as indices into the files.
    files: Vec<usize>,
}

impl Model {
    pub fn new() -> Self {
        let (sender, receiver) = socket::pair().expect("two descriptors");
        // Its end sends nothing, as the master has it.
        receiver.shutdown(Shutdown::Write).expect("it is open");
        let open = |path| File::open(path).expect("it is always there");
        Model {
            sender,
            receiver,
            inbox: Inbox::new(),
            waiting: VecDeque::new(),
            has_credentials: false,
            files: ["/dev/null", "/dev/zero", "/dev/full"].map(open).into(),
        }
    }

    /// Any packet, also an empty one, as a peer that speaks no protocol could send it.
    pub fn send(&mut self, len: usize, messages: &[Ancillary]) {
        let bytes = vec![0x5a; len];
        let mut next = 0;
        let mut files = Vec::new();
        let mut rights: Vec<Vec<RawFd>> = Vec::new();
        for message in messages {
            if let Ancillary::Rights(count) = message {
                let chosen = (next..next + usize::from(*count)).map(|n| n % self.files.len());
                next += usize::from(*count);
                rights.push(chosen.clone().map(|n| self.files[n].as_raw_fd()).collect());
                files.extend(chosen);
            }
        }
        if sockets::send(self.sender.as_fd(), &bytes, messages, &rights).is_ok() {
            self.waiting.push_back(Sent { bytes, files });
        }
    }

    /// A frame, with another number of descriptors than it should have, perhaps.
    pub fn send_connections(&mut self, peers: usize, descriptors: usize) {
        let frame = Connections {
            sequence: 0,
            peers: vec![Address::Unnamed; peers],
            padding: Vec::new(),
        };
        let files: Vec<usize> = (0..descriptors).map(|n| n % self.files.len()).collect();
        let lent: Vec<BorrowedFd<'_>> = files.iter().map(|n| self.files[*n].as_fd()).collect();
        if self.sender.send(&frame, &lent, Wait::Never).is_ok() {
            let mut bytes = Vec::new();
            codec::encode(&frame, &mut bytes).expect("it was sent");
            self.waiting.push_back(Sent { bytes, files });
        }
    }

    pub fn receive(&mut self, room_bytes: usize, room: Option<u8>) {
        self.take_one(room_bytes, room, scm::receive);
        self.waiting.pop_front();
    }

    /// As often as one likes: what waits goes on waiting.
    pub fn peek(&mut self, room_bytes: usize, room: Option<u8>) {
        self.take_one(room_bytes, room, scm::peek);
    }

    fn take_one(&mut self, room_bytes: usize, room: Option<u8>, take: Take) {
        let mut buffer = vec![0; room_bytes];
        let mut descriptors = Vec::new();
        let limit = self.limit(room);
        let taken = take(
            self.receiver.as_fd(),
            &mut buffer,
            &mut descriptors,
            Wait::Never,
        );
        drop(limit);
        match (taken, self.waiting.front()) {
            (Ok(packet), Some(sent)) => {
                assert_eq!(packet.len, sent.bytes.len().min(room_bytes));
                assert_eq!(&buffer[..packet.len], &sent.bytes[..packet.len]);
                assert_eq!(packet.bytes_lost, sent.bytes.len() > room_bytes);
                assert_eq!(packet.sender_pid.is_some(), self.has_credentials);
                self.came_with(&packet, &descriptors, sent, room);
            }
            (Ok(packet), None) => {
                assert_eq!(packet.len, 0, "the end");
                assert!(descriptors.is_empty());
            }
            (Err(_), waiting) => assert!(waiting.is_none(), "a packet waits"),
        }
    }

    /// In order, and as many as there is room for.
    fn came_with(&self, packet: &Packet, descriptors: &[OwnedFd], sent: &Sent, room: Option<u8>) {
        let room = room.map_or(usize::MAX, usize::from);
        assert_eq!(descriptors.len(), sent.files.len().min(room));
        assert_eq!(packet.descriptors_lost, sent.files.len() > room);
        for (descriptor, file) in descriptors.iter().zip(&sent.files) {
            assert_eq!(device(descriptor), device(&self.files[*file]));
        }
    }

    /// As a worker does, or the master that takes back.
    pub fn receive_connections(&mut self, room: Option<u8>) {
        let limit = self.limit(room);
        let received = self.receiver.receive(&mut self.inbox, Wait::Never);
        drop(limit);
        let waiting = self.waiting.pop_front();
        match (received, waiting) {
            (Ok(received), Some(sent)) => {
                assert_eq!(received.sender_pid.is_some(), self.has_credentials);
                let mut bytes = Vec::new();
                codec::encode(&received.frame, &mut bytes).expect("it was read");
                assert_eq!(bytes, sent.bytes);
                let expected = received.frame.peers.len();
                match self.inbox.take_descriptors(expected) {
                    Ok(descriptors) => assert_eq!(descriptors.len(), sent.files.len()),
                    Err(Violation::Descriptors { found, .. }) => assert_ne!(found, expected),
                    Err(other) => panic!("{other}"),
                }
            }
            (Err(ReceiveError::Violation(_)), Some(_)) => {}
            (Err(ReceiveError::Closed), Some(sent)) => assert!(sent.bytes.is_empty()),
            (Err(ReceiveError::Empty | ReceiveError::Closed), None) => {}
            (other, _) => panic!("{other:?}"),
        }
    }

    /// As a worker does near its limit.
    pub fn look_for_room(&mut self, room: Option<u8>) {
        let limit = self.limit(room);
        let answer = self
            .receiver
            .next_beyond_limit(&mut self.inbox, Wait::Never);
        drop(limit);
        match (answer, self.waiting.front()) {
            (Ok(beyond), Some(sent)) => {
                let is_beyond = sent.files.len() > room.map_or(usize::MAX, usize::from);
                let frame = codec::decode(&sent.bytes).ok();
                assert_eq!(beyond, frame.filter(|_| is_beyond));
            }
            (Err(ReceiveError::Closed), Some(sent)) => assert!(sent.bytes.is_empty()),
            (Err(ReceiveError::Empty | ReceiveError::Closed), None) => {}
            (other, _) => panic!("{other:?}"),
        }
    }

    /// Somebody who shares the receiving end sets an option of it.
    pub fn ask_for_credentials(&mut self, on: bool) {
        setsockopt(&self.receiver, sockopt::PassCred, &on).expect("every Unix socket has it");
        self.has_credentials = on;
    }

    /// As [`ask_for_credentials`](Self::ask_for_credentials).
    pub fn ask_for_pidfds(&mut self, on: bool) {
        sockets::pass_pidfd(self.receiver.as_fd(), on);
    }

    /// Nothing more comes after what waits.
    pub fn hang_up(&mut self) {
        self.sender.shutdown(Shutdown::Write).expect("it is open");
    }

    fn limit(&self, room: Option<u8>) -> Option<LowLimit> {
        room.map(|room| LowLimit::with_room_for(room, self.sender.as_fd()))
    }
}

type Take = fn(BorrowedFd<'_>, &mut [u8], &mut Vec<OwnedFd>, Wait) -> std::io::Result<Packet>;

/// Which of the files it is.
fn device(file: &impl AsFd) -> u64 {
    fstat(file).expect("it is open").st_rdev
}
