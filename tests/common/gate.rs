//! A gate that `test_worker late` waits at before it is ready.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tempfile::TempDir;

/// A FIFO in which each byte lets one worker through.
pub struct Gate {
    directory: TempDir,
    /// Open for both, see fifo(7): so neither side ever waits for the other to open it.
    fifo: File,
}

impl Gate {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("gate");
        mkfifo(&path, Mode::S_IRWXU).expect("make a FIFO");
        let fifo = OpenOptions::new().read(true).write(true).open(path);
        Gate {
            directory,
            fifo: fifo.expect("open the FIFO"),
        }
    }

    pub fn path(&self) -> PathBuf {
        self.directory.path().join("gate")
    }

    pub fn let_one_through(&mut self) {
        self.fifo.write_all(&[1]).expect("write to the FIFO");
    }
}
