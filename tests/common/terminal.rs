//! A terminal that the test holds the other side of.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{OpenptyResult, openpty};
use nix::sys::termios::{FlowArg, tcflow};
use nix::unistd::Pid;

use super::DEADLINE;

/// A command whose standard error is a terminal. Killed when dropped.
pub struct OnTerminal {
    child: Child,
    screen: File,
    /// Kept for flow control, until the end of the output is wanted.
    line: Option<OwnedFd>,
    seen: String,
}

impl OnTerminal {
    pub fn start(mut command: Command) -> Self {
        let OpenptyResult { master, slave } = openpty(None, None).expect("open a terminal");
        let stderr = slave.try_clone().expect("another handle on the terminal");
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .expect("start rr-master");
        // The command holds the handle that it gave to the child.
        drop(command);
        OnTerminal {
            child,
            screen: master.into(),
            line: Some(slave),
            seen: String::new(),
        }
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// What the person there does with Ctrl-S: whoever writes, waits.
    pub fn stop_output(&self) {
        let line = self.line.as_ref().expect("before the end");
        tcflow(line, FlowArg::TCOOFF).expect("stop the terminal");
    }

    /// And with Ctrl-Q.
    pub fn resume_output(&self) {
        let line = self.line.as_ref().expect("before the end");
        tcflow(line, FlowArg::TCOON).expect("resume the terminal");
    }

    /// Reads until the text was seen; answers everything seen so far.
    pub fn await_text(&mut self, text: &str) -> &str {
        self.await_seen(text, |seen| seen.contains(text))
    }

    /// Reads until what was seen is as wanted; answers everything seen so far.
    pub fn await_seen(&mut self, what: &str, wanted: impl Fn(&str) -> bool) -> &str {
        while !wanted(&self.seen) {
            assert!(self.read(), "the terminal ended before {what}");
        }
        &self.seen
    }

    /// Whether there is nothing to be read now.
    pub fn is_silent(&self) -> bool {
        let mut fds = [PollFd::new(self.screen.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).expect("poll the terminal") == 0
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("ask for the end").is_some()
    }

    /// Everything that was written, and the exit code, once nobody holds the terminal any more.
    pub fn wait(mut self) -> (i32, String) {
        self.line = None;
        while self.read() {}
        let status = self.child.wait().expect("wait for the master");
        let seen = std::mem::take(&mut self.seen);
        (status.code().expect("ended by itself"), seen)
    }

    /// Reads what there is; false at the end.
    fn read(&mut self) -> bool {
        let timeout = PollTimeout::try_from(DEADLINE).expect("a short time");
        let mut fds = [PollFd::new(self.screen.as_fd(), PollFlags::POLLIN)];
        let ready = poll(&mut fds, timeout).expect("poll the terminal");
        assert!(
            ready > 0,
            "nothing within {DEADLINE:?} after:\n{}",
            self.seen
        );
        let mut chunk = [0; 64 * 1024];
        match self.screen.read(&mut chunk) {
            Ok(0) => false,
            Ok(len) => {
                self.seen += &String::from_utf8_lossy(&chunk[..len]);
                true
            }
            // pty(7): the other side was closed by all who had it.
            Err(err) if err.raw_os_error() == Some(Errno::EIO as i32) => false,
            Err(err) if err.kind() == ErrorKind::Interrupted => true,
            Err(err) => panic!("read the terminal: {err}"),
        }
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- on the terminal ---\n{}", self.seen);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
