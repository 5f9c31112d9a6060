//! Paths that the program may not remove: those on which our master listens.
//!
//! Every worker of a program takes a path of a Unix socket away before it binds it, and again when it
//! leaves: it would take it from all others, and from the clients. When the master has removed it
//! already, because nobody listens any more, that is no error of the program's either.

use std::ffi::{CStr, OsStr};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use worker_proto::address::AddressRef;

use crate::channel;
use crate::name::SocketName;
use crate::sys::{self, Errno};

/// Whether our master listens on the path, relative to a directory. Of a path that the program has
/// bound, and of what is no socket, this is known without an allocation: a signal handler may ask.
pub(crate) fn is_masters(directory: i32, path: &CStr) -> bool {
    if channel::usable().is_none() || !sys::is_socket(directory, path) {
        return false;
    }
    if was_bound(path) && directory == libc::AT_FDCWD {
        return is_served(path.to_bytes());
    }
    let path = absolute(&whole(directory, path));
    is_served(path.as_os_str().as_bytes()) && listens(channel::master(), &path)
}

/// The program has bound this path.
pub(crate) fn note_bound(path: &Path) {
    for path in [path, &absolute(path)] {
        let next = BOUND_COUNT.fetch_add(1, Ordering::Relaxed) % BOUND.len();
        let fingerprint = fingerprint(path.as_os_str().as_bytes());
        BOUND[next].store(fingerprint, Ordering::Relaxed);
    }
}

/// Whether the program has bound the path, written like this or from the root. Async-signal-safe.
pub(crate) fn was_bound(path: &CStr) -> bool {
    let fingerprint = fingerprint(path.to_bytes());
    BOUND
        .iter()
        .any(|bound| bound.load(Ordering::Relaxed) == fingerprint)
}

/// Never 0.
fn fingerprint(path: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish() | 1
}

fn whole(directory: i32, path: &CStr) -> PathBuf {
    let path = Path::new(OsStr::from_bytes(path.to_bytes()));
    if directory == libc::AT_FDCWD || path.is_absolute() {
        return path.to_owned();
    }
    let directory = format!("/proc/self/fd/{directory}");
    fs::read_link(&directory)
        .unwrap_or_else(|_| directory.into())
        .join(path)
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Whether anybody listens there. Nobody is connected to: the question is of another kind than a
/// server for streams answers.
fn is_served(path: &[u8]) -> bool {
    knock(path, libc::SOCK_DGRAM).is_some_and(|(answer, _)| answer == Err(Errno(libc::EPROTOTYPE)))
}

/// Whether it is this process.
fn listens(pid: i32, path: &Path) -> bool {
    holds_a_listener_at(pid, path).unwrap_or_else(|| {
        // It is not for us to look into its descriptors. It takes this for a client that leaves.
        let said = knock(path.as_os_str().as_bytes(), libc::SOCK_STREAM);
        said.is_some_and(|(answer, whose)| answer.is_ok() && whose == Ok(pid))
    })
}

fn knock(path: &[u8], kind: i32) -> Option<(Result<(), Errno>, Result<i32, Errno>)> {
    if path.len() > LONGEST {
        return None;
    }
    let name = SocketName::from(AddressRef::Path(path));
    let socket = sys::socket(libc::AF_UNIX, kind | libc::SOCK_NONBLOCK).ok()?;
    let answer = sys::connect(socket, &name);
    let whose = sys::peer_pid(socket);
    sys::close(socket);
    Some((answer, whose))
}

/// `None`: that cannot be told.
fn holds_a_listener_at(pid: i32, path: &Path) -> Option<bool> {
    let table = fs::read("/proc/net/unix").ok()?;
    let wanted = path.as_os_str().as_bytes();
    let sockets: Vec<String> = table
        .split(|&byte| byte == b'\n')
        .filter_map(|line| listener_at(line, wanted))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    if sockets.is_empty() {
        return None;
    }
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let mut targets = descriptors
        .flatten()
        .filter_map(|it| fs::read_link(it.path()).ok());
    Some(targets.any(|target| {
        sockets
            .iter()
            .any(|socket| target.as_os_str() == socket.as_str())
    }))
}

/// The inode of a listening socket that is bound to that path, in a line of `/proc/net/unix`:
/// `0000000000000000: 00000002 00000000 00010000 0001 01 82730344 /run/app.sock`.
fn listener_at<'a>(line: &'a [u8], path: &[u8]) -> Option<&'a str> {
    let rest = line.strip_suffix(path)?.strip_suffix(b" ")?;
    let words = std::str::from_utf8(rest).ok()?;
    let mut words = words.split_ascii_whitespace().skip(3);
    if words.next()? != LISTENING {
        return None;
    }
    words.nth(2)
}

/// `__SO_ACCEPTCON`, see `proc_net(5)`.
const LISTENING: &str = "00010000";

/// `sun_path` with its final zero.
const LONGEST: usize = 107;

/// The last paths that the program has bound, by their fingerprints.
static BOUND: [AtomicU64; 64] = [const { AtomicU64::new(0) }; 64];
static BOUND_COUNT: AtomicUsize = AtomicUsize::new(0);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_found_by_its_path() {
        let line = b"0000000000000000: 00000002 00000000 00010000 0001 01 82730344 /run/app.sock";
        assert_eq!(listener_at(line, b"/run/app.sock"), Some("82730344"));
        assert_eq!(listener_at(line, b"app.sock"), None);
        let accepted =
            b"0000000000000000: 00000003 00000000 00000000 0001 03 82730345 /run/app.sock";
        assert_eq!(listener_at(accepted, b"/run/app.sock"), None);
        assert_eq!(listener_at(b"", b"/run/app.sock"), None);
    }

    #[test]
    fn a_path_that_was_bound_is_remembered() {
        let bound = c"/run/rr-preload-test.sock";
        assert!(!was_bound(bound));
        note_bound(Path::new("/run/./rr-preload-test.sock"));
        assert!(was_bound(bound));
    }
}
