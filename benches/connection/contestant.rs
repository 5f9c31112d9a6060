//! Those that are compared, each started once and ended with its value.

use std::net::SocketAddr;
use std::process::Command;

use tempfile::TempDir;

use super::common::listening::Listening;
use super::common::{Cluster, example, rr_master};

/// A server, ready.
pub(crate) struct Contestant {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    _running: Running,
}

#[expect(dead_code, reason = "held, and ended when dropped")]
enum Running {
    Alone(Listening),
    Cluster(Cluster),
    Behind {
        proxy: Listening,
        backends: Vec<Listening>,
        sockets: TempDir,
    },
}

/// Each that this machine's `rr-master` has.
pub(crate) fn all() -> Vec<Contestant> {
    let mut all = vec![floor()];
    for (name, flags) in MODES {
        if flags.iter().all(|flag| has(flag)) {
            all.push(cluster(name, flags));
        } else {
            eprintln!("left out, for rr-master does not know {flags:?}: {name}");
        }
    }
    all.push(proxy());
    all
}

fn floor() -> Contestant {
    let server = Listening::start("bench_server", ["127.0.0.1:0"]);
    Contestant {
        name: "floor: one process",
        address: server.address.parse().expect("its address"),
        _running: Running::Alone(server),
    }
}

fn cluster(name: &'static str, flags: &[&str]) -> Contestant {
    let server = example("bench_server");
    let workers = WORKERS.to_string();
    let mut args = vec!["-w", &workers, "-l", "127.0.0.1:0"];
    args.extend(flags);
    args.extend(["--", server.to_str().expect("a path in UTF-8")]);
    let mut cluster = Cluster::start(args);
    let address = cluster.address();
    cluster.await_ready();
    Contestant {
        name,
        address,
        _running: Running::Cluster(cluster),
    }
}

fn proxy() -> Contestant {
    let sockets = TempDir::new().expect("a directory");
    let names = (0..WORKERS).map(|slot| sockets.path().join(slot.to_string()));
    let names = names.map(|path| format!("unix:{}", path.display()));
    let start = |name| Listening::start("bench_server", [name]);
    let backends: Vec<_> = names.map(start).collect();
    let names = backends.iter().map(|it| it.address.as_str());
    let proxy = Listening::start("splice_proxy", ["127.0.0.1:0"].into_iter().chain(names));
    Contestant {
        name: "proxy, spliced",
        address: proxy.address.parse().expect("its address"),
        _running: Running::Behind {
            proxy,
            backends,
            sockets,
        },
    }
}

/// Whether `rr-master` knows this flag, or this is none.
fn has(flag: &str) -> bool {
    let help = Command::new(rr_master()).arg("--help").output();
    let help = String::from_utf8(help.expect("run rr-master").stdout).expect("text");
    !flag.starts_with('-') || help.contains(flag)
}

const WORKERS: usize = 4;

const MODES: [(&str, &[&str]); 6] = [
    ("hand-off", &[]),
    ("hand-off, deferred", &["--defer-accept"]),
    ("shared", &["--dispatch", "shared"]),
    (
        "shared, deferred",
        &["--dispatch", "shared", "--defer-accept"],
    ),
    (
        "shared, all wake",
        &["--dispatch", "shared", "--exclusive", "no"],
    ),
    ("reuseport", &["--dispatch", "reuseport"]),
];
