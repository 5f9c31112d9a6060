//! A master and a worker that share a page, and what must stand on it.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, SealFlag, fallocate, fcntl};
use worker_proto::scoreboard::{MAGIC, Reading, Score, ScoreState, Scoreboard, VERSION};
use worker_proto::tally::{AttachError, Tally};

use super::image::{
    BYTES, DRAINING, FINISHED_AT, Image, MAGIC_AT, NOT_ATTACHED, RECEIVED_AT, REQUESTS_AT, SERVING,
    STATE_AT, VERSION_AT, WAKE_AT,
};

/// A count of connections that a worker adds.
#[derive(Clone, Copy)]
pub enum Amount {
    /// So many, or as many as there are.
    Possible(u64),
    /// Whether there are as many or not.
    Any(u64),
}

/// The two sides, and what is expected of them.
pub struct Model {
    /// The master's view, until it forgets the worker.
    scoreboard: Option<Scoreboard>,
    handed_off: u64,
    /// What the master read last, and what it had handed off then.
    last: (Option<Score>, u64),
    /// The worker's descriptor, through which anything may be written.
    page: File,
    /// The worker's mappings, one for each time it attached.
    tallies: Vec<Tally>,
    /// What must stand on the page.
    image: Image,
    /// Whether all that the worker has said so far was true.
    is_honest: bool,
}

/// The master.
impl Model {
    pub fn new() -> Self {
        let (scoreboard, page) = Scoreboard::create().expect("a descriptor and a page");
        Model {
            scoreboard: Some(scoreboard),
            handed_off: 0,
            last: (None, 0),
            page: page.into(),
            tallies: Vec::new(),
            image: Image::new(),
            is_honest: true,
        }
    }

    pub fn hand_off(&mut self, connections: u64) {
        self.handed_off = self.handed_off.saturating_add(connections);
    }

    /// Only what the worker has not received can be reclaimed.
    pub fn reclaim(&mut self, connections: u64) {
        self.handed_off -= connections.min(self.unreceived());
    }

    /// Any number, and perhaps not that of before.
    pub fn set_handed_off(&mut self, connections: u64) {
        self.is_honest &= self.image.count(RECEIVED_AT) <= connections;
        self.handed_off = connections;
    }

    pub fn ask_for_relief(&mut self) {
        if let Some(scoreboard) = &self.scoreboard {
            scoreboard.ask_for_relief();
            self.image.set_word(WAKE_AT, 1);
        }
    }

    /// The worker, if it lives, goes on.
    pub fn forget(&mut self) {
        self.scoreboard = None;
    }

    pub fn read(&mut self) {
        let Some(scoreboard) = &mut self.scoreboard else {
            return;
        };
        let Reading { score, nonsense } = scoreboard.read(self.handed_off);
        let (last, last_handed_off) = self.last;
        if let Some(score) = score {
            assert!(score.finished <= score.received);
            assert!(score.received <= self.handed_off);
            assert_eq!(score.open(), score.received - score.finished);
        }
        if let Some(last) = last {
            let score = score.expect("who has attached stays attached");
            is_later(score, last, self.handed_off >= last_handed_off);
        }
        let claim = self.image.claim();
        let is_possible = claim.is_possible(last, self.handed_off);
        match nonsense {
            None => {
                assert!(is_possible, "{claim:?} is believed");
                assert_eq!(score, claim.believed());
            }
            Some(what) => {
                assert!(!is_possible, "{claim:?}: {what}");
                assert!(!self.is_honest, "of an honest worker: {what}");
            }
        }
        self.last = (score, self.handed_off);
    }

    /// What stands on the page is what was written, by whomever.
    pub fn check(&self) {
        assert!(Image::of(&self.page) == self.image);
    }
}

/// A worker as it should be.
impl Model {
    pub fn attach(&mut self) {
        let (magic, version) = (self.image.word(MAGIC_AT), self.image.word(VERSION_AT));
        match Tally::attach(self.page.as_fd()) {
            Ok(tally) => {
                assert!(self.image.is_scoreboard());
                self.is_honest &= self.image.word(STATE_AT) == NOT_ATTACHED;
                self.image.set_word(STATE_AT, SERVING);
                self.tallies.push(tally);
            }
            Err(AttachError::Foreign) => assert_ne!(magic, MAGIC),
            Err(AttachError::Version { theirs }) => {
                assert_eq!((magic, theirs), (MAGIC, version));
                assert_ne!(version, VERSION);
            }
            Err(err @ AttachError::Page(_)) => panic!("{err}"),
        }
    }

    pub fn receive(&mut self, amount: Amount) {
        if let Some(tally) = self.tallies.last() {
            let connections = amount.of(self.unreceived(), &mut self.is_honest);
            tally.received(connections);
            self.image.add(RECEIVED_AT, connections);
        }
    }

