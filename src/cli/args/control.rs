//! The flags about the control socket.

use std::path::PathBuf;

use clap::Args;

use crate::config::Config;
use crate::config::control::ControlSocket;

/// Flags.
#[derive(Debug, Args)]
pub(super) struct Control {
    /// Where rr-ctl reaches this master: a Unix socket that only its own user and root can use. By
    /// default rr-master-PID.sock in $RR_CONTROL_DIR, in /run for root, or in $XDG_RUNTIME_DIR
    #[arg(long, value_name = "PATH", help_heading = "Running")]
    control: Option<PathBuf>,

    /// Have no control socket
    #[arg(long, conflicts_with = "control", help_heading = "Running")]
    no_control: bool,
}

impl Control {
    /// Puts what the flags say into the configuration.
    pub(super) fn apply(&self, config: &mut Config) {
        config.control = match &self.control {
            _ if self.no_control => ControlSocket::None,
            Some(path) => ControlSocket::At(path.clone()),
            None => ControlSocket::Usual,
        };
    }
}
