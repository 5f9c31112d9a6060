//! What the `rr-master` program does in its own process, beside running the master.
//!
//! `Master` writes no pid file and sets up no log: that is for whoever embeds it to do, or not.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use log::LevelFilter;

/// What the program does in its own process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnProcess {
    /// Where its pid is written.
    pub pidfile: Option<PathBuf>,
    /// Where its log is appended, if not to standard error.
    pub log_file: Option<PathBuf>,
    /// What it logs.
    pub log_level: Option<LevelFilter>,
    /// Variables of its environment that are meant for it: the processes that it starts do not get
    /// them. A master that one of them starts would take them for its own.
    pub variables: Vec<OsString>,
    /// Every setting as it would stand in a file, for operators; `None` if nobody wrote it down.
    pub document: Option<Arc<str>>,
}

/// What is logged when nothing is said.
pub(crate) const DEFAULT_LOG_LEVEL: LevelFilter = LevelFilter::Info;
