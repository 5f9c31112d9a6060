//! What each strategy promises: whom it chooses, and of whom it asks what.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use proptest::prelude::*;
use proptest::strategy::Strategy as _;
use worker_proto::address::Address;
use worker_proto::ids::{Slot, WorkerId};

use super::w;
use crate::dispatch::{Gauge, Load, Member, Reason, Skipped, Strategy, StrategyName};

/// Loads as they are set, and of whom was asked.
#[derive(Default)]
struct Books {
    loads: BTreeMap<WorkerId, Load>,
    asked: Vec<u64>,
}

impl Gauge for Books {
    fn load(&mut self, worker: WorkerId) -> Load {
        self.asked.push(worker.0);
        self.loads.get(&worker).copied().unwrap_or_default()
    }
}

/// A strategy and what it sees: worker `i` in slot `i - 1` unless something else is said.
struct Script {
    strategy: Box<dyn Strategy>,
    members: Vec<Member>,
    books: Books,
}

impl Script {
    fn new(name: StrategyName, workers: u32) -> Script {
        Script {
            strategy: name.build(7),
            members: (0..workers).map(|slot| member(slot, slot + 1, 1)).collect(),
            books: Books::default(),
        }
    }

    fn weighing(name: StrategyName, weights: &[u32]) -> Script {
        let mut script = Script::new(name, u32::try_from(weights.len()).unwrap());
        for (member, weight) in script.members.iter_mut().zip(weights) {
            member.weight = NonZeroU32::new(*weight).unwrap();
        }
        script
    }

    fn open<const N: usize>(&mut self, open: [u64; N]) {
        let loads = (1..).map(w).zip(open.map(|open| Load { waiting: 0, open }));
        self.books.loads = loads.collect();
    }

    fn waiting<const N: usize>(&mut self, waiting: [u64; N]) {
        let loads = waiting.map(|waiting| Load {
            waiting,
            open: waiting,
        });
        self.books.loads = (1..).map(w).zip(loads).collect();
    }

    /// A choice, and what it costs the chosen one.
    fn choose(&mut self) -> u64 {
        self.choose_for(&Address::Unnamed)
    }

    fn choose_for(&mut self, peer: &Address) -> u64 {
        let chosen = self.strategy.choose(&self.members, peer, &mut self.books);
        self.members[chosen].worker.0
    }

    fn choices(&mut self, count: usize) -> Vec<u64> {
        (0..count).map(|_| self.choose()).collect()
    }

    /// Choices of connections that stay open.
    fn fill(&mut self, count: usize) -> Vec<u64> {
        let mut choices = Vec::new();
        for _ in 0..count {
            let worker = self.choose();
            self.books.loads.entry(w(worker)).or_default().open += 1;
            choices.push(worker);
        }
        choices
    }

    fn leave(&mut self, worker: u64) {
        self.members.retain(|member| member.worker != w(worker));
    }

    fn enter(&mut self, member: Member) {
        self.members.push(member);
        self.members.sort();
    }
}

fn member(slot: u32, worker: u32, weight: u32) -> Member {
    Member {
        slot: Slot(slot),
        worker: w(worker.into()),
        weight: NonZeroU32::new(weight).unwrap(),
    }
}

fn count(choices: &[u64]) -> BTreeMap<u64, usize> {
    let mut counts = BTreeMap::new();
    for choice in choices {
        *counts.entry(*choice).or_default() += 1;
    }
    counts
}

fn v4(host: u32) -> Address {
    let ip = (0x0a00_0000 + host).to_be_bytes();
    Address::V4 { ip, port: 1 }
}

fn inet(text: &str) -> Address {
    text.parse().unwrap()
}

#[test]
fn every_strategy_finds_the_only_one_there_is() {
    for name in StrategyName::ALL {
        let mut script = Script::new(name, 1);
        script.open([5]);
        assert_eq!(script.choices(5), [1; 5], "{name}");
    }
}

