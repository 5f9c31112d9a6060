//! What a worker could be given instead of its page: it counts on what it can touch without
//! danger, and leaves everything else as it is.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};
use worker_proto::scoreboard::{MAGIC, VERSION};
use worker_proto::tally::Tally;

use super::super::input::Input;
use super::image::{
    BYTES, DRAINING, FINISHED_AT, Image, RECEIVED_AT, REQUESTS_AT, SERVING, STATE_AT, WAKE_AT,
};
use super::length;

/// Attaches to a descriptor of any kind.
pub fn attach(input: &mut Input<'_>) {
    match input.byte() % 8 {
        0 => refuses_other_kinds(input),
        _ => {
            if let Some(memory) = Memory::create(input) {
                memory.attach(input);
            }
        }
    }
}

fn refuses_other_kinds(input: &mut Input<'_>) {
    let (socket, _peer) = UnixStream::pair().expect("two descriptors");
    let (pipe, _writer) = io::pipe().expect("two descriptors");
    let path = input.choice(&[
        "/dev/null",
        "/dev/zero",
        "/proc/self/exe",
        "/",
        "/proc/self",
    ]);
    let file = File::open(path).expect("it is always there");
    let fd = match input.byte() % 4 {
        0 => socket.as_fd(),
        1 => pipe.as_fd(),
        _ => file.as_fd(),
    };
    is_refused(fd);
}

/// Shared memory, but perhaps not as the master makes it.
struct Memory {
    file: File,
    is_huge: bool,
}

impl Memory {
    /// `None` where the system has no such memory.
    fn create(input: &mut Input<'_>) -> Option<Self> {
        let flags = MFdFlags::from_bits_retain(input.choice(&[
            libc::MFD_ALLOW_SEALING,
            libc::MFD_ALLOW_SEALING | libc::MFD_NOEXEC_SEAL,
            libc::MFD_ALLOW_SEALING | libc::MFD_EXEC,
            libc::MFD_ALLOW_SEALING | libc::MFD_HUGETLB,
            0,
        ]));
        let file = File::from(memfd_create("rr-foreign", flags | MFdFlags::MFD_CLOEXEC).ok()?);
        let memory = Memory {
            file,
            is_huge: flags.contains(MFdFlags::MFD_HUGETLB),
        };
        memory.fill(input);
        Some(memory)
    }

    /// Gives it content, a size and seals, as far as the system allows that.
    fn fill(&self, input: &mut Input<'_>) {
        let header = match input.byte() % 4 {
            0 => input.bytes(),
            _ => [MAGIC, VERSION].map(u32::to_ne_bytes).concat(),
        };
        _ = self.file.write_at(&header, 0);
        _ = self.file.write_at(&input.bytes(), STATE_AT as u64);
        let length = length(input);
        _ = self.file.set_len(match self.is_huge {
            true => length.min(1 << 40).next_multiple_of(HUGE_BYTES),
            false => length,
        });
        let seals = match input.byte() {
            few @ 0..64 => SealFlag::from_bits_retain(few.into()),
            _ => NEEDED,
        };
        _ = fcntl(&self.file, FcntlArg::F_ADD_SEALS(seals));
    }

    fn attach(&self, input: &mut Input<'_>) {
        let mut image = Image::of(&self.file);
        let opened = match input.byte() % 8 {
            0 => self.open_again(OpenOptions::new().read(true)),
            1 => self.open_again(OpenOptions::new().write(true)),
            2 => self.open_again(OpenOptions::new().read(true).custom_flags(libc::O_PATH)),
            3 => self.open_again(OpenOptions::new().read(true).write(true)),
            _ => None,
        };
        let is_writable = opened.as_ref().is_none_or(|(_, is_writable)| *is_writable);
        let fd = opened.as_ref().map_or(&self.file, |(file, _)| file);
        if is_writable && self.is_fit() && image.is_scoreboard() {
            let tally = Tally::attach(fd.as_fd()).expect("it is fit");
            image.set_word(STATE_AT, SERVING);
            assert!(Image::of(&self.file) == image, "it says so");
            count(&tally, &mut image);
        } else {
            is_refused(fd.as_fd());
        }
        assert!(Image::of(&self.file) == image);
    }

    /// Another descriptor, and whether the memory may be read and written through it.
    fn open_again(&self, options: &mut OpenOptions) -> Option<(File, bool)> {
        let path = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        let file = options.open(path).ok()?;
        let flags = fcntl(&file, FcntlArg::F_GETFL).expect("it is open");
        let is_writable = flags & (libc::O_ACCMODE | libc::O_PATH) == libc::O_RDWR;
        Some((file, is_writable))
    }

    /// Whether it may be mapped, and stays as it is then.
    fn is_fit(&self) -> bool {
        let seals = fcntl(&self.file, FcntlArg::F_GET_SEALS).expect("it is shared memory");
        let seals = SealFlag::from_bits_retain(seals);
        let unwritable = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_FUTURE_WRITE;
        let length = self.file.metadata().expect("it is open").len();
        !self.is_huge
            && seals.contains(NEEDED)
            && !seals.intersects(unwritable)
            && length >= BYTES as u64
    }
}

fn count(tally: &Tally, image: &mut Image) {
    tally.received(2);
    image.add(RECEIVED_AT, 2);
    let is_asked = tally.finished(1);
    image.add(FINISHED_AT, 1);
    assert_eq!(is_asked, image.word(WAKE_AT) == 1);
    if is_asked {
        image.set_word(WAKE_AT, 0);
    }
    tally.request();
    image.add(REQUESTS_AT, 1);
    tally.draining();
    image.set_word(STATE_AT, DRAINING);
}

fn is_refused(fd: BorrowedFd<'_>) {
    // It goes to a log.
    let refusal = Tally::attach(fd).unwrap_err().to_string();
    assert!(!refusal.is_empty());
}

/// Without these the size may change.
const NEEDED: SealFlag = SealFlag::F_SEAL_SEAL
    .union(SealFlag::F_SEAL_SHRINK)
    .union(SealFlag::F_SEAL_GROW);

/// The usual size of a huge page.
const HUGE_BYTES: u64 = 2 << 20;
