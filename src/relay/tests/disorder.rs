//! The relay in disorder: processes that come, go, send, read and take by chance.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;

use super::*;

/// Order is kept for every pair, nothing arrives twice, whoever wants to know learns what became of
/// each message exactly once, and in the end nothing is held.
#[test]
fn whatever_happens_every_message_is_accounted_for() {
    let seeds = std::env::var("RR_SIM_SEEDS").map_or(300, |seeds| seeds.parse().unwrap());
    let mut kinds = BTreeMap::new();
    for seed in 0..seeds {
        World::new(seed).run(&mut kinds);
    }
    for kind in ["delivered", "gone", "full", "draining", "expired"] {
        assert!(kinds.contains_key(kind), "{kind} never happens: {kinds:?}");
    }
}

struct World {
    relay: Relay,
    now: Instant,
    dice: Rng,
    seed: u64,
    next_worker: u64,
    present: BTreeMap<WorkerId, Process>,
    /// Messages whose sender lives and has not heard of them.
    unsettled: BTreeSet<(WorkerId, MessageId)>,
    kinds: BTreeMap<&'static str, u64>,
}

/// A process as a test sees it.
#[derive(Default)]
struct Process {
    sent: u64,
    /// The last message of each sender that came here.
    heard: BTreeMap<WorkerId, MessageId>,
    /// What came and was not taken.
    untaken: u64,
    /// Pieces that are to come, and of how much.
    missing: u64,
    /// The requests that it has not answered.
    owed: Vec<(WorkerId, MessageId)>,
}

impl World {
    fn new(seed: u64) -> Self {
        let limits = Limits {
            max_message: 1 << 20,
            memory: 3 << 20,
            hold: Duration::from_secs(10),
        };
        World {
            relay: Relay::new(limits, vec!["a".to_owned()], 4, seed),
            now: Instant::now(),
            dice: Rng::with_seed(seed),
            seed,
            next_worker: 1,
            present: BTreeMap::new(),
            unsettled: BTreeSet::new(),
            kinds: BTreeMap::new(),
        }
    }

    fn run(mut self, kinds: &mut BTreeMap<&'static str, u64>) {
        for step in 0..400 {
            if step == 60 {
                self.relay.note_cluster_ready(self.now);
            }
            self.step();
            assert!(self.relay.memory() <= 3 << 20, "seed {}", self.seed);
        }
        // Everybody reads and takes everything, and time passes.
        for _ in 0..100 {
            self.now += Duration::from_secs(1);
            self.relay.tick(self.now);
            for worker in self.present.keys().copied().collect::<Vec<_>>() {
                self.takes(worker);
                self.reads(worker, usize::MAX);
            }
        }
        assert_eq!(self.unsettled, BTreeSet::new(), "seed {}", self.seed);
        assert_eq!(self.relay.memory(), 0, "seed {}", self.seed);
        assert!(self.relay.active().is_empty(), "seed {}", self.seed);
        assert!(self.relay.receipts.is_empty(), "seed {}", self.seed);
        assert_eq!(self.relay.next_deadline(), None, "seed {}", self.seed);
        for (kind, count) in self.kinds {
            *kinds.entry(kind).or_default() += count;
        }
    }

    fn step(&mut self) {
        match self.dice.u32(..100) {
            0..8 => self.comes(),
            8..12 => self.goes(),
            12..20 => self.changes(),
            20..65 => self.says(),
            65..85 => {
                if let Some(worker) = self.somebody() {
                    let frames = self.dice.usize(..40);
                    self.reads(worker, frames);
                }
            }
            85..95 => {
                if let Some(worker) = self.somebody() {
                    self.takes(worker);
                }
            }
            _ => {
                self.now += Duration::from_millis(self.dice.u64(..3000));
                self.relay.tick(self.now);
            }
        }
    }

    fn comes(&mut self) {
        if self.present.len() >= 6 {
            return;
        }
        let (worker, slot) = (self.next_worker, self.dice.u32(..4));
        self.next_worker += 1;
        let mut who = identity(worker, Role::Worker, slot);
        if self.dice.u32(..4) == 0 {
            who = Identity {
                name: Some("a".to_owned()),
                ..identity(worker, Role::Agent, 0)
            };
        }
        self.relay.join(self.now, who);
        self.present.insert(w(worker), Process::default());
    }

    fn goes(&mut self) {
        if let Some(worker) = self.somebody() {
            self.relay.part(worker);
            self.present.remove(&worker);
            self.unsettled.retain(|(sender, _)| *sender != worker);
        }
    }

    fn changes(&mut self) {
        if let Some(worker) = self.somebody() {
            let state = self.dice.choice([
                WorkerState::Serving,
                WorkerState::Serving,
                WorkerState::Standby,
                WorkerState::Leaving,
            ]);
            self.relay.note_state(worker, state.unwrap());
        }
    }

