//! What writing and reading a frame costs. A user learns from it how little of a hand-off is
//! bincode: tens of nanoseconds beside microseconds of system calls.

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use worker_proto::address::Address;
use worker_proto::codec::{decode, encode};
use worker_proto::frame::{Connections, ToMaster};
use worker_proto::handshake;

fn connections(c: &mut Criterion) {
    let mut group = c.benchmark_group("connections");
    for count in [1_u16, 8, 64] {
        let peer = |port| Address::from(SocketAddr::from((Ipv4Addr::LOCALHOST, 40_000 + port)));
        let frame = Connections {
            sequence: 1_000_000,
            peers: (0..count).map(peer).collect(),
            padding: Vec::new(),
        };
        let mut bytes = Vec::new();
        encode(&frame, &mut bytes).expect("a small frame");
        group.throughput(Throughput::Elements(count.into()));
        group.bench_with_input(BenchmarkId::new("encode", count), &frame, |b, frame| {
            let mut buffer = Vec::new();
            b.iter(|| encode(black_box(frame), &mut buffer));
        });
        group.bench_with_input(BenchmarkId::new("decode", count), &bytes, |b, bytes| {
            b.iter(|| decode::<Connections>(black_box(bytes)));
        });
    }
    group.finish();
}

fn control(c: &mut Criterion) {
    let frame = ToMaster::Hello(handshake::hello());
    let mut bytes = Vec::new();
    encode(&frame, &mut bytes).expect("a small frame");
    c.bench_function("hello/encode", |b| {
        let mut buffer = Vec::new();
        b.iter(|| encode(black_box(&frame), &mut buffer));
    });
    c.bench_function("hello/decode", |b| {
        b.iter(|| decode::<ToMaster>(black_box(&bytes)));
    });
}

criterion_group!(benches, connections, control);
criterion_main!(benches);
