//! Whether the library can be loaded into the workers' program: what the loader would pass over in
//! silence is refused before anything starts.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::config::program::Program;
use crate::config::surroundings::Account;
use crate::sys::credentials::{Credentials, Want};
use crate::sys::describe;
use crate::sys::loading::{Obstacle, obstacle};

/// A library that cannot be loaded into a program.
#[derive(Debug, Error)]
pub enum PreloadError {
    /// It would be looked for in several places.
    #[error("preload {}: give an absolute path without spaces and colons, which separate libraries (ld.so(8))", path.display())]
    Path {
        /// As it was given.
        path: PathBuf,
    },
    /// It is not there, or not for everybody who has to read it.
    #[error(
        "preload {}: {}: the user of the processes has to be able to read it, and to enter every directory on the way (namei -l)", path.display(), describe(source)
    )]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Anybody could put another in its place.
    #[error(
        "preload {}: everybody may write to {}, and would run what they like in every worker: chmod o-w {}", path.display(), what.display(), what.display()
    )]
    Writable {
        /// Which.
        path: PathBuf,
        /// It, or a directory on the way.
        what: PathBuf,
    },
    /// The loader would not load it.
    #[error(
        "preload: {0}: run it with --listen, --dispatch shared or reuseport, and --ready-on delay=1s as a program that takes its sockets from systemd (LISTEN_FDS), or let it speak to its master with worker-proto"
    )]
    Obstacle(#[from] Obstacle),
}

/// The program is as it will be run: found, with numbers for names.
pub(super) fn check(program: &Program) -> Result<(), PreloadError> {
    let Some(library) = &program.preload else {
        return Ok(());
    };
    let path = library.clone();
    let separates = |byte: &u8| byte.is_ascii_whitespace() || *byte == b':';
    if !library.is_absolute() || library.as_os_str().as_encoded_bytes().iter().any(separates) {
        return Err(PreloadError::Path { path });
    }
    let readable = Credentials::of(&program.surroundings)
        .and_then(|credentials| credentials.suffice_for(Want::Read, library));
    if let Err(source) = readable {
        return Err(PreloadError::Unreadable { path, source });
    }
    if let Some(what) = library.ancestors().find(|it| is_everybodys(it)) {
        let what = what.to_owned();
        return Err(PreloadError::Writable { path, what });
    }
    let uid = match program.surroundings.user {
        Some(Account::Id(uid)) => Some(uid),
        Some(Account::Name(_)) | None => None,
    };
    match obstacle(&program.path, library, uid) {
        Some(obstacle) => Err(obstacle.into()),
        None => Ok(()),
    }
}

/// Whether everybody may write to it; of a directory with the sticky bit nobody may take away what is
/// another's.
fn is_everybodys(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| {
        let mode = metadata.permissions().mode();
        mode & libc::S_IWOTH != 0 && mode & libc::S_ISVTX == 0
    })
}
