//! What a cluster of so many workers costs the supervisor until everybody is ready: three events and
//! their consequences for each. A user learns from it that thousands of workers are no trouble.

use std::hint::black_box;
use std::time::Instant;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rr_master::supervisor::{Event, Stage, Supervisor};
use rr_master::{Config, Program};
use worker_proto::ids::WorkerId;

#[expect(clippy::disallowed_methods, reason = "any moment will do")]
fn boot(c: &mut Criterion) {
    let now = Instant::now();
    let mut group = c.benchmark_group("boot");
    group.sample_size(10);
    for workers in SIZES {
        group.throughput(Throughput::Elements(workers.into()));
        group.bench_with_input(BenchmarkId::from_parameter(workers), &workers, |b, _| {
            b.iter(|| serving(black_box(workers), now));
        });
    }
    group.finish();
}

fn serving(workers: u32, now: Instant) -> Supervisor {
    let config = Config::new(Program::new("/bin/true")).workers(workers);
    let mut supervisor = Supervisor::new(config.plan());
    supervisor.handle(now, Event::Start);
    for id in 1..=u64::from(workers) {
        let (worker, pid) = (WorkerId(id), 1);
        supervisor.handle(now, Event::Spawned { worker, pid });
        supervisor.handle(now, Event::Online { worker });
        supervisor.handle(now, Event::Ready { worker });
    }
    while supervisor.poll_action().is_some() {}
    assert_eq!(supervisor.stage(), Stage::Serving);
    supervisor
}

const SIZES: [u32; 4] = [4, 64, 512, 4_096];

criterion_group!(benches, boot);
criterion_main!(benches);