#[test]
fn only_strategies_that_go_by_loads_ask_and_no_more_than_they_need() {
    for (name, questions) in [
        (StrategyName::RoundRobin, 0),
        (StrategyName::LeastConnections, 8),
        (StrategyName::PowerOfTwoChoices, 2),
        (StrategyName::Weighted, 0),
        (StrategyName::SourceHash, 0),
        (StrategyName::IdleFirst, 8),
        (StrategyName::Random, 0),
    ] {
        let mut script = Script::new(name, 8);
        script.open([3; 8]);
        for _ in 0..100 {
            script.books.asked.clear();
            let chosen = script.choose();
            let asked: BTreeSet<u64> = script.books.asked.iter().copied().collect();
            assert_eq!(script.books.asked.len(), questions, "{name}");
            assert_eq!(asked.len(), questions, "{name} asks twice");
            assert!(questions == 0 || asked.contains(&chosen), "{name}");
        }
    }
}

#[test]
fn least_connections_chooses_the_fewest_and_among_equals_the_next() {
    let mut script = Script::new(StrategyName::LeastConnections, 4);
    assert_eq!(script.choices(6), [1, 2, 3, 4, 1, 2], "nothing is open");
    script.open([5, 5, 5, 5]);
    assert_eq!(script.choices(3), [3, 4, 1], "equally much is open");
    script.open([4, 9, 4, 9]);
    assert_eq!(script.choices(3), [3, 1, 3]);
    script.open([4, 9, 4, 3]);
    assert_eq!(script.choices(2), [4, 4]);
    script.leave(4);
    assert_eq!(script.choices(3), [1, 3, 1]);
}

#[test]
fn least_connections_makes_up_for_what_a_newcomer_lacks() {
    let mut script = Script::new(StrategyName::LeastConnections, 3);
    script.open([2, 2, 0]);
    assert_eq!(script.fill(5), [3, 3, 1, 2, 3]);
}

#[test]
fn least_connections_asks_nobody_after_one_with_nothing() {
    let mut script = Script::new(StrategyName::LeastConnections, 4);
    script.open([1, 1, 0, 0]);
    assert_eq!(script.choose(), 3);
    assert_eq!(script.books.asked, [1, 2, 3]);
}

#[test]
fn two_choices_take_the_one_with_fewer_and_never_the_worst() {
    let mut script = Script::new(StrategyName::PowerOfTwoChoices, 4);
    script.open([1, 2, 3, 4]);
    let counts = count(&script.choices(6000));
    // Of the six pairs, worker 1 is in three, worker 2 the better one of two, worker 3 of one.
    for (worker, expected) in [(1, 3000), (2, 2000), (3, 1000)] {
        let off = counts[&worker].abs_diff(expected);
        assert!(off < 200, "{counts:?}");
    }
    assert!(!counts.contains_key(&4), "{counts:?}");
}

#[test]
fn chance_is_even_and_comes_from_the_seed() {
    for name in [StrategyName::Random, StrategyName::PowerOfTwoChoices] {
        let mut script = Script::new(name, 5);
        let choices = script.choices(5000);
        for (worker, count) in count(&choices) {
            assert!(count.abs_diff(1000) < 150, "{name} {worker}: {count}");
        }
        assert_eq!(Script::new(name, 5).choices(5000), choices);
        script.strategy = name.build(8);
        assert_ne!(script.choices(5000), choices);
    }
}

#[test]
fn weighted_spreads_as_nginx_does() {
    let mut script = Script::weighing(StrategyName::Weighted, &[5, 1, 1]);
    assert_eq!(script.choices(14), [1, 1, 2, 1, 3, 1, 1].repeat(2));
    let mut script = Script::weighing(StrategyName::Weighted, &[3, 1]);
    assert_eq!(script.choices(8), [1, 1, 2, 1].repeat(2));
    let mut script = Script::new(StrategyName::Weighted, 3);
    assert_eq!(script.choices(6), [1, 2, 3].repeat(2));
}

#[test]
fn weighted_forgets_who_left_and_owes_newcomers_nothing() {
    let mut script = Script::weighing(StrategyName::Weighted, &[1, 1, 1, 1]);
    assert_eq!(script.choose(), 1);
    script.leave(2);
    script.enter(member(1, 9, 1));
    let turns = script.choices(8);
    assert_eq!(
        count(&turns),
        BTreeMap::from([(1, 2), (3, 2), (4, 2), (9, 2)])
    );
}

