//! The flags about what processes leave behind.

use clap::Args;

use crate::sys::orphans::Adoption;

/// Who gets it, and whom it outlives.
#[derive(Debug, Args)]
pub(in crate::cli) struct LeftoverArgs {
    /// Be the parent of whatever processes leave behind, as the first process of a container is
    /// anyway: they stay below the master in the process tree, and none remains a zombie
    #[arg(long, help_heading = "Running")]
    subreaper: bool,

    /// Start every process in a control group of its own, so that whatever it has started ends with
    /// it, daemons too. Needs a cgroup2 hierarchy that the master may write: as root, or with
    /// Delegate=yes in a service's unit
    #[arg(long, help_heading = "Running")]
    pub(in crate::cli) cgroup: bool,
}

impl LeftoverArgs {
    pub(in crate::cli) fn adoption(&self) -> Adoption {
        if self.subreaper {
            Adoption::Subreaper
        } else {
            Adoption::Natural
        }
    }
}
