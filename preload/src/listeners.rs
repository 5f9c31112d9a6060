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
    /// The master listens; the program does not yet.
    Bound,
    /// The accept queue is in the socket's place.
    Queue,
    /// A real listening socket is in its place, and the kernel hands out connections.
    Kernel,
}

/// Which one: an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record(u16);

/// What is known of a listener.
pub(crate) struct Listener {
    stage: AtomicU8,
    /// What the master listens on has a kernel's listening socket in its place.
    pub(crate) is_kernels: AtomicBool,
    /// How many descriptors of this process it has.
    pub(crate) copies: AtomicU32,
    /// Ours: the queue, or what else is put in the socket's place.
    pub(crate) substitute: AtomicI32,
    /// Ours: the socket that the program made, which knows the options.
    pub(crate) shadow: AtomicI32,
    id: AtomicU32,
    pub(crate) domain: AtomicI32,
    /// Connections come with `O_NONBLOCK`.
    pub(crate) nonblocking: AtomicBool,
    /// The program has shut it down.
    pub(crate) is_shut: AtomicBool,
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
        listener.copies.store(0, Ordering::Relaxed);
        listener.is_kernels.store(false, Ordering::Relaxed);
        listener.substitute.store(-1, Ordering::Relaxed);
        listener.shadow.store(-1, Ordering::Relaxed);
        listener.id.store(NO_ID, Ordering::Relaxed);
        listener.domain.store(domain, Ordering::Relaxed);
        listener.nonblocking.store(false, Ordering::Relaxed);
        listener.is_shut.store(false, Ordering::Relaxed);
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
            3 => Stage::Queue,
            4 => Stage::Kernel,
            _ => Stage::Free,
        }
    }

    pub(crate) fn set_stage(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Release);
    }

    /// Whether the program has called `listen`.
    pub(crate) fn is_listening(&self) -> bool {
        match self.stage() {
            Stage::Queue | Stage::Kernel => true,
            Stage::Free | Stage::Deferred | Stage::Bound => false,
        }
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

static LISTENERS: [Listener; CAPACITY] = [const {
    Listener {
        stage: AtomicU8::new(0),
        is_kernels: AtomicBool::new(false),
        copies: AtomicU32::new(0),
        substitute: AtomicI32::new(-1),
        shadow: AtomicI32::new(-1),
        id: AtomicU32::new(NO_ID),
        domain: AtomicI32::new(0),
        nonblocking: AtomicBool::new(false),
        is_shut: AtomicBool::new(false),
        refused: AtomicU64::new(0),
        owner: AtomicI32::new(0),
        forks: AtomicU32::new(0),
        name: [const { AtomicU8::new(0) }; NAME_BYTES],
        name_bytes: AtomicUsize::new(0),
    }
}; CAPACITY];
