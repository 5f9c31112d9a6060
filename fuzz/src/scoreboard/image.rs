//! What stands on a page, read by the documented layout and not by that of the program.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use worker_proto::scoreboard::{MAGIC, Score, ScoreState, VERSION};

/// The bytes of a page.
#[derive(Clone, PartialEq, Eq)]
pub struct Image(Vec<u8>);

/// What a worker says about itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Claim {
    pub state: u32,
    pub received: u64,
    pub requests: u64,
    pub finished: u64,
}

impl Image {
    /// Of a page as the master makes it.
    pub fn new() -> Self {
        let mut image = Image(vec![0; BYTES]);
        image.set_word(MAGIC_AT, MAGIC);
        image.set_word(VERSION_AT, VERSION);
        image
    }

    /// Of the beginning of a file; zeros, where there is none.
    pub fn of(file: &File) -> Self {
        let mut bytes = vec![0; BYTES];
        let mut end = 0;
        while let Ok(more @ 1..) = file.read_at(&mut bytes[end..], end as u64) {
            end += more;
        }
        Image(bytes)
    }

    /// Whether a worker counts on it.
    pub fn is_scoreboard(&self) -> bool {
        self.word(MAGIC_AT) == MAGIC && self.word(VERSION_AT) == VERSION
    }

    pub fn word(&self, at: usize) -> u32 {
        u32::from_ne_bytes(self.0[at..at + 4].try_into().expect("four bytes"))
    }

    pub fn set_word(&mut self, at: usize, word: u32) {
        self.0[at..at + 4].copy_from_slice(&word.to_ne_bytes());
    }

    pub fn count(&self, at: usize) -> u64 {
        u64::from_ne_bytes(self.0[at..at + 8].try_into().expect("eight bytes"))
    }

    /// Adds as a processor does.
    pub fn add(&mut self, at: usize, more: u64) {
        let sum = self.count(at).wrapping_add(more);
        self.0[at..at + 8].copy_from_slice(&sum.to_ne_bytes());
    }

    pub fn bytes_mut(&mut self, range: Range<usize>) -> &mut [u8] {
        &mut self.0[range]
    }

    pub fn claim(&self) -> Claim {
        Claim {
            state: self.word(STATE_AT),
            received: self.count(RECEIVED_AT),
            requests: self.count(REQUESTS_AT),
            finished: self.count(FINISHED_AT),
        }
    }
}

impl Claim {
    /// Whether it can be true, after what was read before.
    pub fn is_possible(&self, last: Option<Score>, handed_off: u64) -> bool {
        let is_legal = match self.state {
            NOT_ATTACHED => last.is_none(),
            SERVING => last.is_none_or(|last| last.state == ScoreState::Serving),
            state => state == DRAINING,
        };
        let has_grown = last.is_none_or(|last| {
            last.received <= self.received
                && last.requests <= self.requests
                && last.finished <= self.finished
        });
        let adds_up = self.finished <= self.received && self.received <= handed_off;
        // Nobody has counted on it yet: the rest is not looked at.
        is_legal && (self.state == NOT_ATTACHED || has_grown && adds_up)
    }

    /// What is read off the page when all of it is believed.
    pub fn believed(&self) -> Option<Score> {
        let state = match self.state {
            NOT_ATTACHED => return None,
            SERVING => ScoreState::Serving,
            _ => ScoreState::Draining,
        };
        Some(Score {
            received: self.received,
            finished: self.finished,
            requests: self.requests,
            state,
        })
    }
}

/// The size of a page.
pub const BYTES: usize = 4096;

pub const MAGIC_AT: usize = 0;
pub const VERSION_AT: usize = 4;
pub const STATE_AT: usize = 8;
pub const WAKE_AT: usize = 12;
pub const RECEIVED_AT: usize = 64;
pub const REQUESTS_AT: usize = 128;
pub const FINISHED_AT: usize = 192;

/// Where something stands.
pub const FIELDS: [usize; 7] = [
    MAGIC_AT,
    VERSION_AT,
    STATE_AT,
    WAKE_AT,
    RECEIVED_AT,
    REQUESTS_AT,
    FINISHED_AT,
];

pub const NOT_ATTACHED: u32 = 0;
pub const SERVING: u32 = 1;
pub const DRAINING: u32 = 2;
