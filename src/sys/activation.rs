//! Socket activation: a process is started with listening sockets, as systemd starts services, see
//! `sd_listen_fds(3)`.
//!
//! `LISTEN_PID` is the pid of the process itself, which is known after `fork` and too late for
//! whoever prepares its environment. So the last thing before the program is done here: the pid is
//! written into an environment made before, and `exec` called with that. All of this is
//! async-signal-safe.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::ptr;

use nix::fcntl::{FcntlArg, fcntl};

use crate::config::systemd::{FDNAMES, FDS, FIRST_SOCKET};

/// What a process becomes, and with which sockets.
#[derive(Debug)]
pub(super) struct Activation {
    /// Where they are until they take their places.
    sockets: Vec<OwnedFd>,
    path: CString,
    /// What the pointers below point to: the strings stay where they are when the vectors move.
    _arguments: Vec<CString>,
    _environment: Vec<CString>,
    /// `LISTEN_PID=`, with room for every number.
    pid: Box<[u8; PID_BYTES]>,
    argv: Vec<*const libc::c_char>,
    /// The first is `pid`.
    envp: Vec<*const libc::c_char>,
}

// SAFETY: the pointers point to what the structure itself owns and nobody else knows of.
unsafe impl Send for Activation {}
// SAFETY: as above; what changes is changed through `&mut`.
unsafe impl Sync for Activation {}

impl Activation {
    pub(super) fn new<'a>(
        path: &Path,
        arguments: impl Iterator<Item = &'a OsStr>,
        mut environment: BTreeMap<OsString, OsString>,
        sockets: &[(String, OwnedFd)],
        places: &Places,
    ) -> io::Result<Self> {
        let names: Vec<_> = sockets.iter().map(|(name, _)| fit(name)).collect();
        environment.insert(FDS.into(), sockets.len().to_string().into());
        environment.insert(FDNAMES.into(), names.join(":").into());
        let copies = sockets.iter().map(|(_, socket)| places.copy(socket));
        let arguments: Vec<CString> = arguments
            .map(|it| CString::new(it.as_bytes()))
            .collect::<Result<_, _>>()?;
        let environment: Vec<CString> = environment
            .into_iter()
            .map(|(mut variable, value)| {
                variable.push("=");
                variable.push(value);
                CString::new(variable.into_vec())
            })
            .collect::<Result<_, _>>()?;
        let pid = Box::new([0; PID_BYTES]);
        let pointers =
            |strings: &[CString]| -> Vec<_> { strings.iter().map(|it| it.as_ptr()).collect() };
        let mut argv = pointers(&arguments);
        argv.push(ptr::null());
        let mut envp = vec![pid.as_ptr().cast()];
        envp.extend(pointers(&environment));
        envp.push(ptr::null());
        Ok(Activation {
            sockets: copies.collect::<io::Result<_>>()?,
            path: CString::new(path.as_os_str().as_bytes())?,
            _arguments: arguments,
            _environment: environment,
            pid,
            argv,
            envp,
        })
    }

    /// Becomes the program; answers why not. Async-signal-safe.
    pub(super) fn perform(&mut self) -> io::Error {
        for (place, socket) in (FIRST_SOCKET..).zip(&self.sockets) {
            // SAFETY: closes only what is at the place, which is this process's copy of something
            // that its program is not to have: see `Places`.
            if unsafe { libc::dup2(socket.as_raw_fd(), place) } < 0 {
                return io::Error::last_os_error();
            }
        }
        // SAFETY: takes nothing and cannot fail.
        let pid = unsafe { libc::getpid() };
        write_pid(&mut self.pid, pid.unsigned_abs());
        // Read again after the write: the compiler has been told of no other reader.
        self.envp[0] = self.pid.as_ptr().cast();
        // SAFETY: the strings end with NUL, the arrays with a null pointer, and all of them live as
        // long as `self`. As `exec` of the standard library, it runs a script that has no first line
        // for it with the shell.
        unsafe { libc::execvpe(self.path.as_ptr(), self.argv.as_ptr(), self.envp.as_ptr()) };
        io::Error::last_os_error()
    }
}

