//! The flag about when a worker is ready.

use clap::Args;

use crate::config::Config;
use crate::config::readiness::ReadyOn;

/// Flags.
#[derive(Debug, Args)]
pub(super) struct ReadinessArgs {
    /// When a worker is ready: `message`, when it says so, as programs of worker-proto do, and with
    /// --preload when it first listens; for programs that say nothing `delay=TIME`, when it has lived
    /// for so long, or `tcp=ADDRESS`, when somebody takes connections there, such as
    /// tcp=127.0.0.1:{9000+slot}
    #[arg(
        long,
        value_name = "WHAT",
        default_value = "message",
        help_heading = "Life"
    )]
    ready_on: ReadyOn,
}

impl ReadinessArgs {
    /// The workers' program is found in the configuration already. Agents say when they are ready.
    pub(super) fn apply(&self, config: &mut Config) {
        config.program.ready_on.clone_from(&self.ready_on);
    }
}
