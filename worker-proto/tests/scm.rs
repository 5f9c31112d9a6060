//! Packets with descriptors over real sockets: order, ownership, limits, and nothing that leaks.

mod common;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use common::{limit_with_room_for, open_descriptors, reexec, role};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::sockopt;
use nix::sys::stat::fstat;
use worker_proto::address::Address;
use worker_proto::codec::MAX_FRAME_BYTES;
use worker_proto::frame::{Connections, MAX_CONNECTIONS_BYTES, ToMaster};
use worker_proto::scm::{self, MAX_DESCRIPTORS, Wait};
use worker_proto::socket::{
    self, Inbox, MasterChannel, QueueReceiver, QueueSender, ReceiveError, SendError, Violation,
    WorkerChannel,
};

#[test]
fn descriptors_keep_their_order_and_are_close_on_exec() {
    let (one, other) = queue();
    for count in [1, 8, 64, MAX_DESCRIPTORS] {
        let sent = files(count);
        let lent: Vec<BorrowedFd<'_>> = sent.iter().map(AsFd::as_fd).collect();
        scm::send(one.as_fd(), b"packet", &lent, Wait::Never).unwrap();
        let mut buffer = [0; 16];
        let mut received = Vec::new();
        let packet = scm::receive(other.as_fd(), &mut buffer, &mut received, Wait::Never).unwrap();
        assert_eq!(&buffer[..packet.len], b"packet");
        assert!(!packet.bytes_lost && !packet.descriptors_lost);
        assert_eq!(inodes(&received), inodes(&sent), "{count} descriptors");
        for fd in &received {
            let flags = fcntl(fd, FcntlArg::F_GETFD).unwrap();
            assert!(FdFlag::from_bits_retain(flags).contains(FdFlag::FD_CLOEXEC));
        }
    }
}

#[test]
fn more_descriptors_than_a_packet_carries_and_an_empty_packet_are_refused() {
    let (one, other) = queue();
    let file = files(1);
    let lent = vec![file[0].as_fd(); MAX_DESCRIPTORS + 1];
    let err = scm::send(one.as_fd(), b"x", &lent, Wait::Never).unwrap_err();
    assert_eq!(err.kind(), std::io::ErrorKind::InvalidInput);
    // It would read as the end of the channel.
    let err = scm::send(one.as_fd(), b"", &[], Wait::Never).unwrap_err();
    assert_eq!(err.kind(), std::io::ErrorKind::InvalidInput);
    assert!(matches!(
        other.receive(&mut Inbox::new(), Wait::Never),
        Err(ReceiveError::Empty)
    ));
}

#[test]
fn descriptors_do_not_shift_between_packets() {
    let (one, other) = queue();
    let sent = files(6);
    // Packets with 1, none, 2, none and 3 descriptors.
    for (sequence, range) in (0..).zip([0..1, 1..1, 1..3, 3..3, 3..6]) {
        let lent: Vec<BorrowedFd<'_>> = sent[range].iter().map(AsFd::as_fd).collect();
        one.send(&packet(sequence, lent.len()), &lent, Wait::Never)
            .unwrap();
    }
    let mut inbox = Inbox::new();
    for (sequence, range) in (0..).zip([0..1, 1..1, 1..3, 3..3, 3..6]) {
        let frame = other.receive(&mut inbox, Wait::Never).unwrap().frame;
        assert_eq!(frame, packet(sequence, range.len()));
        let received = inbox.take_descriptors(range.len()).unwrap();
        assert_eq!(inodes(&received), inodes(&sent[range]));
    }
}

#[test]
fn a_wrong_number_of_descriptors_closes_them() {
    let (one, other) = queue();
    let (near, mut far) = UnixStream::pair().unwrap();
    one.send(&packet(0, 2), &[near.as_fd()], Wait::Never)
        .unwrap();
    drop(near);
    let mut inbox = Inbox::new();
    let frame = other.receive(&mut inbox, Wait::Never).unwrap().frame;
    assert!(matches!(
        inbox.take_descriptors(frame.peers.len()),
        Err(Violation::Descriptors {
            expected: 2,
            found: 1
        })
    ));
    assert_eq!(far.read(&mut [0]).unwrap(), 0, "nobody holds it");
}

#[test]
fn an_oversized_packet_is_a_violation_and_closes_what_came_with_it() {
    let (one, other) = queue();
    let (near, mut far) = UnixStream::pair().unwrap();
    let large = vec![0; MAX_FRAME_BYTES + 1];
    scm::send(one.as_fd(), &large, &[near.as_fd()], Wait::Never).unwrap();
    one.send(&packet(1, 0), &[], Wait::Never).unwrap();
    drop(near);
    let mut inbox = Inbox::new();
    assert!(matches!(
        other.receive(&mut inbox, Wait::Never),
        Err(ReceiveError::Violation(Violation::Oversized))
    ));
    let next = other.receive(&mut inbox, Wait::Never).unwrap();
    assert_eq!(next.frame, packet(1, 0), "the next packet is whole");
    assert_eq!(far.read(&mut [0]).unwrap(), 0, "nobody holds it");
}

