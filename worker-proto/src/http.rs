//! HTTP: what a worker that drains owes the clients that would stay.

use crate::sdk::Draining;

/// Whether this answer is to be the last on its connection.
#[must_use]
pub fn should_close(draining: &Draining) -> bool {
    draining.is_draining()
}

/// What to say in the header `Connection`: `close` while the worker drains, so that the client takes
/// its next request to somebody else; otherwise `keep-alive`.
///
/// ```
/// # let (master, worker) = worker_proto::FakeMaster::new();
/// use worker_proto::http::connection_header;
///
/// let draining = worker.draining();
/// let head = format!("HTTP/1.1 200 OK\r\nConnection: {}\r\n", connection_header(&draining));
/// assert!(head.ends_with("keep-alive\r\n"));
/// worker.retire("out of lamps");
/// assert_eq!(connection_header(&draining), "close");
/// ```
#[must_use]
pub fn connection_header(draining: &Draining) -> &'static str {
    if should_close(draining) {
        "close"
    } else {
        "keep-alive"
    }
}