/// Otherwise one that comes and goes would take the turns of those with little weight.
#[test]
fn weighted_remembers_who_stays_while_others_come_and_go() {
    let mut script = Script::weighing(StrategyName::Weighted, &[3, 1]);
    let mut choices = Vec::new();
    for _ in 0..20 {
        choices.extend(script.choices(2));
        script.enter(member(2, 3, 1));
        choices.extend(script.choices(1));
        script.leave(3);
    }
    let counts = count(&choices);
    assert!(counts[&2] >= 12, "{counts:?}");
}

#[test]
fn weighted_follows_a_weight_that_changes() {
    let mut script = Script::weighing(StrategyName::Weighted, &[1, 1]);
    script.choices(7);
    script.members[1].weight = NonZeroU32::new(3).unwrap();
    script.choices(8);
    assert_eq!(
        count(&script.choices(400)),
        BTreeMap::from([(1, 100), (2, 300)])
    );
}

#[test]
fn idle_first_goes_round_among_those_who_receive_at_once() {
    let mut script = Script::new(StrategyName::IdleFirst, 3);
    assert_eq!(script.choices(7), [1, 2, 3, 1, 2, 3, 1]);
}

#[test]
fn idle_first_passes_over_who_has_not_received_what_it_was_given() {
    let mut script = Script::new(StrategyName::IdleFirst, 3);
    script.waiting([0, 1, 0]);
    assert_eq!(script.choices(4), [1, 3, 1, 3]);
    // It is free again, and goes to the end of the line.
    script.waiting([0, 0, 0]);
    assert_eq!(script.choices(4), [1, 2, 3, 1]);
}

#[test]
fn idle_first_takes_the_place_from_who_is_busy_when_its_turn_might_come() {
    let mut script = Script::new(StrategyName::IdleFirst, 3);
    assert_eq!(script.choose(), 1);
    // 2 would be next, and has to begin anew.
    script.waiting([0, 1, 0]);
    assert_eq!(script.choose(), 3);
    script.waiting([0, 0, 0]);
    assert_eq!(script.choices(3), [1, 2, 3]);
}

#[test]
fn idle_first_serves_the_line_in_the_order_in_which_they_became_free() {
    let mut script = Script::new(StrategyName::IdleFirst, 4);
    script.waiting([1, 1, 1, 0]);
    assert_eq!(script.choose(), 4);
    script.waiting([1, 1, 0, 1]);
    assert_eq!(script.choose(), 3);
    // 2 is free before 1, and 4 with it.
    script.waiting([1, 0, 1, 0]);
    assert_eq!(script.choose(), 4);
    script.waiting([0, 0, 1, 1]);
    assert_eq!(script.choices(2), [2, 1]);
}

#[test]
fn idle_first_gives_to_the_one_with_the_fewest_waiting_when_nobody_is_free() {
    let mut script = Script::new(StrategyName::IdleFirst, 4);
    script.waiting([2, 1, 2, 1]);
    assert_eq!(script.choices(3), [2, 4, 2]);
    script.waiting([2, 2, 2, 2]);
    assert_eq!(script.choices(5), [3, 4, 1, 2, 3]);
}

#[test]
fn a_client_is_its_address_and_not_its_port() {
    let mut script = Script::new(StrategyName::SourceHash, 64);
    let mut slot = |text: &str| script.choose_for(&inet(text));
    for (one, other) in [
        ("10.1.2.3:5", "10.1.2.3:60000"),
        ("10.1.2.3:5", "[::ffff:10.1.2.3]:7"),
        (
            "[2001:db8:1:2::1]:5",
            "[2001:db8:1:2:ffff:ffff:ffff:ffff]:6",
        ),
        ("unix:/run/app.sock", "unix:/run/app.sock"),
    ] {
        assert_eq!(slot(one), slot(other), "{one} {other}");
    }
    for (one, other) in [
        ("10.1.2.3:5", "10.1.2.4:5"),
        ("[2001:db8:1:2::1]:5", "[2001:db8:1:3::1]:5"),
        ("unix:/run/app.sock", "unix:@/run/app.sock"),
        ("unix:@app", "unix:@app\0"),
    ] {
        assert_ne!(slot(one), slot(other), "{one} {other}");
    }
}

