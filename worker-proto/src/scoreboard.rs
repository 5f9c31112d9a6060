//! The scoreboard: one shared page per worker, on which it says how many connections it has.
//!
//! The master creates a page for each worker and sends its descriptor with `Welcome`; the worker
//! maps its own and no other. Only what the kernel cannot say is on it. The worker writes it
//! ([`Tally`](crate::tally::Tally)), so the master clamps what it reads ([`Scoreboard`]), and
//! nothing that keeps the master or a connection safe depends on it.
//!
//! # Layout
//!
//! Native endian, since it never leaves the host; the rest of the page is zero.
//!
//! | offset | field | type | written by | meaning |
//! |---|---|---|---|---|
//! | 0 | `magic` | `u32` | master | the bytes `RRSB`, read as [`MAGIC`] |
//! | 4 | `version` | `u32` | master | [`VERSION`]; it and `magic` are in place in all versions |
//! | 8 | `state` | `u32` | worker | 0 not attached, 1 serving, 2 draining |
//! | 12 | `wake` | `u32` | both | 1: send `Relieved` after the next connection is finished |
//! | 64 | `received` | `u64` | worker | connections taken out of its accept queues |
//! | 128 | `requests` | `u64` | worker | requests, if the program counts them |
//! | 192 | `finished` | `u64` | worker | connections closed or given up |
//!
//! The counters only grow. Open connections are `received - finished`.
//!
//! # Order
//!
//! A connection is counted in `received` before it can be counted in `finished`, and the master
//! reads them the other way round: an honest worker never seems to have finished what it has not
//! received. `finished` and `wake` are sequentially consistent: the worker writes the first and
//! reads the second, the master writes the second and reads the first, and one of them must see
//! the other.

use std::fmt;
use std::io;
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::page::Page;

/// The first four bytes of a page: `RRSB`.
pub const MAGIC: u32 = u32::from_ne_bytes(*b"RRSB");

/// The version of the layout. A worker ignores a page of another.
pub const VERSION: u32 = 1;

/// The master's view of one worker's page.
#[derive(Debug)]
pub struct Scoreboard {
    page: Page,
    /// What it said last, as far as that was possible.
    last: Option<Score>,
}

/// What was read off a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// What the worker says, clamped to what is possible; `None` while it has not attached.
    pub score: Option<Score>,
    /// The first thing it says that cannot be.
    pub nonsense: Option<Nonsense>,
}

/// What a worker has done: always `finished <= received`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Score {
    /// Connections taken out of its accept queues.
    pub received: u64,
    /// Connections closed or given up.
    pub finished: u64,
    /// Requests, if the program counts them.
    pub requests: u64,
    /// Whether it takes new connections.
    pub state: ScoreState,
}

/// How far the life of a worker is, in its own words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScoreState {
    /// It serves.
    Serving,
    /// It finishes what it has.
    Draining,
}

/// What cannot be: the worker has miscounted, or something wrote into its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Nonsense {
    /// More connections than it was given.
    #[error("says it received {received} connections of {handed_off}")]
    Received {
        /// What it says.
        received: u64,
        /// What it was given.
        handed_off: u64,
    },
    /// More finished than received.
    #[error("finished {finished} of {received} received")]
    Finished {
        /// What it says.
        finished: u64,
        /// What it received.
        received: u64,
    },
    /// A count that became smaller.
    #[error("its count of {count} went back from {from} to {to}")]
    WentBack {
        /// Which.
        count: Count,
        /// The last good value.
        from: u64,
        /// What it says now.
        to: u64,
    },
    /// A state that does not exist, or that was left for good.
    #[error("state {0}")]
    State(u32),
}

/// What is counted on a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Connections taken out of accept queues.
    Received,
    /// Connections closed or given up.
    Finished,
    /// Requests.
    Requests,
}

impl Scoreboard {
    /// Makes a page. The descriptor is for the worker; closing it leaves the mapping.
    ///
    /// # Errors
    /// Those of `memfd_create(2)` and `mmap(2)`.
    pub fn create() -> io::Result<(Scoreboard, OwnedFd)> {
        let (page, fd) = Page::create()?;
        page.magic.store(MAGIC, Ordering::Relaxed);
        page.version.store(VERSION, Ordering::Relaxed);
        Ok((Scoreboard { page, last: None }, fd))
    }

