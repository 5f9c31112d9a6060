//! Fake workers: how a process behaves, good or bad, decided by chance when it is ordered.

use std::time::Duration;

use rr_master::supervisor::{Disconnect, ExitStatus, Plan, Wear};

use crate::rng::Rng;

/// What one process will do, and when.
#[derive(Clone, Debug)]
pub(crate) struct Character {
    /// The spawner's answer: whether there will be a process.
    pub(crate) spawn: (Duration, Spawn),
    /// From its birth on.
    pub(crate) life: Vec<(Duration, Deed)>,
    /// When told to drain; empty: it pays no attention.
    pub(crate) drain: Vec<(Duration, Deed)>,
    /// When it gets SIGTERM; empty: it ignores it.
    pub(crate) term: Vec<(Duration, Deed)>,
    /// When it gets SIGABRT; empty: it ignores it.
    pub(crate) abort: Vec<(Duration, Deed)>,
    /// How long it takes to answer a ping.
    pub(crate) reaction: Duration,
    /// How long the kernel needs after SIGKILL.
    pub(crate) death: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spawn {
    Works,
    Fails,
    /// The file system hangs.
    IsNotAnswered,
}

/// Something that a process does.
#[derive(Clone, Debug)]
pub(crate) enum Deed {
    SayHello,
    GetReady,
    SayGoodbye,
    Retire,
    /// It has received or taken enough, as the reactor finds out.
    WearOut(Wear),
    EndChannel(Disconnect),
    Answer {
        token: u64,
    },
    /// Not its own doing either: it seems to have nothing left to finish.
    SeemIdle,
    /// Not its own doing: the master cannot tell it what it has to tell.
    StayUntold,
    /// Its control channel is as alive as ever, but it takes no connections.
    NeglectConnections,
    /// It does nothing any more but die of SIGKILL.
    Freeze,
    Exit(ExitStatus),
    Die,
}

/// How much harm is to be expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Temper {
    /// Starts, serves for ever, leaves when told to.
    Good,
    /// Starts, and lives until the boot is over; nothing is certain after that.
    Mortal,
    /// Nothing is certain at all.
    Bad,
}

/// What those of one generation have in common, as long as there is no peace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nature {
    /// They start, live and die, and that is all.
    Plain,
    /// They also retire, wear out, and say with their exit codes what is to become of them.
    Ordinary,
    /// All of them are good.
    Sound,
    NeverReady,
    DiesSoon,
    RetiresSoon,
    CannotSpawn,
}

impl Character {
    pub(crate) fn by_chance(
        rng: &mut Rng,
        plan: &Plan,
        temper: Temper,
        nature: Nature,
    ) -> Character {
        let (temper, nature) = match (temper, nature) {
            (Temper::Good, _) | (_, Nature::Sound) => (Temper::Good, Nature::Plain),
            _ => (temper, nature),
        };
        let is_good = temper == Temper::Good;
        let spawn = match (temper, nature) {
            (_, Nature::CannotSpawn) => Spawn::Fails,
            (Temper::Bad, _) if rng.percent(15) => Spawn::Fails,
            (_, Nature::Ordinary) if rng.percent(1) => Spawn::IsNotAnswered,
            (Temper::Good | Temper::Mortal | Temper::Bad, _) => Spawn::Works,
        };
        Character {
            spawn: (rng.millis(0, SPAWN_MAX_MS), spawn),
            life: life(rng, plan, temper, nature),
            drain: match rng.below(if is_good { 2 } else { 4 }) {
                0 => ending(rng, Duration::ZERO, ExitStatus::Code(0)),
                1 => {
                    let work = rng.millis(0, 500);
                    ending(rng, work, ExitStatus::Code(0))
                }
                2 => {
                    let work = plan
                        .stop_timeout
                        .mul_f64(f64::from(rng.between(0, 15)) / 10.0);
                    ending(rng, work, ExitStatus::Code(0))
                }
                _ => Vec::new(),
            },
            term: if is_good || rng.percent(60) {
                let work = rng.millis(0, 50);
                ending(rng, work, killed(15))
            } else {
                Vec::new()
            },
            abort: if rng.percent(60) {
                let dump = rng.millis(0, 200);
                ending(rng, dump, killed(6))
            } else {
                Vec::new()
            },
            // At once, or at about the last moment.
            reaction: match plan.hang_timeout {
                Some(timeout) if rng.percent(20) => timeout * rng.between(50, 95) / 100,
                Some(_) | None => rng.millis(0, 40),
            },
            death: rng.millis(0, 20),
        }
    }
}

