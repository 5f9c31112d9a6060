//! One direction of a session: bytes from one socket into the other, and then the end.
//!
//! A pipe is taken only while bytes are under way: a session that waits has none.

use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::fcntl::{SpliceFFlags, splice};

use super::pipes::{Pipe, Pipes};

pub(crate) enum Flow {
    /// More may come.
    Open { under_way: Option<Filled> },
    /// Nothing comes any more, or nobody takes it.
    Over,
}

/// Bytes that have left one socket and not reached the other.
pub(crate) struct Filled {
    pipe: Pipe,
    bytes: usize,
}

/// Why a flow stopped.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pause {
    /// Its source has nothing now.
    Dry,
    /// Its destination takes nothing now.
    Stuck,
    Over,
}

impl Flow {
    pub(crate) fn new() -> Self {
        Flow::Open { under_way: None }
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(self, Flow::Over)
    }

    /// Passes on what there is, until one of the sockets would have to wait.
    ///
    /// The pipe is empty whenever the source is asked. So `EAGAIN` is the source's and says that it
    /// is dry, which edges need to be told apart from a full pipe.
    pub(crate) fn pass(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        pipes: &mut Pipes,
    ) -> Result<Pause, Errno> {
        while let Flow::Open { under_way } = self {
            if let Some(filled) = under_way {
                match move_bytes(filled.pipe.reader.as_fd(), to, filled.bytes) {
                    Ok(bytes) => filled.bytes -= bytes,
                    Err(Errno::EAGAIN) => return Ok(Pause::Stuck),
                    // Nobody reads there. What comes the other way may still be wanted.
                    Err(Errno::EPIPE) => *self = Flow::Over,
                    Err(err) => return Err(err),
                }
                self.give_back(pipes);
                continue;
            }
            let pipe = pipes.take()?;
            match move_bytes(from, pipe.writer.as_fd(), PIPE_BYTES) {
                Ok(0) => {
                    pipes.give(pipe);
                    *self = Flow::Over;
                }
                Ok(bytes) => *under_way = Some(Filled { pipe, bytes }),
                Err(Errno::EAGAIN) => {
                    pipes.give(pipe);
                    return Ok(Pause::Dry);
                }
                Err(err) => return Err(err),
            }
        }
        Ok(Pause::Over)
    }

    fn give_back(&mut self, pipes: &mut Pipes) {
        if let Flow::Open { under_way } = self
            && let Some(filled) = under_way.take_if(|filled| filled.bytes == 0)
        {
            pipes.give(filled.pipe);
        }
    }
}

fn move_bytes(from: BorrowedFd<'_>, to: BorrowedFd<'_>, most: usize) -> Result<usize, Errno> {
    let flags = SpliceFFlags::SPLICE_F_NONBLOCK | SpliceFFlags::SPLICE_F_MOVE;
    splice(from, None, to, None, most, flags)
}

/// As many as a pipe holds, pipe(7).
const PIPE_BYTES: usize = 64 << 10;
