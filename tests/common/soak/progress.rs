//! How far the run is: one line that changes on a terminal, one line in a while elsewhere.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

pub(crate) struct Progress {
    every: Duration,
    next: Instant,
    is_terminal: bool,
}

impl Progress {
    pub(crate) fn new() -> Self {
        let is_terminal = io::stdout().is_terminal();
        let every = Duration::from_millis(if is_terminal { 200 } else { 10_000 });
        Progress {
            every,
            next: Instant::now() + every,
            is_terminal,
        }
    }

    /// Says it if it is time to.
    pub(crate) fn show(&mut self, kills: u64, connections: u64) {
        if Instant::now() < self.next {
            return;
        }
        self.next = Instant::now() + self.every;
        let (begin, end) = if self.is_terminal {
            ("\r\x1b[K", "")
        } else {
            ("", "\n")
        };
        print!("{begin}{connections} connections, {kills} kills{end}");
        let _ = io::stdout().flush();
    }

    /// Takes away what changes.
    pub(crate) fn clear(self) {
        if self.is_terminal {
            print!("\r\x1b[K");
        }
    }
}
