//! A pinned program: the file that a path names at one moment, so that whoever is started later runs
//! the same, even if another file has the name by then; and in the same directory.
//!
//! Symbolic links are resolved when it is pinned. A file that was replaced (renamed over, or unlinked)
//! is run through its descriptor. A script cannot be: its interpreter opens the path again.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::unistd::fchdir;

/// A program as it was found.
#[derive(Clone, Debug)]
pub(crate) struct Pinned {
    path: PathBuf,
    /// `None` if only its path is known.
    file: Option<Arc<File>>,
}

impl Pinned {
    /// Finds out what the path names now. What cannot be pinned is run by its path.
    pub(crate) fn new(path: &Path) -> Self {
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let file = if is_script(&path) {
            None
        } else {
            open(&path).map(Arc::new)
        };
        Pinned { path, file }
    }

    /// Whatever the path names when it is run, and nothing is looked at before.
    #[cfg(test)]
    pub(crate) fn loosely(path: PathBuf) -> Self {
        Pinned { path, file: None }
    }

    /// What to give to `execve(2)`: the path, unless another file has it by now.
    pub(crate) fn to_run(&self) -> PathBuf {
        match &self.file {
            Some(file) if !self.is_there(file) => {
                PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
            }
            Some(_) | None => self.path.clone(),
        }
    }

    fn is_there(&self, file: &File) -> bool {
        let id = |found: Metadata| (found.dev(), found.ino());
        match (fs::metadata(&self.path), file.metadata()) {
            (Ok(there), Ok(pinned)) => id(there) == id(pinned),
            _ => false,
        }
    }
}

/// A directory as it was found, whatever becomes of its name.
#[derive(Clone, Debug)]
pub(crate) struct PinnedDirectory(Arc<File>);

impl PinnedDirectory {
    /// The one that this process is in now; `None` if it could not be entered again.
    pub(crate) fn current() -> Option<Self> {
        open(Path::new(".")).map(Arc::new).map(PinnedDirectory)
    }

    /// Makes it the current directory. Async-signal-safe: one system call.
    pub(crate) fn enter(&self) -> nix::Result<()> {
        fchdir(&self.0)
    }
}

/// Only to have it: for that nobody needs the right to read it.
fn open(path: &Path) -> Option<File> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_PATH);
    options.open(path).ok()
}

/// Whether the kernel would start an interpreter for it, see `execve(2)`.
fn is_script(path: &Path) -> bool {
    let mut magic = [0; 2];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut magic));
    read.is_ok() && magic == *b"#!"
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::process::Command;

    use super::*;

    fn says(program: &Pinned) -> String {
        let output = Command::new(program.to_run()).arg("here").output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn a_program_that_was_replaced_or_removed_is_still_run() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("program");
        fs::copy("/bin/echo", &path).unwrap();
        let pinned = Pinned::new(&path);
        assert_eq!(pinned.to_run(), path.canonicalize().unwrap());
        let other = dir.path().join("other");
        fs::copy("/bin/true", &other).unwrap();
        fs::rename(&other, &path).unwrap();
        assert_eq!(says(&pinned), "here\n");
        fs::remove_file(&path).unwrap();
        assert_eq!(says(&pinned), "here\n");
    }

    #[test]
    fn a_link_is_followed_once() {
        let dir = tempfile::tempdir().unwrap();
        let current = dir.path().join("current");
        symlink("/bin/echo", &current).unwrap();
        let pinned = Pinned::new(&current);
        fs::remove_file(&current).unwrap();
        symlink("/bin/true", &current).unwrap();
        assert_eq!(says(&pinned), "here\n");
    }

    #[test]
    fn a_script_is_run_by_its_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("script");
        fs::write(&path, "#!/bin/sh\necho one\n").unwrap();
        let pinned = Pinned::new(&path);
        fs::remove_file(&path).unwrap();
        assert_eq!(
            pinned.to_run(),
            dir.path().canonicalize().unwrap().join("script")
        );
    }
}
