//! What a worker takes from its master it takes out of the environment: no grandchild inherits it.
//!
//! A test without a harness: only a process with a single thread may change its environment.

mod common;

use std::env;
use std::process::{Command, ExitCode};

use common::{open_descriptors, role, start};
use nix::sys::prctl::{get_pdeathsig, set_pdeathsig};
use nix::sys::signal::Signal;
use worker_proto::env::{ALL, CONTROL_FD, SLOT};
use worker_proto::frame::{FromMaster, ToMaster};
use worker_proto::scm::Wait;
use worker_proto::socket::Inbox;
use worker_proto::{FakeMaster, Worker};

fn main() -> ExitCode {
    if env::args().any(|argument| argument == "--list") {
        // nextest asks.
        if !env::args().any(|argument| argument == "--ignored") {
            println!("a_worker_leaves_nothing_to_its_grandchildren: test");
        }
        return ExitCode::SUCCESS;
    }
    match role() {
        None => master(),
        Some(_) => worker(),
    }
}

fn master() -> ExitCode {
    let mut command = Command::new(env::current_exe().unwrap());
    command.env(common::ROLE, "worker").env(SLOT, "0");
    let (master, mut child) = start(command, FakeMaster::welcome());
    let mut inbox = Inbox::new();
    for expected in [ToMaster::Ready, ToMaster::Goodbye] {
        let frame = master.receive(&mut inbox, Wait::AsSet).unwrap().frame;
        assert_eq!(frame, expected);
    }
    let farewell = FromMaster::Farewell;
    master.send(&farewell, &[], Wait::Never).unwrap();
    assert!(child.wait().unwrap().success());
    ExitCode::SUCCESS
}

fn worker() -> ExitCode {
    let number = env::var(CONTROL_FD).unwrap();
    assert!(open_descriptors().contains(&number.parse().unwrap()));
    // As the master does before exec: from here on its death would be ours, at once.
    set_pdeathsig(Signal::SIGKILL).unwrap();

    let worker = Worker::connect().unwrap();

    // Means nothing, unless the process is stopped when its master dies.
    assert_eq!(get_pdeathsig().unwrap(), Some(Signal::SIGCONT));
    for name in ALL {
        assert_eq!(env::var_os(name), None, "{name} would be inherited");
    }
    let script = format!("env; readlink /proc/self/fd/{number} || true");
    let grandchild = Command::new("sh").args(["-c", &script]).output().unwrap();
    let said = String::from_utf8(grandchild.stdout).unwrap();
    assert!(!said.contains("RR_"), "inherited: {said}");
    assert!(!said.contains("socket:"), "inherited: {said}");
    assert_eq!(
        Worker::connect().unwrap_err().to_string(),
        "this process is connected to its master already: connect once and share the worker"
    );
    worker.ready().unwrap();
    worker.leave()
}