    fn says(&mut self) {
        let Some(from) = self.somebody() else {
            return;
        };
        if self.relay.is_swamped(from) {
            return;
        }
        let to = self.somebody().unwrap_or(from);
        let recipient = match self.dice.u32(..12) {
            0..4 => Recipient::Worker(to),
            4 => Recipient::Worker(WorkerId(self.dice.u64(1..self.next_worker))),
            5 => Recipient::Slot {
                role: Role::Worker,
                slot: Slot(self.dice.u32(..5)),
            },
            6 => Recipient::Agent(None),
            7 => Recipient::Workers,
            8 => Recipient::Everyone,
            9 => Recipient::Others,
            10 => Recipient::AnyWorker,
            _ => Recipient::Pid(u32::try_from(to.0).unwrap() + 1000),
        };
        let owed = &mut self.present.get_mut(&from).unwrap().owed;
        let (recipient, kind) = match (self.dice.u32(..4), owed.pop()) {
            (0, _) => (recipient, Kind::Request),
            (1, Some((asker, to))) => (Recipient::Worker(asker), Kind::Reply { to }),
            _ => (recipient, Kind::Message),
        };
        let mut missing = match self.dice.u32(..6) {
            0 => self.dice.u64(..1_200_000),
            1 | 2 => self.dice.u64(..90_000),
            _ => self.dice.u64(..300),
        };
        let process = self.present.get_mut(&from).unwrap();
        process.sent += 1;
        let number = MessageId(process.sent);
        let len_bytes = missing;
        let mut piece = || {
            let len = missing.min(MAX_CHUNK_BYTES as u64);
            missing -= len;
            Bytes::from(vec![0; usize::try_from(len).unwrap()])
        };
        let within_ms = self.dice.bool().then(|| self.dice.u32(1..6000));
        let send = Send {
            kind,
            within_ms,
            len_bytes,
            chunk: piece(),
            ..message(number.0, recipient, "")
        };
        self.unsettled.insert((from, number));
        self.relay.send(self.now, from, send).unwrap();
        for index in 1.. {
            let chunk = piece();
            if chunk.is_empty() {
                break;
            }
            let more = More { index, chunk };
            self.relay.send_more(self.now, from, more).unwrap();
        }
    }

    fn reads(&mut self, worker: WorkerId, most: usize) {
        for _ in 0..most {
            let Some(frame) = self.relay.frame(worker) else {
                return;
            };
            self.relay.note_sent(worker);
            self.hears(worker, frame);
        }
    }

    fn hears(&mut self, worker: WorkerId, frame: FromMaster) {
        let process = self.present.get_mut(&worker).unwrap();
        match frame {
            FromMaster::Deliver(first) => {
                assert_eq!(process.missing, 0, "seed {}: in between", self.seed);
                let Sender::Process { worker: from, .. } = first.from else {
                    panic!("the master says nothing");
                };
                let last = process.heard.insert(from, first.message);
                assert!(
                    last.is_none_or(|last| last < first.message),
                    "seed {}: {worker} heard {last:?} of {from}, then {:?}",
                    self.seed,
                    first.message
                );
                if first.kind == Kind::Request {
                    process.owed.push((from, first.message));
                }
                process.missing = first.len_bytes - first.chunk.len() as u64;
                process.untaken += first.len_bytes + MESSAGE_OVERHEAD_BYTES;
            }
            FromMaster::DeliverMore(more) => process.missing -= more.chunk.len() as u64,
            FromMaster::Receipt { message, receipt } => self.learns((worker, message), receipt),
            other => panic!("{other:?}"),
        }
    }

    fn learns(&mut self, message: (WorkerId, MessageId), receipt: Receipt) {
        let kind = match receipt {
            Receipt::Delivered { .. } => "delivered",
            Receipt::NoSuchPeer => "gone",
            Receipt::Full => "full",
            Receipt::Draining => "draining",
            Receipt::Expired => "expired",
            _ => "refused",
        };
        *self.kinds.entry(kind).or_default() += 1;
        let is_first = self.unsettled.remove(&message);
        // A request that was delivered may lose the one who owes the reply.
        let is_lost_reply = receipt == Receipt::NoSuchPeer;
        assert!(
            is_first || is_lost_reply,
            "seed {}: {message:?} a second time: {receipt:?}",
            self.seed
        );
    }

    fn takes(&mut self, worker: WorkerId) {
        let process = self.present.get_mut(&worker).unwrap();
        let taken = std::mem::take(&mut process.untaken);
        self.relay.note_taken(worker, taken);
    }

    fn somebody(&mut self) -> Option<WorkerId> {
        let present: Vec<_> = self.present.keys().copied().collect();
        self.dice.choice(present)
    }
}
