//! An HTTP server that says who answered; the worker that rr-master runs when it is given none.
//!
//! ```text
//! cargo run --example hello_http                           # alone, on 127.0.0.1:8000
//! rr-master --workers 4 target/debug/examples/hello_http   # four of them, in rotation
//! ```
//!
//! It shows what a worker owes its clients: a request that has begun to arrive is answered, an
//! idle connection is closed soon after draining begins, and nothing that a client sends is kept
//! without a bound. The body's length is constant, as load generators such as `ab` expect.

use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::process::ExitCode;
use std::time::Duration;

use worker_proto::{Connection, Draining, Identity, Server, Worker};

/// Joins the cluster of the master that started it, or serves alone.
pub fn main() -> ExitCode {
    serve().unwrap_or_else(|err| {
        eprintln!("hello_http: {err}");
        ExitCode::FAILURE
    })
}

fn serve() -> Result<ExitCode, Box<dyn Error>> {
    let worker = Worker::connect()?;
    let listeners = worker.listen_declared_or("127.0.0.1:8000")?;
    if worker.is_alone() {
        eprintln!("hello_http: serving http://{}/", listeners[0].address());
    }
    worker.ready()?;
    let (me, draining) = (worker.identity().clone(), worker.draining());
    Server::new()
        .max_threads(256)
        .serve(listeners, move |connection| {
            // A client that goes away in the middle is no news.
            _ = converse(&connection, &me, &draining);
        })?;
    Ok(worker.leave())
}

/// Answers one request after the other until either side wants no more.
fn converse(connection: &Connection, me: &Identity, draining: &Draining) -> io::Result<()> {
    let mut client = Client::new(connection, draining)?;
    loop {
        let request = match client.head()? {
            Head::End => return Ok(()),
            Head::Whole(head) => Request::parse(&head),
            Head::TooLarge => Err("431 Request Header Fields Too Large"),
        };
        let request = match request {
            Ok(request) => request,
            Err(status) => return client.dismiss(&answer(status, me, "close", "GET")),
        };
        // What cannot be skipped cannot be told from the next request either.
        let skipped = match request.body {
            Some(len) if len <= MAX_BODY_BYTES => client.skip(len)?,
            Some(_) | None => false,
        };
        // Only now: draining may have begun while the request arrived.
        let last = !skipped || (draining.is_draining() && client.bytes.is_empty());
        let answer = |fate| answer("200 OK", me, fate, &request.method);
        match request.connection {
            _ if last => return client.dismiss(&answer("close")),
            // The client does not expect to be able to send more.
            Fate::Close => return client.write(&answer("close")),
            Fate::KeepAlive => client.write(&answer("keep-alive"))?,
        }
    }
}

/// Head and body in one piece: one write, one packet.
fn answer(status: &str, me: &Identity, connection: &str, method: &str) -> String {
    let (slot, id, pid, generation) = (me.slot, me.worker.0, me.pid, me.generation);
    // Padded: the length must not depend on who answers.
    let body = format!("Hello from slot {slot:>4}, pid {pid:>7}.\n", slot = slot.0);
    let len = body.len();
    let body = if method == "HEAD" { "" } else { &body };
    format!(
        "HTTP/1.1 {status}\r\n\
         Content-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {len}\r\n\
         Connection: {connection}\r\n\
         X-Worker: slot={slot} id={id} pid={pid} gen={generation}\r\n\
         \r\n\
         {body}"
    )
}

/// What matters here of a request.
struct Request {
    method: String,
    connection: Fate,
    /// The body's length; `None` for one that we do not read.
    body: Option<u64>,
}

/// What the client wants of the connection after the answer.
#[derive(Clone, Copy)]
enum Fate {
    KeepAlive,
    Close,
}

impl Request {
    fn parse(head: &str) -> Result<Self, &'static str> {
        let mut lines = head.split("\r\n");
        let line: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
        let [method, target, version] = line[..] else {
            return Err(BAD_REQUEST);
        };
        let Some(minor) = version.strip_prefix("HTTP/1.") else {
            return Err(BAD_REQUEST);
        };
        if method.is_empty() || target.is_empty() || !is_number(minor) {
            return Err(BAD_REQUEST);
        }
        let mut request = Request {
            method: method.to_owned(),
            connection: if minor == "0" {
                Fate::Close
            } else {
                Fate::KeepAlive
            },
            body: Some(0),
        };
        let mut length = None;
        for line in lines {
            let (name, value) = line.split_once(':').ok_or(BAD_REQUEST)?;
            let value = value.trim();
            if name.is_empty() || name.contains([' ', '\t']) {
                return Err(BAD_REQUEST);
            }
            match name.to_ascii_lowercase().as_str() {
                "connection" => request.wish(value),
                // Two lengths, or one that is no number: an attack rather than a mistake.
                "content-length" if !is_number(value) || length.is_some_and(|l| l != value) => {
                    return Err(BAD_REQUEST);
                }
                "content-length" => length = Some(value),
                "transfer-encoding" | "expect" => request.body = None,
                _ => {}
            }
        }
        if let (Some(length), Some(_)) = (length, request.body) {
            request.body = Some(length.parse().map_err(|_| BAD_REQUEST)?);
        }
        Ok(request)
    }

    fn wish(&mut self, value: &str) {
        for option in value.split(',').map(str::trim) {
            if option.eq_ignore_ascii_case("close") {
                self.connection = Fate::Close;
                return;
            } else if option.eq_ignore_ascii_case("keep-alive") {
                self.connection = Fate::KeepAlive;
            }
        }
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The client's side of a connection, and what it sent that is not used up yet.
struct Client<'a> {
    connection: &'a Connection,
    draining: &'a Draining,
    bytes: Vec<u8>,
    /// How many ticks it may be silent between requests while draining.
    patience: u32,
}

