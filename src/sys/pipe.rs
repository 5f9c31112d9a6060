//! Pipes for what processes say on their standard streams: large, so that a burst does not make the
//! process wait, and read without waiting.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::fchown;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{pipe2, read, write};

use super::credentials::Credentials;

/// Makes a pipe for a process: the end to read, which never waits, and the end to write, which does
/// when the pipe is full.
pub(crate) fn create(credentials: &Credentials) -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
    fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    enlarge(&reader);
    if let Some((uid, gid)) = credentials.owner() {
        // Otherwise a process of another user could not open its own /dev/stderr, proc(5).
        fchown(&reader, uid, gid)?;
    }
    Ok((reader, writer))
}

/// What is in the pipe, up to the size of the buffer: `None` if there is nothing now, 0 if nothing
/// will come any more.
pub(crate) fn take(reader: &impl AsFd, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    loop {
        return match read(reader.as_fd(), buffer) {
            Ok(len) => Ok(Some(len)),
            Err(Errno::EAGAIN) => Ok(None),
            Err(Errno::EINTR) => continue,
            Err(err) => Err(err.into()),
        };
    }
}

/// Writes everything, and waits for as long as that takes, also if the file is not one that waits.
pub(crate) fn put(file: &impl AsFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match write(file, bytes) {
            Ok(len) => bytes = &bytes[len..],
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                let mut fds = [PollFd::new(file.as_fd(), PollFlags::POLLOUT)];
                match poll(&mut fds, PollTimeout::NONE) {
                    Ok(_) | Err(Errno::EINTR) => {}
                    Err(err) => return Err(err.into()),
                }
            }
            Err(err) => return Err(err.into()),
        }
    }
    Ok(())
}

/// As large as this user may have it, see `F_SETPIPE_SZ` in fcntl(2): there is a limit for one pipe
/// and one for all.
fn enlarge(pipe: &OwnedFd) {
    let mut size = CAPACITY;
    while size > ORDINARY_CAPACITY {
        let wanted = libc::c_int::try_from(size).unwrap_or(libc::c_int::MAX);
        if fcntl(pipe, FcntlArg::F_SETPIPE_SZ(wanted)).is_ok() {
            return;
        }
        size /= 2;
    }
}

/// What everybody may have, unless the system was told otherwise (`fs.pipe-max-size`).
pub(crate) const CAPACITY: usize = 1 << 20;

/// What a pipe has anyway.
const ORDINARY_CAPACITY: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_takes_a_burst_and_gives_it_back_without_waiting() {
        let (reader, writer) = create(&Credentials::default()).unwrap();
        let mut buffer = [0; 4096];
        assert_eq!(take(&reader, &mut buffer).unwrap(), None);
        // More than an ordinary one takes: this would never return.
        let burst = vec![b'x'; ORDINARY_CAPACITY + 1];
        assert_eq!(write(&writer, &burst).unwrap(), burst.len());
        drop(writer);
        let mut taken = 0;
        while let Some(len @ 1..) = take(&reader, &mut buffer).unwrap() {
            taken += len;
        }
        assert_eq!(taken, burst.len());
        assert_eq!(take(&reader, &mut buffer).unwrap(), Some(0));
    }
}