    pub fn finish(&mut self, amount: Amount) {
        if let Some(tally) = self.tallies.last() {
            let claim = self.image.claim();
            let open = claim.received.saturating_sub(claim.finished);
            let connections = amount.of(open, &mut self.is_honest);
            let is_asked = tally.finished(connections);
            self.image.add(FINISHED_AT, connections);
            assert_eq!(is_asked, self.image.word(WAKE_AT) == 1);
            if is_asked {
                self.image.set_word(WAKE_AT, 0);
            }
        }
    }

    pub fn request(&mut self) {
        if let Some(tally) = self.tallies.last() {
            tally.request();
            self.image.add(REQUESTS_AT, 1);
        }
    }

    pub fn drain(&mut self) {
        if let Some(tally) = self.tallies.last() {
            tally.draining();
            self.image.set_word(STATE_AT, DRAINING);
        }
    }

    pub fn remain_asked(&mut self) {
        if let Some(tally) = self.tallies.last() {
            tally.remain_asked();
            self.image.set_word(WAKE_AT, 1);
        }
    }

    pub fn detach(&mut self) {
        self.tallies.pop();
    }

    fn unreceived(&self) -> u64 {
        self.handed_off
            .saturating_sub(self.image.count(RECEIVED_AT))
    }
}

/// A worker that does with its descriptor what it likes.
impl Model {
    pub fn write(&mut self, offset: usize, bytes: &[u8]) {
        // What would make the page longer is refused, but not what is before that.
        let written = self.page.write_at(bytes, offset as u64).unwrap_or(0);
        if written > 0 {
            self.scribble(|image| {
                let range = offset..offset + written;
                image.bytes_mut(range).copy_from_slice(&bytes[..written]);
            });
        }
    }

    /// Gives memory back: there are zeros then.
    pub fn punch(&mut self, offset: usize, length: u64) {
        let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        if self.fallocate(hole, offset, length).is_ok() {
            let end = length.saturating_add(offset as u64).min(BYTES as u64);
            let end = usize::try_from(end).expect("a page is small");
            self.scribble(|image| image.bytes_mut(offset.min(end)..end).fill(0));
        }
    }

    /// Takes memory, but no more than a page. Of what is asked for there would always be enough.
    pub fn allocate(&mut self, offset: usize, length: u64) {
        let length = length.min(MOST_ALLOCATED);
        if self
            .fallocate(FallocateFlags::empty(), offset, length)
            .is_ok()
        {
            assert!(length + offset as u64 <= BYTES as u64);
        }
    }

    pub fn resize(&mut self, length: u64) {
        let resized = self.page.set_len(length);
        assert_eq!(resized.is_ok(), length == BYTES as u64);
    }

    /// Opens its own page anew, with nothing in it.
    pub fn truncate_by_opening(&mut self) {
        let path = format!("/proc/self/fd/{}", self.page.as_raw_fd());
        let opened = OpenOptions::new().write(true).truncate(true).open(path);
        assert!(opened.is_err());
    }

    pub fn seal(&mut self, seals: i32) {
        let seals = SealFlag::from_bits_retain(seals);
        let sealed = fcntl(&self.page, FcntlArg::F_ADD_SEALS(seals));
        assert!(sealed.is_err());
    }

    fn fallocate(&self, mode: FallocateFlags, offset: usize, length: u64) -> Result<(), Errno> {
        let range = (i64::try_from(offset), i64::try_from(length));
        let (Ok(offset), Ok(length)) = range else {
            return Err(Errno::EINVAL);
        };
        fallocate(&self.page, mode, offset, length)
    }

    /// Something is written that did not come from counting. What is no field may be anything.
    fn scribble(&mut self, change: impl FnOnce(&mut Image)) {
        let claim = self.image.claim();
        change(&mut self.image);
        self.is_honest &= self.image.claim() == claim;
    }
}

impl Amount {
    /// How many it is, where `possible` would be true.
    fn of(self, possible: u64, is_honest: &mut bool) -> u64 {
        match self {
            Amount::Possible(connections) => connections.min(possible),
            Amount::Any(connections) => {
                *is_honest &= connections <= possible;
                connections
            }
        }
    }
}

/// A score never goes back; its connections do when the master says that it had handed off fewer.
fn is_later(score: Score, last: Score, has_grown: bool) {
    assert!(score.requests >= last.requests);
    assert!(score.state == last.state || score.state == ScoreState::Draining);
    if has_grown {
        assert!(score.received >= last.received);
        assert!(score.finished >= last.finished);
    }
}

/// Without the seals it would be taken.
const MOST_ALLOCATED: u64 = 1 << 20;
