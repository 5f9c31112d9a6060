//! A page of memory that two processes share: a sealed memfd, mapped by both.
//!
//! Neither can make the other one fault: the size is sealed, so touching the page never raises
//! SIGBUS, and it is touched only through atomics, so whatever the other side writes is a value.

use std::io;
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::sys::stat::fstat;
use nix::sys::statfs::{HUGETLBFS_MAGIC, fstatfs};
use nix::unistd::ftruncate;

use crate::scoreboard::Layout;

/// A mapping of a shared page. A child that is forked shares it, too.
#[derive(Debug)]
pub(crate) struct Page(NonNull<Layout>);

impl Page {
    /// A new page of zeros, and the descriptor with which another process maps it.
    pub(crate) fn create() -> io::Result<(Page, OwnedFd)> {
        let fd = create_memfd()?;
        ftruncate(&fd, i64::try_from(BYTES).expect("a page is small"))?;
        fcntl(&fd, FcntlArg::F_ADD_SEALS(SEALS))?;
        Ok((Page::map(fd.as_fd())?, fd))
    }

    /// Maps a page that another process created.
    pub(crate) fn open(fd: BorrowedFd<'_>) -> Result<Page, Unfit> {
        // The seals first: only with them the size stays what it is.
        let seals = match fcntl(fd, FcntlArg::F_GET_SEALS) {
            Ok(seals) => SealFlag::from_bits_retain(seals),
            Err(Errno::EINVAL) => return Err(Unfit::NotShared),
            Err(err) => return Err(Unfit::Io(err.into())),
        };
        if !seals.contains(SEALS) {
            return Err(Unfit::Unsealed);
        }
        // munmap(2) of a part of a huge page fails, and so would the drop.
        if fstatfs(fd).map_err(io::Error::from)?.filesystem_type() == HUGETLBFS_MAGIC {
            return Err(Unfit::Huge);
        }
        let bytes = fstat(fd).map_err(io::Error::from)?.st_size;
        if usize::try_from(bytes).is_ok_and(|bytes| bytes < BYTES) {
            return Err(Unfit::Short { bytes });
        }
        Ok(Page::map(fd)?)
    }

    fn map(fd: BorrowedFd<'_>) -> io::Result<Page> {
        let length = NonZeroUsize::new(BYTES).expect("a page is not empty");
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping, at an address that the kernel chooses, takes nobody's memory.
        let start = unsafe { mmap(None, length, access, MapFlags::MAP_SHARED, fd, 0) }?;
        Ok(Page(start.cast()))
    }
}

impl Deref for Page {
    type Target = Layout;

    fn deref(&self) -> &Layout {
        // SAFETY: the mapping is aligned to pages, at least as long as `Layout`, sealed against
        // shrinking and there until the drop. `Layout` is nothing but atomics: every bit pattern
        // is valid, and others may write while we read.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours alone in this process, and no reference outlives `self`.
        let unmapped = unsafe { munmap(self.0.cast(), BYTES) };
        debug_assert_eq!(unmapped, Ok(()), "munmap(2) of a whole mapping");
    }
}

// SAFETY: the mapping belongs to the process, not to a thread.
unsafe impl Send for Page {}

// SAFETY: all access is through the atomics of `Layout`.
unsafe impl Sync for Page {}

/// A descriptor that is not a shared page.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// A plain file, a socket: nothing that can be sealed.
    #[error("the descriptor is not shared memory")]
    NotShared,
    /// Its size may still change: to touch it could raise SIGBUS.
    #[error("the page is not sealed")]
    Unsealed,
    /// Of `MFD_HUGETLB`: it is mapped in larger pieces than a page.
    #[error("the page is a huge one")]
    Huge,
    /// Smaller than a page.
    #[error("the page has {bytes} bytes instead of {BYTES}")]
    Short {
        /// Its size.
        bytes: i64,
    },
    /// The system refuses to look at it or to map it.
    #[error("map the page: {0}")]
    Io(#[from] io::Error),
}

