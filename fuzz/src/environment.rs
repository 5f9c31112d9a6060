//! The environment: the number of the control channel, and systemd's sockets.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use rr_master::ListenerSpec;
use rr_master::config::listener::Source;
use rr_master::config::systemd;
use worker_proto::env;

use super::listener_spec::makes_sense;

/// Variables one after the other, each ended by a zero byte: `RR_CONTROL_FD`, `LISTEN_PID`,
/// `LISTEN_FDS`, `LISTEN_FDNAMES`. One that is not there is not set.
pub fn environment(data: &[u8]) {
    let mut values = data.split(|byte| *byte == 0).map(OsStr::from_bytes);
    if let Some(fd) = values.next().and_then(env::control_fd) {
        assert!(fd >= 0);
        assert_eq!(env::control_fd(OsStr::new(&fd.to_string())), Some(fd));
    }
    let variables: Vec<(&str, &OsStr)> = systemd::VARIABLES.into_iter().zip(values).collect();
    let variable = |name: &str| {
        let found = variables.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| OsString::from(value))
    };
    let listeners = systemd::listeners(OWN_PID, variable);
    let names: BTreeSet<String> = listeners.iter().map(ListenerSpec::name).collect();
    assert_eq!(names.len(), listeners.len(), "each has a name of its own");
    for (number, listener) in (3..).zip(&listeners) {
        makes_sense(listener);
        assert_eq!(listener.source, Source::Inherited(number));
    }
    let pid = variable("LISTEN_PID").and_then(|pid| pid.to_str()?.parse().ok());
    let is_for_us = pid == Some(OWN_PID);
    assert!(listeners.is_empty() || is_for_us);
}

/// One digit, so that the fuzzer finds it.
const OWN_PID: u32 = 1;
