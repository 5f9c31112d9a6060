//! The master as a library: this program is its own cluster.
//!
//! ```text
//! cargo run --release --example embedded [ADDRESS]
//! curl http://127.0.0.1:8000/     # several times: the pids take turns
//! ```
//!
//! Press Enter to stop. The same program runs as the master and, started by it, as each worker;
//! the library touches no signal of the process, so stopping is up to the program.

use std::io::{self, BufRead, BufReader, Write};
use std::process;
use std::thread;
use std::time::Duration;

use anyhow::anyhow;
use rr_master::{Config, ExitCode, Master, Program, Stop};
use worker_proto::{Connection, Server, Worker};

fn main() -> anyhow::Result<process::ExitCode> {
    let worker = Worker::connect()?;
    if worker.is_alone() {
        lead()
    } else {
        serve(worker)
    }
}

/// Nobody started this process as a worker: it is the master.
fn lead() -> anyhow::Result<process::ExitCode> {
    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("127.0.0.1:8000");
    let program = Program::new(std::env::current_exe()?);
    let config = Config::new(program).workers(4).listen(address.parse()?);
    let master = Master::bind(config)?;
    let address = master.listeners()[0].address.clone();
    let handle = master.handle();
    let running = thread::spawn(move || master.run());

    if !handle.await_ready(Duration::from_secs(10))? {
        handle.stop(Stop::Fast)?;
    }
    for worker in handle.status()?.workers {
        println!(
            "slot {} is pid {}",
            worker.slot,
            worker.pid.unwrap_or_default()
        );
    }
    println!("serving on http://{address}/, press Enter to stop");
    io::stdin().read_line(&mut String::new())?;

    for listener in handle.status()?.listeners {
        println!(
            "{}: {} connections accepted",
            listener.name, listener.counters.accepted
        );
    }
    handle.stop(Stop::Graceful)?;
    let code: ExitCode = running
        .join()
        .map_err(|_| anyhow!("the master panicked"))??;
    Ok(code.into())
}

/// The master started this process: it serves.
fn serve(worker: Worker) -> anyhow::Result<process::ExitCode> {
    let listeners = worker.listen_declared_or("127.0.0.1:8000")?;
    worker.ready()?;
    Server::new().serve(listeners, answer)?;
    Ok(worker.leave())
}

fn answer(mut connection: Connection) {
    // To close with the request unread would reset the connection, and the answer with it.
    let head = BufReader::new(&connection).lines().map_while(Result::ok);
    head.take_while(|line| !line.is_empty()).for_each(drop);
    let body = format!("hello from pid {}\n", std::process::id());
    let length = body.len();
    let _ = write!(
        connection,
        "HTTP/1.0 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"
    );
}
