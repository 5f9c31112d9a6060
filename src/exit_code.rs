//! The exit codes of the master: one meaning each, documented here and shown by `--help`.

use std::process;

/// How the master's life ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ExitCode {
    /// Asked to stop, and every process left by itself.
    Clean = 0,
    /// Something in the master itself failed.
    Internal = 1,
    /// A flag, the configuration or the program is wrong; nothing was started.
    Usage = 2,
    /// A worker failed to start.
    WorkerStart = 3,
    /// The agent failed to start.
    AgentStart = 4,
    /// Gave up on a crash loop: no worker is left to serve.
    CrashLoop = 5,
    /// A listener could not be bound; nothing was started.
    Bind = 6,
    /// At stop, a process did not leave in time and had to be made to.
    ForcedKill = 7,
    /// Too few workers served, or an agent was missing, for longer than it was allowed to.
    Unhealthy = 8,
}

impl ExitCode {
    /// The meaning of a master's exit status; `None` if it is not one of these.
    pub(crate) fn from_status(status: i32) -> Option<Self> {
        [
            ExitCode::Clean,
            ExitCode::Internal,
            ExitCode::Usage,
            ExitCode::WorkerStart,
            ExitCode::AgentStart,
            ExitCode::CrashLoop,
            ExitCode::Bind,
            ExitCode::ForcedKill,
            ExitCode::Unhealthy,
        ]
        .into_iter()
        .find(|&code| code as i32 == status)
    }
}

impl From<ExitCode> for process::ExitCode {
    fn from(code: ExitCode) -> Self {
        process::ExitCode::from(code as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exit_code_is_recognized() {
        let known = |status| ExitCode::from_status(status).map(|code| code as i32);
        let codes: Vec<_> = (0..=255).filter_map(known).collect();
        assert_eq!(codes, (0..=8).collect::<Vec<_>>());
    }
}
