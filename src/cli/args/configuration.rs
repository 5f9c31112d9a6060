//! The flags that are no settings: where settings are read from, and what is done with them instead
//! of running.

use std::path::PathBuf;

/// What is asked of the configuration. Nothing in here is a key of the file or, but for
/// `RR_CONFIG`, a variable.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Configuration")]
pub(in crate::cli) struct ConfigurationArgs {
    /// Read settings from FILE, a TOML file. A flag --stop-timeout is the key stop-timeout in it,
    /// and the variable RR_STOP_TIMEOUT in the environment; this one is RR_CONFIG. The command line
    /// wins over the environment, the environment over the file. Paths in it are relative to the
    /// directory that the master runs in
    #[arg(short, long, value_name = "FILE")]
    pub(in crate::cli) config: Option<PathBuf>,

    /// Say whether the configuration can be run, and run nothing
    #[arg(long, conflicts_with = "print_config")]
    pub(in crate::cli) check: bool,

    /// Print every setting as a configuration file, with where it comes from, and run nothing
    #[arg(long)]
    pub(in crate::cli) print_config: bool,
}
