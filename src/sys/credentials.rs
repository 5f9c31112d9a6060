//! Who a process is: user, group, supplementary groups; and what such a one may do to a file.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::thread;

use nix::errno::Errno;
use nix::unistd::{Gid, Uid, getegid, geteuid, getgroups};

use crate::config::surroundings::{Account, Surroundings};

/// Who a process becomes. What is `None` stays as the master has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Credentials {
    uid: Option<Uid>,
    gid: Option<Gid>,
    groups: Option<Vec<Gid>>,
}

/// What somebody wants to do to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// Or, of a directory, to enter it.
    Execute,
    Read,
    Write,
    /// Of a directory: to make a file in it.
    Create,
}

impl Credentials {
    /// Those of a program whose accounts are numbers already.
    pub(crate) fn of(surroundings: &Surroundings) -> io::Result<Self> {
        let number = |account: &Account| match account {
            Account::Id(id) => Ok(*id),
            Account::Name(name) => Err(io::Error::other(format!("{name} was not looked up"))),
        };
        let uid = surroundings.user.as_ref().map(number).transpose()?;
        let gid = surroundings.group.as_ref().map(number).transpose()?;
        let groups = surroundings.groups.as_ref();
        let groups = groups.map(|groups| groups.iter().map(number).collect::<io::Result<Vec<_>>>());
        Ok(Credentials::new(uid, gid, groups.transpose()?.as_deref()))
    }

    /// Leaves out what this process has already, since setting even that may need a right to.
    fn new(uid: Option<u32>, gid: Option<u32>, groups: Option<&[u32]>) -> Self {
        let groups = groups
            .map(|groups| -> Vec<Gid> { groups.iter().copied().map(Gid::from_raw).collect() });
        let gid = gid.map(Gid::from_raw).filter(|gid| *gid != getegid());
        Credentials {
            uid: uid.map(Uid::from_raw).filter(|uid| *uid != geteuid()),
            groups: groups.filter(|groups| gid.is_some() || !are_own(groups)),
            gid,
        }
    }

    /// Whether a process with them is another user than this one.
    pub(crate) fn change_user(&self) -> bool {
        self.uid.is_some()
    }

    /// Whether a process with them is in other groups than this one.
    pub(crate) fn change_groups(&self) -> bool {
        self.gid.is_some() || self.groups.is_some()
    }

