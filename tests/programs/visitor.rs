//! A client that asks a program who it is.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::Command;

use nix::unistd::Pid;

use crate::common::client::connect;

/// How a program is spoken to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Visitor {
    /// The body of every answer is the pid of who answers.
    Http,
    /// `INFO server` says it.
    Redis,
}

impl Visitor {
    /// The pid of the process that answers, on a connection of its own.
    pub(crate) fn ask(self, address: SocketAddr) -> io::Result<Pid> {
        match self {
            Visitor::Http => over_http(address),
            Visitor::Redis => over_resp(address),
        }
    }

    /// As many connections as that, 20 at a time, each with one request, by a program that counts
    /// failures: there must be none.
    pub(crate) fn load(self, address: SocketAddr, connections: usize) {
        let (number, port) = (connections.to_string(), address.port().to_string());
        match self {
            Visitor::Http => {
                let url = format!("http://{address}/");
                // -l: pids differ in length.
                let report = run("ab", &["-l", "-q", "-n", &number, "-c", "20", &url]);
                let complete = format!("Complete requests: {connections} ");
                let words: Vec<&str> = report.split_whitespace().collect();
                let words = words.join(" ");
                assert!(words.contains(&complete), "{report}");
                assert!(words.contains("Failed requests: 0 "), "{report}");
                assert!(!words.contains("Non-2xx"), "{report}");
            }
            Visitor::Redis => {
                let flags = ["-p", &port, "-n", &number, "-c", "20", "-k", "0", "-q"];
                let args = [&flags[..], &["-t", "ping_mbulk"]].concat();
                let report = run("redis-benchmark", &args);
                assert!(report.contains("requests per second"), "{report}");
            }
        }
    }
}

fn over_http(address: SocketAddr) -> io::Result<Pid> {
    let mut stream = connect(address)?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let answered = answer
        .split_once("\r\n\r\n")
        .filter(|(head, _)| head.starts_with("HTTP/1.") && head[8..].starts_with(" 200 "));
    let pid = answered.and_then(|(_, body)| body.trim().parse().ok());
    pid.map(Pid::from_raw)
        .ok_or_else(|| io::Error::other(format!("answered {answer:?}")))
}

fn over_resp(address: SocketAddr) -> io::Result<Pid> {
    let mut stream = BufReader::new(connect(address)?);
    stream.get_mut().write_all(b"INFO server\r\n")?;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(pid) = line.strip_prefix("process_id:") {
            let pid = pid.trim().parse().map_err(io::Error::other)?;
            return Ok(Pid::from_raw(pid));
        }
    }
}

/// What it writes; it has to end well.
fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    let output = output.unwrap_or_else(|err| panic!("run {program} (scripts/test has it): {err}"));
    let written = [output.stdout, output.stderr].concat();
    let written = String::from_utf8_lossy(&written).into_owned();
    assert!(output.status.success(), "{program} {args:?}: {written}");
    written
}
