//! What choosing the next worker costs, by number of workers. A user learns from it that the
//! choice itself is nothing beside the three system calls of a connection, however many workers.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rr_master::dispatch::{Reason, Rotation, RoundRobin};
use worker_proto::address::Address;
use worker_proto::ids::{Slot, WorkerId};

fn pick(c: &mut Criterion) {
    let peer = Address::Unnamed;
    let mut group = c.benchmark_group("pick");
    group.throughput(Throughput::Elements(1));
    for workers in SIZES {
        let mut rotation = rotation(workers);
        group.bench_with_input(
            BenchmarkId::new("round-robin", workers),
            &workers,
            |b, _| {
                b.iter(|| black_box(rotation.pick(black_box(&peer), &mut ())));
            },
        );

        // All but one are full: they must not be looked at again for every connection.
        let mut rotation = self::rotation(workers);
        for worker in 1..workers {
            rotation.set_aside(WorkerId(worker.into()), Reason::Saturated);
        }
        group.bench_with_input(
            BenchmarkId::new("round-robin, one has room", workers),
            &workers,
            |b, _| {
                b.iter(|| black_box(rotation.pick(black_box(&peer), &mut ())));
            },
        );
    }
    group.finish();
}

fn churn(c: &mut Criterion) {
    let mut group = c.benchmark_group("saturate and relieve");
    for workers in SIZES {
        let mut rotation = rotation(workers);
        let worker = WorkerId(u64::from(workers / 2 + 1));
        group.bench_with_input(BenchmarkId::from_parameter(workers), &workers, |b, _| {
            b.iter(|| {
                rotation.set_aside(black_box(worker), Reason::Saturated);
                rotation.restore(black_box(worker), Reason::Saturated);
            });
        });
    }
    group.finish();
}

fn rotation(workers: u32) -> Rotation {
    let mut rotation = Rotation::new(Box::new(RoundRobin::default()));
    for slot in 0..workers {
        rotation.enter(WorkerId(u64::from(slot) + 1), Slot(slot));
    }
    rotation
}

const SIZES: [u32; 4] = [1, 4, 64, 1024];

criterion_group!(benches, pick, churn);
criterion_main!(benches);
