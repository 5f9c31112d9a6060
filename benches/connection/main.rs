//! What one short HTTP connection costs its client: connect, request, answer, end. A user learns
//! from it what to pay for strict turns (hand-off beside shared), and that passing descriptors on is
//! cheaper than passing bytes on (hand-off beside the proxy).
//!
//! ```text
//! cargo build --release --examples && cargo bench --bench connection
//! ```
//!
//! `latency`: one client at a time, so most processes sleep when it comes, and what is measured is
//! mostly how often one wakes another. `20 at a time`: the cost in time of each when there is always one
//! more. The server is `bench_server` each time: alone (the floor), four under a master, or four
//! behind a proxy that splices. Each is measured by itself, minutes apart: on a machine that does something
//! else as well, compare with `scripts/compare`, which takes turns.

#![allow(
    clippy::disallowed_methods,
    reason = "not for the library: runs in real time"
)]

#[path = "../../tests/common/mod.rs"]
mod common;
mod contestant;
mod crowd;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

use self::contestant::{Contestant, all};
use self::crowd::Crowd;

fn connection(c: &mut Criterion) {
    let contestants = all();
    latency(c, &contestants);
    throughput(c, &contestants);
}

fn latency(c: &mut Criterion, contestants: &[Contestant]) {
    let mut group = c.benchmark_group("latency");
    group.warm_up_time(WARM_UP).measurement_time(MEASUREMENT);
    for contestant in contestants {
        group.bench_function(contestant.name, |b| {
            b.iter(|| visit(contestant.address));
        });
    }
    group.finish();
}

fn throughput(c: &mut Criterion, contestants: &[Contestant]) {
    let mut group = c.benchmark_group(format!("{CLIENTS} at a time"));
    group.warm_up_time(WARM_UP).measurement_time(MEASUREMENT);
    group.throughput(Throughput::Elements(1)).sample_size(20);
    for contestant in contestants {
        group.bench_function(contestant.name, |b| {
            let mut crowd = Crowd::new(contestant.address, CLIENTS);
            b.iter_custom(|count| {
                let began = Instant::now();
                crowd.visit(count);
                began.elapsed()
            });
        });
    }
    group.finish();
}

/// One client that waits for its answer, and for the server to close.
fn visit(address: SocketAddr) {
    let mut stream = TcpStream::connect(address).expect("connect");
    stream.write_all(REQUEST).expect("ask");
    let mut answer = [0; 512];
    let mut length = 0;
    loop {
        match stream.read(&mut answer[length..]).expect("an answer") {
            0 => break,
            count => length += count,
        }
    }
    assert!(is_whole(&answer[..length]), "half an answer");
}

fn is_whole(answer: &[u8]) -> bool {
    answer.starts_with(b"HTTP/1.1 200 ") && answer.ends_with(b"Hello, world!\n")
}

const REQUEST: &[u8] = b"GET / HTTP/1.0\r\n\r\n";

const CLIENTS: usize = 20;

const WARM_UP: Duration = Duration::from_secs(1);
const MEASUREMENT: Duration = Duration::from_secs(5);

criterion_group!(benches, connection);
criterion_main!(benches);