fn create_memfd() -> io::Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    // Where `vm.memfd_noexec` is 2 it is the only kind there is; before Linux 6.3 it is unknown.
    let not_executable = MFdFlags::from_bits_retain(libc::MFD_NOEXEC_SEAL);
    match memfd_create(NAME, flags | not_executable) {
        Err(Errno::EINVAL) => Ok(memfd_create(NAME, flags)?),
        created => Ok(created?),
    }
}

/// Enough for [`Layout`], and the smallest that is mapped.
const BYTES: usize = 4096;
const _: () = assert!(size_of::<Layout>() <= BYTES);

const SEALS: SealFlag = SealFlag::F_SEAL_SHRINK
    .union(SealFlag::F_SEAL_GROW)
    .union(SealFlag::F_SEAL_SEAL);

/// What `/proc/PID/maps` shows.
const NAME: &str = "rr-scoreboard";

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn what_one_side_writes_the_other_side_reads() {
        let (ours, fd) = Page::create().unwrap();
        let theirs = Page::open(fd.as_fd()).unwrap();
        drop(fd);
        theirs.received.store(7, Ordering::Relaxed);
        assert_eq!(ours.received.load(Ordering::Relaxed), 7);
        drop(ours);
        assert_eq!(theirs.received.load(Ordering::Relaxed), 7);
    }

    #[test]
    fn nobody_can_change_the_size_or_the_seals() {
        let (_page, fd) = Page::create().unwrap();
        assert_eq!(ftruncate(&fd, 0), Err(Errno::EPERM));
        assert_eq!(ftruncate(&fd, 8192), Err(Errno::EPERM));
        let unwritable = FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_WRITE);
        assert_eq!(fcntl(&fd, unwritable), Err(Errno::EPERM));
    }

    #[test]
    fn what_is_no_sealed_page_is_not_mapped() {
        let refusal = |fd: BorrowedFd<'_>| Page::open(fd).unwrap_err().to_string();
        let (socket, _peer) = UnixStream::pair().unwrap();
        let null = File::open("/dev/null").unwrap();
        for fd in [socket.as_fd(), null.as_fd()] {
            assert_eq!(refusal(fd), "the descriptor is not shared memory");
        }
        let file = tempfile::tempfile().unwrap();
        file.set_len(4096).unwrap();
        // A file of a tmpfs could be sealed.
        let unfit = Page::open(file.as_fd()).unwrap_err();
        assert!(matches!(unfit, Unfit::NotShared | Unfit::Unsealed));
        let memory = create_memfd().unwrap();
        ftruncate(&memory, 4096).unwrap();
        assert_eq!(refusal(memory.as_fd()), "the page is not sealed");
        ftruncate(&memory, 4095).unwrap();
        fcntl(&memory, FcntlArg::F_ADD_SEALS(SEALS)).unwrap();
        assert_eq!(
            refusal(memory.as_fd()),
            "the page has 4095 bytes instead of 4096"
        );
        let (_page, fd) = Page::create().unwrap();
        let read_only = File::open(format!("/proc/self/fd/{}", fd.as_raw_fd()));
        assert_eq!(
            refusal(read_only.unwrap().as_fd()),
            "map the page: Permission denied (os error 13)"
        );
    }

    #[test]
    fn huge_pages_are_not_mapped() {
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING | MFdFlags::MFD_HUGETLB;
        let Ok(fd) = memfd_create(NAME, flags) else {
            return; // This kernel has none.
        };
        // Where some are set aside, it could be mapped, but not unmapped.
        ftruncate(&fd, 1 << 30).unwrap();
        fcntl(&fd, FcntlArg::F_ADD_SEALS(SEALS)).unwrap();
        let refusal = Page::open(fd.as_fd()).unwrap_err().to_string();
        assert_eq!(refusal, "the page is a huge one");
    }
}
