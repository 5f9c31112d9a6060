//! Leaving the terminal: the process goes on in a session of its own, while the one that was started
//! waits to hear how it went.

use std::fs::{self, OpenOptions};
use std::io::{self, PipeReader, PipeWriter, pipe};
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, dup2_stderr, dup2_stdin, dup2_stdout, fork, setsid};

/// Which of the two processes this one is.
#[derive(Debug)]
pub(crate) enum Side {
    /// The one that was started.
    Starter(Waiting),
    /// The one that stays.
    Daemon(Starter),
}

/// The starter's side: what it waits for.
#[derive(Debug)]
pub(crate) struct Waiting {
    daemon: Pid,
    /// What the daemon says, until it has no more to say.
    pub(crate) output: PipeReader,
    /// One byte when it is ready; the end if it comes to its own before.
    pub(crate) ready: PipeReader,
}

/// The daemon's side: the process that waits for it.
#[derive(Debug)]
pub(crate) struct Starter {
    /// Never waits: what the starter has no room for is not said.
    pub(crate) output: PipeWriter,
    pub(crate) ready: PipeWriter,
}

/// Divides the process, which is refused if it has other threads already. The daemon has a session without a
/// terminal and nothing on standard input; its directory and mask stay.
pub(crate) fn detach() -> io::Result<Side> {
    if fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other("this process has other threads"));
    }
    let null = OpenOptions::new().read(true).open("/dev/null")?;
    let (output, daemons_output) = pipe()?;
    let (ready, daemons_ready) = pipe()?;
    let flags = OFlag::from_bits_retain(fcntl(&daemons_output, FcntlArg::F_GETFL)?);
    fcntl(
        &daemons_output,
        FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK),
    )?;
    // SAFETY: there is no other thread, as was just seen, and only this one could start any. So no
    // lock is held by somebody who is not there in the new process, see fork(2).
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(Side::Starter(Waiting {
            daemon: child,
            output,
            ready,
        })),
        ForkResult::Child => {
            // It leads its session, but everything that is opened here is opened with O_NOCTTY or is
            // no terminal: a second fork would gain nothing, and lose the starter's `waitpid`.
            setsid()?;
            dup2_stdin(null)?;
            Ok(Side::Daemon(Starter {
                output: daemons_output,
                ready: daemons_ready,
            }))
        }
    }
}

/// Makes this file standard output and standard error.
pub(crate) fn redirect_output(file: impl AsFd) -> io::Result<()> {
    dup2_stdout(&file)?;
    dup2_stderr(&file)?;
    Ok(())
}

impl Waiting {
    /// Waits for the daemon's end.
    pub(crate) fn end(&self) -> io::Result<WaitStatus> {
        loop {
            match waitpid(self.daemon, None) {
                Err(Errno::EINTR) => {}
                ended => return Ok(ended?),
            }
        }
    }
}

/// Waits until nobody holds the reading end of the pipe any more.
pub(crate) fn wait_for_reader_to_go(pipe: &PipeWriter) -> io::Result<()> {
    loop {
        // POLLERR is always reported, see poll(2).
        let mut fds = [PollFd::new(pipe.as_fd(), PollFlags::empty())];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(err) => return Err(err.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;

    use super::*;

    #[test]
    fn a_process_with_other_threads_is_not_divided() {
        let (end, ended) = channel::<()>();
        let other = thread::spawn(move || ended.recv());
        assert!(detach().is_err());
        drop(end);
        let _ = other.join();
    }
}
