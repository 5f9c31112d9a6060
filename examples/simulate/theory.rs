//! The simulation against what is known without one: the theory of queues.
//!
//! Where there is a formula the simulation has to agree with it; where there are only bounds it
//! has to keep them. Windows are out of the way: theory knows none.

use crate::choice::Choice;
use crate::outcome::Outcome;
use crate::plan::Run;
use crate::scenario::Scenario;
use crate::setting::Setting;
use crate::work::Work;

const ENDLESS: u64 = u64::MAX / 4;

fn setting(workers: u32, utilisation: u32) -> Setting {
    Setting {
        scenario: Scenario::PLAIN,
        workers,
        utilisation,
        window: ENDLESS,
        servers: 1,
        connections: 300_000,
    }
}

fn simulate(choice: Choice, setting: Setting) -> Outcome {
    Run { setting, choice }.simulate(1).outcome
}

/// Asserts that one number is another, give or take so much of it.
#[track_caller]
fn assert_near(simulated: f64, known: f64, tolerance: f64) {
    let deviation = (simulated - known).abs() / known;
    assert!(
        deviation <= tolerance,
        "simulated {simulated:.4}, known {known:.4}"
    );
}

#[test]
fn one_worker_waits_as_pollaczek_and_khinchine_say() {
    for (work, utilisation) in [
        (Work::Constant, 80),
        (Work::Exponential, 80),
        (Work::HeavyTailed, 50),
    ] {
        let mut setting = setting(1, utilisation);
        setting.scenario.work = work;
        let load = f64::from(utilisation) / 100.0;
        let known = load * work.second_moment() / (2.0 * (1.0 - load));
        let simulated = simulate(Choice::RoundRobin, setting);
        assert_near(simulated.mean, known, 0.08);
        assert_near(simulated.busy, load, 0.02);
    }
}

#[test]
fn one_worker_that_does_several_things_waits_as_erlang_says() {
    for servers in [2, 8] {
        let mut setting = setting(1, 80);
        setting.servers = servers;
        let simulated = simulate(Choice::RoundRobin, setting);
        let known = erlang_c(servers, 0.8) / (f64::from(servers) * 0.2);
        assert_near(simulated.mean, known, 0.05);
    }
}

/// The probability that all of so many servers are busy, each to this degree.
fn erlang_c(servers: u32, load: f64) -> f64 {
    let offered = f64::from(servers) * load;
    let mut term = 1.0;
    let mut sum = 0.0;
    for number in 1..=servers {
        sum += term;
        term *= offered / f64::from(number);
    }
    let waiting = term / (1.0 - load);
    waiting / (sum + waiting)
}

#[test]
fn round_robin_waits_as_a_queue_with_erlang_arrivals_does() {
    for workers in [4, 64] {
        let simulated = simulate(Choice::RoundRobin, setting(workers, 80));
        // The wait of GI/M/1: σ is the root of σ = A*(1-σ), which iteration finds.
        let stages = f64::from(workers);
        let rate = 0.8 * stages;
        let mut sigma: f64 = 0.5;
        for _ in 0..1000 {
            sigma = (rate / (rate + 1.0 - sigma)).powf(stages);
        }
        assert_near(simulated.mean, sigma / (1.0 - sigma), 0.05);
        // P(wait > t) = σ e^(-(1-σ)t).
        assert_near(simulated.p99, (100.0 * sigma).ln() / (1.0 - sigma), 0.05);
    }
}
