//! Tests that need a process of their own: the test binary starts itself again with a role.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::env;
use std::fs;
use std::os::fd::AsRawFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use worker_proto::env::CONTROL_FD;
use worker_proto::frame::{FromMaster, ToMaster, Welcome};
use worker_proto::scm::Wait;
use worker_proto::socket::{self, Inbox, MasterChannel, WorkerChannel};

/// The role of this process, if it was started by a test.
pub(crate) fn role() -> Option<String> {
    env::var(ROLE).ok()
}

/// This test binary again, to run the test `name` as `role`, in its main thread.
pub(crate) fn as_role(name: &str, role: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .stdin(Stdio::null());
    command
}

/// Runs the test `name` as `role` in a process of its own; it must pass.
pub(crate) fn reexec(name: &str, role: &str) {
    let output = as_role(name, role).output().unwrap();
    assert!(
        output.status.success(),
        "{name} as {role}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The numbers of the open descriptors, in order.
pub(crate) fn open_descriptors() -> Vec<i32> {
    let listing = fs::read_dir("/proc/self/fd").unwrap();
    let mut numbers: Vec<i32> = listing
        .map(|entry| {
            entry
                .unwrap()
                .file_name()
                .to_str()
                .unwrap()
                .parse()
                .unwrap()
        })
        .collect();
    numbers.sort_unstable();
    // The one that listed them is closed by now; it was the lowest free one.
    numbers.retain(|number| fs::read_link(format!("/proc/self/fd/{number}")).is_ok());
    numbers
}

/// The `RLIMIT_NOFILE` with which `count` more descriptors may be opened.
pub(crate) fn limit_with_room_for(count: usize) -> u64 {
    let open = open_descriptors();
    let mut free =
        (0_u64..).filter(|number| !open.iter().any(|fd| u64::try_from(*fd) == Ok(*number)));
    free.nth(count).unwrap()
}

/// Starts a worker and welcomes it: the master's end of its control channel.
pub(crate) fn start(mut command: Command, welcome: Welcome) -> (MasterChannel, Child) {
    let (master, worker): (MasterChannel, WorkerChannel) = socket::pair().unwrap();
    command.env(CONTROL_FD, worker.as_raw_fd().to_string());
    let child = {
        // Nobody else may fork while the worker's end can be inherited.
        static FORK: Mutex<()> = Mutex::new(());
        let _alone = FORK.lock().unwrap_or_else(PoisonError::into_inner);
        fcntl(&worker, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        let child = command.spawn().unwrap();
        drop(worker);
        child
    };
    let mut inbox = Inbox::new();
    let hello = master.receive(&mut inbox, Wait::AsSet).unwrap().frame;
    let ToMaster::Hello(hello) = hello else {
        panic!("{hello:?}");
    };
    assert_eq!(hello.pid, child.id());
    let welcome = FromMaster::Welcome(welcome);
    master.send(&welcome, &[], Wait::Never).unwrap();
    (master, child)
}

pub(crate) const ROLE: &str = "WORKER_PROTO_TEST_ROLE";
