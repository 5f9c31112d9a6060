//! The harness that says what was lost, itself tested: it misses nothing and accuses nobody.

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use common::evidence::client::{Account, Ending};
use common::evidence::fate::{Deed, Fate, State};
use common::evidence::origin::Origin;
use common::evidence::verdict::{Broken, MOST_IN_HAND, Verdict};
use common::evidence::wire::{Answer, request};
use common::evidence::witness::{Receipt, Testimony, Witness};

const ONE: Origin = Origin(1);

#[test]
fn every_broken_promise_is_named() {
    let answered = Ending::Once(answer(7));
    let reset = Ending::Reset;
    let living = |received: &[Receipt]| said(7, received);
    for (ending, testimonies, broken) in [
        (reset, vec![living(&[])], Broken::Lost(ONE, reset)),
        (
            reset,
            vec![living(&[read(1)])],
            Broken::Unexplained(ONE, reset, 7),
        ),
        (
            reset,
            vec![killed(7, &[told(1)])],
            Broken::Unheard(ONE, reset, 7),
        ),
        (
            answered,
            vec![living(&[told(1)]), killed(8, &[read(1)])],
            Broken::Twice(ONE),
        ),
        (
            answered,
            vec![living(&[told(1), read(1)])],
            Broken::Twice(ONE),
        ),
        (Ending::Twice, vec![living(&[told(1)])], Broken::Twice(ONE)),
        (Ending::Wrong, vec![living(&[told(1)])], Broken::Wrong(ONE)),
        (
            answered,
            vec![said(8, &[told(1)])],
            Broken::Contradicted(ONE),
        ),
        (answered, vec![living(&[])], Broken::Contradicted(ONE)),
    ] {
        let verdict = weigh(&[account(1, ending)], &testimonies);
        assert_eq!(verdict.broken, [broken], "{ending:?}");
    }
    let lost = 0..=u32::try_from(MOST_IN_HAND).unwrap();
    let accounts: Vec<_> = lost.clone().map(|id| account(id, reset)).collect();
    let received: Vec<_> = lost.map(read).collect();
    let verdict = weigh(&accounts, &[killed(7, &received)]);
    assert_eq!(verdict.broken, [Broken::TooMany(7)]);
}

#[test]
fn what_a_kill_explains_is_counted_and_not_broken() {
    let answered = Ending::Once(answer(7));
    let accounts = [
        account(1, answered),
        account(2, Ending::Reset),
        account(3, Ending::Reset),
    ];
    let mut testimony = killed(7, &[told(1), read(2)]);
    testimony.expected = Some(Origin(3).address());
    let verdict = weigh(&accounts, &[testimony.clone()]);
    assert_eq!(verdict.broken, []);
    assert_eq!(verdict.lost_when_received, 1);
    assert_eq!(verdict.lost_when_possibly_received, 1);
    assert_eq!(verdict.connections(), 3);

    // Without a kill nothing is explained, unless it was killed from outside.
    testimony.fate = None;
    assert_eq!(weigh(&accounts, &[testimony.clone()]).broken.len(), 2);
    let verdict = Verdict::weigh(&accounts, &[testimony], &BTreeSet::from([7]));
    assert_eq!(verdict.broken, []);
}

/// As a worker leaves it that is killed before it receives what it expects.
#[test]
fn a_witness_says_what_was_received_answered_and_expected() {
    let directory = tempfile::tempdir().unwrap();
    let witness = Witness::open(directory.path(), 7).unwrap();
    for id in 1..=2000 {
        witness.expect(Origin(id).address());
        let place = witness.received(Origin(id).address());
        if id != 2000 {
            witness.answered(place);
        }
    }
    witness.expect(Origin(2001).address());
    witness.fulfil(KILLED);
    let mut expected = killed(7, &(1..2000).map(told).collect::<Vec<_>>());
    expected.receipts.push(read(2000));
    expected.expected = Some(Origin(2001).address());
    assert_eq!(Testimony::all(directory.path()).unwrap(), [expected]);
}

#[test]
fn an_answer_with_a_wrong_bit_is_no_answer() {
    let whole = answer(7).encode();
    assert_eq!(Answer::decode(&whole, 1), Some(answer(7)));
    assert_eq!(Answer::decode(&whole, 2), None);
    for bit in 0..whole.len() * 8 {
        let mut changed = whole;
        changed[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(Answer::decode(&changed, 1), None, "bit {bit}");
    }
    let mut changed = request(1);
    changed[20] ^= 1;
    let heard_wrongly = Answer::to(&changed, 7, 4711).encode();
    assert_eq!(Answer::decode(&heard_wrongly, 1), None);
}

#[test]
fn an_address_says_whose_it_is() {
    for id in [0, 1, 39_999, 40_000, 1_000_000, 2_000_000_000] {
        assert_eq!(Origin::of(Origin(id).address()), Origin(id));
    }
}

#[test]
fn a_fate_is_the_same_when_it_is_written_down() {
    let fate = Fate::parse("half-answered:slow:9", 1).unwrap();
    let expected = Fate {
        state: State::HalfAnswered,
        deed: Deed::Slow,
        packet: 9,
    };
    assert_eq!(fate, expected);
    assert_eq!(Fate::from_word(fate.to_word()), Some(fate));
    assert_eq!(Fate::from_word(0), None);
    assert_eq!(Fate::parse("seed:3", 5), Fate::drawn(3, 5));
}

fn weigh(accounts: &[Account], testimonies: &[Testimony]) -> Verdict {
    Verdict::weigh(accounts, testimonies, &BTreeSet::new())
}

fn account(id: u32, ending: Ending) -> Account {
    Account {
        origin: Origin(id),
        ending,
        took: Duration::ZERO,
    }
}

fn answer(worker: u64) -> Answer {
    Answer::to(&request(1), worker, 4711)
}

fn said(worker: u64, receipts: &[Receipt]) -> Testimony {
    Testimony {
        worker,
        fate: None,
        expected: None,
        receipts: receipts.to_vec(),
    }
}

/// The same, of one that has killed itself.
fn killed(worker: u64, receipts: &[Receipt]) -> Testimony {
    Testimony {
        fate: Some(KILLED),
        ..said(worker, receipts)
    }
}

fn read(id: u32) -> Receipt {
    Receipt {
        peer: Origin(id).address(),
        was_answered: false,
    }
}

fn told(id: u32) -> Receipt {
    Receipt {
        was_answered: true,
        ..read(id)
    }
}

const KILLED: Fate = Fate {
    state: State::PacketRead,
    deed: Deed::Kill,
    packet: 2,
};
