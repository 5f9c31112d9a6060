//! A program that cannot be started for a while: its file is leased, see `F_SETLEASE` in `fcntl(2)`.
//!
//! For tests only. Whoever opens the file, `execve` too, waits until the lease is given back, as for
//! a file system that does not answer. Takes no rights but to be the file's owner, and ends with
//! the test, at the latest after `/proc/sys/fs/lease-break-time` (45 s).
#![allow(
    unsafe_code,
    unreachable_pub,
    reason = "nix has no leases; tests/common has this file, too"
)]

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;

/// A shell script that can be made to hang in its `exec`.
#[derive(Debug)]
pub struct Lease {
    file: File,
}

impl Lease {
    /// Writes the script. It can be started.
    pub fn on_script(path: &Path, text: &str) -> Lease {
        fs::write(path, format!("#!/bin/sh\n{text}\n")).expect("write a script");
        fs::set_permissions(path, Permissions::from_mode(0o755)).expect("chmod");
        let file = File::open(path).expect("open the script");
        Lease { file }
    }

    /// From now on whoever starts it hangs.
    pub fn take(&self) {
        // SIGURG is ignored by default; SIGIO would end this process.
        fcntl(&self.file, F_SETSIG, libc::SIGURG).expect("F_SETSIG");
        // A shell has its script open until it executes another program.
        while let Err(err) = fcntl(&self.file, libc::F_SETLEASE, libc::F_WRLCK) {
            assert_eq!(err.kind(), io::ErrorKind::WouldBlock, "F_SETLEASE: {err}");
            thread::yield_now();
        }
    }

    /// Whether somebody hangs.
    pub fn is_waited_for(&self) -> bool {
        fcntl(&self.file, libc::F_GETLEASE, 0).expect("F_GETLEASE") != libc::F_WRLCK
    }

    /// Lets them go on.
    pub fn give_back(&self) {
        fcntl(&self.file, libc::F_SETLEASE, libc::F_UNLCK).expect("F_SETLEASE");
    }
}

fn fcntl(file: &File, what: libc::c_int, argument: libc::c_int) -> io::Result<libc::c_int> {
    // SAFETY: these operations take an integer and touch no memory of ours.
    match unsafe { libc::fcntl(file.as_raw_fd(), what, argument) } {
        -1 => Err(io::Error::last_os_error()),
        answer => Ok(answer),
    }
}

/// libc has it for some systems only; `asm-generic/fcntl.h`.
const F_SETSIG: libc::c_int = 10;
