//! The program to start: found and checked before anything is bound or started.

use std::env;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};
use thiserror::Error;

use super::describe;

/// Why a program cannot be started.
#[derive(Debug, Error)]
pub enum ProgramError {
    /// There is no such file.
    #[error("program {}: no such file: check the path", path.display())]
    Missing {
        /// As it was given.
        path: PathBuf,
    },
    /// No directory of `PATH` has it.
    #[error("program {}: not found in PATH: write ./{0} for one in this directory", path.display())]
    NotInPath {
        /// As it was given.
        path: PathBuf,
    },
    /// The same, of what looks like a program with its arguments.
    #[error("program {:?}: not found in PATH: write the program and its arguments without quotes around them", path.display().to_string())]
    Quoted {
        /// As it was given.
        path: PathBuf,
    },
    /// There is no name to look for.
    #[error("program: the name is empty: give the path of a program")]
    Empty,
    /// There is a file, but it cannot be executed.
    #[error("program {}: not executable: chmod +x {0}, or name its interpreter first", path.display())]
    NotExecutable {
        /// What was found.
        path: PathBuf,
    },
    /// It is a directory or something else that is no file.
    #[error("program {}: not a file: give the path of a program", path.display())]
    NotAFile {
        /// What was found.
        path: PathBuf,
    },
    /// The file cannot be looked at.
    #[error("program {}: {}: check the path", path.display(), describe(source))]
    Io {
        /// As it was given.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Finds the program as a shell would: a name with a slash is a path, relative to this process's
/// directory; a name without one is searched for in `PATH`. The answer is absolute.
pub(crate) fn locate(program: &Path) -> Result<PathBuf, ProgramError> {
    if program.as_os_str().is_empty() {
        return Err(ProgramError::Empty);
    }
    if program.as_os_str().as_bytes().contains(&b'/') {
        let path = std::path::absolute(program).map_err(|source| ProgramError::Io {
            path: program.to_owned(),
            source,
        })?;
        return check(&path).map(|()| path);
    }
    let search =
        env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/local/bin:/usr/bin:/bin"));
    let mut refused = None;
    for dir in env::split_paths(&search) {
        let candidate = dir.join(program);
        match check(&candidate) {
            Ok(()) => {
                return std::path::absolute(&candidate).map_err(|source| ProgramError::Io {
                    path: candidate,
                    source,
                });
            }
            Err(err @ ProgramError::NotExecutable { .. }) => refused = Some(err),
            Err(_) => {}
        }
    }
    Err(refused.unwrap_or_else(|| {
        let path = program.to_owned();
        if program.as_os_str().as_bytes().contains(&b' ') {
            ProgramError::Quoted { path }
        } else {
            ProgramError::NotInPath { path }
        }
    }))
}

fn check(path: &Path) -> Result<(), ProgramError> {
    match path.metadata() {
        Ok(found) if !found.is_file() => Err(ProgramError::NotAFile {
            path: path.to_owned(),
        }),
        Ok(_) if access(path, AccessFlags::X_OK).is_err() => Err(ProgramError::NotExecutable {
            path: path.to_owned(),
        }),
        Ok(_) => Ok(()),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Err(ProgramError::Missing {
            path: path.to_owned(),
        }),
        Err(source) => Err(ProgramError::Io {
            path: path.to_owned(),
            source,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_as_a_shell_finds_them() {
        assert!(locate(Path::new("sh")).unwrap().is_absolute());
        assert!(locate(Path::new("/bin/sh")).is_ok());
    }

    #[test]
    fn what_cannot_be_started_is_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let plain = dir.path().join("plain");
        std::fs::write(&plain, "").unwrap();
        let missing = dir.path().join("missing");
        assert!(matches!(
            locate(&missing),
            Err(ProgramError::Missing { .. })
        ));
        assert!(matches!(
            locate(&plain),
            Err(ProgramError::NotExecutable { .. })
        ));
        assert!(matches!(
            locate(dir.path()),
            Err(ProgramError::NotAFile { .. })
        ));
        let nowhere = Path::new("no-such-program-anywhere");
        assert!(matches!(
            locate(nowhere),
            Err(ProgramError::NotInPath { .. })
        ));
    }
}
