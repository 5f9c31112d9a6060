//! The bytes that every request gets.

/// When the client wants no other, and when it may ask again. Both of one length.
pub(crate) const LAST: &[u8] = b"HTTP/1.1 200 OK\r\n\
    Server: bench\r\n\
    Content-Type: text/plain\r\n\
    Content-Length: 14\r\n\
    Connection: close     \r\n\
    \r\n\
    Hello, world!\n";
pub(crate) const MORE: &[u8] = b"HTTP/1.1 200 OK\r\n\
    Server: bench\r\n\
    Content-Type: text/plain\r\n\
    Content-Length: 14\r\n\
    Connection: keep-alive\r\n\
    \r\n\
    Hello, world!\n";

/// What becomes of a connection after what was read.
pub(crate) enum Request {
    /// Its end has not come yet.
    Partial,
    Last,
    KeepAlive,
}

impl Request {
    /// Of one request without a body, as load generators send them.
    pub(crate) fn read(bytes: &[u8]) -> Self {
        if !bytes.ends_with(b"\r\n\r\n") {
            return Request::Partial;
        }
        // `GET / HTTP/1.0` as ab sends it: it has to ask for more, 1.1 for less.
        let line_end = bytes.iter().position(|&it| it == b'\r').unwrap_or(0);
        let asks = |what: &[u8]| {
            bytes
                .windows(what.len())
                .any(|it| it.eq_ignore_ascii_case(what))
        };
        let is_last = if bytes[..line_end].ends_with(b"1.0") {
            !asks(b"connection: keep-alive")
        } else {
            asks(b"connection: close")
        };
        if is_last {
            Request::Last
        } else {
            Request::KeepAlive
        }
    }
}
