//! The verdict: what the clients say against what the workers say.
//!
//! Broken is a promise of the master's, or the harness itself: that an answer comes from a worker
//! that says it received the connection is checked for every connection.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use super::client::{Account, Ending};
use super::origin::Origin;
use super::witness::Testimony;

/// What became of all connections.
#[derive(Debug, Default)]
pub struct Verdict {
    /// How many connections ended how.
    pub endings: BTreeMap<&'static str, u64>,
    /// Lost, and received by a worker that was ended: with these it may happen.
    pub lost_when_received: u64,
    /// Lost, and about to be received when the worker was ended.
    pub lost_when_possibly_received: u64,
    /// Everything that must not be.
    pub broken: Vec<Broken>,
}

/// Something that must not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// Not answered, and no worker had received it.
    Lost(Origin, Ending),
    /// Received by two workers, or answered twice.
    Twice(Origin),
    /// Received by a worker that nobody ended, and not answered.
    Unexplained(Origin, Ending, u64),
    /// The worker had written the whole answer.
    Unheard(Origin, Ending, u64),
    /// Another answer than the right one.
    Wrong(Origin),
    /// Answered by another worker than the one that says it received it.
    Contradicted(Origin),
    /// More connections were lost with this worker than it can have had in hand.
    TooMany(u64),
}

/// What the workers say of one connection.
#[derive(Clone, Copy)]
struct Received {
    worker: u64,
    was_answered: bool,
    times: u32,
}

impl Verdict {
    /// Weighs accounts against testimonies; `ended` are the workers that were killed from outside.
    pub fn weigh<'a>(
        accounts: impl IntoIterator<Item = &'a Account>,
        testimonies: &[Testimony],
        ended: &BTreeSet<u64>,
    ) -> Self {
        let did_end = |testimony: &&Testimony| {
            ended.contains(&testimony.worker)
                || testimony.fate.is_some_and(|fate| fate.deed.is_fatal())
        };
        let ended: BTreeSet<u64> = testimonies
            .iter()
            .filter(did_end)
            .map(|testimony| testimony.worker)
            .collect();
        let mut expected = BTreeSet::new();
        let mut received: HashMap<Origin, Received> = HashMap::new();
        for testimony in testimonies {
            let worker = testimony.worker;
            if ended.contains(&worker) {
                expected.extend(testimony.expected.map(Origin::of));
            }
            for receipt in &testimony.receipts {
                let entry = received.entry(Origin::of(receipt.peer));
                let by = entry.or_insert(Received {
                    worker,
                    was_answered: receipt.was_answered,
                    times: 0,
                });
                by.times += 1;
            }
        }

        let mut verdict = Verdict::default();
        let mut lost_with: BTreeMap<u64, usize> = BTreeMap::new();
        for &Account { origin, ending, .. } in accounts {
            *verdict.endings.entry(ending.name()).or_default() += 1;
            let by = received.get(&origin).copied();
            if ending == Ending::Twice || by.is_some_and(|by| by.times > 1) {
                verdict.broken.push(Broken::Twice(origin));
                continue;
            }
            match (ending, by) {
                (Ending::Wrong, _) => verdict.broken.push(Broken::Wrong(origin)),
                (Ending::Once(answer), Some(by)) if by.worker == answer.worker => {}
                (Ending::Once(_), _) => verdict.broken.push(Broken::Contradicted(origin)),
                (_, None) if expected.contains(&origin) => verdict.lost_when_possibly_received += 1,
                (_, None) => verdict.broken.push(Broken::Lost(origin, ending)),
                (_, Some(by)) if by.was_answered => {
                    let unheard = Broken::Unheard(origin, ending, by.worker);
                    verdict.broken.push(unheard);
                }
                (_, Some(by)) if ended.contains(&by.worker) => {
                    verdict.lost_when_received += 1;
                    *lost_with.entry(by.worker).or_default() += 1;
                }
                (_, Some(by)) => {
                    let unexplained = Broken::Unexplained(origin, ending, by.worker);
                    verdict.broken.push(unexplained);
                }
            }
        }
        let too_many = lost_with.iter().filter(|&(_, &lost)| lost > MOST_IN_HAND);
        let too_many = too_many.map(|(&worker, _)| Broken::TooMany(worker));
        verdict.broken.extend(too_many);
        verdict
    }

    pub fn connections(&self) -> u64 {
        self.endings.values().sum()
    }

    /// How many of the broken are of that kind.
    pub fn count(&self, kind: impl Fn(&Broken) -> bool) -> usize {
        self.broken.iter().filter(|broken| kind(broken)).count()
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = |origin: Origin| format!("connection {} from {}", origin.0, origin.address());
        match *self {
            Broken::Lost(origin, ending) => {
                let (who, how) = (who(origin), ending.name());
                write!(f, "{who}: {how}, and no worker had received it")
            }
            Broken::Twice(origin) => write!(f, "{}: served twice", who(origin)),
            Broken::Unexplained(origin, ending, worker) => {
                let (who, how) = (who(origin), ending.name());
                write!(f, "{who}: {how}, received by w{worker}, which lived on")
            }
            Broken::Unheard(origin, ending, worker) => {
                let (who, how) = (who(origin), ending.name());
                write!(f, "{who}: {how}, and w{worker} had answered")
            }
            Broken::Wrong(origin) => write!(f, "{}: a wrong answer", who(origin)),
            Broken::Contradicted(origin) => {
                let who = who(origin);
                write!(f, "{who}: answered by a worker that did not receive it")
            }
            Broken::TooMany(worker) => {
                write!(f, "w{worker}: more than {MOST_IN_HAND} lost with it")
            }
        }
    }
}

/// How many connections a test worker has in hand: one for each thread, and the next.
pub const MOST_IN_HAND: usize = THREADS + 1;

/// How many threads of a test worker answer.
pub const THREADS: usize = 4;
