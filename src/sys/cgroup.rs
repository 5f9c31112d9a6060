//! Control groups: a directory of version 2 for each process, see `cgroups(7)`.
//!
//! Whoever descends from the process is in its group, and no descendant can leave it unless it may
//! write above it: so everybody can be found and ended, daemons too. Every call reads or writes
//! files of the kernel's, which is not for the loop; [`Cell::enter`] is for a forked child.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::describe;
use super::pidfd::Pidfd;

/// Why processes cannot have control groups of their own.
#[derive(Debug, Error)]
pub enum CgroupError {
    /// Nothing of the kind is mounted.
    #[error("cgroup: no hierarchy of version 2 is mounted: start without --cgroup")]
    Unavailable,
    /// The master's own group is closed to it.
    #[error("cgroup {}: {}: Delegate=yes in a service's unit opens it", path.display(), describe(source))]
    Closed {
        /// What could not be made.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A group cannot be killed.
    #[error(
        "cgroup: this kernel has no cgroup.kill: it takes Linux 5.14, or start without --cgroup"
    )]
    TooOld,
}

/// The group of a master, above those of its processes; removed in the end.
#[derive(Debug)]
pub(crate) struct Cgroup {
    directory: PathBuf,
}

/// The group of one process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    directory: PathBuf,
}

impl Cgroup {
    /// Makes one below that of this process.
    pub(crate) fn create() -> Result<Self, CgroupError> {
        let own = own_directory().ok_or(CgroupError::Unavailable)?;
        let cgroup = Self::create_in(&own)?;
        if cgroup.directory.join(KILL).exists() {
            Ok(cgroup)
        } else {
            Err(CgroupError::TooOld)
        }
    }

    /// A process may have several masters, and an earlier one of the same pid have been killed.
    fn create_in(own: &Path) -> Result<Self, CgroupError> {
        let pid = std::process::id();
        let mut names = (1..MOST_NAMES).map(|number| format!("rr-{pid}.{number}"));
        let mut directory = own.join(format!("rr-{pid}"));
        loop {
            match (fs::create_dir(&directory), names.next()) {
                (Ok(()), _) => return Ok(Cgroup { directory }),
                (Err(err), Some(name)) if err.kind() == io::ErrorKind::AlreadyExists => {
                    directory = own.join(name);
                }
                (Err(source), _) => {
                    let path = directory;
                    return Err(CgroupError::Closed { path, source });
                }
            }
        }
    }

    /// The place of a process's group.
    pub(crate) fn cell(&self, worker: u64) -> Cell {
        Cell {
            directory: self.directory.join(worker.to_string()),
        }
    }
}

/// Whoever is still in it keeps it: a process that the kernel cannot end.
impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Err(err) = remove(&self.directory) {
            log::debug!("{}: {}", self.directory.display(), describe(&err));
        }
    }
}

impl Cell {
    /// Makes the group; answers the door to it.
    pub(crate) fn open(&self) -> io::Result<OwnedFd> {
        fs::create_dir(&self.directory)?;
        let door = OpenOptions::new().write(true).open(self.file(PROCS));
        let door = door.inspect_err(|_| self.close())?;
        Ok(door.into())
    }

    /// Takes the calling process into the group. Async-signal-safe: one system call.
    pub(crate) fn enter(door: impl AsFd) -> io::Result<()> {
        // 0 is whoever writes.
        nix::unistd::write(door, b"0")?;
        Ok(())
    }

    /// How many live in it, those in groups below it not counted; at least one if there are such.
    pub(crate) fn count(&self) -> usize {
        let events = fs::read_to_string(self.file("cgroup.events")).unwrap_or_default();
        let is_populated = events.lines().any(|line| line == "populated 1");
        if is_populated {
            self.members().len().max(1)
        } else {
            0
        }
    }

    /// Sends all of them SIGTERM.
    pub(crate) fn terminate(&self) {
        let members = self.members().into_iter();
        let known: Vec<_> = members.filter_map(|pid| Pidfd::open(pid).ok()).collect();
        // Who is there under the same number now is the one that the pidfd is of: otherwise it has
        // ended, and its number gone to another of this group.
        let still = self.members();
        for pidfd in known.iter().filter(|it| still.contains(&it.pid())) {
            let _ = pidfd.terminate_alone();
        }
    }

    /// Ends all of them, those in groups below it too.
    pub(crate) fn kill(&self) {
        let door = OpenOptions::new().write(true).open(self.file(KILL));
        if let Err(err) = door.and_then(|mut door| door.write_all(b"1")) {
            log::warn!("{}: {}", self.file(KILL).display(), describe(&err));
        }
    }

    /// Removes it, if nobody is in it.
    pub(crate) fn close(&self) {
        if let Err(err) = remove(&self.directory)
            && err.kind() != io::ErrorKind::NotFound
        {
            log::debug!("{}: {}", self.directory.display(), describe(&err));
        }
    }

    fn members(&self) -> Vec<u32> {
        let pids = fs::read_to_string(self.file(PROCS)).unwrap_or_default();
        pids.lines().filter_map(|pid| pid.parse().ok()).collect()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

/// Removes a group and those below it, which a process may have made for itself.
fn remove(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path())?;
        }
    }
    fs::remove_dir(directory)
}

/// Where the group of this process is mounted.
fn own_directory() -> Option<PathBuf> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    find(&own, &mounts)
}

/// `0::/path` is of version 2. A mount shows the hierarchy from its root on, see `proc(5)`; where it
/// is mounted has no spaces, which would be escaped.
fn find(own: &str, mounts: &str) -> Option<PathBuf> {
    let own = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    mounts.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        if kind.split(' ').next() != Some("cgroup2") {
            return None;
        }
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let below = Path::new(own).strip_prefix(root).ok()?;
        Some(Path::new(point).join(below))
    })
}

const PROCS: &str = "cgroup.procs";
const KILL: &str = "cgroup.kill";

/// More than one process has masters at a time.
const MOST_NAMES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_group_is_found_where_it_is_mounted() {
        let hybrid = "31 24 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      42 24 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        let unified = "35 25 0:30 / /sys/fs/cgroup rw shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
        let bound = "35 25 0:30 /a.slice /run/cg rw - cgroup2 cgroup2 rw\n";
        for (own, mounts, expected) in [
            ("9:cpu:/\n0::/\n", hybrid, Some("/sys/fs/cgroup/unified/")),
            ("0::/a.slice/b\n", unified, Some("/sys/fs/cgroup/a.slice/b")),
            ("0::/a.slice/b\n", bound, Some("/run/cg/b")),
            ("0::/b\n", bound, None),
            ("9:cpu:/\n", unified, None),
            ("0::/\n", "", None),
        ] {
            assert_eq!(find(own, mounts), expected.map(PathBuf::from), "{own:?}");
        }
    }
}
