//! Where control sockets are: `rr-master-PID.sock` in a directory of the user's.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use crate::sys::door;

/// Replaces the directories in which control sockets are made and looked for.
pub const DIRECTORY: &str = "RR_CONTROL_DIR";

/// Where this process makes its control socket if nobody says where; `None` if there is no directory
/// for that.
#[must_use]
pub fn own() -> Option<PathBuf> {
    let name = file_name(std::process::id());
    directories().first().map(|directory| directory.join(name))
}

/// The control sockets that there are, with the pids in their names. Their masters may be dead.
#[must_use]
pub fn all() -> Vec<(u32, PathBuf)> {
    let mut found: Vec<_> = directories().iter().flat_map(|it| sockets_in(it)).collect();
    found.sort_unstable();
    found
}

/// Where the socket of that master would be.
#[must_use]
pub fn of(pid: u32) -> Vec<PathBuf> {
    let name = file_name(pid);
    let directories = directories().into_iter();
    directories.map(|directory| directory.join(&name)).collect()
}

/// Removes what killed masters left behind beside the path.
pub(crate) fn sweep_beside(path: &Path) {
    for (pid, left) in path.parent().map(sockets_in).unwrap_or_default() {
        door::remove_if_dead(&left, pid);
    }
}

/// The first is where new ones are made.
fn directories() -> Vec<PathBuf> {
    if let Some(directory) = variable(DIRECTORY) {
        return vec![directory];
    }
    let user = geteuid();
    let session = variable("XDG_RUNTIME_DIR");
    let usual = PathBuf::from(format!("/run/user/{user}"));
    let mut directories: Vec<_> = session.into_iter().chain([usual]).collect();
    if user.is_root() {
        // A master that systemd starts has no session: root's are all in one place.
        directories.insert(0, PathBuf::from("/run"));
    }
    directories.retain(|directory| directory.is_dir());
    directories.dedup();
    directories
}

fn variable(name: &str) -> Option<PathBuf> {
    let value = env::var_os(name).filter(|value| !value.is_empty())?;
    Some(PathBuf::from(value)).filter(|path| path.is_absolute())
}

fn sockets_in(directory: &Path) -> Vec<(u32, PathBuf)> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let sockets = entries.flatten().filter_map(|entry| {
        let name = entry.file_name();
        let pid = name.to_str()?.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
        Some((pid.parse().ok()?, entry.path()))
    });
    sockets.collect()
}

fn file_name(pid: u32) -> String {
    format!("{PREFIX}{pid}{SUFFIX}")
}

const PREFIX: &str = "rr-master-";
const SUFFIX: &str = ".sock";