#[test]
fn bytes_that_are_no_frame_are_a_violation() {
    let (master, worker): (MasterChannel, WorkerChannel) = socket::pair().unwrap();
    scm::send(worker.as_fd(), &[0xff; 100], &[], Wait::Never).unwrap();
    assert!(matches!(
        master.receive(&mut Inbox::new(), Wait::Never),
        Err(ReceiveError::Violation(Violation::Malformed(_)))
    ));
}

#[test]
fn a_closed_peer_is_gone_for_the_sender_and_at_its_end_for_the_receiver() {
    let (one, other) = queue();
    one.send(&packet(0, 0), &[], Wait::Never).unwrap();
    drop(one);
    let mut inbox = Inbox::new();
    assert!(other.receive(&mut inbox, Wait::Never).is_ok(), "last words");
    for _ in 0..2 {
        assert!(matches!(
            other.receive(&mut inbox, Wait::AsSet),
            Err(ReceiveError::Closed)
        ));
    }
    let (one, other) = queue();
    // Closed with something unread: a reset, which is an end, too.
    one.send(&packet(0, 0), &[], Wait::Never).unwrap();
    drop(other);
    assert!(matches!(
        one.send(&packet(1, 0), &[], Wait::Never),
        Err(SendError::Gone)
    ));
    let (master, worker): (MasterChannel, WorkerChannel) = socket::pair().unwrap();
    scm::send(master.as_fd(), b"unread", &[], Wait::Never).unwrap();
    drop(worker);
    assert!(matches!(
        master.receive(&mut inbox, Wait::Never),
        Err(ReceiveError::Closed)
    ));
}

/// C10: a process that ends has seldom read everything, and what it said before is true all the same.
#[test]
fn last_words_are_received_from_a_peer_that_has_left_something_unread() {
    let (master, worker): (MasterChannel, WorkerChannel) = socket::pair().unwrap();
    scm::send(master.as_fd(), b"unread", &[], Wait::Never).unwrap();
    for token in 0..3 {
        let pong = ToMaster::Pong { token };
        worker.send(&pong, &[], Wait::Never).unwrap();
    }
    drop(worker);
    let mut inbox = Inbox::new();
    for token in 0..3 {
        let received = master.receive(&mut inbox, Wait::Never).unwrap();
        assert_eq!(received.frame, ToMaster::Pong { token });
    }
    assert!(matches!(
        master.receive(&mut inbox, Wait::Never),
        Err(ReceiveError::Closed)
    ));
}

#[test]
fn a_queue_that_is_shut_ends_after_what_is_in_it() {
    let (one, other) = queue();
    one.send(&packet(0, 0), &[], Wait::Never).unwrap();
    one.shutdown(Shutdown::Write).unwrap();
    let mut inbox = Inbox::new();
    assert!(other.receive(&mut inbox, Wait::AsSet).is_ok());
    assert!(matches!(
        other.receive(&mut inbox, Wait::AsSet),
        Err(ReceiveError::Closed)
    ));
}

#[test]
fn a_full_queue_refuses_and_the_connection_is_intact() {
    let (one, other) = queue();
    let (near, mut far) = UnixStream::pair().unwrap();
    let mut sent = 0;
    loop {
        match one.send(&packet(sent, 1), &[near.as_fd()], Wait::Never) {
            Ok(()) => sent += 1,
            Err(SendError::Full) => break,
            Err(err) => panic!("{err} after {sent} packets"),
        }
    }
    assert!(sent > 5, "room for {sent} packets");
    (&near).write_all(b"intact").unwrap();
    far.read_exact(&mut [0; 6]).unwrap();
    let mut inbox = Inbox::new();
    for sequence in 0..sent {
        let frame = other.receive(&mut inbox, Wait::Never).unwrap().frame;
        assert_eq!(frame.sequence, sequence, "nothing is lost or doubled");
        assert_eq!(inbox.take_descriptors(1).unwrap().len(), 1);
    }
    assert!(matches!(
        other.receive(&mut inbox, Wait::Never),
        Err(ReceiveError::Empty)
    ));
    one.send(&packet(sent, 1), &[near.as_fd()], Wait::Never)
        .unwrap();
}

#[test]
fn the_kernel_says_who_sent_a_packet() {
    let (master, worker): (MasterChannel, WorkerChannel) = socket::pair().unwrap();
    nix::sys::socket::setsockopt(&master, sockopt::PassCred, &true).unwrap();
    let file = files(1);
    let hello = worker_proto::frame::ToMaster::Ready;
    worker
        .send(&hello, &[file[0].as_fd()], Wait::Never)
        .unwrap();
    let mut inbox = Inbox::new();
    let received = master.receive(&mut inbox, Wait::Never).unwrap();
    assert_eq!(received.sender_pid, Some(std::process::id()));
    // Credentials and descriptors share the control buffer.
    assert_eq!(inbox.take_descriptors(1).unwrap().len(), 1);
}