fn life(rng: &mut Rng, plan: &Plan, temper: Temper, nature: Nature) -> Vec<(Duration, Deed)> {
    let hello = rng.millis(0, 50);
    let mut ready = hello + rng.millis(0, 200);
    let mut life = vec![(hello, Deed::SayHello)];
    let soon = rng.millis(0, 2_000);
    match nature {
        Nature::NeverReady => return life,
        Nature::DiesSoon => {
            life.push((ready, Deed::GetReady));
            life.extend(ending(rng, ready + soon, ExitStatus::Code(1)));
            return life;
        }
        Nature::RetiresSoon => {
            life.push((ready, Deed::GetReady));
            life.extend(retirement(rng, ready + soon));
            return life;
        }
        Nature::Plain | Nature::Ordinary | Nature::Sound | Nature::CannotSpawn => {}
    }
    if temper == Temper::Bad {
        match rng.below(6) {
            // Never ready.
            0 => return life,
            // Ready at about the last moment, or too late.
            1 => {
                let share = f64::from(rng.between(9, 11)) / 10.0;
                ready = plan.ready_timeout.mul_f64(share);
            }
            2 => {
                life.extend(misfortune(rng, plan, nature, ready));
                return life;
            }
            _ => {}
        }
    }
    life.push((ready, Deed::GetReady));
    if nature == Nature::Ordinary && rng.percent(20) {
        let why = rng.pick(&[
            Wear::Connections { received: 1_000 },
            Wear::Memory { resident: 1 << 30 },
        ]);
        life.push((ready + rng.millis(0, AGE_MAX_MS), Deed::WearOut(why)));
    }
    if temper != Temper::Good && rng.percent(95) {
        let (shortest, longest) = match temper {
            Temper::Good | Temper::Mortal => (BOOT_MAX_MS, AGE_MAX_MS),
            Temper::Bad => (0, rng.pick(&[100, 1_000, AGE_MAX_MS])),
        };
        let age = ready + rng.millis(shortest, longest);
        life.extend(misfortune(rng, plan, nature, age));
    }
    life
}

/// It dies, or does what comes down to the same.
fn misfortune(rng: &mut Rng, plan: &Plan, nature: Nature, age: Duration) -> Vec<(Duration, Deed)> {
    if nature == Nature::Ordinary && rng.percent(40) {
        if rng.percent(70) {
            return retirement(rng, age);
        }
        let words = rng.pick(&[STOP_CODE, 78]);
        return ending(rng, age, ExitStatus::Code(words));
    }
    let status = rng.pick(&[
        ExitStatus::Code(0),
        ExitStatus::Code(1),
        killed(9),
        killed(11),
    ]);
    match rng.below(if plan.hang_timeout.is_some() { 8 } else { 6 }) {
        0 | 1 => ending(rng, age, status),
        // Closes its channel and goes later, if at all.
        2 => vec![
            (age, Deed::EndChannel(Disconnect::Closed)),
            (age + rng.millis(0, 2_000), Deed::Exit(status)),
        ],
        3 => vec![(age, Deed::EndChannel(Disconnect::Closed))],
        4 => {
            let what = "nonsense".to_owned();
            vec![(age, Deed::EndChannel(Disconnect::Violation { what }))]
        }
        5 => {
            let mut deeds = vec![(age, Deed::SayGoodbye)];
            if rng.percent(60) {
                let work = rng.millis(0, 2_000);
                deeds.extend(ending(rng, age + work, ExitStatus::Code(0)));
            }
            deeds
        }
        6 => vec![(age, Deed::Freeze)],
        _ => vec![(age, Deed::NeglectConnections)],
    }
}

/// It finishes what it has, if it does not forget to.
fn retirement(rng: &mut Rng, at: Duration) -> Vec<(Duration, Deed)> {
    let mut deeds = vec![(at, Deed::Retire)];
    if rng.percent(60) {
        let code = rng.pick(&[0, 0, 1, STOP_CODE, 78]);
        let work = rng.millis(0, 2_000);
        deeds.extend(ending(rng, at + work, ExitStatus::Code(code)));
    }
    deeds
}

/// It exits; whether the end of its channel was seen before that is chance.
fn ending(rng: &mut Rng, at: Duration, status: ExitStatus) -> Vec<(Duration, Deed)> {
    let mut deeds = Vec::new();
    if rng.percent(50) {
        deeds.push((at, Deed::EndChannel(Disconnect::Closed)));
    }
    deeds.push((at, Deed::Exit(status)));
    deeds
}

pub(crate) fn killed(signal: i32) -> ExitStatus {
    ExitStatus::Signal {
        signal,
        core_dumped: false,
    }
}

/// Some plans take it for the end of a worker's work.
pub(crate) const STOP_CODE: i32 = 3;

pub(crate) const SPAWN_MAX_MS: u32 = 500;

/// Two roles, each spawned and made ready.
const BOOT_MAX_MS: u32 = 2 * (SPAWN_MAX_MS + 250);

/// Nobody who is to have a misfortune serves longer than that.
pub(crate) const AGE_MAX_MS: u32 = 20_000;
