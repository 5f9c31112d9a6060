//! What a peer can do that this project never does: several control messages in one packet, false
//! credentials, options of a shared socket, a low limit.

use std::io::IoSlice;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, UnixCredentials, sendmsg};

use super::model::Ancillary;

/// One packet with everything beside it, each of the `rights` being the descriptors of one
/// `SCM_RIGHTS` message.
pub fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    messages: &[Ancillary],
    rights: &[Vec<RawFd>],
) -> Result<(), Errno> {
    let own = UnixCredentials::new();
    let others = UnixCredentials::from(libc::ucred {
        pid: 1,
        uid: 65_534,
        gid: 65_534,
    });
    let mut rights = rights.iter();
    let control: Vec<ControlMessage<'_>> = messages
        .iter()
        .map(|message| match message {
            Ancillary::Rights(_) => {
                ControlMessage::ScmRights(rights.next().expect("one for each message"))
            }
            Ancillary::Credentials => ControlMessage::ScmCredentials(&own),
            Ancillary::FalseCredentials => ControlMessage::ScmCredentials(&others),
        })
        .collect();
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    let iov = [IoSlice::new(bytes)];
    sendmsg::<UnixAddr>(socket.as_raw_fd(), &iov, &control, flags, None).map(|_| ())
}

/// Sets `SO_PASSPIDFD`, which is not there before Linux 6.5.
pub fn pass_pidfd(socket: BorrowedFd<'_>, on: bool) {
    let value = libc::c_int::from(on);
    let len = libc::socklen_t::try_from(size_of_val(&value)).expect("four bytes");
    // SAFETY: the value is an int that outlives the call.
    #[allow(unsafe_code, reason = "no safe interface has this option")]
    let _ = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PASSPIDFD,
            (&raw const value).cast(),
            len,
        )
    };
}

/// Until it is dropped, this process may open only a few descriptors more.
pub struct LowLimit {
    former: (libc::rlim_t, libc::rlim_t),
}

impl LowLimit {
    pub fn with_room_for(count: u8, anything_open: BorrowedFd<'_>) -> Self {
        let former = getrlimit(Resource::RLIMIT_NOFILE).expect("it can always be asked");
        // The lowest free numbers, one more than may be used.
        let free: Vec<OwnedFd> = (0..=count)
            .map(|_| anything_open.try_clone_to_owned().expect("there is room"))
            .collect();
        let last = free.last().expect("at least one").as_raw_fd();
        let limit = libc::rlim_t::try_from(last).expect("no number is negative");
        setrlimit(Resource::RLIMIT_NOFILE, limit, former.1).expect("it can always be lowered");
        LowLimit { former }
    }
}

impl Drop for LowLimit {
    fn drop(&mut self) {
        let (soft, hard) = self.former;
        setrlimit(Resource::RLIMIT_NOFILE, soft, hard).expect("up to the former one it can");
    }
}
