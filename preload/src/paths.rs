//! Paths that the program may not remove: those on which our master listens.
//!
//! Every worker of a program takes a path of a Unix socket away before it binds it, and again when it
//! leaves: it would take it from all others, and from the clients.

use std::ffi::CStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use worker_proto::address::Address;
use worker_proto::address::AddressRef;

use crate::channel;
use crate::name::SocketName;
use crate::sys::{self, Errno};

/// Whether our master listens on the path, relative to a directory.
pub(crate) fn is_masters(directory: i32, path: &CStr) -> bool {
    if channel::usable().is_none() {
        return false;
    }
    let mut whole = PathBuf::new();
    if directory != libc::AT_FDCWD {
        whole.push(format!("/proc/self/fd/{directory}"));
    }
    whole.push(Path::new(std::ffi::OsStr::from_bytes(path.to_bytes())));
    let is_socket = fs::symlink_metadata(&whole).is_ok_and(|it| it.file_type().is_socket());
    is_socket && answers(&whole)
}

fn answers(path: &Path) -> bool {
    let address = Address::from(path);
    let name = SocketName::from(AddressRef::from(&address));
    if name.address() != Some(address) {
        return false;
    }
    // Of another kind, so that nobody is connected to: it only shows whether somebody is there.
    let knock = |kind| {
        let socket = sys::socket(libc::AF_UNIX, kind | libc::SOCK_NONBLOCK).ok()?;
        let connected = sys::connect(socket, &name);
        let pid = sys::peer_pid(socket);
        sys::close(socket);
        Some((connected, pid))
    };
    let Some((Err(Errno(libc::EPROTOTYPE)), _)) = knock(libc::SOCK_DGRAM) else {
        return false;
    };
    matches!(knock(libc::SOCK_STREAM), Some((Ok(()), Ok(pid))) if pid == channel::master())
}
