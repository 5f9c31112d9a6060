//! How much memory another process takes.

use std::fs;

use nix::unistd::{SysconfVar, sysconf};

/// Its resident set in bytes, see `proc_pid_statm(5)`; `None` if it is gone or nobody may know.
pub(crate) fn resident(pid: u32) -> Option<u64> {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten()?;
    Some(pages * u64::try_from(page).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_takes_some() {
        let resident = resident(std::process::id()).unwrap();
        assert!((1 << 20..1 << 40).contains(&resident), "{resident}");
    }

    #[test]
    fn nobody_takes_nothing() {
        assert_eq!(super::resident(u32::MAX), None);
    }
}