/// The worker's end of an accept queue is the master's, too: what one sets, the other receives.
#[test]
fn a_descriptor_for_the_sender_is_closed_and_takes_nobodys_place() {
    const ROLE: &str = "scm-pidfd";
    if role().as_deref() != Some(ROLE) {
        return reexec(
            "a_descriptor_for_the_sender_is_closed_and_takes_nobodys_place",
            ROLE,
        );
    }
    let (one, other) = queue();
    if !pass_pidfd(&other) {
        return; // Before Linux 6.5.
    }
    nix::sys::socket::setsockopt(&other, sockopt::PassCred, &true).unwrap();
    let file = files(1);
    let lent = vec![file[0].as_fd(); MAX_DESCRIPTORS];
    let mut inbox = Inbox::new();
    for count in [0, 1, MAX_DESCRIPTORS] {
        one.send(&packet(0, 0), &lent[..count], Wait::Never)
            .unwrap();
        let before = open_descriptors();
        let beyond = other.next_beyond_limit(&mut inbox, Wait::Never).unwrap();
        assert!(beyond.is_none(), "all of them fit");
        other.receive(&mut inbox, Wait::Never).unwrap();
        assert_eq!(inbox.take_descriptors(count).unwrap().len(), count);
        assert_eq!(open_descriptors(), before);
    }
}

#[test]
fn the_largest_batch_fits_a_queue_inbox() {
    let (one, other) = queue();
    let frame = Connections {
        sequence: 0,
        peers: vec![Address::Path(vec![b'x'; 108]); 64],
        padding: Vec::new(),
    };
    one.send(&frame, &[], Wait::Never).unwrap();
    let mut inbox = Inbox::with_room(MAX_CONNECTIONS_BYTES);
    assert_eq!(other.receive(&mut inbox, Wait::Never).unwrap().frame, frame);
}

/// In a process of its own, as the limit holds for all threads.
#[test]
fn at_the_descriptor_limit_the_loss_is_told_and_nothing_leaks() {
    const ROLE: &str = "scm-limit";
    if role().as_deref() != Some(ROLE) {
        return reexec(
            "at_the_descriptor_limit_the_loss_is_told_and_nothing_leaks",
            ROLE,
        );
    }
    let (one, other) = queue();
    let sent = files(8);
    let lent: Vec<BorrowedFd<'_>> = sent.iter().map(AsFd::as_fd).collect();
    let mut inbox = Inbox::new();
    let before = open_descriptors();
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    // Room for some, and for what lists the open ones.
    setrlimit(Resource::RLIMIT_NOFILE, limit_with_room_for(3), hard).unwrap();
    for sequence in 0..2 {
        one.send(&packet(sequence, 8), &lent, Wait::Never).unwrap();
        assert!(matches!(
            other.receive(&mut inbox, Wait::Never),
            Err(ReceiveError::Violation(Violation::DescriptorsLost))
        ));
        assert!(inbox.descriptors.len() < 8);
        inbox.descriptors.clear();
        assert_eq!(open_descriptors(), before);
    }
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    one.send(&packet(2, 8), &lent, Wait::Never).unwrap();
    let received = other.receive(&mut inbox, Wait::Never).unwrap();
    assert_eq!(received.frame, packet(2, 8));
    let received = inbox.take_descriptors(8).unwrap();
    assert_eq!(inodes(&received), inodes(&sent));
}

/// Has a pidfd of its sender come with each packet, see `SO_PASSPIDFD` in `unix(7)`; answers
/// whether this kernel can.
fn pass_pidfd(socket: &impl AsRawFd) -> bool {
    let yes: libc::c_int = 1;
    let len = libc::socklen_t::try_from(size_of_val(&yes)).unwrap();
    // SAFETY: the value is an int that outlives the call.
    #[expect(unsafe_code, reason = "no safe interface has this option")]
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PASSPIDFD,
            (&raw const yes).cast(),
            len,
        )
    };
    result == 0
}

fn queue() -> (QueueSender, QueueReceiver) {
    socket::pair().unwrap()
}

fn packet(sequence: u64, peers: usize) -> Connections {
    Connections {
        sequence,
        peers: vec![Address::Unnamed; peers],
        padding: Vec::new(),
    }
}

/// Descriptors of different files.
fn files(count: usize) -> Vec<OwnedFd> {
    (0..count)
        .map(|_| tempfile::tempfile().unwrap().into())
        .collect()
}

fn inodes(descriptors: &[OwnedFd]) -> Vec<u64> {
    descriptors
        .iter()
        .map(|fd| fstat(fd).unwrap().st_ino)
        .collect()
}
