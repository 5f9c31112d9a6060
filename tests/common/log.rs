//! A log file of a master under test.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use nix::unistd::Pid;

use super::{DEADLINE, Stopwatch, await_condition};

/// A file that a master logs to, or will.
pub struct Log(PathBuf);

impl Log {
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Log(path.into())
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// What it has; nothing if it is not there.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.0).unwrap_or_default()).into_owned()
    }

    /// Waits for this text; answers the whole line that has it.
    pub fn await_text(&self, wanted: &str) -> String {
        let took = Stopwatch::start();
        loop {
            let text = self.text();
            // A line may be written in parts.
            let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
            if let Some(line) = whole.lines().find(|line| line.contains(wanted)) {
                return line.to_owned();
            }
            assert!(
                took.elapsed() < DEADLINE,
                "no {wanted:?} within {DEADLINE:?}:\n{text}"
            );
            std::thread::park_timeout(std::time::Duration::from_millis(2));
        }
    }

    /// The first address on the start-up screen.
    pub fn address(&self) -> SocketAddr {
        let line = self.await_text("  listening ");
        let address = line.trim_start().trim_start_matches("listening").trim();
        let address = address.split(' ').next().expect("an address");
        address.parse().expect("an Internet address")
    }

    /// The master that the start-up screen is of.
    pub fn master(&self) -> Pid {
        let line = self.await_text("rr-master 0.");
        let (_, pid) = line.rsplit_once(" pid ").expect("a pid");
        Pid::from_raw(pid.parse().expect("a number"))
    }

    /// Waits until the file is there.
    pub fn await_file(&self) {
        await_condition("a log file", || self.0.exists());
    }
}
