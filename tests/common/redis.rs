//! A real Redis on a Unix socket, with nothing on disk.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::await_condition;

/// A place for a Redis, and the one that is there. Killed when dropped.
pub struct Redis {
    directory: TempDir,
    child: Option<Child>,
}

impl Redis {
    /// Nobody is there yet.
    pub fn nowhere() -> Self {
        Redis {
            directory: tempfile::tempdir().expect("a directory"),
            child: None,
        }
    }

    /// Where it is, or will be, as a program takes it.
    pub fn url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Starts one, and waits until it takes connections.
    pub fn start(&mut self) {
        let child = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--dir"])
            .arg(self.directory.path())
            .arg("--unixsocket")
            .arg(self.socket())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("start redis-server: scripts/test installs it");
        self.child = Some(child);
        await_condition("a Redis", || UnixStream::connect(self.socket()).is_ok());
    }

    pub fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("a Redis");
        kill(Pid::from_raw(child.id().cast_signed()), signal).expect("signal the Redis");
    }

    /// SIGKILL, and the end, which is no error if nobody is there.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("redis")
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}