/// A release that chose otherwise would send every client somewhere else during an upgrade.
#[test]
fn a_client_is_at_the_same_slot_in_every_release() {
    let mut script = Script::new(StrategyName::SourceHash, 1000);
    let slots = [
        "127.0.0.1:1",
        "192.0.2.7:1",
        "[2001:db8::1]:1",
        "unix:/run/client.sock",
        "unix:@client",
    ]
    .map(|text| script.choose_for(&inet(text)) - 1);
    assert_eq!(slots, [989, 751, 115, 561, 827]);
    assert_eq!(script.choose() - 1, 170);
}

#[test]
fn a_restarted_worker_keeps_its_clients_and_a_newer_one_in_the_slot_gets_them() {
    let mut script = Script::new(StrategyName::SourceHash, 4);
    let of = |script: &mut Script| -> Vec<u64> {
        (0..500).map(|host| script.choose_for(&v4(host))).collect()
    };
    let before = of(&mut script);
    script.enter(member(1, 9, 1));
    let during = of(&mut script);
    script.leave(2);
    assert_eq!(of(&mut script), during);
    let expected: Vec<u64> = before
        .iter()
        .map(|&it| if it == 2 { 9 } else { it })
        .collect();
    assert_eq!(during, expected);
}

#[test]
fn clients_are_shared_evenly_and_by_weight() {
    for (weights, shares) in [
        ([1, 1, 1, 1], [2500, 2500, 2500, 2500]),
        ([3, 3, 3, 3], [2500, 2500, 2500, 2500]),
        ([3, 1, 1, 5], [3000, 1000, 1000, 5000]),
    ] {
        let mut script = Script::weighing(StrategyName::SourceHash, &weights);
        let choices: Vec<u64> = (0..10_000)
            .map(|host| script.choose_for(&v4(host)))
            .collect();
        let counts = count(&choices);
        for (worker, share) in (1..).zip(shares) {
            assert!(
                counts[&worker].abs_diff(share) < 200,
                "{weights:?}: {counts:?}"
            );
        }
    }
}

#[test]
fn turns_are_missed_only_where_everybody_has_turns() {
    for name in StrategyName::ALL {
        let mut rotation = super::rotation(4);
        rotation.change(name.build(1));
        rotation.set_aside(w(2), Reason::Saturated);
        for _ in 0..30 {
            rotation.pick(&Address::Unnamed, &mut ());
        }
        let missed = if name == StrategyName::RoundRobin {
            10
        } else {
            0
        };
        assert_eq!(rotation.skipped_in_all().saturated, missed, "{name}");
        rotation.miss(w(2), Reason::NoRoom, 2);
        assert_eq!(rotation.skipped(w(2)).no_room, 2, "{name}");
    }
}

#[test]
fn a_rotation_that_changes_its_strategy_keeps_everything_else() {
    let mut rotation = super::rotation(3);
    rotation.weigh(w(1), NonZeroU32::new(3).unwrap());
    rotation.set_aside(w(2), Reason::AtLimit);
    rotation.miss(w(3), Reason::NoRoom, 5);
    rotation.change(StrategyName::Weighted.build(1));
    let picks = [(); 8].map(|()| rotation.pick(&Address::Unnamed, &mut ()).unwrap().0);
    assert_eq!(picks, [1, 1, 3, 1, 1, 1, 3, 1]);
    assert_eq!(rotation.len(), 3);
    assert_eq!(rotation.aside_for(Reason::AtLimit), [w(2)]);
    let missed = Skipped {
        no_room: 5,
        ..Skipped::default()
    };
    assert_eq!(rotation.skipped_in_all(), missed);
    rotation.change(StrategyName::RoundRobin.build(1));
    assert_eq!(rotation.weight(w(1)).get(), 3);
    rotation.restore(w(2), Reason::AtLimit);
    let picks = [(); 4].map(|()| rotation.pick(&Address::Unnamed, &mut ()).unwrap().0);
    assert_eq!(picks, [1, 2, 3, 1]);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Enter(u32),
    Leave(u32),
    Choose,
}

fn steps() -> impl proptest::strategy::Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        1 => (0..8u32).prop_map(Step::Enter),
        1 => (0..8u32).prop_map(Step::Leave),
        6 => Just(Step::Choose),
    ];
    prop::collection::vec(step, 0..200)
}

