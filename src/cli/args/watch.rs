//! The flags about watching files.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::parse_time;
use crate::cli::{Failure, usage};
use crate::config::Config;
use crate::config::watch::{Ignored, Watch};
use crate::sys::describe;

/// Flags.
#[derive(Debug, Args)]
pub(super) struct WatchArgs {
    /// Reload when PATH changes, or anything below it; may be repeated. For development: it is how a
    /// new version is tried as soon as it is saved. One that fails is rolled back
    #[arg(long, value_name = "PATH", help_heading = "Reload")]
    watch: Vec<PathBuf>,

    /// How long nothing has to change before --watch reloads
    #[arg(long, value_name = "TIME", default_value = "200ms", value_parser = parse_time, help_heading = "Reload")]
    watch_delay: Duration,

    /// What --watch leaves alone below a directory: names such as '*.log', or paths relative to it
    /// such as 'build/*.o'; may be repeated. Never a reason: .git, node_modules, target, __pycache__,
    /// and what editors leave for a moment
    #[arg(long, value_name = "PATTERN", help_heading = "Reload")]
    watch_ignore: Vec<Ignored>,
}

impl WatchArgs {
    /// Puts what the flags say into the configuration.
    pub(super) fn apply(&self, config: &mut Config) -> Result<(), Failure> {
        let absolute = |path: &PathBuf| {
            std::path::absolute(path).map_err(|err| {
                let refused = format!("--watch {path:?}: {}", describe(&err));
                usage(refused).about(Some("watch"))
            })
        };
        config.watch = Watch {
            paths: self.watch.iter().map(absolute).collect::<Result<_, _>>()?,
            delay: self.watch_delay,
            ignore: self.watch_ignore.clone(),
        };
        Ok(())
    }
}
