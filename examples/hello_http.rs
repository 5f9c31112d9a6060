//! An HTTP server that says who answered; the worker that rr-master runs when it is given none.
//!
//! ```text
//! cargo run --example hello_http                           # alone, on 127.0.0.1:8000
//! rr-master --workers 4 target/debug/examples/hello_http   # four of them, in rotation
//! ```
//!
//! It shows what a worker owes its clients: a request that has begun to arrive is answered, a
//! connection that stays idle is closed a second after draining begins, and nothing that a client sends is kept
//! without a bound. The body's length is constant, as load generators such as `ab` expect.

use std::error::Error;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::process::ExitCode;
use std::time::Duration;

use worker_proto::http::should_close;
use worker_proto::{Connection, Draining, Identity, RequestCounter, Server, Worker};

/// Joins the cluster of the master that started it, or serves alone.
pub fn main() -> ExitCode {
    serve().unwrap_or_else(|err| {
        eprintln!("hello_http: {err}");
        ExitCode::FAILURE
    })
}

fn serve() -> Result<ExitCode, Box<dyn Error>> {
    let worker = Worker::connect()?;
    // Whatever a panic has left behind, the next worker does not have it.
    worker.catch_panics();
    let listeners = worker.listen_declared_or("127.0.0.1:8000")?;
    if worker.is_alone() {
        eprintln!("hello_http: http://{}/", listeners[0].address());
    }
    worker.ready()?;
    let (me, draining) = (worker.identity().clone(), worker.draining());
    let requests = worker.request_counter();
    Server::new()
        .max_threads(256)
        .serve(listeners, |connection| {
            // A client that goes away in the middle is no news.
            let _ = converse(&connection, &me, &draining, &requests);
        })?;
    Ok(worker.leave())
}

/// Answers one request after the other until either side wants no more.
fn converse(
    mut connection: &Connection,
    me: &Identity,
    draining: &Draining,
    requests: &RequestCounter,
) -> io::Result<()> {
    connection.set_read_timeout(Some(TICK))?;
    let mut reader = BufReader::new(connection);
    while let Some(head) = read_head(&mut reader, draining)? {
        requests.count();
        let request = Request::parse(&head);
        let status = if request.is_some() {
            "200 OK"
        } else {
            "400 Bad Request"
        };
        let request = request.unwrap_or_default();
        let body = io::copy(
            &mut reader.by_ref().take(request.body_bytes),
            &mut io::sink(),
        );
        let is_whole = body.is_ok_and(|bytes| bytes == request.body_bytes);
        let is_last = should_close(draining) && reader.buffer().is_empty();
        let stays = request.keep_alive && is_whole && !is_last;
        connection.write_all(answer(status, me, stays, request.head_only).as_bytes())?;
        if !request.keep_alive && is_whole && reader.buffer().is_empty() {
            return Ok(());
        }
        if !stays {
            break;
        }
    }
    // The client may still be sending: closing with unread bytes would reset the connection, and
    // the answer could be lost.
    connection.shutdown(Shutdown::Write)?;
    io::copy(&mut reader.take(MAX_BODY_BYTES), &mut io::sink())?;
    Ok(())
}

/// The next request's head; `None` when the client is done, or has been silent for too long.
fn read_head(
    reader: &mut BufReader<&Connection>,
    draining: &Draining,
) -> io::Result<Option<String>> {
    let mut head = Vec::new();
    let mut silence = Duration::ZERO;
    while !head.ends_with(b"\r\n\r\n") {
        let room = MAX_HEAD_BYTES - head.len() as u64;
        match reader.by_ref().take(room).read_until(b'\n', &mut head) {
            // Too long: what is no request gets an answer, too.
            Ok(0) if room == 0 => return Ok(Some(String::new())),
            Ok(0) => return Ok(None),
            Ok(_) if head == b"\r\n" => head.clear(),
            Ok(_) => {}
            Err(err) if err.kind() == ErrorKind::WouldBlock => silence += TICK,
            Err(err) => return Err(err),
        }
        let is_idle = head.is_empty() && draining.is_draining();
        if silence > if is_idle { LINGER } else { IDLE } {
            return Ok(None);
        }
    }
    Ok(Some(String::from_utf8_lossy(&head).into_owned()))
}

/// What matters here of a request; by default one that was not understood.
#[derive(Default)]
struct Request {
    head_only: bool,
    keep_alive: bool,
    body_bytes: u64,
}

impl Request {
    fn parse(head: &str) -> Option<Self> {
        let mut lines = head.trim_end().split("\r\n");
        let mut words = lines.next()?.split(' ');
        let (method, _target, version) = (words.next()?, words.next()?, words.next()?);
        let minor = version.strip_prefix("HTTP/1.")?;
        let mut request = Request {
            head_only: method == "HEAD",
            keep_alive: minor != "0",
            body_bytes: 0,
        };
        for line in lines {
            let (name, value) = line.split_once(':')?;
            let value = value.trim().to_ascii_lowercase();
            match (name.to_ascii_lowercase().as_str(), value.as_str()) {
                ("connection", "close") => request.keep_alive = false,
                ("connection", "keep-alive") => request.keep_alive = true,
                ("content-length", length) => request.body_bytes = length.parse().ok()?,
                // Its end cannot be told from the next request here.
                ("transfer-encoding", _) => request.keep_alive = false,
                _ => {}
            }
        }
        (request.body_bytes <= MAX_BODY_BYTES).then_some(request)
    }
}

/// Head and body in one piece: one write, one packet.
fn answer(status: &str, me: &Identity, stays: bool, head_only: bool) -> String {
    let (slot, id, pid, generation) = (me.slot, me.worker.0, me.pid, me.generation);
    // Padded: the length must not depend on who answers.
    let body = format!("Hello from slot {slot:>4}, pid {pid:>7}.\n", slot = slot.0);
    format!(
        "HTTP/1.1 {status}\r\n\
         Content-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {}\r\n\
         Connection: {}\r\n\
         X-Worker: slot={slot} id={id} pid={pid} gen={generation}\r\n\
         \r\n\
         {}",
        body.len(),
        if stays { "keep-alive" } else { "close" },
        if head_only { "" } else { &body },
    )
}

/// How often a waiting thread looks up to see whether draining has begun.
const TICK: Duration = Duration::from_millis(100);
/// How long a client may be silent.
const IDLE: Duration = Duration::from_secs(5);
/// How long one may be silent while draining: who asks once more is answered, and told that it was the
/// last time. Nobody finds its connection closed while it sends.
const LINGER: Duration = Duration::from_secs(1);

const MAX_HEAD_BYTES: u64 = 16 * 1024;
const MAX_BODY_BYTES: u64 = 1024 * 1024;
