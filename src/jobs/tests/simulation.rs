//! Chance against the jobs: ticks, results, deaths, drains, reloads and set clocks in any order, and
//! books of our own that say what may never be.
//!
//! A process has a run from the moment that it was given to it until it says that it is done or is
//! gone, whatever the jobs think of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use worker_proto::ids::{Role, Slot, WorkerId};
use worker_proto::job::{JobRun, JobSpec, JobTarget, OnLost, Overlap, Schedule};

use super::script::{cron, every, secs};
use crate::jobs::{Action, Event, Jobs, Member, Now, Plan, Planned, Standing, Verdict};

#[test]
fn nothing_runs_twice_or_beside_itself_whatever_happens() {
    let mut tally = Tally::default();
    for seed in 0..SEEDS {
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            world.step();
        }
        world.come_to_an_end();
        tally.add(&world.tally);
    }
    // Chance has to have met what this is about.
    let Tally {
        given,
        lost,
        retried,
        given_up,
        timed_out,
        set_back,
    } = tally;
    assert!(given > 20_000, "{tally:?}");
    assert!(
        [lost, retried, given_up, timed_out, set_back]
            .iter()
            .all(|&it| it > 50),
        "{tally:?}"
    );
}

const SEEDS: u64 = 60;
const STEPS: usize = 3_000;
const SLOTS: u32 = 4;

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    given: u64,
    lost: u64,
    retried: u64,
    given_up: u64,
    timed_out: u64,
    set_back: u64,
}

impl Tally {
    fn add(&mut self, other: &Tally) {
        self.given += other.given;
        self.lost += other.lost;
        self.retried += other.retried;
        self.given_up += other.given_up;
        self.timed_out += other.timed_out;
        self.set_back += other.set_back;
    }
}

struct World {
    seed: u64,
    chance: u64,
    jobs: Jobs,
    now: Now,
    specs: BTreeMap<String, JobSpec>,
    latest: u64,
    processes: BTreeMap<u64, Process>,
    /// What was told of each run so far.
    runs: BTreeMap<u64, Life>,
    /// The latest moment of the calendar that a run of the job was for.
    moments: BTreeMap<String, u64>,
    /// The latest that the wall clock has shown.
    peak: Timestamp,
    is_stopping: bool,
    tally: Tally,
}

struct Process {
    slot: u32,
    serves: bool,
    has: BTreeSet<u64>,
}

