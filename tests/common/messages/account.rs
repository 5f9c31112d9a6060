//! The account: the ledgers of both ends put together.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::io;
use std::path::Path;

use crate::ledger::{self, Outcome, Unit};

/// What became of all messages.
#[derive(Debug, Default)]
pub(crate) struct Account {
    pub(crate) received: u64,
    /// Their senders noted them; those of the killed are known as far as that.
    pub(crate) sent: u64,
    /// By what their senders were told.
    pub(crate) reported: BTreeMap<Outcome, u64>,
    /// Delivered to somebody who was killed, and noted nowhere.
    pub(crate) taken_along: u64,
    /// Without a receipt of its own, before one that was reported.
    pub(crate) before_reported: u64,
    /// Received, and their senders were killed before they could note them.
    pub(crate) unnoted: u64,
    /// How many pairs of a sender's thread and a receiver there were.
    pub(crate) pairs: usize,
    /// Of receipts, in microseconds, sorted.
    pub(crate) delays: Vec<u64>,
    pub(crate) broken: Vec<Broken>,
}

/// A promise that was not kept.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Broken {
    /// One after another that was sent later, or a second time.
    Order {
        from: u64,
        to: u64,
        last: u64,
        number: u64,
    },
    /// Delivered to somebody who lives, and not received.
    Lost { from: u64, unit: Unit, number: u64 },
    /// Its sender was told that nobody got it, and somebody has.
    Denied { from: u64, unit: Unit, number: u64 },
    /// Its sender was told that nobody is there, and somebody is.
    Refused { from: u64, unit: Unit },
    /// Something that must not be.
    Failed { from: u64, unit: Unit },
    /// Received by somebody for whom it was not.
    Astray { from: u64, to: u64, number: u64 },
    /// Received, and its sender lives and knows nothing of it.
    Unknown { from: u64, to: u64, number: u64 },
}

/// One message: its sender, the sender's thread, its number.
type Key = (u64, u64, u64);

impl Account {
    pub(crate) fn of(ledgers: &Path, killed: &BTreeSet<u64>) -> io::Result<Self> {
        let mut account = Account::default();
        let received = account.receive(ledgers)?;
        account.compare(ledgers, killed, &received)?;
        Ok(account)
    }

    /// Who received what; each receiver by itself shows the order.
    fn receive(&mut self, ledgers: &Path) -> io::Result<HashMap<Key, u64>> {
        let mut received = HashMap::new();
        for (to, notes) in ledger::got(ledgers)? {
            let mut last: HashMap<(u64, u64), u64> = HashMap::new();
            self.received += notes.len() as u64;
            for got in notes {
                let (from, number) = (got.from, got.number);
                let before = last.insert((from, got.thread), number);
                if let Some(last) = before.filter(|last| *last >= number) {
                    self.broken.push(Broken::Order {
                        from,
                        to,
                        last,
                        number,
                    });
                }
                if received.insert((from, got.thread, number), to).is_some() {
                    self.broken.push(Broken::Astray { from, to, number });
                }
            }
            self.pairs += last.len();
        }
        Ok(received)
    }

    fn compare(
        &mut self,
        ledgers: &Path,
        killed: &BTreeSet<u64>,
        received: &HashMap<Key, u64>,
    ) -> io::Result<()> {
        let mut noted = HashSet::new();
        for (from, units) in ledger::sent(ledgers)? {
            for unit in units {
                self.sent += unit.count;
                self.delays.push(unit.micros);
                self.weigh(from, unit, killed.contains(&unit.to));
                for number in unit.first..unit.first + unit.count {
                    let key = (from, unit.thread, number);
                    noted.insert(key);
                    let got_by = received.get(&key);
                    self.follow((from, unit, number), got_by, killed);
                }
            }
        }
        for (&(from, thread, number), &to) in received {
            if noted.contains(&(from, thread, number)) {
                continue;
            }
            if killed.contains(&from) {
                self.unnoted += 1;
            } else {
                self.broken.push(Broken::Unknown { from, to, number });
            }
        }
        self.delays.sort_unstable();
        Ok(())
    }

    /// What the sender was told of a unit, whatever became of it.
    fn weigh(&mut self, from: u64, unit: Unit, is_killed: bool) {
        match unit.outcome {
            Outcome::Delivered | Outcome::Full | Outcome::Expired => {}
            Outcome::NoSuchPeer if is_killed => {}
            // Nobody is told to leave while messages are sent.
            Outcome::NoSuchPeer | Outcome::Draining => {
                self.broken.push(Broken::Refused { from, unit });
            }
            Outcome::Failed => self.broken.push(Broken::Failed { from, unit }),
        }
    }

    fn follow(
        &mut self,
        (from, unit, number): (u64, Unit, u64),
        got_by: Option<&u64>,
        killed: &BTreeSet<u64>,
    ) {
        let is_last = number + 1 == unit.first + unit.count;
        let is_killed = killed.contains(&unit.to);
        match (got_by, unit.outcome) {
            (Some(&to), _) if to != unit.to => {
                self.broken.push(Broken::Astray { from, to, number });
            }
            (Some(_), Outcome::Delivered) => {}
            (Some(_), _) if is_last => self.broken.push(Broken::Denied { from, unit, number }),
            (Some(_), _) => {}
            (None, Outcome::Delivered) if is_killed => self.taken_along += 1,
            (None, Outcome::Delivered) => self.broken.push(Broken::Lost { from, unit, number }),
            (None, outcome) if is_last => *self.reported.entry(outcome).or_default() += 1,
            (None, _) => self.before_reported += 1,
        }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Broken::Order {
                from,
                to,
                last,
                number,
            } => write!(f, "w{to} received {number} of w{from} after {last}"),
            Broken::Lost { from, unit, number } => {
                write!(f, "{number} of w{from} was lost: {unit:?}")
            }
            Broken::Denied { from, unit, number } => {
                write!(f, "{number} of w{from} was received: {unit:?}")
            }
            Broken::Refused { from, unit } => {
                write!(f, "w{from} was told that nobody is there: {unit:?}")
            }
            Broken::Failed { from, unit } => write!(f, "w{from} failed to send: {unit:?}"),
            Broken::Astray { from, to, number } => {
                write!(f, "w{to} received {number} of w{from}, which others have")
            }
            Broken::Unknown { from, to, number } => {
                write!(
                    f,
                    "w{to} received {number} of w{from}, which knows nothing of it"
                )
            }
        }
    }
}
