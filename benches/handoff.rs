//! What the hand-off itself adds to a connection: sent over a real accept queue, received and closed, by
//! one thread, so without what waking another process takes. A user learns from it what a worker
//! gains that takes several connections in a packet (`max_batch`), and that choosing and naming, which is
//! all that the master does beside the system calls, hardly counts.

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rr_master::dispatch::{Rotation, RoundRobin};
use worker_proto::address::Address;
use worker_proto::frame::{Connections, MAX_CONNECTIONS_BYTES};
use worker_proto::ids::{Slot, WorkerId};
use worker_proto::scm::Wait;
use worker_proto::socket::{Inbox, QueueReceiver, QueueSender, pair};

/// Of TCP sockets. With files the figures are the same.
fn bare(c: &mut Criterion) {
    let mut group = c.benchmark_group("handoff");
    for count in COUNTS {
        let sent: Vec<OwnedFd> = (0..count).map(|_| tcp_socket()).collect();
        let sent: Vec<_> = sent.iter().map(AsFd::as_fd).collect();
        let frame = Connections {
            sequence: 0,
            peers: (0..count).map(peer).collect(),
            padding: Vec::new(),
        };
        let mut queue = Queue::new();
        group.throughput(Throughput::Elements(count.into()));
        group.bench_function(BenchmarkId::new("per packet", count), |b| {
            b.iter(|| queue.pass(&frame, &sent));
        });
    }
    group.finish();
}

/// The same with the master's part: whose turn it is, and a packet built anew for each.
fn bookkeeping(c: &mut Criterion) {
    let mut group = c.benchmark_group("handoff, chosen and named");
    for count in COUNTS {
        let sent: Vec<OwnedFd> = (0..count).map(|_| tcp_socket()).collect();
        let peers: Vec<Address> = (0..count).map(peer).collect();
        let mut descriptors: Vec<BorrowedFd<'_>> = Vec::new();
        let mut rotation = Rotation::new(Box::new(RoundRobin::default()));
        for slot in 0..WORKERS {
            rotation.enter(WorkerId(u64::from(slot) + 1), Slot(slot));
        }
        let mut frame = Connections {
            sequence: 0,
            peers: Vec::new(),
            padding: Vec::new(),
        };
        let mut queue = Queue::new();
        group.throughput(Throughput::Elements(count.into()));
        group.bench_function(BenchmarkId::new("per packet", count), |b| {
            b.iter(|| {
                descriptors.clear();
                frame.peers.clear();
                for (fd, peer) in sent.iter().zip(&peers) {
                    // One queue stands for that of each worker.
                    black_box(rotation.pick(peer, &mut ()));
                    descriptors.push(fd.as_fd());
                    frame.peers.push(peer.clone());
                }
                queue.pass(&frame, &descriptors);
                frame.sequence += 1;
            });
        });
    }
    group.finish();
}

/// Both ends of an accept queue, with what each keeps from one packet to the next.
struct Queue {
    sender: QueueSender,
    scratch: Vec<u8>,
    receiver: QueueReceiver,
    inbox: Inbox,
    peers: Vec<Address>,
}

impl Queue {
    fn new() -> Self {
        let (sender, receiver) = pair().expect("a socket pair");
        Queue {
            sender,
            scratch: Vec::new(),
            receiver,
            inbox: Inbox::with_room(MAX_CONNECTIONS_BYTES),
            peers: Vec::new(),
        }
    }

    /// From one end to the other, where each is closed.
    fn pass(&mut self, frame: &Connections, descriptors: &[BorrowedFd<'_>]) {
        self.sender
            .send_with(frame, descriptors, Wait::Never, &mut self.scratch)
            .expect("room");
        self.receiver
            .receive_connections(&mut self.inbox, &mut self.peers, Wait::Never)
            .expect("just sent");
        black_box(&self.peers);
        self.inbox.descriptors.clear();
    }
}

/// One whose client has gone: it is not spoken to.
fn tcp_socket() -> OwnedFd {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
    let address = listener.local_addr().expect("its address");
    let _client = TcpStream::connect(address).expect("connect");
    listener.accept().expect("accept").0.into()
}

fn peer(number: u16) -> Address {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 40_000 + number)).into()
}

const COUNTS: [u16; 6] = [1, 2, 4, 8, 16, 64];

const WORKERS: u32 = 4;

criterion_group!(benches, bare, bookkeeping);
criterion_main!(benches);
