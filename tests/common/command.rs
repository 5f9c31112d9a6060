//! Commands that become `rr-master` in special circumstances: after a shell has prepared
//! something, or as a user without rights.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::{rr_master, test_worker};

/// A shell that does `prelude` and becomes `rr-master` with these arguments, pid kept.
///
/// It does what `Command` can do only with unsafe code: limits, ignored signals, descriptors
/// under a chosen number.
pub fn after<A: AsRef<OsStr>>(prelude: &str, args: impl IntoIterator<Item = A>) -> Command {
    let mut command = in_shell(prelude, &rr_master());
    command.args(args);
    command
}

fn in_shell(prelude: &str, program: &Path) -> Command {
    let mut command = Command::new("/bin/sh");
    let script = format!("{prelude}\nexec \"$0\" \"$@\"");
    command.arg("-c").arg(script).arg(program);
    command
}

/// The programs where a user without rights can run them: the build directory may be root's own.
pub struct Unprivileged {
    dir: TempDir,
}

impl Unprivileged {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        open_to_all(dir.path());
        for program in [rr_master(), test_worker()] {
            let copy = dir.path().join(program.file_name().unwrap());
            fs::copy(&program, &copy).expect("copy a program");
            open_to_all(&copy);
        }
        Unprivileged { dir }
    }

    pub fn worker(&self) -> PathBuf {
        self.dir.path().join("test_worker")
    }

    /// `rr-master` with these arguments, as nobody if this is root.
    pub fn command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        self.after(":", args)
    }

    /// The same, after a shell has done `prelude`.
    pub fn after<A: AsRef<OsStr>>(
        &self,
        prelude: &str,
        args: impl IntoIterator<Item = A>,
    ) -> Command {
        let mut command = in_shell(prelude, &self.dir.path().join("rr-master"));
        command.args(args).current_dir(self.dir.path());
        without_rights(command)
    }
}

/// The same command as nobody if this is root.
pub fn without_rights(mut command: Command) -> Command {
    if nix::unistd::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// A port that only root may bind, or `None` where everybody may bind every port.
pub fn privileged_port() -> Option<u16> {
    let first_free = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").ok()?;
    let first_free: u16 = first_free.trim().parse().ok()?;
    (first_free > 1).then_some(1)
}

fn open_to_all(path: &Path) {
    fs::set_permissions(path, Permissions::from_mode(0o755)).expect("chmod");
}

/// `nobody` and `nogroup` on Debian; any number without an account would do.
pub const NOBODY: u32 = 65534;