    /// What the worker says, made possible: everything that cannot be is clamped. `handed_off` is
    /// how many connections were put into its queues and not reclaimed.
    pub fn read(&mut self, handed_off: u64) -> Reading {
        let reading = Claim::read(&self.page).judge(self.last, handed_off);
        self.last = reading.score;
        reading
    }

    /// Asks to be told (`ToMaster::Relieved`) after the next connection is finished. Read again
    /// after this: one may have been finished in between.
    pub fn ask_for_relief(&self) {
        self.page.wake.store(ASKED, Ordering::SeqCst);
    }
}

impl Score {
    /// How many connections it has.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.received.saturating_sub(self.finished)
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Count::Received => "received connections",
            Count::Finished => "finished connections",
            Count::Requests => "requests",
        })
    }
}

/// What stands on a page, believed by nobody yet.
#[derive(Clone, Copy, Debug)]
struct Claim {
    state: u32,
    received: u64,
    finished: u64,
    requests: u64,
}

impl Claim {
    fn read(page: &Layout) -> Self {
        let state = page.state.load(Ordering::Acquire);
        // The last that is written is the first that is read: see the module.
        let finished = page.finished.load(Ordering::SeqCst);
        Claim {
            state,
            received: page.received.load(Ordering::Acquire),
            finished,
            requests: page.requests.load(Ordering::Relaxed),
        }
    }

    /// Makes possible what is claimed, given what was possible before.
    fn judge(self, last: Option<Score>, handed_off: u64) -> Reading {
        let (state, nonsense) = match (self.state, last.map(|last| last.state)) {
            (NOT_ATTACHED, None) => (None, None),
            (SERVING, None | Some(ScoreState::Serving)) => (Some(ScoreState::Serving), None),
            (DRAINING, _) => (Some(ScoreState::Draining), None),
            (state, last) => (last, Some(Nonsense::State(state))),
        };
        let Some(state) = state else {
            let score = None;
            return Reading { score, nonsense };
        };
        let last = last.unwrap_or(Score {
            received: 0,
            finished: 0,
            requests: 0,
            state,
        });
        // Not `clamp`, which panics when the lower bound is above the upper one: what a worker
        // claimed before may have been reclaimed since.
        let received = self.received.max(last.received).min(handed_off);
        let finished = self.finished.max(last.finished).min(received);
        let score = Score {
            received,
            finished,
            requests: self.requests.max(last.requests),
            state,
        };
        Reading {
            score: Some(score),
            nonsense: nonsense.or_else(|| self.nonsense(last, received, handed_off)),
        }
    }

    /// The first of its counts that cannot be.
    fn nonsense(self, last: Score, received: u64, handed_off: u64) -> Option<Nonsense> {
        if self.received > handed_off {
            return Some(Nonsense::Received {
                received: self.received,
                handed_off,
            });
        }
        if self.finished > received {
            return Some(Nonsense::Finished {
                finished: self.finished,
                received,
            });
        }
        [
            (Count::Received, last.received, self.received),
            (Count::Finished, last.finished, self.finished),
            (Count::Requests, last.requests, self.requests),
        ]
        .into_iter()
        .find(|(_, from, to)| to < from)
        .map(|(count, from, to)| Nonsense::WentBack { count, from, to })
    }
}

/// The fields of a page, at the offsets that the module names.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) magic: AtomicU32,
    pub(crate) version: AtomicU32,
    pub(crate) state: AtomicU32,
    pub(crate) wake: AtomicU32,
    pub(crate) received: Line<AtomicU64>,
    pub(crate) requests: Line<AtomicU64>,
    pub(crate) finished: Line<AtomicU64>,
}

/// A cache line of its own: threads that count different things do not wait for each other.
#[repr(C, align(64))]
#[derive(Debug)]
pub(crate) struct Line<T>(T);

impl<T> Deref for Line<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

pub(crate) const NOT_ATTACHED: u32 = 0;
pub(crate) const SERVING: u32 = 1;
pub(crate) const DRAINING: u32 = 2;

pub(crate) const ASKED: u32 = 1;
pub(crate) const NOT_ASKED: u32 = 0;

#[cfg(test)]
mod tests {
    use std::mem::offset_of;
    use std::os::fd::AsFd;
    use std::thread;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::tally::Tally;

