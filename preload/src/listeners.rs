//! The listeners of this process: for each socket that the program has bound, what stands in its
//! place and what is kept beside it.
//!
//! Records are read without a lock, by threads and signal handlers that accept or close; only
//! who holds the [`lock`](crate::lock) makes one or changes its stage. A record is whole before the
//! first descriptor is marked with it.

use std::os::fd::RawFd;
use std::sync::atomic::{
    AtomicBool, AtomicI32, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering,
};

use worker_proto::ids::ListenerId;

use crate::marks;
use crate::name::{NAME_BYTES, SocketName};

/// How far a socket has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The record is nobody's.
    Free,
    /// Bound to a port of the kernel's choice, which nobody has been asked for yet.
    Deferred,
    /// The master listens, and the substitute is in the socket's place; the program does not listen
    /// yet.
    Bound,
    /// The program does, too.
    Listening,
    /// The program has shut it down, and may listen again.
    Shut,
}

/// Who hands out the connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The master: the substitute is the receiving end of an accept queue.
    Master,
    /// The kernel: the substitute is a real listening socket.
    Kernel,
}

/// Which one: an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record(u16);

/// What is known of a listener.
pub(crate) struct Listener {
    stage: AtomicU8,
    is_kernels: AtomicBool,
    /// How many descriptors of this process it has.
    copies: AtomicU32,
    /// How many threads are in `accept`, which may go on when the descriptor is closed.
    waiting: AtomicU32,
    /// Ours: the queue, or what else is put in the socket's place.
    pub(crate) substitute: AtomicI32,
    /// Ours: the socket that the program made, which knows the options.
    pub(crate) shadow: AtomicI32,
    /// Ours: a pair whose first end every process that was forked meanwhile holds, too, until it
    /// lets go of the listener. Whoever does so last reads the end on the other one.
    pub(crate) held: AtomicI32,
    pub(crate) watched: AtomicI32,
    id: AtomicU32,
    pub(crate) domain: AtomicI32,
    /// Connections come with `O_NONBLOCK`.
    pub(crate) nonblocking: AtomicBool,
    /// Connections have timeouts of the program's.
    pub(crate) has_timeouts: AtomicBool,
    /// The packet that was left in the queue last, for want of descriptors, and one more.
    pub(crate) refused: AtomicU64,
    /// The process that asked for it, and how often it had forked then.
    pub(crate) owner: AtomicI32,
    pub(crate) forks: AtomicU32,
    name: [AtomicU8; NAME_BYTES],
    name_bytes: AtomicUsize,
}

impl Record {
    pub(crate) const fn from_number(number: u16) -> Self {
        Record(number)
    }

    pub(crate) const fn number(self) -> u16 {
        self.0
    }

    pub(crate) fn get(self) -> &'static Listener {
        // The number comes out of a mark, which was made of a record.
        &LISTENERS[usize::from(self.0) % CAPACITY]
    }

    /// A free one; `None` if there are too many. Only with the lock.
    pub(crate) fn claim(stage: Stage, name: &SocketName, domain: i32) -> Option<Self> {
        let index = LISTENERS
            .iter()
            .position(|listener| listener.stage() == Stage::Free)?;
        let listener = &LISTENERS[index];
        // Nobody who has waited for the last one takes it for given up.
        listener.copies.store(1, Ordering::Relaxed);
        listener.is_kernels.store(false, Ordering::Relaxed);
        listener.substitute.store(-1, Ordering::Relaxed);
        listener.shadow.store(-1, Ordering::Relaxed);
        listener.held.store(-1, Ordering::Relaxed);
        listener.watched.store(-1, Ordering::Relaxed);
        listener.id.store(NO_ID, Ordering::Relaxed);
        listener.domain.store(domain, Ordering::Relaxed);
        listener.nonblocking.store(false, Ordering::Relaxed);
        listener.has_timeouts.store(false, Ordering::Relaxed);
        listener.refused.store(0, Ordering::Relaxed);
        listener.owner.store(0, Ordering::Relaxed);
        listener.rename(name);
        listener.set_stage(stage);
        Some(Record(u16::try_from(index).ok()?))
    }

    /// All that are in use.
    pub(crate) fn all() -> impl Iterator<Item = Record> {
        (0..CAPACITY)
            .filter(|&index| LISTENERS[index].stage() != Stage::Free)
            .filter_map(|index| u16::try_from(index).ok().map(Record))
    }
}

