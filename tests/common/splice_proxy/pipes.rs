//! Pipes, for bytes between two sockets: made once and used again by whoever needs one next.

use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::pipe2;

/// Those that nobody uses now. All are empty.
#[derive(Default)]
pub(crate) struct Pipes(Vec<Pipe>);

pub(crate) struct Pipe {
    pub(crate) reader: OwnedFd,
    pub(crate) writer: OwnedFd,
}

impl Pipes {
    pub(crate) fn take(&mut self) -> Result<Pipe, Errno> {
        match self.0.pop() {
            Some(pipe) => Ok(pipe),
            None => {
                let (reader, writer) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
                Ok(Pipe { reader, writer })
            }
        }
    }

    /// Gives an empty one back. One that still holds bytes of somebody's is dropped instead.
    pub(crate) fn give(&mut self, pipe: Pipe) {
        if self.0.len() < KEPT {
            self.0.push(pipe);
        }
    }
}

/// How many are kept for when they are needed.
const KEPT: usize = 256;
