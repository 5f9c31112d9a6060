//! What choosing the next worker costs, by strategy and number of workers. A user learns from it
//! which strategies cost the same however many workers there are (round-robin, two choices and
//! random), and from how many on the others cost as much as the three system calls of a connection.
//!
//! Loads are read as the master reads them: from real scoreboard pages, one for each worker, found
//! by worker id. No worker is ever without connections, so those that ask everybody ask everybody.

use std::hint::black_box;
use std::os::fd::AsFd;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rr_master::dispatch::{Gauge, Load, Reason, Rotation, StrategyName};
use rustc_hash::FxHashMap;
use worker_proto::address::Address;
use worker_proto::ids::{Slot, WorkerId};
use worker_proto::scoreboard::Scoreboard;
use worker_proto::tally::Tally;

fn pick(c: &mut Criterion) {
    let mut group = c.benchmark_group("pick");
    group.throughput(Throughput::Elements(1));
    let peers = peers();
    for workers in SIZES {
        let mut pages = Pages::new(workers);
        for strategy in StrategyName::ALL {
            let mut rotation = rotation(strategy, workers);
            let mut peers = peers.iter().cycle();
            group.bench_with_input(
                BenchmarkId::new(strategy.as_str(), workers),
                &(),
                |b, ()| {
                    b.iter(|| {
                        let peer = peers.next().expect("they go round");
                        black_box(rotation.pick(black_box(peer), &mut pages))
                    });
                },
            );
        }
    }
    group.finish();
}

/// The same with loads that are at hand, in an array: what is left is the choice itself.
fn pick_alone(c: &mut Criterion) {
    let mut group = c.benchmark_group("pick, loads at hand");
    group.throughput(Throughput::Elements(1));
    let strategies = [
        StrategyName::LeastConnections,
        StrategyName::PowerOfTwoChoices,
        StrategyName::IdleFirst,
    ];
    for workers in SIZES {
        for strategy in strategies {
            let mut rotation = rotation(strategy, workers);
            let loads = (1..=u64::from(workers)).map(|worker| 1 + worker * 7 % 8);
            let mut loads = Array(loads.collect());
            group.bench_with_input(
                BenchmarkId::new(strategy.as_str(), workers),
                &(),
                |b, ()| {
                    b.iter(|| black_box(rotation.pick(black_box(&Address::Unnamed), &mut loads)));
                },
            );
        }
    }
    group.finish();
}

/// All but one are full: they must not be looked at again for every connection.
fn pick_last(c: &mut Criterion) {
    let mut group = c.benchmark_group("pick, one has room");
    group.throughput(Throughput::Elements(1));
    for workers in SIZES {
        let mut rotation = rotation(StrategyName::RoundRobin, workers);
        for worker in 1..workers {
            rotation.set_aside(WorkerId(worker.into()), Reason::Saturated);
        }
        group.bench_with_input(BenchmarkId::new("round-robin", workers), &(), |b, ()| {
            b.iter(|| black_box(rotation.pick(black_box(&Address::Unnamed), &mut ())));
        });
    }
    group.finish();
}

/// What a look at a scoreboard costs by itself: the part of a choice that goes by loads.
fn look(c: &mut Criterion) {
    let mut group = c.benchmark_group("look at a scoreboard");
    group.throughput(Throughput::Elements(1));
    for workers in SIZES {
        let mut pages = Pages::new(workers);
        // In no order that a CPU could foresee.
        let mut worker = 0;
        group.bench_with_input(BenchmarkId::from_parameter(workers), &(), |b, ()| {
            b.iter(|| {
                worker = (worker * 1_103_515_245 + 12_345) % (1 << 31);
                let worker = WorkerId(worker / 256 % u64::from(workers) + 1);
                black_box(pages.load(black_box(worker)))
            });
        });
    }
    group.finish();
}

fn churn(c: &mut Criterion) {
    let mut group = c.benchmark_group("saturate and relieve");
    for workers in SIZES {
        let mut rotation = rotation(StrategyName::RoundRobin, workers);
        let worker = WorkerId(u64::from(workers / 2 + 1));
        group.bench_with_input(BenchmarkId::from_parameter(workers), &(), |b, ()| {
            b.iter(|| {
                rotation.set_aside(black_box(worker), Reason::Saturated);
                rotation.restore(black_box(worker), Reason::Saturated);
            });
        });
    }
    group.finish();
}

fn rotation(strategy: StrategyName, workers: u32) -> Rotation {
    let mut rotation = Rotation::new(strategy.build(1));
    for slot in 0..workers {
        rotation.enter(WorkerId(u64::from(slot) + 1), Slot(slot));
    }
    rotation
}

/// Clients of many addresses.
fn peers() -> Vec<Address> {
    let peer = |host: u8| Address::V4 {
        ip: [198, 51, 100, host],
        port: 40_000,
    };
    (0..=u8::MAX).map(peer).collect()
}

/// A scoreboard for each worker, kept as `reactor::Loads` keeps them.
struct Pages(FxHashMap<WorkerId, Scoreboard>);

impl Pages {
    /// Everybody has between one and eight connections.
    fn new(workers: u32) -> Pages {
        let page = |worker: u64| {
            let (scoreboard, fd) = Scoreboard::create().expect("a page");
            let tally = Tally::attach(fd.as_fd()).expect("the same page");
            tally.received(GIVEN);
            let _ = tally.finished(GIVEN - 1 - worker * 7 % 8);
            (WorkerId(worker), scoreboard)
        };
        Pages((1..=u64::from(workers)).map(page).collect())
    }
}

impl Gauge for Pages {
    fn load(&mut self, worker: WorkerId) -> Load {
        let scoreboard = self.0.get_mut(&worker);
        let score = scoreboard.and_then(|scoreboard| scoreboard.read(GIVEN).score);
        score.map_or_else(Load::default, |score| Load {
            waiting: GIVEN - score.received,
            open: GIVEN - score.finished,
        })
    }
}

/// How many connections each worker has.
struct Array(Vec<u64>);

impl Gauge for Array {
    fn load(&mut self, worker: WorkerId) -> Load {
        let index = usize::try_from(worker.0 - 1).expect("a number of workers");
        Load {
            waiting: 0,
            open: self.0[index],
        }
    }
}

/// How many connections each worker was given.
const GIVEN: u64 = 1000;

const SIZES: [u32; 4] = [1, 4, 64, 1024];

criterion_group!(benches, pick, pick_alone, pick_last, look, churn);
criterion_main!(benches);
