//! An interactive shell on a terminal of its own, and the person who types there.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::pty::{OpenptyResult, openpty};
use nix::unistd::Pid;

use super::Cluster;

/// A shell that leads the session of its terminal. What it and its jobs write to standard error is
/// the log of the cluster.
pub struct Shell {
    pub cluster: Cluster,
    keyboard: File,
}

impl Shell {
    pub fn start() -> Self {
        Self::with_flags(&["--norc", "--noprofile", "-i"])
    }

    /// A shell that was logged into, which may have `shopt -s huponexit`.
    pub fn login() -> Self {
        Self::with_flags(&["--noprofile", "--login", "-i"])
    }

    fn with_flags(flags: &[&str]) -> Self {
        let OpenptyResult { master, slave } = openpty(None, None).expect("open a terminal");
        keep_to_this_process(&master);
        // Takes the terminal on its standard input as the controlling one of a new session.
        let mut command = Command::new("setsid");
        command.args(["--ctty", "bash"]).args(flags);
        command
            .stdin(slave)
            .stdout(Stdio::null())
            .env("PS1", "")
            .env_remove("PROMPT_COMMAND");
        Shell {
            cluster: Cluster::with_streams(command),
            keyboard: master.into(),
        }
    }

    /// Types a line.
    pub fn type_line(&mut self, line: &str) {
        writeln!(self.keyboard, "{line}").expect("type");
    }

    /// The pid that the start-up screen of a master shows.
    pub fn master(&mut self) -> Pid {
        let shown = self.cluster.await_text("rr-master 0.");
        let (_, pid) = shown.rsplit_once(" pid ").expect("a pid");
        Pid::from_raw(pid.trim().parse().expect("a number"))
    }

    /// The person closes the window, or the network does.
    pub fn close_terminal(self) -> Cluster {
        self.cluster
    }
}

/// Otherwise whoever is started on the terminal has its other side as well, and keeps it open.
pub fn keep_to_this_process(master: &OwnedFd) {
    fcntl(master, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).expect("set close-on-exec");
}
