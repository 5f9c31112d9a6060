//! A seeded simulation of the supervisor: a virtual clock, workers that start, dawdle, hang, die,
//! refuse, lie, retire and ignore signals, an operator who changes his mind, and after each step
//! everything that has to be true.
//!
//! `RR_SIM_SEED=n cargo test --test simulation -- --nocapture` replays one seed and prints what
//! happened; `RR_SIM_SEEDS=n` changes how many are tried.

mod operator;
mod oracle;
mod rng;
mod tally;
mod worker;
mod world;

use std::num::NonZero;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{env, panic, thread};

use tally::Tally;
use world::{Trace, World};

#[test]
fn whatever_happens_the_supervisor_keeps_its_promises() {
    if let Some(seed) = number("RR_SIM_SEED") {
        World::by_chance(seed, Trace::On).run();
        return;
    }
    let seeds = number("RR_SIM_SEEDS").unwrap_or(SEEDS);
    let next = AtomicU64::new(0);
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let mut tally = Tally::default();
    thread::scope(|scope| {
        let threads = (0..threads).map(|_| scope.spawn(|| run(&next, seeds)));
        for thread in threads.collect::<Vec<_>>() {
            match thread.join() {
                Ok(part) => tally.add(part),
                Err(panic) => panic::resume_unwind(panic),
            }
        }
    });
    println!("{seeds} seeds: {tally:?}");
    if seeds >= SEEDS {
        tally.is_worth_it();
    }
}

/// One seed after the other, until none is left or one fails.
fn run(next: &AtomicU64, seeds: u64) -> Tally {
    let mut tally = Tally::default();
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= seeds {
            return tally;
        }
        let run = || World::by_chance(seed, Trace::Off).run();
        match panic::catch_unwind(run) {
            Ok(story) => tally.add(story),
            Err(panic) => {
                eprintln!(
                    "replay it: RR_SIM_SEED={seed} cargo test --test simulation -- --nocapture"
                );
                next.store(seeds, Ordering::Relaxed);
                panic::resume_unwind(panic);
            }
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().expect("a number"))
}

pub(crate) const SEEDS: u64 = 2_000;