    /// Gives the calling thread these groups. To be called before [`set_user`](Self::set_user):
    /// afterwards the right to may be gone. Async-signal-safe.
    ///
    /// Here and below the system calls themselves: glibc's functions go after every thread that
    /// they know of, nptl(7), and a new process has only the one.
    pub(crate) fn set_groups(&self) -> nix::Result<()> {
        if let Some(groups) = &self.groups {
            // SAFETY: the pointer and the length describe `groups`; a `Gid` is a `gid_t`.
            let set = unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) };
            Errno::result(set)?;
        }
        if let Some(gid) = self.gid {
            // SAFETY: takes an integer and touches no memory.
            let set = unsafe { libc::syscall(libc::SYS_setgid, gid.as_raw()) };
            Errno::result(set)?;
        }
        Ok(())
    }

    /// Makes the calling thread this user for good. Async-signal-safe.
    pub(crate) fn set_user(&self) -> nix::Result<()> {
        let Some(uid) = self.uid else {
            return Ok(());
        };
        // These capabilities survive a change from one user to another, capabilities(7).
        // SAFETY: this prctl takes integers and touches no memory.
        unsafe {
            libc::prctl(
                libc::PR_CAP_AMBIENT,
                libc::PR_CAP_AMBIENT_CLEAR_ALL,
                0,
                0,
                0,
            );
        }
        // SAFETY: takes an integer and touches no memory.
        let set = unsafe { libc::syscall(libc::SYS_setuid, uid.as_raw()) };
        Errno::result(set).map(drop)
    }

    /// The owner for what is made for such a process.
    pub(crate) fn owner(&self) -> Option<(Option<u32>, Option<u32>)> {
        let owner = (self.uid.map(Uid::as_raw), self.gid.map(Gid::as_raw));
        (owner != (None, None)).then_some(owner)
    }

    /// Whether they suffice for what is wanted of a file: `Err` with what the kernel says if not,
    /// and `Ok` also if it cannot be found out.
    ///
    /// A thread of its own becomes that user for the file system, see `setfsuid(2)`: no other way
    /// has the kernel's own answer, access lists and all.
    pub(crate) fn suffice_for(&self, want: Want, path: &Path) -> io::Result<()> {
        let Ok(path) = CString::new(path.as_os_str().as_bytes()) else {
            return Ok(());
        };
        let mode = match want {
            Want::Execute => libc::X_OK,
            Want::Read => libc::R_OK,
            Want::Write => libc::W_OK,
            Want::Create => libc::W_OK | libc::X_OK,
        };
        let asked = thread::scope(|scope| {
            let ask = || {
                self.assume().then(|| {
                    // SAFETY: `path` is a string with an end and outlives the call.
                    let allowed = unsafe {
                        libc::syscall(
                            libc::SYS_faccessat2,
                            libc::AT_FDCWD,
                            path.as_ptr(),
                            mode,
                            libc::AT_EACCESS,
                        )
                    };
                    Errno::result(allowed).map(drop)
                })
            };
            let thread = thread::Builder::new().spawn_scoped(scope, ask);
            thread.ok().and_then(|thread| thread.join().ok()).flatten()
        });
        match asked {
            // Linux 5.4 to 5.7 cannot be asked, nor can a sandbox that does not know the call.
            None | Some(Ok(()) | Err(Errno::ENOSYS | Errno::EPERM | Errno::EINVAL)) => Ok(()),
            Some(Err(errno)) => Err(errno.into()),
        }
    }

    /// Makes the calling thread this user for the file system; answers whether it is.
    fn assume(&self) -> bool {
        if self.set_groups().is_err() {
            return false;
        }
        let Some(uid) = self.uid else {
            return true;
        };
        // SAFETY: takes an integer, and is this thread's alone.
        unsafe { libc::setfsuid(uid.as_raw()) };
        // It answers only what was before, so it is asked again with what cannot be set.
        // SAFETY: as above.
        let now = unsafe { libc::setfsuid(libc::uid_t::MAX) };
        now.cast_unsigned() == uid.as_raw()
    }
}

/// Whether these are the groups of this process: in whatever order, and with or without the one
/// that it is in anyway.
fn are_own(groups: &[Gid]) -> bool {
    let all = |groups: &[Gid]| -> BTreeSet<_> {
        let supplementary = groups.iter().map(|gid| gid.as_raw());
        supplementary.chain([getegid().as_raw()]).collect()
    };
    getgroups().is_ok_and(|own| all(&own) == all(groups))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_this_process_is_already_is_no_change() {
        let groups: Vec<_> = getgroups()
            .unwrap()
            .iter()
            .map(|gid| gid.as_raw())
            .collect();
        let own = Credentials::new(
            Some(geteuid().as_raw()),
            Some(getegid().as_raw()),
            Some(&groups),
        );
        assert_eq!(own, Credentials::default());
        assert!(!own.change_user() && !own.change_groups());
    }

    #[test]
    fn a_file_of_another_user_is_out_of_reach() {
        if !geteuid().is_root() {
            return eprintln!("only root can become somebody else: nothing tested");
        }
        let dir = tempfile::tempdir().unwrap();
        let open_to = |mode| fs::set_permissions(dir.path(), Permissions::from_mode(mode)).unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let nobody = Credentials::new(Some(65534), Some(65534), Some(&[]));
        let kind = |want, path| nobody.suffice_for(want, path).map_err(|err| err.kind());
        open_to(0o755);
        assert_eq!(kind(Want::Execute, dir.path()), Ok(()));
        let denied = Err(io::ErrorKind::PermissionDenied);
        assert_eq!(kind(Want::Create, dir.path()), denied);
        assert_eq!(kind(Want::Write, &file), denied);
        let missing = dir.path().join("missing");
        assert_eq!(kind(Want::Write, &missing), Err(io::ErrorKind::NotFound));
        open_to(0o777);
        assert_eq!(kind(Want::Create, dir.path()), Ok(()));
        // Nobody else has become anybody.
        assert!(geteuid().is_root());
        fs::read_dir(dir.path()).unwrap();
    }
}