#[derive(Default)]
struct Life {
    name: String,
    attempts: u32,
    /// By an operator.
    is_asked: bool,
    is_done: bool,
    is_concluded: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let named = |name: &str, spec: JobSpec| {
            let name = name.to_owned();
            JobSpec { name, ..spec }
        };
        let specs = [
            named("drop", every(1)),
            JobSpec {
                on_lost: OnLost::Retry,
                overlap: Overlap::Queue,
                ..named("retry", every(1))
            },
            JobSpec {
                timeout: Some(secs(2)),
                jitter: Duration::from_millis(700),
                immediate: true,
                ..named("timeout", every(2))
            },
            named("minute", cron("* * * * *")),
            JobSpec {
                on_lost: OnLost::Retry,
                ..named("seconds", cron("*/7 * * * * *"))
            },
            JobSpec {
                target: JobTarget::All,
                on_lost: OnLost::Retry,
                ..named("all", every(3))
            },
            JobSpec {
                target: JobTarget::Slot(Slot(2)),
                ..named("slot", every(3))
            },
        ];
        let mut world = World {
            seed,
            chance: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15),
            jobs: Jobs::new(TimeZone::UTC, seed),
            now: Now {
                #[expect(clippy::disallowed_methods, reason = "any moment to begin with")]
                monotonic: Instant::now(),
                wall: "2026-01-31T12:00:00Z".parse().unwrap(),
            },
            specs: specs.map(|it| (it.name.clone(), it)).into(),
            latest: 0,
            processes: BTreeMap::new(),
            runs: BTreeMap::new(),
            moments: BTreeMap::new(),
            peak: Timestamp::MIN,
            is_stopping: false,
            tally: Tally::default(),
        };
        world.adopt(|_| true);
        for slot in 0..SLOTS {
            world.start(slot);
        }
        world.tell(Event::ClusterReady);
        world
    }

    fn below(&mut self, end: u64) -> u64 {
        self.chance = self.chance.wrapping_mul(6_364_136_223_846_793_005);
        self.chance = self.chance.wrapping_add(1_442_695_040_888_963_407);
        (self.chance >> 33) % end
    }

    fn step(&mut self) {
        match self.below(100) {
            0..45 => {
                let millis = self.below(400);
                self.pass(Duration::from_millis(millis));
                self.tell(Event::Tick);
            }
            45..80 => self.finish_one(),
            80..90 => self.kill_one(),
            90..93 => self.drain_one(),
            93..97 => {
                let slot = u32::try_from(self.below(u64::from(SLOTS))).unwrap();
                self.start(slot);
            }
            97 => self.set_clock(),
            98 => {
                let left_out = self.below(20);
                self.adopt(|index| index != left_out);
            }
            _ => {
                let names: Vec<_> = self.specs.keys().cloned().collect();
                let index = usize::try_from(self.below(7)).unwrap();
                if let Ok(run) = self.jobs.run(self.now, &names[index]) {
                    self.runs.entry(run).or_default().is_asked = true;
                }
                self.obey();
            }
        }
    }

    /// Nothing is begun any more, and what runs ends.
    fn come_to_an_end(&mut self) {
        self.tell(Event::Stopping);
        self.is_stopping = true;
        self.pass(secs(10));
        self.tell(Event::Tick);
        for worker in self.processes.keys().copied().collect::<Vec<_>>() {
            self.kill(worker);
        }
        for (run, life) in &self.runs {
            assert!(life.is_concluded, "{}: run {run} has no end", self.seed);
        }
        assert_eq!(self.jobs.next_deadline(), None);
    }

    fn adopt(&mut self, is_in: impl Fn(u64) -> bool) {
        let standing = Standing::Enabled;
        let specs = self.specs.values().zip(0..);
        let (specs, others): (Vec<_>, Vec<_>) = specs.partition(|(_, index)| is_in(*index));
        for (spec, _) in others {
            self.moments.remove(&spec.name);
        }
        let jobs = specs
            .into_iter()
            .map(|(spec, _)| Planned {
                spec: spec.clone(),
                standing,
            })
            .collect();
        let agents = Vec::new();
        self.tell(Event::Adopt(Plan { jobs, agents }));
    }

    fn start(&mut self, slot: u32) {
        self.latest += 1;
        let process = Process {
            slot,
            serves: true,
            has: BTreeSet::new(),
        };
        self.processes.insert(self.latest, process);
        let member = Member {
            worker: WorkerId(self.latest),
            role: Role::Worker,
            slot: Slot(slot),
        };
        self.tell(Event::Joined(member));
    }

    fn any_process(&mut self) -> Option<u64> {
        let count = self.processes.len() as u64;
        let index = usize::try_from(self.below(count.max(1))).unwrap();
        self.processes.keys().nth(index).copied()
    }

    fn finish_one(&mut self) {
        let Some(worker) = self.any_process() else {
            return;
        };
        let process = self.processes.get_mut(&worker).unwrap();
        let Some(run) = process.has.pop_first() else {
            return;
        };
        self.runs.get_mut(&run).unwrap().is_done = true;
        let outcome = match self.below(4) {
            0 => Err("no".to_owned()),
            _ => Ok("yes".to_owned()),
        };
        let worker = WorkerId(worker);
        self.tell(Event::Done {
            worker,
            run,
            outcome,
        });
    }

    fn kill_one(&mut self) {
        if let Some(worker) = self.any_process() {
            let slot = self.processes[&worker].slot;
            self.kill(worker);
            if self.below(3) > 0 {
                self.start(slot);
            }
        }
    }

    fn kill(&mut self, worker: u64) {
        let process = self.processes.remove(&worker).unwrap();
        self.tally.lost += process.has.len() as u64;
        let worker = WorkerId(worker);
        self.tell(Event::Gone { worker });
    }

    fn drain_one(&mut self) {
        if let Some(worker) = self.any_process() {
            self.processes.get_mut(&worker).unwrap().serves = false;
            let worker = WorkerId(worker);
            self.tell(Event::Left { worker });
        }
    }

    fn set_clock(&mut self) {
        let seconds = i64::try_from(self.below(6 * 3600)).unwrap() - 2 * 3600;
        if seconds < 0 {
            self.tally.set_back += 1;
        }
        let by = SignedDuration::from_secs(seconds);
        self.now.wall = self.now.wall.checked_add(by).unwrap();
        // A clock that was that wrong says nothing about what was run.
        if self.peak.duration_since(self.now.wall) >= SignedDuration::from_hours(3) {
            self.moments.clear();
            self.peak = self.now.wall;
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now.monotonic += time;
        self.now.wall = self.now.wall.checked_add(time).unwrap();
        self.peak = self.peak.max(self.now.wall);
    }

    fn tell(&mut self, event: Event) {
        self.jobs.handle(self.now, event);
        self.obey();
    }

    fn obey(&mut self) {
        while let Some(action) = self.jobs.poll_action() {
            match action {
                Action::Run { worker, run } => self.give(worker.0, &run),
                Action::Cancel { worker, run } => {
                    self.tally.timed_out += 1;
                    assert!(self.processes[&worker.0].has.contains(&run));
                }
                Action::Conclude { run, verdict, .. } => self.conclude(run, &verdict),
                Action::Answer { .. } | Action::Notify(_) => {}
            }
        }
    }

    fn give(&mut self, worker: u64, run: &JobRun) {
        let (seed, number) = (self.seed, run.run);
        let spec = self.specs[&run.name].clone();
        let is_for_all = spec.target == JobTarget::All;
        assert!(!self.is_stopping, "{seed}: run {number} after the stop");
        let process = &self.processes[&worker];
        assert!(process.serves, "{seed}: w{worker} leaves, or is gone");
        for held in self.processes.values().flat_map(|it| &it.has) {
            let is_beside = self.runs[held].name == run.name && !(is_for_all && *held == number);
            assert!(!is_beside, "{seed}: run {number} beside run {held}");
        }
        let life = self.runs.entry(number).or_default();
        life.name.clone_from(&run.name);
        if !is_for_all {
            life.attempts += 1;
            assert_eq!(life.attempts, run.attempt, "{seed}: run {number}");
            assert!(!life.is_done, "{seed}: run {number} again");
        }
        match spec.on_lost {
            OnLost::Drop => assert_eq!(run.attempt, 1, "{seed}: run {number}"),
            OnLost::Retry => assert!(run.attempt <= 5, "{seed}: run {number}"),
        }
        if run.attempt > 1 {
            self.tally.retried += 1;
        } else if matches!(spec.schedule, Schedule::Cron { .. }) && !life.is_asked {
            let before = self.moments.insert(run.name.clone(), run.due_ms);
            assert!(before < Some(run.due_ms), "{seed}: run {number} again");
        }
        self.tally.given += 1;
        self.processes.get_mut(&worker).unwrap().has.insert(number);
    }

    fn conclude(&mut self, run: u64, verdict: &Verdict) {
        let life = self.runs.entry(run).or_default();
        assert!(!life.is_concluded, "{}: run {run} ends twice", self.seed);
        life.is_concluded = true;
        if *verdict == Verdict::Lost {
            self.tally.given_up += 1;
        }
    }
}
