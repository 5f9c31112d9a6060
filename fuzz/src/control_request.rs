//! What operators write to the control socket.

use rr_master::control::protocol::{Reply, decode, encode};

/// A line, without its end. It is a request that is written as it is read, or is refused in one line that
/// a terminal and a log can take, and that is short however long it was. The other side's decoder, too,
/// takes anything.
pub fn control_request(data: &[u8]) {
    match decode(data) {
        Ok(request) => {
            let written = encode(&request);
            let line = written.strip_suffix(b"\n").expect("one line");
            assert!(!line.contains(&b'\n'));
            assert_eq!(decode(line), Ok(request));
        }
        Err(bad) => {
            assert!(!bad.message.is_empty() && bad.message.len() < 1000);
            assert!(!bad.message.chars().any(char::is_control), "{bad:?}");
        }
    }
    if let Ok(reply) = Reply::decode(data) {
        assert!(reply.to_line().ends_with(b"\n"));
    }
}
