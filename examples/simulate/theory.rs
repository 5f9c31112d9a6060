//! The simulation against what is known without one: the theory of queues.
//!
//! Where there is a formula the simulation has to agree with it; where there are only bounds it
//! has to keep them. Windows are out of the way: theory knows none.

use clap::Parser;
use rr_master::dispatch::StrategyName;

use crate::args::Args;
use crate::outcome::Outcome;
use crate::plan::{self, Run};
use crate::scenario::{Scenario, Workers};
use crate::setting::Setting;
use crate::table;
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

fn simulate(strategy: StrategyName, setting: Setting) -> Outcome {
    Run { setting, strategy }.simulate(1).outcome
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
    for (work, utilisation, connections) in [
        (Work::Constant, 80, 300_000),
        (Work::Exponential, 80, 300_000),
        // What is seldom takes long to be seen often enough.
        (Work::HeavyTailed, 50, 1_000_000),
    ] {
        let mut setting = setting(1, utilisation);
        setting.scenario.work = work;
        setting.connections = connections;
        let load = f64::from(utilisation) / 100.0;
        let known = load * work.second_moment() / (2.0 * (1.0 - load));
        let simulated = simulate(StrategyName::RoundRobin, setting);
        assert_near(simulated.mean, known, 0.08);
        assert_near(simulated.busy, load, 0.02);
    }
}

#[test]
fn one_worker_that_does_several_things_waits_as_erlang_says() {
    for servers in [2, 8] {
        let mut setting = setting(1, 80);
        setting.servers = servers;
        let simulated = simulate(StrategyName::RoundRobin, setting);
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
        let simulated = simulate(StrategyName::RoundRobin, setting(workers, 80));
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

#[test]
fn at_random_each_worker_is_as_if_it_were_alone() {
    let simulated = simulate(StrategyName::Random, setting(64, 80));
    // M/M/1, of which P(wait > t) = ρ e^(-(1-ρ)t).
    assert_near(simulated.mean, 0.8 / 0.2, 0.05);
    assert_near(simulated.p99, 80_f64.ln() / 0.2, 0.05);
}

#[test]
fn two_choices_wait_as_mitzenmacher_says() {
    for (utilisation, load) in [(50, 0.5_f64), (80, 0.8), (90, 0.9)] {
        let simulated = simulate(StrategyName::PowerOfTwoChoices, setting(256, utilisation));
        // With endlessly many workers a connection is in the cluster for Σ λ^(2^i - 2), and is
        // being worked on for 1 of that.
        let terms = (1..20).map(|i| load.powi(2_i32.pow(i) - 2));
        assert_near(simulated.mean, terms.sum::<f64>() - 1.0, 0.05);
    }
}

#[test]
fn nobody_waits_less_than_in_one_queue_for_all() {
    let one_queue = erlang_c(64, 0.9) / (64.0 * 0.1);
    let simulate = |strategy| simulate(strategy, setting(64, 90)).mean;
    let least = simulate(StrategyName::LeastConnections);
    let two = simulate(StrategyName::PowerOfTwoChoices);
    let random = simulate(StrategyName::Random);
    assert!(one_queue < least, "{one_queue} {least}");
    assert!(least < two, "{least} {two}");
    assert!(two < random, "{two} {random}");
}

#[test]
fn weights_are_shares() {
    let mut setting = setting(8, 80);
    setting.scenario.workers = Workers::Mixed;
    let weighted = simulate(StrategyName::Weighted, setting);
    // Twice as much for 4 times as fast as for the mean, 2.5.
    assert_near(weighted.connections_spread, 4.0 / 2.5, 0.01);
    assert_near(weighted.busy_spread, 1.0, 0.02);
    let round_robin = simulate(StrategyName::RoundRobin, setting);
    assert_near(round_robin.connections_spread, 1.0, 0.01);
}

#[test]
fn of_twice_what_can_be_done_half_is_refused() {
    let mut setting = setting(4, 200);
    setting.window = 32;
    let simulated = simulate(StrategyName::RoundRobin, setting);
    assert_near(simulated.refused, 0.5, 0.02);
    assert_near(simulated.busy, 1.0, 0.001);
    assert!(simulated.held > 0.9, "{simulated:?}");
}

#[test]
fn who_has_the_fewest_connections_is_flooded_with_them() {
    let mut setting = setting(16, 80);
    setting.scenario = scenario("renewed");
    setting.window = 32;
    let least = simulate(StrategyName::LeastConnections, setting);
    let in_turn = simulate(StrategyName::RoundRobin, setting);
    // Whom the successor replaced is among the workers of whom this is the mean.
    assert_near(in_turn.connections_spread, 17.0 / 16.0, 0.01);
    assert!(least.connections_spread > 3.0, "{least:?}");
    assert!(least.saturated > 0.0, "{least:?}");
}

#[test]
fn the_same_seed_brings_the_same_results() {
    let all = |seed| {
        let flags = "simulate --connections 1000 --workers 4 --utilisation 50";
        let args = Args::parse_from(flags.split(' '));
        let rows = plan::simulate(&plan::runs(&args), seed, |_| ());
        let mut csv = Vec::new();
        table::write_csv(&rows, 7, &mut csv).unwrap();
        String::from_utf8(csv).unwrap()
    };
    let csv = all(1);
    assert_eq!(csv, all(1));
    assert_ne!(csv, all(2));
}

fn scenario(name: &str) -> Scenario {
    let mut all = Scenario::ALL.iter().copied();
    all.find(|scenario| scenario.name == name).unwrap()
}
