//! The witness: a page shared with a file, in which a worker says what it received.
//!
//! Before a receive it notes whom it is about to receive, right after it adds a record. Memory
//! that is shared with a file outlives any kill, so what a dead worker had received is read, not
//! guessed; a note without its record is a connection that it had received or not.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::{ptr, slice};

use super::fate::Fate;

/// A worker's own page.
pub struct Witness {
    words: &'static [AtomicU64],
    records: AtomicUsize,
}

/// Where a receipt is recorded.
#[derive(Clone, Copy, Debug)]
pub struct Place(usize);

impl Place {
    /// How many packets were received before.
    pub fn packet(self) -> u64 {
        (self.0 - FIRST_RECORD) as u64
    }
}

impl Witness {
    /// Makes the page of this incarnation.
    pub fn open(directory: &Path, worker: u64) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(directory.join(format!("{PREFIX}{worker}")))?;
        file.set_len((WORDS * size_of::<u64>()) as u64)?;
        Ok(Witness {
            words: map(&file)?,
            records: AtomicUsize::new(0),
        })
    }

    /// How many packets were received.
    pub fn received_so_far(&self) -> u64 {
        self.records.load(Ordering::Relaxed) as u64
    }

    /// The next packet is this client's, and about to be received.
    pub fn expect(&self, peer: SocketAddrV4) {
        self.words[NOTE].store(key(peer), Ordering::SeqCst);
    }

    /// What was expected is not there any more.
    pub fn was_not_there(&self) {
        self.words[NOTE].store(0, Ordering::SeqCst);
    }

    /// This client's connection was received.
    pub fn received(&self, peer: SocketAddrV4) -> Place {
        let place = FIRST_RECORD + self.records.fetch_add(1, Ordering::Relaxed);
        self.words[place].store(key(peer) | RECEIVED, Ordering::SeqCst);
        self.words[NOTE].store(0, Ordering::SeqCst);
        Place(place)
    }

    /// The whole answer was written.
    pub fn answered(&self, place: Place) {
        self.words[place.0].fetch_or(ANSWERED, Ordering::SeqCst);
    }

    /// The fate of this worker is coming now.
    pub fn fulfil(&self, fate: Fate) {
        self.words[FATE].store(fate.to_word(), Ordering::SeqCst);
    }
}

/// What one incarnation says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Testimony {
    pub worker: u64,
    /// What it did to itself.
    pub fate: Option<Fate>,
    /// Whom it was about to receive; nobody knows whether it did.
    pub expected: Option<SocketAddrV4>,
    pub receipts: Vec<Receipt>,
}

/// A connection that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    pub peer: SocketAddrV4,
    pub was_answered: bool,
}

impl Testimony {
    /// Everything that the workers of a run said, by their age.
    pub fn all(directory: &Path) -> io::Result<Vec<Self>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let name = entry.file_name();
            let worker = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
            if let Some(worker) = worker.and_then(|worker| worker.parse().ok()) {
                all.push(Self::read(worker, File::open(entry.path())?)?);
            }
        }
        all.sort_by_key(|testimony| testimony.worker);
        Ok(all)
    }

    fn read(worker: u64, mut file: File) -> io::Result<Self> {
        let header = words(&mut file, FIRST_RECORD)?;
        let mut receipts = Vec::new();
        loop {
            let page = words(&mut file, WORDS_PER_PAGE)?;
            let records = page.iter().take_while(|&&record| record != 0);
            receipts.extend(records.map(|&record| Receipt {
                peer: peer(record),
                was_answered: record & ANSWERED != 0,
            }));
            if page.last().is_none_or(|&record| record == 0) {
                break;
            }
        }
        // A note that was not taken back: the kill may have come between record and note.
        let expected = (header[NOTE] != 0).then(|| peer(header[NOTE]));
        let is_recorded = |peer| receipts.last().is_some_and(|last| last.peer == peer);
        Ok(Testimony {
            worker,
            fate: Fate::from_word(header[FATE]),
            expected: expected.filter(|&peer| !is_recorded(peer)),
            receipts,
        })
    }
}

fn words(file: &mut File, count: usize) -> io::Result<Vec<u64>> {
    let mut bytes = Vec::new();
    file.take((count * size_of::<u64>()) as u64)
        .read_to_end(&mut bytes)?;
    let words = bytes.chunks_exact(size_of::<u64>());
    Ok(words
        .map(|word| u64::from_ne_bytes(word.try_into().expect("as long as a word")))
        .collect())
}

fn key(peer: SocketAddrV4) -> u64 {
    u64::from(peer.ip().to_bits()) << 16 | u64::from(peer.port())
}

fn peer(record: u64) -> SocketAddrV4 {
    let ip = u32::try_from(record >> 16 & 0xffff_ffff).expect("32 bits");
    let port = u16::try_from(record & 0xffff).expect("16 bits");
    SocketAddrV4::new(Ipv4Addr::from_bits(ip), port)
}

#[allow(unsafe_code, reason = "memory shared with a file")]
fn map(file: &File) -> io::Result<&'static [AtomicU64]> {
    let (read_write, length) = (libc::PROT_READ | libc::PROT_WRITE, WORDS * size_of::<u64>());
    // SAFETY: a new mapping at an address that the kernel chooses; it touches no other memory.
    let start = unsafe {
        libc::mmap(
            ptr::null_mut(),
            length,
            read_write,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            0,
        )
    };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the mapping is page-aligned, this long, and never unmapped; every access to it, by
    // whatever process, is to an atomic word or through read(2).
    Ok(unsafe { slice::from_raw_parts(start.cast(), WORDS) })
}

const PREFIX: &str = "worker-";

/// What the words of a page are.
const FATE: usize = 0;
const NOTE: usize = 1;
const FIRST_RECORD: usize = 8;

/// A page is sparse: what is not written takes no room.
const WORDS: usize = 4 << 20;
const WORDS_PER_PAGE: usize = 512;

/// Above the 48 bits of an address and port.
const RECEIVED: u64 = 1 << 48;
const ANSWERED: u64 = 1 << 49;