/// Where the sockets of a process will be: whatever it needs until then must be elsewhere.
#[derive(Debug)]
pub(super) struct Places {
    end: RawFd,
}

impl Places {
    /// Places for so many sockets.
    pub(super) fn above(sockets: usize) -> Self {
        let sockets = RawFd::try_from(sockets).unwrap_or(RawFd::MAX - FIRST_SOCKET);
        Places {
            end: FIRST_SOCKET + sockets,
        }
    }

    /// The same descriptor at a number that is none of the places.
    pub(super) fn clear(&self, fd: OwnedFd) -> io::Result<OwnedFd> {
        match fd.as_raw_fd() < self.end {
            true => self.copy(&fd),
            false => Ok(fd),
        }
    }

    fn copy(&self, fd: &OwnedFd) -> io::Result<OwnedFd> {
        duplicate(fd, self.end)
    }

    /// Takes the places that are free: the standard library opens a pipe for the new process, which
    /// must not come to be at one.
    pub(super) fn fill(&self) -> io::Result<Vec<OwnedFd>> {
        let mut filled = Vec::new();
        if self.end == FIRST_SOCKET {
            return Ok(filled);
        }
        let nothing = OwnedFd::from(File::open("/dev/null")?);
        loop {
            let next = duplicate(&nothing, FIRST_SOCKET)?;
            if next.as_raw_fd() >= self.end {
                filled.push(nothing);
                return Ok(filled);
            }
            filled.push(next);
        }
    }
}

fn duplicate(fd: &OwnedFd, least: RawFd) -> io::Result<OwnedFd> {
    let copy = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(least))?;
    // SAFETY: the kernel has just returned this new descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// The names are separated by colons.
fn fit(name: &str) -> String {
    let fits = |c: char| !c.is_control() && c != ':';
    let fitted: String = name
        .chars()
        .map(|c| if fits(c) { c } else { '-' })
        .collect();
    fitted.chars().take(LONGEST_NAME).collect()
}

fn write_pid(variable: &mut [u8; PID_BYTES], pid: u32) {
    variable.fill(0);
    let (name, value) = variable.split_at_mut(PID_PREFIX.len());
    name.copy_from_slice(PID_PREFIX);
    let digits = pid.checked_ilog10().unwrap_or(0) + 1;
    let mut rest = pid;
    for place in (0..digits as usize).rev() {
        value[place] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
    }
}

const PID_PREFIX: &[u8] = b"LISTEN_PID=";

/// The ten digits of a `u32`, and the end.
const PID_BYTES: usize = PID_PREFIX.len() + 11;

/// As `sd_listen_fds(3)` allows it.
const LONGEST_NAME: usize = 255;

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use super::*;
    use crate::config::systemd::PID;

    #[test]
    fn the_pid_is_written_as_a_number_without_zeros() {
        assert_eq!(PID_PREFIX, format!("{PID}=").as_bytes());
        for pid in [0, 7, 10, 4_194_303, u32::MAX] {
            let mut variable = [1; PID_BYTES];
            write_pid(&mut variable, pid);
            let text = CStr::from_bytes_until_nul(&variable).unwrap();
            assert_eq!(text.to_str().unwrap(), format!("LISTEN_PID={pid}"));
        }
    }

    #[test]
    fn a_name_that_looks_like_two_is_one() {
        assert_eq!(fit("[::1]:80"), "[--1]-80");
        assert_eq!(fit("web"), "web");
        assert_eq!(fit(&"x".repeat(999)).len(), 255);
    }

    #[test]
    fn what_the_process_needs_is_at_none_of_the_places() {
        let places = Places::above(500);
        let fd = OwnedFd::from(File::open("/dev/null").unwrap());
        assert!(places.clear(fd).unwrap().as_raw_fd() >= 503);
        let nowhere = Places::above(0);
        let fd = OwnedFd::from(File::open("/dev/null").unwrap());
        let number = fd.as_raw_fd();
        assert_eq!(nowhere.clear(fd).unwrap().as_raw_fd(), number);
        assert!(nowhere.fill().unwrap().is_empty());
    }
}
