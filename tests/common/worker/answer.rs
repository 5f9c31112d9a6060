//! HTTP by path: the test's remote control of a worker.
//!
//! | path | what it does |
//! |---|---|
//! | `/` | answers at once |
//! | `/slow/MS` | says `/slow/MS begun` on standard error; answers after a while |
//! | `/exit/CODE` | exits without an answer |
//! | `/abort`, `/panic`, `/panic/TEXT` | SIGABRT; a panic in the handler |
//! | `/held` | says `/held begun`; answers when the client has sent a byte more |
//! | `/beside` | says `/beside begun`; at a byte something panics in another thread; answers at the next |
//! | `/retire/TEXT`, `/report/TEXT` | retires, reports; answers |
//! | `/weight/N` | wants to weigh so much; answers |
//! | `/env/NAME` | answers the variable's value, or nothing |
//! | `/fds` | answers how many descriptors are open |
//! | `/cwd` | answers the working directory |
//! | `/args` | answers the arguments, one a line |
//! | `/peer` | answers the client's address, as the master saw it |
//! | `/nonblocking` | answers whether the connection has `O_NONBLOCK` |
//! | `/limit` | answers the soft limit on descriptors |
//! | `/signals` | answers the blocked and ignored signals, from `/proc/self/status` |
//! | `/child` | starts a process that sleeps; answers its pid |
//! | `/say/HEX` | writes these bytes to standard error |
//! | `/last-words/HEX` | writes these bytes to standard error and exits with code 9, without an answer |
//! | `/flood/LINES` | writes so many lines of 100 bytes to standard output; answers when it has |
//! | `/run/FILE` | runs a shell script, and does not wait for it; answers its pid |
//! | `/relisten/COUNT` | listens on 127.0.0.2 so many times, and gives the listener back |

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio, exit};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use worker_proto::{Connection, Worker};

pub(crate) fn answer(worker: &Worker, requests: &AtomicU64, connection: Connection) {
    answer_more(worker, requests, connection, |_| None);
}

/// As [`answer`], for a mode that has paths of its own.
pub(crate) fn answer_more(
    worker: &Worker,
    requests: &AtomicU64,
    connection: Connection,
    perform_more: impl Fn(&str) -> Option<String>,
) {
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
    requests.fetch_add(1, Ordering::Relaxed);
    let path = request.split(' ').nth(1).unwrap_or("/");
    let body = match path {
        "/held" => {
            announce(&format!("{path} begun"));
            await_byte(&mut reader)
        }
        "/beside" => {
            announce(&format!("{path} begun"));
            await_byte(&mut reader);
            let other = std::thread::spawn(|| panic!("beside it")).join();
            assert!(other.is_err());
            await_byte(&mut reader)
        }
        "/peer" => connection.peer().to_string(),
        "/nonblocking" => is_nonblocking(&connection).to_string(),
        path => perform_more(path).unwrap_or_else(|| perform(worker, path)),
    };
    let identity = worker.identity();
    let answer = format!(
        "HTTP/1.1 200 OK\r\nX-Worker: slot={} id={} pid={} gen={}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        identity.slot,
        identity.worker.0,
        identity.pid,
        identity.generation,
        body.len(),
    );
    let _ = (&connection).write_all(answer.as_bytes());
}

/// Answers nothing.
fn await_byte(client: &mut impl Read) -> String {
    let _ = client.read_exact(&mut [0]);
    String::new()
}

fn is_nonblocking(connection: &Connection) -> bool {
    let flags = fcntl(connection, FcntlArg::F_GETFL).expect("its flags");
    OFlag::from_bits_retain(flags).contains(OFlag::O_NONBLOCK)
}

/// One line on standard error, whole: several workers share it.
pub(crate) fn announce(line: &str) {
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

#[allow(
    clippy::disallowed_methods,
    reason = "slow and dying on request is what it is for"
)]
#[allow(clippy::zombie_processes, reason = "the test ends it")]
fn perform(worker: &Worker, path: &str) -> String {
    let mut parts = path.trim_start_matches('/').splitn(2, '/');
    let (what, argument) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
    match what {
        "" => String::new(),
        "slow" => {
            announce(&format!("{path} begun"));
            std::thread::sleep(Duration::from_millis(
                argument.parse().expect("milliseconds"),
            ));
            String::new()
        }
        "exit" => exit(argument.parse().expect("an exit code")),
        "abort" => std::process::abort(),
        "panic" if argument.is_empty() => panic!("asked to"),
        "panic" => panic!("{argument}"),
        "retire" => {
            worker.retire(argument);
            String::new()
        }
        "report" => {
            worker.report(argument);
            String::new()
        }
        "weight" => {
            let weight = argument.parse().expect("a number above 0");
            worker.set_weight(weight).expect("tell the master");
            String::new()
        }
        "env" => std::env::var(argument).unwrap_or_default(),
        "fds" => std::fs::read_dir("/proc/self/fd")
            .map_or(0, Iterator::count)
            .to_string(),
        "cwd" => std::env::current_dir()
            .expect("a directory")
            .display()
            .to_string(),
        "args" => std::env::args().skip(1).collect::<Vec<_>>().join("\n"),
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
                // The log that the test reads to its end is not this process's.
                .stderr(Stdio::null())
                .spawn()
                .expect("start sleep");
            child.id().to_string()
        }
        "say" => {
            let _ = std::io::stderr().write_all(&bytes(argument));
            String::new()
        }
        "last-words" => {
            let _ = std::io::stderr().write_all(&bytes(argument));
            exit(9)
        }
        "flood" => {
            for number in 0..argument.parse::<usize>().expect("a number") {
                let _ = std::io::stdout().write_all(format!("{number:099}\n").as_bytes());
            }
            String::new()
        }
        "run" => {
            let child = Command::new("/bin/sh")
                .arg(argument)
                .stderr(Stdio::null())
                .spawn()
                .expect("start a shell");
            child.id().to_string()
        }
        "relisten" => {
            for _ in 0..argument.parse().expect("a number") {
                worker.listen("127.0.0.2:0").expect("listen").close();
            }
            String::new()
        }
        _ => format!("unknown path {path}"),
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    let digits = digits.map(|pair| std::str::from_utf8(pair).expect("hexadecimal digits"));
    digits
        .map(|pair| u8::from_str_radix(pair, 16).expect("hexadecimal digits"))
        .collect()
}
