//! The flags about values.

use std::collections::BTreeSet;

use clap::Args;

use crate::cli::{Failure, usage};
use crate::config::Config;
use crate::config::data_file::DataFile;

/// Flags.
#[derive(Debug, Args)]
pub(super) struct ValueArgs {
    /// Give processes that watch KEY what FILE says, at the start and whenever it changes, without a
    /// restart; may be repeated. rr-ctl push does it by hand
    #[arg(long, value_name = "KEY=FILE", help_heading = "Messages")]
    watch_data: Vec<DataFile>,
}

impl ValueArgs {
    /// Puts what the flags say into the configuration.
    pub(super) fn apply(&self, config: &mut Config) -> Result<(), Failure> {
        let mut keys = BTreeSet::new();
        for file in &self.watch_data {
            if !keys.insert(&file.key) {
                let key = &file.key;
                return Err(usage(format!(
                    "--watch-data {file}: {key:?} is another file already: give it another key"
                )));
            }
        }
        config.data_files.clone_from(&self.watch_data);
        Ok(())
    }
}
