//! One packet with descriptors over a Unix socket: `sendmsg(2)`, `recvmsg(2)`, `SCM_RIGHTS`.
//!
//! Every descriptor that the kernel installs is owned before anything can return: a packet that
//! turns out to be unwelcome closes what came with it.

use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

/// The most descriptors that Linux lets travel in one packet (`SCM_MAX_FD`, `unix(7)`).
pub const MAX_DESCRIPTORS: usize = 253;

/// Whether a call may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// As the socket is set: a blocking socket waits.
    AsSet,
    /// Never: `MSG_DONTWAIT`.
    Never,
}

/// What `recvmsg` said of a packet, beside its bytes and descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// How many bytes of the buffer are the packet's. 0 means end of file, since nobody sends
    /// an empty packet.
    pub len: usize,
    /// The buffer was too small; the rest of the packet is gone (`MSG_TRUNC`).
    pub bytes_lost: bool,
    /// Descriptors were sent that this process could not be given (`MSG_CTRUNC`): it has as many
    /// as `RLIMIT_NOFILE` allows.
    pub descriptors_lost: bool,
    /// Who sent it, on a socket with `SO_PASSCRED`.
    pub sender_pid: Option<u32>,
}

/// Sends `bytes` as one packet with copies of `descriptors`. Never raises SIGPIPE.
///
/// # Errors
/// Those of `sendmsg(2)`; `InvalidInput` for an empty packet, which would read as end of file on
/// the other side, and for more than [`MAX_DESCRIPTORS`].
pub fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
    wait: Wait,
) -> io::Result<()> {
    if bytes.is_empty() || descriptors.len() > MAX_DESCRIPTORS {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut control = ControlBuffer::new();
    let mut iov = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    let mut header = message_header(&mut iov);
    if !descriptors.is_empty() {
        let payload = mem::size_of_val(descriptors);
        // BorrowedFd is `repr(transparent)` over RawFd, and so is what CMSG_DATA holds.
        control.write_rights(&mut header, descriptors, payload);
    }
    loop {
        // SAFETY: `header` points to `iov`, `bytes` and `control`, which all outlive the call.
        let sent = unsafe {
            libc::sendmsg(
                socket.as_raw_fd(),
                &header,
                wait.flags() | libc::MSG_NOSIGNAL,
            )
        };
        if sent >= 0 {
            return Ok(());
        }
        let err = io::Error::last_os_error();
        if err.kind() != io::ErrorKind::Interrupted {
            return Err(err);
        }
    }
}

/// Receives one packet into `buffer`; its descriptors are appended to `descriptors`, close-on-exec.
///
/// # Errors
/// Those of `recvmsg(2)`. Lost bytes or descriptors are not errors here: see [`Packet`].
pub fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
    wait: Wait,
) -> io::Result<Packet> {
    receive_message(socket, buffer, descriptors, wait.flags())
}

/// As [`receive`], but the packet stays where it is, whole, and `descriptors` gets copies of its
/// descriptors: as many as this process may open.
///
/// # Errors
/// Those of `recvmsg(2)`.
pub fn peek(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
    wait: Wait,
) -> io::Result<Packet> {
    receive_message(socket, buffer, descriptors, wait.flags() | libc::MSG_PEEK)
}

fn receive_message(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
    flags: libc::c_int,
) -> io::Result<Packet> {
    let mut control = ControlBuffer::new();
    let mut iov = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    let mut header = message_header(&mut iov);
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = mem::size_of_val(&control.0);
    let len = loop {
        // SAFETY: `header` points to `iov`, `buffer` and `control`, which all outlive the call.
        let received = unsafe {
            libc::recvmsg(
                socket.as_raw_fd(),
                &mut header,
                flags | libc::MSG_CMSG_CLOEXEC,
            )
        };
        if let Ok(len) = usize::try_from(received) {
            break len;
        }
        let err = io::Error::last_os_error();
        if err.kind() != io::ErrorKind::Interrupted {
            return Err(err);
        }
    };
    let sender_pid = own_ancillary(&header, descriptors);
    Ok(Packet {
        len,
        bytes_lost: header.msg_flags & libc::MSG_TRUNC != 0,
        descriptors_lost: header.msg_flags & libc::MSG_CTRUNC != 0,
        sender_pid,
    })
}

