//! The flags about how connections come to the workers.

use clap::{Args, ValueEnum};

use crate::config::Config;
use crate::config::dispatch::{Dispatch, DispatchMode, Waking};

/// Flags.
#[derive(Debug, Args)]
pub(super) struct DispatchArgs {
    /// How connections come to the workers: with `hand-off` the master accepts and gives each to the
    /// next worker; with `shared` the workers accept from one socket, whichever is first; with
    /// `reuseport` each has a socket of its own, and the kernel chooses by a hash of the addresses.
    /// A listener may say otherwise: -l 127.0.0.1:8000,dispatch=shared. With both, a program that
    /// takes its sockets from systemd (LISTEN_FDS) needs --listen and --ready-on delay=1s, no more
    #[arg(
        long,
        value_name = "MODE",
        default_value = "hand-off",
        help_heading = "Listening"
    )]
    dispatch: Mode,

    /// With `--dispatch shared`, for programs written with worker-proto: `no` wakes every worker for
    /// each connection instead of one, to show what that costs
    #[arg(
        long,
        value_name = "yes|no",
        default_value = "yes",
        help_heading = "Listening"
    )]
    exclusive: YesOrNo,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Mode {
    HandOff,
    Shared,
    #[value(name = "reuseport")]
    ReusePort,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum YesOrNo {
    Yes,
    No,
}

impl DispatchArgs {
    /// Puts what the flags say into the configuration.
    pub(super) fn apply(&self, config: &mut Config) {
        config.dispatch = Dispatch {
            mode: match self.dispatch {
                Mode::HandOff => DispatchMode::HandOff,
                Mode::Shared => DispatchMode::Shared,
                Mode::ReusePort => DispatchMode::ReusePort,
            },
            waking: match self.exclusive {
                YesOrNo::Yes => Waking::One,
                YesOrNo::No => Waking::All,
            },
            ..config.dispatch
        };
    }
}
