//! The log file: appended to, and opened again when it was moved away.
//!
//! A disk that is full, or any other failure, costs lines and never more than that: they are counted,
//! and the count is written as soon as something can be written again.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use thiserror::Error;

use crate::sys::describe;

/// Where the log goes, if not to standard error.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    gap: Option<Gap>,
}

/// What is missing since the last line that was written.
#[derive(Debug, Default)]
struct Gap {
    lines: u64,
    /// Why the last of them is.
    reason: String,
    /// Whether the first of them was written in part.
    is_torn: bool,
}

/// A log file that cannot be opened.
#[derive(Debug, Error)]
#[error("log file {}: {}: give another --log-file", path.display(), describe(source))]
pub(super) struct LogFileError {
    path: PathBuf,
    source: io::Error,
}

impl LogFile {
    pub(super) fn open(path: &Path) -> Result<Self, LogFileError> {
        let failed = |source| LogFileError {
            path: path.to_owned(),
            source,
        };
        let file = open(path).map_err(failed)?;
        Ok(LogFile {
            // A reload may take this process to another directory.
            path: std::path::absolute(path).map_err(failed)?,
            file,
            gap: None,
        })
    }

    /// Goes on in the file that has the name now, which is made if there is none. Goes on in the old
    /// one if that fails.
    pub(super) fn reopen(&mut self) {
        match open(&self.path) {
            Ok(file) => self.file = file,
            Err(err) => {
                let path = self.path.display();
                let text = format!("[log file {path} not opened again: {}]\n", describe(&err));
                self.append(text.as_bytes());
            }
        }
    }

    /// Writes one line, or counts it as missing.
    pub(super) fn append(&mut self, line: &[u8]) {
        if let Some(gap) = &mut self.gap {
            let note = gap.to_string();
            // A note that is itself torn is written again, on a line of its own.
            if let Err(failed) = write_whole(&self.file, note.as_bytes()) {
                gap.widen(failed);
                return;
            }
        }
        self.gap = None;
        if let Err(failed) = write_whole(&self.file, line) {
            let gap = self.gap.insert(Gap::default());
            gap.widen(failed);
        }
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Gap {
    /// One more line is missing.
    fn widen(&mut self, cause: Cut) {
        self.lines += 1;
        self.is_torn |= cause.is_torn;
        self.reason = describe(&cause.source);
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_torn {
            writeln!(f)?;
        }
        writeln!(f, "[{} log lines dropped: {}]", self.lines, self.reason)
    }
}

/// A line that was not written to its end.
struct Cut {
    is_torn: bool,
    source: io::Error,
}

fn write_whole(mut file: &File, line: &[u8]) -> Result<(), Cut> {
    let mut rest = line;
    while !rest.is_empty() {
        let source = match file.write(rest) {
            Ok(0) => ErrorKind::WriteZero.into(),
            Ok(len) => {
                rest = &rest[len..];
                continue;
            }
            Err(err) if err.kind() == ErrorKind::Interrupted => continue,
            Err(err) => err,
        };
        let is_torn = rest.len() < line.len();
        return Err(Cut { is_torn, source });
    }
    Ok(())
}

/// Opens it without waiting for anybody (a FIFO that nobody reads is an error), and without making a
/// terminal the master's own. What is written later may wait: a thread of its own does that.
fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(MODE)
        .custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK)
        .open(path)?;
    let flags = OFlag::from_bits_retain(fcntl(&file, FcntlArg::F_GETFL)?);
    fcntl(&file, FcntlArg::F_SETFL(flags - OFlag::O_NONBLOCK))?;
    Ok(file)
}

/// What clients send may show in it: not for everybody.
const MODE: u32 = 0o640;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn move_link(link: &Path, target: &Path) {
        let new = link.with_extension("new");
        symlink(target, &new).unwrap();
        fs::rename(new, link).unwrap();
    }

    #[test]
    fn lines_that_a_full_disk_does_not_take_are_counted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        move_link(&path, Path::new("/dev/full"));
        let mut log = LogFile::open(&path).unwrap();
        for _ in 0..3 {
            log.append(b"lost\n");
        }
        let disk = directory.path().join("disk");
        move_link(&path, &disk);
        log.reopen();
        log.append(b"one\n");
        log.append(b"two\n");
        assert_eq!(
            fs::read_to_string(disk).unwrap(),
            "[3 log lines dropped: no space left on device (ENOSPC)]\none\ntwo\n"
        );
    }

    #[test]
    fn a_line_that_was_torn_is_told_apart_from_what_follows() {
        let gap = Gap {
            lines: 2,
            reason: "full".to_owned(),
            is_torn: true,
        };
        assert_eq!(gap.to_string(), "\n[2 log lines dropped: full]\n");
    }

    #[test]
    fn a_file_that_cannot_be_opened_again_does_not_end_the_log() {
        let directory = tempfile::tempdir().unwrap();
        let [path, moved] = ["log", "moved"].map(|name| directory.path().join(name));
        let mut log = LogFile::open(&path).unwrap();
        fs::rename(&path, &moved).unwrap();
        fs::create_dir(&path).unwrap();
        log.reopen();
        log.append(b"on\n");
        let written = fs::read_to_string(moved).unwrap();
        let (complaint, line) = written.split_once('\n').unwrap();
        assert!(complaint.ends_with("not opened again: is a directory (EISDIR)]"));
        assert_eq!(line, "on\n");
    }

    #[test]
    fn a_fifo_that_nobody_reads_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fifo");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let refused = LogFile::open(&path).unwrap_err().to_string();
        assert!(refused.contains("ENXIO"), "{refused}");
    }
}
