//! A seeded simulation of the supervisor: a virtual clock, workers that start, dawdle, hang, die,
//! refuse, lie and ignore signals, and after each step everything that has to be true.
//!
//! `RR_SIM_SEED=n cargo test --test simulation -- --nocapture` replays one seed and prints what
//! happened; `RR_SIM_SEEDS=n` changes how many are tried.

mod oracle;
mod rng;
mod worker;
mod world;

use std::collections::BTreeMap;
use std::{env, panic};

use rr_master::ExitCode;
use world::{Story, Trace, World};

#[test]
fn whatever_happens_the_supervisor_keeps_its_promises() {
    if let Some(seed) = number("RR_SIM_SEED") {
        World::by_chance(seed, Trace::On).run();
        return;
    }
    let seeds = number("RR_SIM_SEEDS").unwrap_or(SEEDS);
    let mut tally = Tally::default();
    for seed in 0..seeds {
        let run = || World::by_chance(seed, Trace::Off).run();
        match panic::catch_unwind(run) {
            Ok(story) => tally.add(&story),
            Err(panic) => {
                eprintln!(
                    "replay it: RR_SIM_SEED={seed} cargo test --test simulation -- --nocapture"
                );
                panic::resume_unwind(panic);
            }
        }
    }
    println!("{seeds} seeds: {tally:?}");
    if seeds >= SEEDS {
        tally.is_worth_it();
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().expect("a number"))
}

/// What all the seeds together have seen.
#[derive(Debug, Default)]
struct Tally {
    events: usize,
    restarts: usize,
    hangs: u32,
    recoveries: usize,
    endings: BTreeMap<u8, usize>,
}

impl Tally {
    fn add(&mut self, story: &Story) {
        self.events += story.events;
        self.restarts += story.restarts;
        self.hangs += story.hangs;
        self.recoveries += usize::from(story.recovered);
        *self.endings.entry(story.code as u8).or_default() += 1;
    }

    /// A simulation in which little happens proves little.
    fn is_worth_it(&self) {
        let codes = [
            ExitCode::Clean,
            ExitCode::WorkerStart,
            ExitCode::AgentStart,
            ExitCode::CrashLoop,
            ExitCode::ForcedKill,
        ];
        for code in codes {
            let times = self.endings.get(&(code as u8)).copied().unwrap_or(0);
            assert!(times >= 20, "{code:?} came up {times} times");
        }
        assert!(self.restarts > 10_000, "{} restarts", self.restarts);
        assert!(self.hangs > 300, "{} hangs", self.hangs);
        assert!(self.recoveries > 300, "{} recoveries", self.recoveries);
    }
}

const SEEDS: u64 = 1_000;
