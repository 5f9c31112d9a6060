//! Descriptors per second over a real accept queue: sent, received and closed by one thread. A user
//! learns from it what the hand-off itself adds to a connection, and what batching saves.

use std::fs::File;
use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use worker_proto::address::Address;
use worker_proto::frame::{Connections, MAX_CONNECTIONS_BYTES};
use worker_proto::scm::Wait;
use worker_proto::socket::{Inbox, QueueReceiver, QueueSender, pair};

fn handoff(c: &mut Criterion) {
    let mut group = c.benchmark_group("handoff");
    for count in [1_u16, 8, 64] {
        let (sender, receiver): (QueueSender, QueueReceiver) = pair().expect("a socket pair");
        let descriptors: Vec<OwnedFd> = (0..count)
            .map(|_| File::open("/dev/null").expect("/dev/null").into())
            .collect();
        let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        let peer = |port| Address::from(SocketAddr::from((Ipv4Addr::LOCALHOST, 40_000 + port)));
        let frame = Connections {
            sequence: 0,
            peers: (0..count).map(peer).collect(),
            padding: Vec::new(),
        };
        let mut scratch = Vec::new();
        let mut inbox = Inbox::with_room(MAX_CONNECTIONS_BYTES);
        group.throughput(Throughput::Elements(count.into()));
        group.bench_with_input(BenchmarkId::new("per packet", count), &count, |b, _| {
            b.iter(|| {
                sender
                    .send_with(&frame, &descriptors, Wait::Never, &mut scratch)
                    .expect("room");
                let received = receiver
                    .receive(&mut inbox, Wait::Never)
                    .expect("just sent");
                inbox.descriptors.clear();
                black_box(received)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, handoff);
criterion_main!(benches);
