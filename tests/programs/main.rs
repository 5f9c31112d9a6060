//! Unmodified programs in four processes on one port, with the very commands of
//! `docs/any-program.md`.
//!
//! One cluster per program goes through everything: strict rotation over 400 connections, no failed
//! request of thousands, no descriptor leaked, a reload under load, a SIGKILL, a stop. A program that
//! is not installed fails its test.

#[path = "../common/mod.rs"]
mod common;
mod page;
mod site;
mod visitor;
mod websocket;

use std::collections::BTreeSet;
use std::io::{BufReader, Write};

use common::client::{connect, read_response};
use common::operator;
use site::Site;
use visitor::Visitor;
use websocket::WebSocket;

/// A program of the page.
pub(crate) struct Program {
    /// What its command is called there.
    name: &'static str,
    /// The commands without which it cannot be run.
    needs: &'static [&'static str],
    /// The port that the page and the example's files have.
    port: &'static str,
    /// What it says of where it listens, with that port.
    announces: &'static str,
    visitor: Visitor,
}

/// A server that says what the kernel told it, as our own sources do.
const SERVER: Program = Program {
    name: "",
    needs: &[],
    port: "8000",
    announces: "listening on 127.0.0.1:8000",
    visitor: Visitor::Http,
};

/// A test for each program, and their names.
macro_rules! programs {
    ($($name:ident: $program:expr,)*) => {
        $(
            #[test]
            fn $name() {
                const { assert!($program.name.is_empty()) };
                static PROGRAM: Program = Program { name: stringify!($name), ..$program };
                Site::start(&PROGRAM).keeps_its_promises();
            }
        )*

        const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}

programs! {
    node: Program { needs: &["node"], ..SERVER },
    express: Program { needs: &["node"], ..SERVER },
    python: Program { needs: &["python3"], ..SERVER },
    gunicorn: Program {
        needs: &["gunicorn"],
        announces: "Listening at: http://127.0.0.1:8000",
        ..SERVER
    },
    gunicorn_with_threads: Program {
        needs: &["gunicorn"],
        announces: "Listening at: http://127.0.0.1:8000",
        ..SERVER
    },
    uvicorn: Program {
        needs: &["uvicorn"],
        announces: "Uvicorn running on http://127.0.0.1:8000",
        ..SERVER
    },
    flask: Program {
        needs: &["flask"],
        announces: "Running on http://127.0.0.1:8000",
        ..SERVER
    },
    nginx: Program {
        needs: &["nginx"],
        announces: "using the \"epoll\" event method",
        ..SERVER
    },
    nginx_with_master: Program {
        needs: &["nginx"],
        announces: "using the \"epoll\" event method",
        ..SERVER
    },
    php: Program {
        needs: &["php"],
        announces: "(http://127.0.0.1:8000) started",
        ..SERVER
    },
    java: Program { needs: &["java", "javac"], ..SERVER },
    webrick: Program { needs: &["ruby"], ..SERVER },
    puma: Program {
        needs: &["puma"],
        announces: "Listening on http://127.0.0.1:8000",
        ..SERVER
    },
    redis: Program {
        needs: &["redis-server", "redis-benchmark"],
        port: "6379",
        announces: "Ready to accept connections",
        visitor: Visitor::Redis,
        ..SERVER
    },
    axum: SERVER,
}

#[test]
fn every_command_of_the_page_is_run() {
    let commands = page::commands();
    let told: BTreeSet<_> = commands.keys().copied().collect();
    let run: BTreeSet<_> = NAMES.iter().copied().collect();
    assert_eq!(told, run);
    for command in commands.values() {
        let last = command.lines().last().unwrap();
        let is_as_told = last.starts_with("rr-master --workers 4 --preload ");
        assert!(is_as_told, "{command}");
    }
}

/// One connection is one process's, however many requests come on it.
#[test]
fn requests_on_a_connection_that_is_kept_are_answered_by_one_process() {
    let site = Site::start(&NODE);
    let connections = 2 * site::WORKERS;
    let mut answered = BTreeSet::new();
    for _ in 0..connections {
        let mut stream = BufReader::new(connect(site.address).unwrap());
        let pids: BTreeSet<_> = (0..5)
            .map(|_| {
                let request = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n";
                stream.get_mut().write_all(request).unwrap();
                read_response(&mut stream).unwrap().body
            })
            .collect();
        assert_eq!(pids.len(), 1, "{pids:?}");
        answered.extend(pids);
    }
    assert_eq!(answered.len(), site::WORKERS);
    site.stops();
}

/// Who is in the middle of something is waited for: the old process serves what it has.
#[test]
fn a_websocket_goes_on_through_a_reload() {
    let site = Site::start(&NODE);
    let before = site.workers();
    let mut socket = WebSocket::connect(site.address);
    assert_eq!(socket.echo("before"), "before");
    operator::done(&site.control, &["reload"]);
    common::await_condition("its process has to leave", || {
        let status = operator::status(&site.control);
        let mut workers = status["workers"].as_array().expect("workers").iter();
        workers.any(|it| it["state"] == "leaving" && it["load"]["active"] == 1)
    });
    assert_eq!(socket.echo("meanwhile"), "meanwhile");
    drop(socket);
    common::await_condition("all renewed", || {
        let now = site.workers();
        now.len() == site::WORKERS && now.keys().all(|it| !before.contains_key(it))
    });
    site.stops();
}

static NODE: Program = Program {
    name: "node",
    needs: &["node"],
    ..SERVER
};
