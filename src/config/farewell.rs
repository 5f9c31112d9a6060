//! How a program is asked to leave that does not speak to its master: with which signal, and when.

use std::fmt;
use std::str::FromStr;

use nix::sys::signal::Signal;
use thiserror::Error;

/// The signal that a program takes as the wish to finish and exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopSignal(Signal);

/// When such a program gets it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Farewell {
    /// When its last connection has ended, or shortly before the deadline.
    #[default]
    Idle,
    /// As soon as it gets no more connections: it finishes by itself what it has begun.
    AtOnce,
}

/// A text that names no signal that could ask a program to leave.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("no signal that asks a program to leave: write TERM, QUIT, INT, HUP, USR1, USR2 or WINCH")]
pub struct UnknownSignal;

impl StopSignal {
    /// SIGTERM.
    pub const TERM: StopSignal = StopSignal(Signal::SIGTERM);

    pub(crate) fn signal(self) -> Signal {
        self.0
    }
}

impl FromStr for StopSignal {
    type Err = UnknownSignal;

    /// With or without `SIG`, in any case.
    fn from_str(text: &str) -> Result<Self, UnknownSignal> {
        let name = text.to_ascii_uppercase();
        let name = name.strip_prefix("SIG").unwrap_or(&name);
        let signal = FIT
            .iter()
            .find(|signal| &signal.as_str()["SIG".len()..] == name);
        signal.copied().map(StopSignal).ok_or(UnknownSignal)
    }
}

impl fmt::Display for StopSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.as_str()["SIG".len()..])
    }
}

/// Those that a program can take as such a wish, and that mean nothing else to the kernel.
const FIT: [Signal; 7] = [
    Signal::SIGTERM,
    Signal::SIGQUIT,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_read_as_people_write_it() {
        for text in ["QUIT", "SIGQUIT", "quit", "sigQuit"] {
            let signal: StopSignal = text.parse().unwrap();
            assert_eq!(signal.to_string(), "QUIT");
        }
        for text in ["", "SIG", "KILL", "STOP", "15", "SEGV"] {
            assert_eq!(text.parse::<StopSignal>(), Err(UnknownSignal), "{text}");
        }
    }
}
