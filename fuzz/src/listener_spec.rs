//! `--listen`: what is read makes sense as a whole.

use rr_master::ListenerSpec;
use rr_master::config::listener::Source;
use worker_proto::address::Address;

/// No option is taken that its socket cannot have, and no value that it cannot have.
pub fn listener_spec(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match text.parse::<ListenerSpec>() {
        Ok(spec) => makes_sense(&spec),
        Err(err) => assert!(!err.to_string().is_empty()),
    }
}

/// Also of a listener that came with the command line or from systemd.
pub fn makes_sense(spec: &ListenerSpec) {
    assert!(!spec.name().is_empty());
    let (is_v6, is_path) = match &spec.source {
        Source::Bind(address) => {
            assert_eq!(address.to_string().parse().as_ref(), Ok(address));
            (
                matches!(address, Address::V6 { .. }),
                matches!(address, Address::Path(_)),
            )
        }
        Source::Inherited(fd) => {
            assert!(*fd >= 0);
            assert_eq!(spec.source.to_string(), format!("fd:{fd}"));
            (false, false)
        }
    };
    assert_ne!(spec.backlog, Some(0));
    assert!(spec.v6only.is_none() || is_v6);
    assert!(spec.mode.is_none_or(|mode| is_path && mode <= 0o777));
    assert!(
        spec.owner
            .is_none_or(|owner| is_path && (owner.uid, owner.gid) != (None, None))
    );
}
