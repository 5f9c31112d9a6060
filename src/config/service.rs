//! What a service manager tells its service in the environment, see `sd_notify(3)` and
//! `sd_watchdog_enabled(3)`. For one process alone, not for those it starts.

use std::ffi::OsString;
use std::time::Duration;

/// What a service manager wants to hear from this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expectations {
    /// The socket on which it listens, as `NOTIFY_SOCKET` names it.
    pub socket: OsString,
    /// Without a sign of life for so long it takes the process for dead; `None`: it does not.
    pub watchdog: Option<Duration>,
}

/// What the process with this pid is expected to tell, if anything. `variable` looks one of
/// [`VARIABLES`] up.
pub fn expectations(
    own_pid: u32,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Option<Expectations> {
    let socket = variable(SOCKET).filter(|name| !name.is_empty())?;
    let number = |name| variable(name)?.to_str()?.parse::<u64>().ok();
    let is_ours =
        variable(WATCHDOG_PID).is_none() || number(WATCHDOG_PID) == Some(u64::from(own_pid));
    let watchdog = number(WATCHDOG_USEC).filter(|&usec| is_ours && usec > 0);
    Some(Expectations {
        socket,
        watchdog: watchdog.map(Duration::from_micros),
    })
}

/// The variables of the protocol.
pub const VARIABLES: [&str; 3] = [SOCKET, WATCHDOG_PID, WATCHDOG_USEC];

const SOCKET: &str = "NOTIFY_SOCKET";
const WATCHDOG_PID: &str = "WATCHDOG_PID";
const WATCHDOG_USEC: &str = "WATCHDOG_USEC";

#[cfg(test)]
mod tests {
    use super::*;

    fn watchdog(variables: &[(&str, &str)]) -> Option<Duration> {
        let mut variables = variables.to_vec();
        variables.push((SOCKET, "@notify"));
        expectations_of(&variables).expect("a socket").watchdog
    }

    fn expectations_of(variables: &[(&str, &str)]) -> Option<Expectations> {
        expectations(7, |wanted| {
            let found = variables.iter().find(|(name, _)| *name == wanted);
            found.map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn without_a_socket_nothing_is_expected() {
        assert_eq!(expectations_of(&[(WATCHDOG_USEC, "1000000")]), None);
        assert_eq!(expectations_of(&[(SOCKET, "")]), None);
    }

    #[test]
    fn the_watchdog_is_for_the_process_that_it_names() {
        let usec = (WATCHDOG_USEC, "3000000");
        let expected = Some(Duration::from_secs(3));
        assert_eq!(watchdog(&[usec, (WATCHDOG_PID, "7")]), expected);
        assert_eq!(watchdog(&[usec]), expected, "whoever has the variable");
        assert_eq!(watchdog(&[usec, (WATCHDOG_PID, "8")]), None);
        assert_eq!(watchdog(&[usec, (WATCHDOG_PID, "")]), None);
    }

    #[test]
    fn nonsense_is_no_watchdog() {
        for usec in ["", "0", "-1", "soon"] {
            assert_eq!(watchdog(&[(WATCHDOG_USEC, usec)]), None, "{usec:?}");
        }
        let longest = watchdog(&[(WATCHDOG_USEC, "18446744073709551615")]);
        assert_eq!(longest, Some(Duration::from_micros(u64::MAX)));
    }
}
