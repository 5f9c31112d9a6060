//! What writing and reading a frame costs. A user learns from it how little of a hand-off is
//! bincode: tens of nanoseconds beside microseconds of system calls; and that a message costs what
//! copying it costs.

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use worker_proto::address::Address;
use worker_proto::codec::{decode, decode_connections, encode};
use worker_proto::frame::{Connections, ToMaster};
use worker_proto::handshake;
use worker_proto::message::{ContentType, Kind, MAX_CHUNK_BYTES, MessageId, Recipient, Send};

fn connections(c: &mut Criterion) {
    let mut group = c.benchmark_group("connections");
    for count in [1_u16, 2, 4, 8, 16, 64] {
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
        // As a worker does, into what the packet before it has left.
        group.bench_with_input(BenchmarkId::new("decode", count), &bytes, |b, bytes| {
            let mut peers = Vec::new();
            b.iter(|| decode_connections(black_box(bytes), &mut peers));
        });
    }
    group.finish();
}

/// One that fits in its first frame.
fn messages(c: &mut Criterion) {
    let mut group = c.benchmark_group("message");
    for len_bytes in [16, 1 << 10, MAX_CHUNK_BYTES] {
        let frame = ToMaster::Send(Send {
            message: MessageId(1_000),
            recipient: Recipient::Workers,
            kind: Kind::Message,
            wants_receipt: false,
            within_ms: None,
            action: "joined".to_owned(),
            content_type: ContentType::JSON,
            len_bytes: len_bytes as u64,
            chunk: vec![b' '; len_bytes].into(),
        });
        let mut bytes = Vec::new();
        encode(&frame, &mut bytes).expect("one chunk");
        group.throughput(Throughput::Bytes(len_bytes as u64));
        group.bench_with_input(BenchmarkId::new("encode", len_bytes), &frame, |b, frame| {
            let mut buffer = Vec::new();
            b.iter(|| encode(black_box(frame), &mut buffer));
        });
        group.bench_with_input(BenchmarkId::new("decode", len_bytes), &bytes, |b, bytes| {
            b.iter(|| decode::<ToMaster>(black_box(bytes)));
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

criterion_group!(benches, connections, messages, control);
criterion_main!(benches);
