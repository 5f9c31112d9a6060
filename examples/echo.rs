//! Sends back what it gets, on every listener there is: the smallest useful worker.
//!
//! ```text
//! cargo run --example echo                                  # alone, on 127.0.0.1:7000
//! rr-master -l 127.0.0.1:7000 -l unix:/tmp/echo.sock target/debug/examples/echo
//! ```
//!
//! A conversation may last for ever, so once draining has begun the first silence ends it.

use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::process::ExitCode;
use std::time::Duration;

use worker_proto::{Connection, Draining, Server, Worker};

fn main() -> ExitCode {
    serve().unwrap_or_else(|err| {
        eprintln!("echo: {err}");
        ExitCode::FAILURE
    })
}

fn serve() -> Result<ExitCode, Box<dyn Error>> {
    let worker = Worker::connect()?;
    let listeners = worker.listen_declared_or("127.0.0.1:7000")?;
    worker.ready()?;
    if worker.is_alone() {
        eprintln!("echo: listening on {}", listeners[0].address());
    }
    let draining = worker.draining();
    Server::new().serve(listeners, |connection| {
        if let Err(err) = echo(&connection, &draining) {
            eprintln!("echo: {}: {err}", connection.peer());
        }
    })?;
    Ok(worker.leave())
}

fn echo(mut connection: &Connection, draining: &Draining) -> io::Result<()> {
    connection.set_read_timeout(Some(SILENCE))?;
    let mut buffer = [0; 16 * 1024];
    loop {
        match connection.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(len) => connection.write_all(&buffer[..len])?,
            Err(err) if err.kind() == ErrorKind::Interrupted => {}
            Err(err) if err.kind() == ErrorKind::WouldBlock => {
                if draining.is_draining() {
                    return Ok(());
                }
            }
            Err(err) => return Err(err),
        }
    }
}

const SILENCE: Duration = Duration::from_millis(100);
