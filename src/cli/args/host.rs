//! The flags about the master as a process of its host.

use clap::Args;

/// How the master lives among the other processes of the machine.
#[derive(Debug, Args)]
#[command(next_help_heading = "Running")]
pub(in crate::cli) struct HostArgs {
    /// Leave the command line as it is; otherwise `ps` shows how many workers serve in its place
    #[arg(long)]
    pub(in crate::cli) no_title: bool,
}
