//! The pid file: locked while the master lives, so that a second master with the same one refuses
//! to start even if the first one's pid was reused.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use thiserror::Error;

use super::describe;

/// A pid file that this process wrote and has locked. Removed when dropped.
#[derive(Debug)]
pub(crate) struct PidFile {
    path: PathBuf,
    file: Flock<File>,
}

/// Why there is no pid file.
#[derive(Debug, Error)]
pub(crate) enum PidFileError {
    #[error("pid file {}: another master runs with it, pid {pid}: stop it first, or give this one its own --pidfile", path.display())]
    Held { path: PathBuf, pid: String },
    #[error("pid file {}: {}: give another --pidfile", path.display(), describe(source))]
    Io { path: PathBuf, source: io::Error },
}

impl PidFile {
    pub(crate) fn create(path: &Path) -> Result<Self, PidFileError> {
        let failed = |source| PidFileError::Io {
            path: path.to_owned(),
            source,
        };
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o644)
                .open(path)
                .map_err(failed)?;
            let mut file =
                Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(mut file, _)| {
                    let mut pid = String::new();
                    let _ = file.read_to_string(&mut pid);
                    PidFileError::Held {
                        path: path.to_owned(),
                        pid: pid.trim().to_owned(),
                    }
                })?;
            // The previous owner may have removed the name between our open and our lock.
            if !names(path, &file) {
                continue;
            }
            file.set_len(0).map_err(failed)?;
            file.rewind().map_err(failed)?;
            writeln!(file, "{}", std::process::id()).map_err(failed)?;
            // A reload may take this process to another directory.
            let path = std::path::absolute(path).map_err(failed)?;
            return Ok(PidFile { path, file });
        }
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if names(&self.path, &self.file) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Whether `path` still names this open file.
fn names(path: &Path, file: &File) -> bool {
    match (fs::metadata(path), file.metadata()) {
        (Ok(named), Ok(open)) => (named.dev(), named.ino()) == (open.dev(), open.ino()),
        (Err(_), _) | (_, Err(_)) => false,
    }
}
