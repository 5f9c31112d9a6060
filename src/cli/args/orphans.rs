//! The flag about processes that lose their parents.

use clap::Args;

use crate::sys::orphans::Adoption;

/// Who gets them.
#[derive(Debug, Args)]
pub(in crate::cli) struct OrphanArgs {
    /// Be the parent of whatever processes leave behind, as the first process of a container is
    /// anyway: they stay below the master in the process tree, and none remains a zombie
    #[arg(long, help_heading = "Running")]
    subreaper: bool,
}

impl OrphanArgs {
    pub(in crate::cli) fn adoption(&self) -> Adoption {
        if self.subreaper {
            Adoption::Subreaper
        } else {
            Adoption::Natural
        }
    }
}
