//! What the kernel lets this process do beyond what everybody may, see `capabilities(7)`.
//!
//! Root in a container often has fewer than root has elsewhere, so the user does not say it.

use std::fs;

/// The capabilities of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rights(u64);

/// One of them: its name, and its number in `linux/capability.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Right {
    /// To signal processes of other users.
    Kill = 5,
    SetGid = 6,
    SetUid = 7,
    SysNice = 23,
    SysResource = 24,
}

impl Rights {
    /// Those in effect; everything if the system does not say.
    pub(crate) fn own() -> Self {
        let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
        Rights(parse(&status).unwrap_or(u64::MAX))
    }

    pub(crate) fn have(self, right: Right) -> bool {
        self.0 & 1 << right as u64 != 0
    }
}

impl Right {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Right::Kill => "CAP_KILL",
            Right::SetGid => "CAP_SETGID",
            Right::SetUid => "CAP_SETUID",
            Right::SysNice => "CAP_SYS_NICE",
            Right::SysResource => "CAP_SYS_RESOURCE",
        }
    }
}

fn parse(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_bits_of_one_line() {
        let status = "Name:\tx\nCapPrm:\tffffffffffffffff\nCapEff:\t0000000000000080\n";
        let rights = Rights(parse(status).unwrap());
        assert!(rights.have(Right::SetUid));
        assert!(!rights.have(Right::SetGid));
        assert_eq!(parse("Name:\tx\n"), None);
    }
}
