//! Says who asks: the real client, though a load balancer stands between. Answers HTTP.
//!
//! ```text
//! rr-master -l 127.0.0.1:8000 target/debug/examples/behind_proxy 127.0.0.0/8
//! ```
//!
//! The arguments are the networks of the balancers, loopback by default. Of HAProxy:
//! `server rr 127.0.0.1:8000 send-proxy-v2`; without one,
//! `curl --haproxy-protocol http://127.0.0.1:8000`.

use std::env;
use std::error::Error;
use std::io::{self, BufRead, BufReader, Write};
use std::process::ExitCode;
use std::time::Duration;

use worker_proto::network::Network;
use worker_proto::proxy_protocol::kind;
use worker_proto::{Connection, ProxyProtocol, Server, Worker};

fn main() -> ExitCode {
    serve().unwrap_or_else(|err| {
        eprintln!("behind_proxy: {err}");
        ExitCode::FAILURE
    })
}

fn serve() -> Result<ExitCode, Box<dyn Error>> {
    let mut balancers = Vec::new();
    for argument in env::args().skip(1) {
        balancers.push(argument.parse::<Network>()?);
    }
    if balancers.is_empty() {
        balancers = vec!["127.0.0.0/8".parse()?, "::1".parse()?];
    }
    let protocol = ProxyProtocol::trusting(balancers);
    let worker = Worker::connect()?;
    let mut listeners = Vec::new();
    for listener in worker.listen_declared_or("127.0.0.1:8000")? {
        listeners.push(listener.behind_proxy(&protocol)?);
    }
    worker.ready()?;
    Server::new().serve(listeners, |connection| {
        if let Err(err) = answer(&connection) {
            eprintln!("behind_proxy: {}: {err}", connection.peer());
        }
    })?;
    let refused = protocol.refused();
    if refused.total() > 0 {
        eprintln!("behind_proxy: {refused:?}");
    }
    Ok(worker.leave())
}

/// One request, one answer.
fn answer(mut connection: &Connection) -> io::Result<()> {
    connection.set_read_timeout(Some(PATIENCE))?;
    let request = BufReader::new(connection).lines();
    for line in request {
        if line?.is_empty() {
            break;
        }
    }
    let mut body = format!("client {}\n", connection.peer());
    if let Some(proxy) = connection.proxy() {
        body += &format!("through {proxy}\n");
        if let Some(id) = proxy.tlvs().find(kind::UNIQUE_ID) {
            body += &format!("as {}\n", id.escape_ascii());
        }
    }
    write!(
        connection,
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

const PATIENCE: Duration = Duration::from_secs(5);
