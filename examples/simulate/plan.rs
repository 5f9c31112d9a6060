//! What is to be simulated, and that it is, on every CPU there is.

use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::thread;

use rr_master::dispatch::StrategyName;

use crate::args::Args;
use crate::cluster::Cluster;
use crate::outcome::Outcome;
use crate::scenario::Scenario;
use crate::setting::Setting;

/// What is simulated once: a strategy in a setting.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Run {
    pub(crate) setting: Setting,
    pub(crate) strategy: StrategyName,
}

/// What came of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) run: Run,
    pub(crate) outcome: Outcome,
}

/// Everything that the flags ask for, in the order of the tables.
pub(crate) fn runs(args: &Args) -> Vec<Run> {
    let strategies = or(&args.strategies, &StrategyName::ALL);
    let of = |setting| {
        strategies
            .iter()
            .map(move |&strategy| Run { setting, strategy })
    };
    settings(args).into_iter().flat_map(of).collect()
}

/// Simulates all of them. Which CPU does which of them makes no difference to what comes of it.
pub(crate) fn simulate(runs: &[Run], seed: u64, tell: impl Fn(&Row) + Sync) -> Vec<Row> {
    let next = Mutex::new(runs.iter().enumerate());
    let rows = Mutex::new(vec![None; runs.len()]);
    let work = || {
        loop {
            let Some((index, &run)) = next.lock().expect("nobody panics with it").next() else {
                return;
            };
            let row = run.simulate(seed);
            tell(&row);
            rows.lock().expect("nobody panics with it")[index] = Some(row);
        }
    };
    thread::scope(|scope| {
        let cpus = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        for _ in 0..cpus {
            scope.spawn(work);
        }
    });
    let rows = rows.into_inner().expect("nobody panicked with it");
    rows.into_iter().flatten().collect()
}

impl Run {
    pub(crate) fn simulate(self, seed: u64) -> Row {
        let strategy = self.strategy.build(seed);
        let outcome = Cluster::new(self.setting, strategy, seed).run();
        Row { run: self, outcome }
    }
}

fn settings(args: &Args) -> Vec<Setting> {
    let is_chosen =
        !(args.scenarios.is_empty() && args.workers.is_empty() && args.utilisation.is_empty());
    let stories = match () {
        () if is_chosen => chosen(args),
        () if args.quick => QUICK.to_vec(),
        () => FULL.to_vec(),
    };
    let mut settings: Vec<Setting> = Vec::new();
    for story in stories {
        for setting in story.settings(args) {
            let is_left_out = args.max_workers.is_some_and(|max| setting.workers > max);
            if !is_left_out && !settings.contains(&setting) {
                settings.push(setting);
            }
        }
    }
    settings
}

/// Scenarios, each with each number of workers and each utilisation.
#[derive(Clone, Copy, Debug)]
struct Story<'a> {
    scenarios: &'a [Scenario],
    workers: &'a [u32],
    utilisation: &'a [u32],
}

impl Story<'_> {
    fn settings(self, args: &Args) -> Vec<Setting> {
        let mut settings = Vec::new();
        for &scenario in self.scenarios {
            for &workers in self.workers {
                for &utilisation in self.utilisation {
                    settings.push(Setting {
                        scenario,
                        workers,
                        utilisation,
                        window: args.window,
                        servers: args.servers,
                        connections: args.connections(),
                    });
                }
            }
        }
        settings
    }
}

fn chosen(args: &Args) -> Vec<Story<'_>> {
    vec![Story {
        scenarios: or(&args.scenarios, Scenario::ALL),
        workers: or(&args.workers, &[64]),
        utilisation: or(&args.utilisation, &[80]),
    }]
}

/// What was asked for, or what is usual.
fn or<'a, T>(asked: &'a [T], usual: &'a [T]) -> &'a [T] {
    if asked.is_empty() { usual } else { asked }
}

/// How large clusters are affected, how busy ones, and what else happens to one of 64.
const FULL: &[Story<'static>] = &[
    Story {
        scenarios: &[Scenario::PLAIN],
        workers: &[64],
        utilisation: &[20, 30, 40, 50, 60, 70, 80, 90, 95],
    },
    Story {
        scenarios: &[Scenario::PLAIN],
        workers: &[4, 16, 64, 256, 1024],
        utilisation: &[50, 80, 95],
    },
    // More at 95 percent would take hours to settle.
    Story {
        scenarios: &[Scenario::PLAIN],
        workers: &[4096, 10_000],
        utilisation: &[50, 80],
    },
    Story {
        scenarios: Scenario::ALL,
        workers: &[64],
        utilisation: &[50, 80, 95],
    },
];

const QUICK: &[Story<'static>] = &[
    Story {
        scenarios: &[Scenario::PLAIN],
        workers: &[4, 16, 64],
        utilisation: &[50, 80],
    },
    Story {
        scenarios: Scenario::ALL,
        workers: &[16],
        utilisation: &[80],
    },
];