    #[test]
    fn the_layout_is_the_documented_one() {
        assert_eq!(offset_of!(Layout, magic), 0);
        assert_eq!(offset_of!(Layout, version), 4);
        assert_eq!(offset_of!(Layout, state), 8);
        assert_eq!(offset_of!(Layout, wake), 12);
        assert_eq!(offset_of!(Layout, received), 64);
        assert_eq!(offset_of!(Layout, requests), 128);
        assert_eq!(offset_of!(Layout, finished), 192);
        let (scoreboard, _fd) = Scoreboard::create().unwrap();
        let magic = scoreboard.page.magic.load(Ordering::Relaxed);
        assert_eq!(&magic.to_ne_bytes(), b"RRSB");
        assert_eq!(scoreboard.page.version.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_page_says_nothing_before_the_worker_attaches() {
        let (mut scoreboard, fd) = Scoreboard::create().unwrap();
        let nothing = Reading {
            score: None,
            nonsense: None,
        };
        assert_eq!(scoreboard.read(7), nothing);
        let _tally = Tally::attach(fd.as_fd()).unwrap();
        assert_eq!(scoreboard.read(7), sound(0, 0, 0, ScoreState::Serving));
    }

    #[test]
    fn what_an_honest_worker_says_is_believed() {
        let (mut scoreboard, fd) = Scoreboard::create().unwrap();
        let tally = Tally::attach(fd.as_fd()).unwrap();
        tally.received(3);
        _ = tally.finished(1);
        tally.request();
        tally.request();
        let reading = scoreboard.read(5);
        assert_eq!(reading, sound(3, 1, 2, ScoreState::Serving));
        assert_eq!(reading.score.unwrap().open(), 2);
        _ = tally.finished(2);
        tally.draining();
        // The two that it had not received were reclaimed.
        let reading = scoreboard.read(3);
        assert_eq!(reading, sound(3, 3, 2, ScoreState::Draining));
        assert_eq!(reading.score.unwrap().open(), 0);
    }

    #[test]
    fn nonsense_is_named_and_clamped() {
        let serving = |received, finished, requests| claim(SERVING, received, finished, requests);
        let mut last = None;
        for (claim, handed_off, said, counts) in [
            (serving(6, 2, 9), 7, "", [6, 2, 9]),
            (
                serving(12, 2, 9),
                7,
                "says it received 12 connections of 7",
                [7, 2, 9],
            ),
            (serving(7, 9, 9), 7, "finished 9 of 7 received", [7, 7, 9]),
            (
                serving(7, 3, 9),
                7,
                "its count of finished connections went back from 7 to 3",
                [7, 7, 9],
            ),
            (
                serving(5, 5, 9),
                8,
                "its count of received connections went back from 7 to 5",
                [7, 7, 9],
            ),
            (
                serving(8, 8, 8),
                8,
                "its count of requests went back from 9 to 8",
                [8, 8, 9],
            ),
            (claim(77, 9, 8, 9), 9, "state 77", [9, 8, 9]),
            (claim(NOT_ATTACHED, 9, 8, 9), 9, "state 0", [9, 8, 9]),
            // What it claimed to have received was never received: it is reclaimed.
            (
                serving(9, 8, 9),
                4,
                "says it received 9 connections of 4",
                [4, 4, 9],
            ),
        ] {
            let reading = claim.judge(last, handed_off);
            let found = reading.nonsense.map(|nonsense| nonsense.to_string());
            assert_eq!(found.unwrap_or_default(), said);
            let score = reading.score.unwrap();
            assert_eq!([score.received, score.finished, score.requests], counts);
            assert_eq!(score.state, ScoreState::Serving);
            last = reading.score;
        }
        let draining = claim(DRAINING, 4, 4, 9).judge(last, 4);
        assert_eq!(draining, sound(4, 4, 9, ScoreState::Draining));
        let serving_again = claim(SERVING, 4, 4, 9).judge(draining.score, 4);
        assert_eq!(serving_again.nonsense, Some(Nonsense::State(1)));
        assert_eq!(serving_again.score, draining.score);
        let unknown = claim(77, 4, 4, 9).judge(None, 4);
        assert_eq!(unknown.score, None);
        assert_eq!(unknown.nonsense, Some(Nonsense::State(77)));
    }

    #[test]
    fn a_worker_of_many_threads_never_seems_dishonest() {
        const EACH: u64 = 20_000;
        let (mut scoreboard, fd) = Scoreboard::create().unwrap();
        let tally = Tally::attach(fd.as_fd()).unwrap();
        thread::scope(|scope| {
            let workers = [(); 2].map(|()| {
                scope.spawn(|| {
                    for _ in 0..EACH {
                        tally.received(1);
                        _ = tally.finished(1);
                    }
                })
            });
            while !workers.iter().all(thread::ScopedJoinHandle::is_finished) {
                assert_eq!(scoreboard.read(2 * EACH).nonsense, None);
            }
        });
        let all = sound(2 * EACH, 2 * EACH, 0, ScoreState::Serving);
        assert_eq!(scoreboard.read(2 * EACH), all);
    }

    #[test]
    fn who_asks_for_relief_is_told_or_sees_it() {
        let (mut scoreboard, fd) = Scoreboard::create().unwrap();
        let tally = Tally::attach(fd.as_fd()).unwrap();
        for handed_off in 1..=2_000 {
            tally.received(1);
            thread::scope(|scope| {
                let finishing = scope.spawn(|| tally.finished(1));
                scoreboard.ask_for_relief();
                let seen = scoreboard.read(handed_off).score.unwrap().open() == 0;
                let told = finishing.join().unwrap();
                assert!(seen || told);
                if !told {
                    // Whoever has seen it may still be told of the next one.
                    scoreboard.page.wake.store(NOT_ASKED, Ordering::SeqCst);
                }
            });
        }
    }

    proptest! {
        #[test]
        fn whatever_stands_on_a_page_makes_a_possible_score(
            claims in vec((any::<[u32; 4]>(), any::<[u64; 3]>(), any::<u64>()), 1..20),
        ) {
            survives(&claims)?;
        }

        #[test]
        fn what_is_nearly_right_makes_a_possible_score(
            claims in vec(
                (proptest::array::uniform4(0..4_u32), proptest::array::uniform3(0..6_u64), 0..6_u64),
                1..20,
            ),
        ) {
            survives(&claims)?;
        }
    }

    type Contents = ([u32; 4], [u64; 3], u64);

    /// Reads a page with one content after the other.
    fn survives(contents: &[Contents]) -> Result<(), TestCaseError> {
        let (mut scoreboard, fd) = Scoreboard::create().unwrap();
        let theirs = Page::open(fd.as_fd()).unwrap();
        let (mut last, mut last_handed_off) = (None::<Score>, 0);
        for &([magic, version, state, wake], [received, finished, requests], handed_off) in contents
        {
            theirs.magic.store(magic, Ordering::Relaxed);
            theirs.version.store(version, Ordering::Relaxed);
            theirs.state.store(state, Ordering::Relaxed);
            theirs.wake.store(wake, Ordering::Relaxed);
            theirs.received.store(received, Ordering::Relaxed);
            theirs.finished.store(finished, Ordering::Relaxed);
            theirs.requests.store(requests, Ordering::Relaxed);
            let Reading { score, nonsense } = scoreboard.read(handed_off);
            if let Some(reason) = nonsense {
                prop_assert!(!reason.to_string().is_empty());
            }
            if let Some(score) = score {
                prop_assert!(score.finished <= score.received);
                prop_assert!(score.received <= handed_off);
                prop_assert_eq!(score.open(), score.received - score.finished);
            }
            if let Some(last) = last {
                let score = score.expect("who has attached stays attached");
                prop_assert!(score.requests >= last.requests);
                if handed_off >= last_handed_off {
                    prop_assert!(score.received >= last.received);
                    prop_assert!(score.finished >= last.finished);
                }
            }
            (last, last_handed_off) = (score, handed_off);
        }
        Ok(())
    }

    fn claim(state: u32, received: u64, finished: u64, requests: u64) -> Claim {
        Claim {
            state,
            received,
            finished,
            requests,
        }
    }

    fn sound(received: u64, finished: u64, requests: u64, state: ScoreState) -> Reading {
        Reading {
            score: Some(Score {
                received,
                finished,
                requests,
                state,
            }),
            nonsense: None,
        }
    }
}
