//! How many more descriptors another process may open.

use std::fs;
use std::io;
use std::mem::MaybeUninit;

/// How many descriptors the process may open beside those it has; `None` if this process may not
/// know (another user's, or `hidepid`).
pub(crate) fn of(pid: u32) -> Option<u64> {
    Some(limit(pid).ok()?.saturating_sub(open(pid).ok()?))
}

/// Its soft limit, see `prlimit(2)`.
fn limit(pid: u32) -> io::Result<u64> {
    let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
    let mut limit = MaybeUninit::<libc::rlimit>::uninit();
    // SAFETY: no new limit is given, and `limit` is large enough for the old one.
    let read = unsafe {
        libc::prlimit(
            pid,
            libc::RLIMIT_NOFILE,
            std::ptr::null(),
            limit.as_mut_ptr(),
        )
    };
    if read != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so the kernel has filled it in.
    Ok(unsafe { limit.assume_init() }.rlim_cur)
}

/// How many it has. Since Linux 6.2 the size of the directory says so; before, it is always 0,
/// which no directory with standard input in it is.
fn open(pid: u32) -> io::Result<u64> {
    let directory = format!("/proc/{pid}/fd");
    match fs::metadata(&directory)?.len() {
        0 => Ok(fs::read_dir(&directory)?.count() as u64),
        open => Ok(open),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn every_descriptor_takes_from_it() {
        let own = std::process::id();
        // Other tests of this process open and close as they like: one of many looks is undisturbed.
        let is_one_less = || {
            let before = of(own).unwrap();
            let _file = File::open("/dev/null").unwrap();
            of(own).unwrap() + 1 == before
        };
        assert!((0..1000).any(|_| is_one_less()));
    }

    #[test]
    fn nothing_is_known_of_a_process_that_is_not_there() {
        assert_eq!(of(u32::MAX), None);
        assert_eq!(of(4_194_305), None, "beyond the largest pid there can be");
    }
}