enum Head {
    Whole(String),
    TooLarge,
    /// The client is done, or we are with it.
    End,
}

impl<'a> Client<'a> {
    fn new(connection: &'a Connection, draining: &'a Draining) -> io::Result<Self> {
        connection.set_read_timeout(Some(TICK))?;
        connection.set_write_timeout(Some(TICK * PATIENCE))?;
        Ok(Client {
            connection,
            draining,
            bytes: Vec::new(),
            // Somebody who has just come gets the time to speak, draining or not.
            patience: NEWCOMER_PATIENCE,
        })
    }

    /// The next request's head, without the empty line.
    fn head(&mut self) -> io::Result<Head> {
        loop {
            while self.bytes.starts_with(b"\r\n") {
                self.bytes.drain(..2);
            }
            let end = self.bytes.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(end) = end.filter(|end| *end <= MAX_HEAD_BYTES) {
                let head = String::from_utf8_lossy(&self.bytes[..end]).into_owned();
                self.bytes.drain(..end + 4);
                self.patience = 0;
                return Ok(Head::Whole(head));
            }
            if self.bytes.len() > MAX_HEAD_BYTES {
                return Ok(Head::TooLarge);
            }
            if !self.read()? {
                return Ok(Head::End);
            }
        }
    }

    /// Reads over `len` bytes; false when the client ends before.
    fn skip(&mut self, mut len: u64) -> io::Result<bool> {
        loop {
            let here = self
                .bytes
                .len()
                .min(usize::try_from(len).unwrap_or(usize::MAX));
            self.bytes.drain(..here);
            len -= here as u64;
            if len == 0 {
                return Ok(true);
            }
            if !self.read()? {
                return Ok(false);
            }
        }
    }

    /// Waits for more bytes; false when there will be none.
    fn read(&mut self) -> io::Result<bool> {
        let mut chunk = [0; 4096];
        let mut ticks = 0;
        loop {
            match (&mut &*self.connection).read(&mut chunk) {
                Ok(len) => {
                    self.bytes.extend_from_slice(&chunk[..len]);
                    return Ok(len > 0);
                }
                Err(err) if err.kind() == ErrorKind::Interrupted => {}
                Err(err) if err.kind() == ErrorKind::WouldBlock => ticks += 1,
                Err(err) => return Err(err),
            }
            let idle = self.bytes.is_empty() && self.draining.is_draining();
            if ticks >= if idle { self.patience } else { PATIENCE } {
                return Ok(false);
            }
        }
    }

    fn write(&self, answer: &str) -> io::Result<()> {
        (&mut &*self.connection).write_all(answer.as_bytes())
    }

    /// Answers and ends the connection, although the client may be sending still: closing with
    /// unread bytes would reset it, and the answer could be lost.
    fn dismiss(&mut self, answer: &str) -> io::Result<()> {
        self.write(answer)?;
        self.connection.shutdown(Shutdown::Write)?;
        self.connection.set_read_timeout(Some(FAREWELL))?;
        io::copy(&mut self.connection.take(MAX_BODY_BYTES), &mut io::sink())?;
        Ok(())
    }
}

const BAD_REQUEST: &str = "400 Bad Request";

/// How long a client that is to go may take to notice.
const FAREWELL: Duration = Duration::from_secs(1);
/// How often a waiting thread looks up to see whether draining has begun.
const TICK: Duration = Duration::from_millis(100);
/// How many ticks a client may be silent: 5 s.
const PATIENCE: u32 = 50;
/// How many ticks a client that has not asked anything yet may be silent while draining: 1 s.
const NEWCOMER_PATIENCE: u32 = 10;

const MAX_HEAD_BYTES: usize = 16 * 1024;
const MAX_BODY_BYTES: u64 = 1024 * 1024;
