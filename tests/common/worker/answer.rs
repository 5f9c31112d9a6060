//! HTTP by path: the test's remote control of a worker.
//!
//! | path | what it does |
//! |---|---|
//! | `/` | answers at once |
//! | `/slow/MS` | answers after a while |
//! | `/exit/CODE` | exits without an answer |
//! | `/abort`, `/panic` | SIGABRT; a panic in the handler |
//! | `/env/NAME` | answers the variable's value, or nothing |
//! | `/fds` | answers how many descriptors are open |
//! | `/cwd` | answers the working directory |
//! | `/limit` | answers the soft limit on descriptors |
//! | `/signals` | answers the blocked and ignored signals, from `/proc/self/status` |
//! | `/child` | starts a process that sleeps; answers its pid |

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, exit};
use std::time::Duration;

use worker_proto::{Connection, Identity};

pub(crate) fn answer(identity: &Identity, connection: Connection) {
    let mut reader = BufReader::new(&connection);
    let mut request = String::new();
    if reader.read_line(&mut request).is_err() || request.is_empty() {
        return;
    }
    loop {
        let mut line = String::new();
        match reader.read_line(&mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) if line == "\r\n" => break,
            Ok(_) => {}
        }
    }
    let path = request.split(' ').nth(1).unwrap_or("/");
    let body = perform(path);
    let _ = write!(
        &connection,
        "HTTP/1.1 200 OK\r\nX-Worker: slot={} id={} pid={} gen={}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        identity.slot,
        identity.worker.0,
        identity.pid,
        identity.generation,
        body.len(),
    );
}

#[allow(
    clippy::disallowed_methods,
    reason = "slow and dying on request is what it is for"
)]
#[allow(clippy::zombie_processes, reason = "the test ends it")]
fn perform(path: &str) -> String {
    let mut parts = path.trim_start_matches('/').splitn(2, '/');
    let (what, argument) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
    match what {
        "" => String::new(),
        "slow" => {
            std::thread::sleep(Duration::from_millis(
                argument.parse().expect("milliseconds"),
            ));
            String::new()
        }
        "exit" => exit(argument.parse().expect("an exit code")),
        "abort" => std::process::abort(),
        "panic" => panic!("asked to"),
        "env" => std::env::var(argument).unwrap_or_default(),
        "fds" => std::fs::read_dir("/proc/self/fd")
            .map_or(0, Iterator::count)
            .to_string(),
        "cwd" => std::env::current_dir()
            .expect("a directory")
            .display()
            .to_string(),
        "limit" => {
            let (soft, _) =
                nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)
                    .expect("RLIMIT_NOFILE");
            soft.to_string()
        }
        "signals" => {
            let status = std::fs::read_to_string("/proc/self/status").expect("status");
            let lines = status
                .lines()
                .filter(|line| line.starts_with("SigBlk") || line.starts_with("SigIgn"));
            lines.collect::<Vec<_>>().join("\n")
        }
        "child" => {
            let child = Command::new("sleep")
                .arg("600")
                .spawn()
                .expect("start sleep");
            child.id().to_string()
        }
        _ => format!("unknown path {path}"),
    }
}
