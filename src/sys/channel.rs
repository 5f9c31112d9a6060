//! The control channel's two ends as a new process gets them.
//!
//! The master's end says who sends (`SO_PASSCRED`) and takes no descriptors (`SO_PASSRIGHTS` off)
//! where the kernel can refuse them.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::sys::socket::{self, sockopt};
use worker_proto::socket::{MasterChannel, WorkerChannel, pair};

/// Makes a control channel.
pub(crate) fn control_pair() -> io::Result<(MasterChannel, WorkerChannel)> {
    let (master, worker) = pair()?;
    socket::setsockopt(&master.as_fd(), sockopt::PassCred, &true)?;
    refuse_descriptors(master.as_fd());
    Ok((master, worker))
}

/// Linux 6.16 and later refuse the sender with EPERM. On an older kernel the option does not
/// exist, and the link treats a frame with descriptors as a violation.
pub(super) fn refuse_descriptors(socket: BorrowedFd<'_>) {
    let off: libc::c_int = 0;
    // SAFETY: the option's value is one int, which `off` is, and it outlives the call.
    let _ = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PASSRIGHTS,
            (&raw const off).cast(),
            libc::socklen_t::try_from(size_of_val(&off)).expect("four bytes"),
        )
    };
}

/// Not in libc yet; `asm-generic/socket.h` since Linux 6.16.
const SO_PASSRIGHTS: libc::c_int = 83;
