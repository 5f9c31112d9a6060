//! Workers that are hard to get rid of: what they do is decided before anybody wants them to leave.

use std::process::ExitCode;

use nix::sys::signal::{SigSet, Signal, raise};
use worker_proto::{Event, Worker};

/// `obeys`, `ignores` (SIGTERM), `spins` or `stops`; with `retire` before it, it says by itself that it
/// has to be replaced.
pub(crate) fn live(args: &[&str]) -> ExitCode {
    let (retires, how) = match args {
        ["retire", how] => (true, *how),
        [how] => (false, *how),
        _ => panic!("how stubborn?"),
    };
    if how == "ignores" {
        // Before any other thread, so that all of them have it blocked.
        let term = SigSet::from_iter([Signal::SIGTERM]);
        term.thread_block().expect("block SIGTERM");
    }
    let worker = Worker::connect().expect("connect");
    worker.ready().expect("ready");
    let events = worker.events();
    let ready = events.iter().find(|it| *it == Event::ClusterReady);
    ready.expect("the cluster to be ready");
    if retires {
        worker.retire("asked to");
    }
    match how {
        "obeys" => {
            let drain = events.iter().find(|it| matches!(it, Event::Drain { .. }));
            drain.expect("to be told to drain");
            worker.leave()
        }
        "ignores" => super::forever(),
        "spins" => loop {
            std::hint::spin_loop();
        },
        "stops" => {
            raise(Signal::SIGSTOP).expect("stop");
            super::forever()
        }
        _ => panic!("{how}?"),
    }
}
