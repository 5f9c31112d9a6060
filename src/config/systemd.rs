//! systemd's way of passing listening sockets, see `sd_listen_fds(3)`: which there are, and what they
//! are called. Whether they are open is for `sys::inherited` to find out.

use std::ffi::OsString;
use std::os::fd::RawFd;

use crate::config::listener::ListenerSpec;

/// The listeners that systemd, or anything that speaks its protocol, passed to the process with
/// this pid, named as `LISTEN_FDNAMES` says. `variable` looks one of [`VARIABLES`] up.
pub fn listeners(own_pid: u32, variable: impl Fn(&str) -> Option<OsString>) -> Vec<ListenerSpec> {
    let text = |name| variable(name)?.into_string().ok();
    let number = |name| text(name)?.parse::<u32>().ok();
    if number(PID) != Some(own_pid) {
        return Vec::new();
    }
    let count = number(FDS).unwrap_or(0).min(MOST_SOCKETS);
    let names = text(FDNAMES).unwrap_or_default();
    let mut names = names.split(':');
    let mut listeners: Vec<ListenerSpec> = Vec::new();
    for index in 0..count {
        let listener = ListenerSpec::inherited(FIRST_SOCKET + index.cast_signed());
        // All sockets of one unit have its name: the first gets it, the others go by number.
        let name = names.next().filter(|name| {
            let is_taken = listeners.iter().any(|listener| listener.name() == *name);
            !matches!(*name, "" | "unknown") && !is_taken
        });
        listeners.push(match name {
            Some(name) => listener.named(name),
            None => listener,
        });
    }
    listeners
}

/// The variables of the protocol: for one process alone, not for those it starts.
pub const VARIABLES: [&str; 3] = [PID, FDS, FDNAMES];

pub(crate) const PID: &str = "LISTEN_PID";
pub(crate) const FDS: &str = "LISTEN_FDS";
pub(crate) const FDNAMES: &str = "LISTEN_FDNAMES";

/// `SD_LISTEN_FDS_START`.
pub(crate) const FIRST_SOCKET: RawFd = 3;

/// More than any unit has; keeps a nonsense count harmless.
const MOST_SOCKETS: u32 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn names(pid: &str, fds: &str, fdnames: &str) -> Vec<String> {
        let values = [(PID, pid), (FDS, fds), (FDNAMES, fdnames)];
        let variable = |wanted: &str| {
            let found = values.iter().find(|(name, _)| *name == wanted);
            found.map(|(_, value)| OsString::from(value))
        };
        let listeners = listeners(7, variable);
        listeners.iter().map(ListenerSpec::name).collect()
    }

    #[test]
    fn a_socket_goes_by_its_name_and_without_one_by_its_number() {
        assert_eq!(names("7", "2", "web:admin"), ["web", "admin"]);
        assert_eq!(names("7", "3", "web:web:unknown"), ["web", "fd:4", "fd:5"]);
        assert_eq!(names("7", "2", ""), ["fd:3", "fd:4"]);
    }

    #[test]
    fn sockets_of_another_process_and_nonsense_are_none() {
        for (pid, fds) in [("8", "1"), ("", "1"), ("7", ""), ("7", "-1"), ("7", "many")] {
            assert!(names(pid, fds, "web").is_empty(), "{pid:?} {fds:?}");
        }
        assert_eq!(names("7", "4294967295", "").len(), 1024);
    }
}
