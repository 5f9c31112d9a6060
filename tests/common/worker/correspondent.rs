//! `correspond DIRECTORY THREADS`: sends numbered messages to peers chosen by chance until there is
//! a file called [`OVER`], and keeps a ledger of what it sent and of what it got.
//!
//! A unit is up to 16 messages to the same receiver, of which the last has a receipt. Most are
//! short; some are longer than a frame. Now and then it takes nothing for a while.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use worker_proto::ids::Role;
use worker_proto::message::{Recipient, Sender};
use worker_proto::{Event, Message, Messenger, Payload, Peers, Subscription, Worker};

use crate::answer::announce;
use crate::ledger::{Got, Ledger, OVER, Outcome, Unit, done};

pub(crate) fn correspond(directory: &str, threads: &str) -> ExitCode {
    let directory = PathBuf::from(directory);
    let threads: u64 = threads.parse().expect("a number");
    let worker = Worker::connect().expect("connect");
    let id = worker.identity().worker.0;
    let messenger = worker.messenger();
    let inbox = messenger.subscribe(ACTION);
    let got = Ledger::of_got(&directory, id).expect("a ledger");
    let reader = thread::spawn(move || take_in(&inbox, &got, id));
    worker.ready().expect("ready");

    let peers = worker.peers();
    thread::spawn(move || {
        let sent = Ledger::of_sent(&directory, id).expect("a ledger");
        thread::scope(|scope| {
            for thread in 0..threads {
                let (messenger, peers, sent) = (&messenger, peers.clone(), &sent);
                let directory = &directory;
                scope.spawn(move || {
                    let dice = fastrand::Rng::with_seed(id << 8 | thread);
                    let mut writer = Writer {
                        messenger,
                        peers,
                        thread,
                        next: 0,
                        dice,
                    };
                    writer.write_until_over(directory, sent);
                });
            }
        });
        fs::write(done(&directory, id), "").expect("make the file");
    });

    let leaving = |event: &Event| matches!(event, Event::Drain { .. } | Event::MasterGone);
    worker.events().iter().find(leaving);
    let code = worker.leave();
    reader.join().expect("the reader");
    code
}

struct Writer<'a> {
    messenger: &'a Messenger,
    peers: Peers,
    thread: u64,
    next: u64,
    dice: fastrand::Rng,
}

impl Writer<'_> {
    fn write_until_over(&mut self, directory: &Path, sent: &Ledger) {
        while !fs::exists(directory.join(OVER)).expect("look for it") {
            let peers = self.peers.now();
            let workers: Vec<_> = peers
                .iter()
                .filter(|peer| peer.role == Role::Worker)
                .collect();
            if workers.is_empty() {
                // Only until the master has answered.
                thread::yield_now();
                continue;
            }
            let to = workers[self.dice.usize(..workers.len())].worker;
            let unit = self.write(Recipient::Worker(to), to.0);
            sent.note_unit(unit).expect("note it");
        }
    }

    #[allow(clippy::disallowed_methods, reason = "measures real time")]
    fn write(&mut self, recipient: Recipient, to: u64) -> Unit {
        let first = self.next;
        let mut outcome = Outcome::Delivered;
        for _ in 0..self.dice.u64(..MOST_UNIT) {
            let payload = self.payload();
            if let Err(err) = (self.messenger).send_to(recipient.clone(), ACTION, payload) {
                announce(&format!("FAILED: {err}"));
                outcome = Outcome::Failed;
            }
        }
        let payload = self.payload();
        let begun = Instant::now();
        match self
            .messenger
            .deliver(recipient, ACTION, payload, RECEIPT_WITHIN)
        {
            Ok(receipt) if outcome != Outcome::Failed => outcome = receipt.into(),
            Ok(_) => {}
            Err(err) => {
                announce(&format!("FAILED: {err}"));
                outcome = Outcome::Failed;
            }
        }
        let micros = begun.elapsed().as_micros();
        Unit {
            thread: self.thread,
            first,
            count: self.next - first,
            to,
            outcome,
            micros: u64::try_from(micros).unwrap_or(u64::MAX),
        }
    }

    fn payload(&mut self) -> Payload {
        let number = self.next;
        self.next += 1;
        let len = match self.dice.u8(..) {
            0..4 => self.dice.usize(..LONGEST),
            4.. => self.dice.usize(..SHORT),
        };
        let mut bytes = Vec::with_capacity(16 + len);
        bytes.extend_from_slice(&self.thread.to_le_bytes());
        bytes.extend_from_slice(&number.to_le_bytes());
        bytes.resize(16 + len, filler(number));
        Payload::bytes(bytes)
    }
}

/// Notes everything that comes, at its own pace.
#[allow(clippy::disallowed_methods, reason = "takes its time")]
fn take_in(inbox: &Subscription, got: &Ledger, id: u64) {
    let mut dice = fastrand::Rng::with_seed(id);
    for message in inbox.iter() {
        got.note_got(read(&message)).expect("note it");
        if dice.u32(..PAUSE_ONCE_IN) == 0 {
            thread::sleep(PAUSE);
        }
    }
}

fn read(message: &Message) -> Got {
    let Sender::Process { worker, .. } = message.from else {
        panic!("from {:?}", message.from);
    };
    let (header, rest) = message.bytes().split_at(16);
    let word = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("eight"));
    let number = word(8);
    assert!(rest.iter().all(|byte| *byte == filler(number)), "torn");
    Got {
        from: worker.0,
        thread: word(0),
        number,
    }
}

fn filler(number: u64) -> u8 {
    number.to_le_bytes()[0]
}

const ACTION: &str = "letter";

/// How many messages a unit has at most.
const MOST_UNIT: u64 = 16;

/// The longest payload, of one message in 64; it takes several frames.
const LONGEST: usize = 100_000;

/// The longest of the others.
const SHORT: usize = 200;

const RECEIPT_WITHIN: Duration = Duration::from_secs(10);

/// How often it pauses, and how long: what comes meanwhile waits on its channel, and then with
/// the master.
const PAUSE_ONCE_IN: u32 = 2000;
const PAUSE: Duration = Duration::from_millis(20);