/// Takes ownership of every descriptor in the ancillary data, before any check can return.
fn own_ancillary(header: &libc::msghdr, descriptors: &mut Vec<OwnedFd>) -> Option<u32> {
    let mut sender_pid = None;
    // SAFETY: `header` is as recvmsg left it, with its control buffer alive.
    let mut cmsg = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !cmsg.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR return null or a whole, aligned header inside
        // the control buffer.
        let found = unsafe { ptr::read(cmsg) };
        // SAFETY: as above; CMSG_DATA only adds an offset.
        let data = unsafe { libc::CMSG_DATA(cmsg) };
        if found.cmsg_level == libc::SOL_SOCKET && found.cmsg_type == libc::SCM_RIGHTS {
            let payload = found.cmsg_len - CMSG_HEADER_BYTES;
            for index in 0..payload / mem::size_of::<RawFd>() {
                // SAFETY: `index` stays inside this message's payload, whose length the kernel
                // wrote; CMSG_DATA need not be aligned for RawFd.
                let fd = unsafe { ptr::read_unaligned(data.cast::<RawFd>().wrapping_add(index)) };
                // SAFETY: the kernel has just installed `fd` for us and nobody else knows it.
                descriptors.push(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        } else if found.cmsg_level == libc::SOL_SOCKET && found.cmsg_type == libc::SCM_CREDENTIALS {
            // SAFETY: the kernel writes a whole `ucred` as the payload of SCM_CREDENTIALS.
            let credentials = unsafe { ptr::read_unaligned(data.cast::<libc::ucred>()) };
            sender_pid = u32::try_from(credentials.pid).ok();
        } else if found.cmsg_level == libc::SOL_SOCKET && found.cmsg_type == SCM_PIDFD {
            // Nobody here asks for it, but whoever shares the socket can set SO_PASSPIDFD: a
            // worker, on an accept queue that the master takes packets back from.
            // SAFETY: the kernel writes an int as the payload of SCM_PIDFD.
            let fd = unsafe { ptr::read_unaligned(data.cast::<RawFd>()) };
            // Otherwise it is the error number of a pidfd that could not be had.
            if fd >= 0 {
                // SAFETY: the kernel has just installed `fd` for us and nobody else knows it.
                drop(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
        // SAFETY: `cmsg` is a header of this `header`'s control buffer.
        cmsg = unsafe { libc::CMSG_NXTHDR(header, cmsg) };
    }
    sender_pid
}

impl Wait {
    fn flags(self) -> libc::c_int {
        match self {
            Wait::AsSet => 0,
            Wait::Never => libc::MSG_DONTWAIT,
        }
    }
}

/// Room for the most descriptors, one set of credentials and one pidfd, aligned for `cmsghdr`.
struct ControlBuffer([MaybeUninit<u64>; CONTROL_WORDS]);

impl ControlBuffer {
    fn new() -> Self {
        ControlBuffer([MaybeUninit::uninit(); CONTROL_WORDS])
    }

    fn write_rights(
        &mut self,
        header: &mut libc::msghdr,
        descriptors: &[BorrowedFd<'_>],
        payload: usize,
    ) {
        let payload = libc::c_uint::try_from(payload).expect("at most 253 descriptors");
        header.msg_control = self.0.as_mut_ptr().cast();
        // SAFETY: CMSG_SPACE only computes.
        header.msg_controllen = unsafe { libc::CMSG_SPACE(payload) } as usize;
        // SAFETY: `msg_control` has room for a header and the payload.
        let cmsg = unsafe { libc::CMSG_FIRSTHDR(header) };
        let rights = libc::cmsghdr {
            // SAFETY: CMSG_LEN only computes.
            cmsg_len: unsafe { libc::CMSG_LEN(payload) } as usize,
            cmsg_level: libc::SOL_SOCKET,
            cmsg_type: libc::SCM_RIGHTS,
        };
        // SAFETY: `cmsg` is the aligned start of our own buffer.
        unsafe { ptr::write(cmsg, rights) };
        // SAFETY: as above; CMSG_DATA only adds an offset.
        let data = unsafe { libc::CMSG_DATA(cmsg) };
        // SAFETY: the buffer holds MAX_DESCRIPTORS, and `descriptors` is no longer than that;
        // BorrowedFd is `repr(transparent)` over RawFd.
        unsafe {
            ptr::copy_nonoverlapping(descriptors.as_ptr().cast::<u8>(), data, payload as usize);
        };
    }
}

fn message_header(iov: &mut libc::iovec) -> libc::msghdr {
    // SAFETY: all-zero is a valid `msghdr`: null pointers with lengths of zero.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_iov = iov;
    header.msg_iovlen = 1;
    header
}

const CMSG_HEADER_BYTES: usize = {
    // SAFETY: CMSG_LEN only computes.
    unsafe { libc::CMSG_LEN(0) as usize }
};

#[allow(
    clippy::cast_possible_truncation,
    reason = "the payloads are small constants"
)]
const CONTROL_WORDS: usize = {
    // SAFETY: CMSG_SPACE only computes.
    let rights = unsafe { libc::CMSG_SPACE((MAX_DESCRIPTORS * mem::size_of::<RawFd>()) as u32) };
    // SAFETY: as above.
    let credentials = unsafe { libc::CMSG_SPACE(mem::size_of::<libc::ucred>() as u32) };
    // SAFETY: as above.
    let pidfd = unsafe { libc::CMSG_SPACE(mem::size_of::<RawFd>() as u32) };
    (rights + credentials + pidfd) as usize / mem::size_of::<u64>()
};

/// A pidfd of the sender, see `unix(7)`; not in the libc crate yet.
const SCM_PIDFD: libc::c_int = 4;
