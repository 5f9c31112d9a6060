//! The flags about the master as a process of its host.

use std::path::PathBuf;

use clap::Args;

use super::super::{Failure, usage};

/// How the master lives among the other processes of the machine.
#[derive(Debug, Args)]
#[command(next_help_heading = "Running")]
pub(in crate::cli) struct HostArgs {
    /// Go on in the background: return when the cluster is ready, or with the exit code of one that
    /// failed to start. Needs --log-file. Ctrl-C until then gives up the start
    #[arg(long)]
    pub(in crate::cli) daemon: bool,

    /// Append the log to FILE instead of writing it to standard error; SIGUSR1 opens FILE again, after
    /// it was moved away, and tells the processes to do the same with theirs. With --daemon it gets what the processes write, too
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) log_file: Option<PathBuf>,

    /// Leave the command line as it is; otherwise `ps` shows how many workers serve in its place
    #[arg(long)]
    pub(in crate::cli) no_title: bool,
}

impl HostArgs {
    /// Whether they go together.
    pub(super) fn check(&self) -> Result<(), Failure> {
        if self.daemon && self.log_file.is_none() {
            return Err(usage(
                "--daemon: nobody would see the log: add --log-file FILE (/dev/null if nobody should)",
            ));
        }
        Ok(())
    }
}
