//! The bytes that every request gets.

/// One answer for who wants no other, and one for who may ask again. Both of one length.
pub(crate) struct Answer {
    last: Vec<u8>,
    more: Vec<u8>,
}

impl Answer {
    /// With a header as long as is asked for, so that servers whose headers differ can be made to
    /// send as many bytes as each other; none for 0.
    pub(crate) fn padded(pad: usize) -> Self {
        Answer {
            last: write("close     ", pad),
            more: write("keep-alive", pad),
        }
    }

    pub(crate) fn last(&self) -> &[u8] {
        &self.last
    }

    pub(crate) fn more(&self) -> &[u8] {
        &self.more
    }
}

fn write(connection: &str, pad: usize) -> Vec<u8> {
    let padding = match pad {
        0 => String::new(),
        _ => format!("X-Pad: {}\r\n", "x".repeat(pad)),
    };
    format!(
        "HTTP/1.1 200 OK\r\n\
         Server: bench\r\n\
         Content-Type: text/plain\r\n\
         Content-Length: {}\r\n\
         Connection: {connection}\r\n\
         {padding}\
         \r\n\
         {BODY}",
        BODY.len(),
    )
    .into_bytes()
}

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

const BODY: &str = "Hello, world!\n";
