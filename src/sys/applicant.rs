//! Who asks for an address in the name of a program, and whether it could bind that by itself.
//!
//! A master often has more rights than a program that has given up its own: what such a program may
//! not do it must not have done for it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::geteuid;
use worker_proto::address::Address;

use crate::config::listener::Owner;

/// A process that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Applicant {
    uid: u32,
    gid: u32,
}

impl Applicant {
    /// As it is at this moment; `None` if it is gone.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        // Real, effective, saved, and that of the file system, see proc_pid_status(5).
        let id = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().nth(3)?.parse().ok()
        };
        Some(Applicant {
            uid: id("Uid:")?,
            gid: id("Gid:")?,
        })
    }

    /// Whether it has the rights of the master, so far as users go.
    pub(crate) fn is_like_us(self) -> bool {
        self.uid == geteuid().as_raw()
    }

    /// Whose what is made for it is to be, if not the master's.
    pub(crate) fn owner(self) -> Option<Owner> {
        let (uid, gid) = (Some(self.uid), Some(self.gid));
        (!self.is_like_us()).then_some(Owner { uid, gid })
    }

    /// Whether it could bind the address by itself.
    pub(crate) fn may_bind(self, address: &Address) -> bool {
        if self.is_like_us() || self.uid == 0 {
            return true;
        }
        match address {
            Address::V4 { port, .. } | Address::V6 { port, .. } => {
                *port == 0 || *port >= first_unprivileged_port()
            }
            Address::Path(_) => address.path().is_some_and(|path| self.may_create(path)),
            Address::Abstract(_) | Address::Unnamed => true,
        }
    }

    fn may_create(self, path: &Path) -> bool {
        let parent = path.parent().filter(|it| !it.as_os_str().is_empty());
        let Ok(directory) = parent.unwrap_or(Path::new(".")).metadata() else {
            return false;
        };
        let bits = if directory.uid() == self.uid {
            directory.mode() >> 6
        } else if directory.gid() == self.gid {
            directory.mode() >> 3
        } else {
            directory.mode()
        };
        bits & WRITE_AND_ENTER == WRITE_AND_ENTER
    }
}

fn first_unprivileged_port() -> u16 {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    let first = text.ok().and_then(|text| text.trim().parse().ok());
    first.unwrap_or(1024)
}

const WRITE_AND_ENTER: u32 = 0o3;

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, create_dir, set_permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const NOBODY: Applicant = Applicant {
        uid: 65534,
        gid: 65534,
    };

    #[test]
    fn this_process_may_what_it_may() {
        let own = Applicant::of(std::process::id()).unwrap();
        assert!(own.is_like_us());
        assert!(own.may_bind(&"127.0.0.1:1".parse().unwrap()));
        assert_eq!(Applicant::of(u32::MAX), None);
    }

    #[test]
    fn who_has_given_up_its_rights_has_nothing_done_that_takes_them() {
        assert!(!NOBODY.may_bind(&"127.0.0.1:1".parse().unwrap()));
        for may in ["127.0.0.1:0", "[::1]:65535", "unix:@name"] {
            assert!(NOBODY.may_bind(&may.parse().unwrap()), "{may}");
        }
        let directory = tempfile::tempdir().unwrap();
        let inner = directory.path().join("inner");
        create_dir(&inner).unwrap();
        for (mode, may) in [(0o755, false), (0o757, true), (0o756, false)] {
            set_permissions(&inner, Permissions::from_mode(mode)).unwrap();
            let address = Address::from(inner.join("socket").as_path());
            let is_me = Applicant::of(std::process::id()).unwrap() == NOBODY;
            assert!(is_me || NOBODY.may_bind(&address) == may, "{mode:o}");
        }
        assert!(!NOBODY.may_bind(&"unix:/no/such/directory/socket".parse().unwrap()));
    }
}