impl Listener {
    pub(crate) fn stage(&self) -> Stage {
        match self.stage.load(Ordering::Acquire) {
            1 => Stage::Deferred,
            2 => Stage::Bound,
            3 => Stage::Listening,
            4 => Stage::Shut,
            _ => Stage::Free,
        }
    }

    pub(crate) fn set_stage(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Release);
    }

    pub(crate) fn source(&self) -> Source {
        if self.is_kernels.load(Ordering::Relaxed) {
            Source::Kernel
        } else {
            Source::Master
        }
    }

    pub(crate) fn set_source(&self, source: Source) {
        self.is_kernels
            .store(source == Source::Kernel, Ordering::Relaxed);
    }

    pub(crate) fn set_copies(&self, copies: u32) {
        self.copies.store(copies, Ordering::SeqCst);
    }

    pub(crate) fn add_copy(&self) {
        self.copies.fetch_add(1, Ordering::SeqCst);
    }

    /// A descriptor is closed. Whoever is answered `true` gives the listener up.
    #[must_use]
    pub(crate) fn drop_copy(&self) -> bool {
        self.copies.fetch_sub(1, Ordering::SeqCst) == 1 && self.is_left()
    }

    pub(crate) fn begin_waiting(&self) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
    }

    /// As [`drop_copy`](Self::drop_copy): who waits keeps a listener that is closed meanwhile, as
    /// the kernel has it.
    #[must_use]
    pub(crate) fn end_waiting(&self) -> bool {
        self.waiting.fetch_sub(1, Ordering::SeqCst) == 1 && self.is_left()
    }

    /// Answers `true` once.
    fn is_left(&self) -> bool {
        let given_up = || {
            self.copies
                .compare_exchange(0, GIVEN_UP, Ordering::SeqCst, Ordering::SeqCst)
        };
        self.waiting.load(Ordering::SeqCst) == 0 && given_up().is_ok()
    }

    /// Nobody waits in a child that was forked.
    pub(crate) fn forget_waiting(&self) {
        self.waiting.store(0, Ordering::SeqCst);
    }

    pub(crate) fn id(&self) -> Option<ListenerId> {
        let id = self.id.load(Ordering::Relaxed);
        (id != NO_ID).then_some(ListenerId(id))
    }

    pub(crate) fn set_id(&self, id: Option<ListenerId>) {
        self.id
            .store(id.map_or(NO_ID, |id| id.0), Ordering::Relaxed);
    }

    /// Where the program believes to be bound.
    pub(crate) fn name(&self) -> SocketName {
        let mut bytes = [0; NAME_BYTES];
        let len = self.name_bytes.load(Ordering::Acquire).min(NAME_BYTES);
        for (to, from) in bytes.iter_mut().zip(&self.name) {
            *to = from.load(Ordering::Relaxed);
        }
        SocketName::new(&bytes[..len])
    }

    pub(crate) fn rename(&self, name: &SocketName) {
        for (to, from) in self.name.iter().zip(name.bytes()) {
            to.store(*from, Ordering::Relaxed);
        }
        self.name_bytes.store(name.bytes().len(), Ordering::Release);
    }

    /// The descriptor that is in `place`, if there is one; none afterwards.
    pub(crate) fn take(place: &AtomicI32) -> Option<RawFd> {
        let fd = place.swap(-1, Ordering::AcqRel);
        (fd >= 0).then_some(fd)
    }

    pub(crate) fn shadow(&self) -> Option<RawFd> {
        let fd = self.shadow.load(Ordering::Acquire);
        (fd >= 0).then_some(fd)
    }
}

/// More than the master lets a worker have.
const CAPACITY: usize = 256;
const _: () = assert!(CAPACITY < marks::NUMBER as usize);

const NO_ID: u32 = u32::MAX;
const GIVEN_UP: u32 = u32::MAX;

static LISTENERS: [Listener; CAPACITY] = [const {
    Listener {
        stage: AtomicU8::new(0),
        is_kernels: AtomicBool::new(false),
        copies: AtomicU32::new(0),
        waiting: AtomicU32::new(0),
        substitute: AtomicI32::new(-1),
        shadow: AtomicI32::new(-1),
        held: AtomicI32::new(-1),
        watched: AtomicI32::new(-1),
        id: AtomicU32::new(NO_ID),
        domain: AtomicI32::new(0),
        nonblocking: AtomicBool::new(false),
        has_timeouts: AtomicBool::new(false),
        refused: AtomicU64::new(0),
        owner: AtomicI32::new(0),
        forks: AtomicU32::new(0),
        name: [const { AtomicU8::new(0) }; NAME_BYTES],
        name_bytes: AtomicUsize::new(0),
    }
}; CAPACITY];
