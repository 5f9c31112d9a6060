//! The ledger: what became of each message, from both ends, written down at once.
//!
//! A sender notes a unit when it has the receipt of its last message, a receiver each message when
//! it has it. Each note is one `write(2)` at the end of a file of that process, so it survives
//! SIGKILL, whole or not at all.
#![allow(dead_code, reason = "each program uses its own part")]
#![allow(unreachable_pub, reason = "each program is a crate of its own")]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use worker_proto::message::Receipt;

/// Some messages that one thread sent one after the other to one receiver, the last one with a
/// receipt.
#[derive(Clone, Copy, Debug)]
pub struct Unit {
    pub thread: u64,
    /// Counted by the thread over all its receivers.
    pub first: u64,
    pub count: u64,
    /// The receiver's id.
    pub to: u64,
    pub outcome: Outcome,
    /// From the sending of the last one to its receipt.
    pub micros: u64,
}

/// A message that was received.
#[derive(Clone, Copy, Debug)]
pub struct Got {
    pub from: u64,
    pub thread: u64,
    pub number: u64,
}

/// What the sender of a unit was told of its last message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    Delivered,
    NoSuchPeer,
    Full,
    Draining,
    Expired,
    /// Anything that must not be.
    Failed,
}

impl Outcome {
    const ALL: [Self; 6] = [
        Outcome::Delivered,
        Outcome::NoSuchPeer,
        Outcome::Full,
        Outcome::Draining,
        Outcome::Expired,
        Outcome::Failed,
    ];
}

impl From<Receipt> for Outcome {
    fn from(receipt: Receipt) -> Self {
        match receipt {
            Receipt::Delivered {
                receivers: 1,
                missed: 0,
            } => Outcome::Delivered,
            Receipt::NoSuchPeer => Outcome::NoSuchPeer,
            Receipt::Full => Outcome::Full,
            Receipt::Draining => Outcome::Draining,
            Receipt::Expired => Outcome::Expired,
            Receipt::Delivered { .. }
            | Receipt::TooLarge
            | Receipt::UnknownContentType
            | Receipt::BadAction
            | Receipt::TooManyRequests => Outcome::Failed,
        }
    }
}

/// One process's file.
#[derive(Debug)]
pub struct Ledger(File);

impl Ledger {
    pub fn of_sent(directory: &Path, worker: u64) -> io::Result<Self> {
        Self::open(&directory.join(format!("sent.{worker}")))
    }

    pub fn of_got(directory: &Path, worker: u64) -> io::Result<Self> {
        Self::open(&directory.join(format!("got.{worker}")))
    }

    fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Ledger(file))
    }

    pub fn note_unit(&self, unit: Unit) -> io::Result<()> {
        let Unit {
            thread,
            first,
            count,
            to,
            outcome,
            micros,
        } = unit;
        self.note([thread, first, count, to, outcome as u64, micros])
    }

    pub fn note_got(&self, got: Got) -> io::Result<()> {
        self.note([got.from, got.thread, got.number])
    }

    fn note<const N: usize>(&self, words: [u64; N]) -> io::Result<()> {
        let bytes: Vec<u8> = words.into_iter().flat_map(u64::to_le_bytes).collect();
        (&self.0).write_all(&bytes)
    }
}

/// What each sender noted, by its id.
pub fn sent(directory: &Path) -> io::Result<Vec<(u64, Vec<Unit>)>> {
    let read = |[thread, first, count, to, outcome, micros]: [u64; 6]| Unit {
        thread,
        first,
        count,
        to,
        outcome: Outcome::ALL[usize::try_from(outcome).expect("small")],
        micros,
    };
    notes(directory, "sent.", read)
}

/// What each receiver noted, in its order, by its id.
pub fn got(directory: &Path) -> io::Result<Vec<(u64, Vec<Got>)>> {
    let read = |[from, thread, number]: [u64; 3]| Got {
        from,
        thread,
        number,
    };
    notes(directory, "got.", read)
}

/// How many messages were received so far.
pub fn received(directory: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for (_, path) in files(directory, "got.")? {
        bytes += fs::metadata(path)?.len();
    }
    Ok(bytes / 24)
}

fn notes<const N: usize, T>(
    directory: &Path,
    prefix: &str,
    read: impl Fn([u64; N]) -> T,
) -> io::Result<Vec<(u64, Vec<T>)>> {
    let mut all = Vec::new();
    for (worker, path) in files(directory, prefix)? {
        let bytes = fs::read(path)?;
        let notes = bytes.chunks_exact(N * 8).map(|note| {
            let mut words = note.chunks_exact(8);
            read(std::array::from_fn(|_| {
                let word = words.next().expect("enough of them");
                u64::from_le_bytes(word.try_into().expect("eight bytes"))
            }))
        });
        all.push((worker, notes.collect()));
    }
    Ok(all)
}

fn files(directory: &Path, prefix: &str) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let worker = name.to_str().and_then(|name| name.strip_prefix(prefix));
        if let Some(worker) = worker.and_then(|id| id.parse().ok()) {
            files.push((worker, entry.path()));
        }
    }
    Ok(files)
}

/// A file by which everybody is told to send nothing more.
pub const OVER: &str = "over";

/// A file by which that one says that it does not any more.
pub fn done(directory: &Path, worker: u64) -> PathBuf {
    directory.join(format!("done.{worker}"))
}
