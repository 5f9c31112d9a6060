//! The flags about programs that know nothing of their master.

use std::env;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use crate::cli::{Failure, usage};
use crate::config::Config;
use crate::config::farewell::{Farewell, StopSignal};

/// Flags.
#[derive(Debug, Args)]
pub(super) struct PreloadArgs {
    /// Run any dynamically linked server unchanged: a library is loaded into it (`LD_PRELOAD`) that
    /// makes its listening sockets the cluster's. What it listens on needs no --listen
    #[arg(long, help_heading = "Processes")]
    preload: bool,

    /// The signal that asks a program to finish and exit, if it does not speak to its master: TERM,
    /// QUIT, INT, … nginx takes QUIT so, most others TERM
    #[arg(
        long,
        value_name = "SIGNAL",
        default_value = "TERM",
        help_heading = "Life"
    )]
    stop_signal: StopSignal,

    /// When such a program gets it: `idle`, when its last connection has ended, or a few seconds
    /// before --stop-timeout; `at-once`, for one that finishes by itself what it has begun, and closes
    /// connections that do nothing
    #[arg(
        long,
        value_name = "WHEN",
        default_value = "idle",
        help_heading = "Life"
    )]
    stop_signal_when: When,
}

/// `--stop-signal-when`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum When {
    Idle,
    AtOnce,
}

impl PreloadArgs {
    /// The workers' program is found in the configuration already.
    pub(super) fn apply(&self, config: &mut Config) -> Result<(), Failure> {
        config.stop_signal = self.stop_signal;
        config.farewell = match self.stop_signal_when {
            When::Idle => Farewell::Idle,
            When::AtOnce => Farewell::AtOnce,
        };
        if self.preload {
            config.program.preload = Some(find()?);
        }
        Ok(())
    }
}

/// The library, beside this binary or where packages put it.
fn find() -> Result<PathBuf, Failure> {
    let own = env::current_exe()
        .and_then(|own| own.canonicalize())
        .map_err(|err| usage(format!("find this program's own file: {err}")))?;
    let directory = own.parent().unwrap_or(Path::new("/"));
    let places = [
        directory.join(LIBRARY),
        directory.join("../lib/rr-master").join(LIBRARY),
    ];
    let found = places.iter().find_map(|place| place.canonicalize().ok());
    found.ok_or_else(|| {
        let [beside, packaged] = places.map(|place| place.display().to_string());
        let why = format!(
            "--preload: the library is neither {beside} nor {packaged}: `cargo build --release` makes it beside the binary; after `cargo install` copy it there"
        );
        usage(why).about(Some("preload"))
    })
}

/// What cargo calls the library of `preload/`.
const LIBRARY: &str = "librr_preload.so";
