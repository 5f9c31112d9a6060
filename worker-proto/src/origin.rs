//! The origin: which process this is, told from its forked children without a system call.
//!
//! A private page that the kernel empties in every child (`MADV_WIPEONFORK`, `madvise(2)`, Linux
//! 4.14) holds the process's number. Where there is no such page every process looks the same.

use std::num::NonZeroUsize;
use std::process;
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::errno::Errno;
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, munmap};

/// A process; equal to another one only if they are the same, or cannot be told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin(u32);

impl Origin {
    /// This process.
    pub(crate) fn here() -> Self {
        static MARK: OnceLock<Option<Mark>> = OnceLock::new();
        match MARK.get_or_init(|| Mark::create().ok()) {
            Some(mark) => Origin(mark.read()),
            None => Origin(0),
        }
    }
}

/// The page.
struct Mark(NonNull<AtomicU32>);

impl Mark {
    fn create() -> Result<Self, Errno> {
        let length = NonZeroUsize::new(BYTES).expect("a page is not empty");
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping, at an address that the kernel chooses, takes nobody's memory.
        let page = unsafe { mmap_anonymous(None, length, access, MapFlags::MAP_PRIVATE) }?;
        // SAFETY: the page is ours, and nothing is on it yet.
        let advised = unsafe { madvise(page, BYTES, MmapAdvise::MADV_WIPEONFORK) };
        if let Err(err) = advised {
            // SAFETY: the page is ours, and nobody has seen it.
            let _ = unsafe { munmap(page, BYTES) };
            return Err(err);
        }
        Ok(Mark(page.cast()))
    }

    fn read(&self) -> u32 {
        // SAFETY: the mapping is aligned, long enough, never removed, and touched only as an atomic.
        let mark = unsafe { self.0.as_ref() };
        match mark.load(Ordering::Relaxed) {
            0 => {
                let own = process::id();
                mark.store(own, Ordering::Relaxed);
                own
            }
            own => own,
        }
    }
}

// SAFETY: the mapping belongs to the process, not to a thread.
unsafe impl Send for Mark {}

// SAFETY: all access is through the atomic.
unsafe impl Sync for Mark {}

const BYTES: usize = 4096;

#[cfg(test)]
pub(crate) mod tests {
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork};

    use super::*;

    /// Whether this is so in a forked child, which does nothing else.
    pub(crate) fn in_a_child(is_so: impl FnOnce() -> bool) -> bool {
        // SAFETY: the child looks and exits; nothing here needs a lock that another thread holds.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                let code = i32::from(!is_so());
                // SAFETY: leaves without running anything of the parent's.
                unsafe { libc::_exit(code) }
            }
            ForkResult::Parent { child } => {
                waitpid(child, None) == Ok(WaitStatus::Exited(child, 0))
            }
        }
    }

    #[test]
    fn a_forked_child_is_another_process() {
        let here = Origin::here();
        assert_eq!(here, Origin::here());
        assert!(in_a_child(
            || Origin::here() != here && Origin::here() == Origin::here()
        ));
        assert_eq!(here, Origin::here());
    }
}