/// Does the steps with a strategy, and leaves at least one member.
fn after(name: StrategyName, steps: Vec<Step>, weights: [u32; 8]) -> Script {
    let mut script = Script::new(name, 0);
    let enter = |script: &mut Script, slot: u32| {
        let weight = weights[slot as usize];
        // Two workers share a slot, and ids run against the slots.
        script.leave(u64::from(9 - slot));
        script.enter(member(slot / 2, 9 - slot, weight));
    };
    for step in steps {
        match step {
            Step::Enter(slot) => enter(&mut script, slot),
            Step::Leave(slot) => script.leave(u64::from(9 - slot)),
            Step::Choose if script.members.is_empty() => {}
            Step::Choose => {
                script.fill(1);
            }
        }
    }
    if script.members.is_empty() {
        enter(&mut script, 3);
    }
    script
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever came and went before, and in whatever state it was left.
    #[test]
    fn somebody_who_is_there_is_chosen(which in 0..7usize, steps in steps(), weights in prop::array::uniform8(1..1000u32)) {
        let mut script = after(StrategyName::ALL[which], steps, weights);
        let chosen = script.choose();
        prop_assert!(script.members.iter().any(|member| member.worker == w(chosen)));
    }

    /// With connections that stay, nobody has two more than another.
    #[test]
    fn least_connections_evens_out(steps in steps()) {
        let mut script = after(StrategyName::LeastConnections, steps, [1; 8]);
        let rest = script.members.iter().map(|member| {
            let load = script.books.loads.get(&member.worker);
            load.map_or(0, |load| load.open)
        });
        let (most, count) = (rest.clone().max().unwrap(), rest.clone().count() as u64);
        let lacking = most * count - rest.sum::<u64>();
        script.fill(usize::try_from(lacking).unwrap());
        for member in &script.members {
            let open = script.books.loads.get(&member.worker).map_or(0, |load| load.open);
            prop_assert_eq!(open, most);
        }
        // And goes round from there.
        let first = script.fill(script.members.len());
        prop_assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), script.members.len());
        prop_assert_eq!(script.fill(script.members.len()), first);
    }

    /// Over as many choices as the sum of the weights, from any state on.
    #[test]
    fn weighted_is_exact_over_a_cycle(steps in steps(), weights in prop::array::uniform8(1..20u32)) {
        let mut script = after(StrategyName::Weighted, steps, weights);
        let cycle: u32 = script.members.iter().map(|member| member.weight.get()).sum();
        // What was left of before is used up first.
        script.choices(cycle as usize * 8);
        let counts = count(&script.choices(cycle as usize));
        for member in &script.members {
            prop_assert_eq!(counts[&member.worker.0], member.weight.get() as usize);
        }
    }

    /// Who is alike receives alike, and nobody with an empty queue is passed over for one without.
    #[test]
    fn idle_first_prefers_the_free(waiting in prop::collection::vec(prop::array::uniform6(0..3u64), 1..50)) {
        let mut script = Script::new(StrategyName::IdleFirst, 6);
        for waiting in waiting {
            script.waiting(waiting);
            let chosen = usize::try_from(script.choose() - 1).unwrap();
            prop_assert_eq!(waiting[chosen], waiting.into_iter().min().unwrap());
        }
    }

    /// The clients of a slot that is lost go elsewhere, evenly; those of others stay. So for a
    /// weight that is lowered, and the reverse for a slot that comes.
    #[test]
    fn only_the_clients_of_a_lost_slot_move(lost in 0..6usize, weights in prop::array::uniform6(1..9u32), first in 0..1_000_000u32) {
        let mut script = Script::weighing(StrategyName::SourceHash, &weights);
        let of = |script: &mut Script| -> Vec<u64> {
            (0..200).map(|host| script.choose_for(&v4(first + host))).collect()
        };
        let before = of(&mut script);
        let less = script.members[lost].weight.get() - 1;
        let gone = script.members[lost].worker;
        match NonZeroU32::new(less) {
            Some(less) => script.members[lost].weight = less,
            None => script.leave(gone.0),
        }
        let after = of(&mut script);
        for (before, after) in before.into_iter().zip(after) {
            prop_assert!(before == after || before == gone.0);
        }
    }
}
