//! What only a process of its own can show: inheriting the channel, losing the master, limits.

mod common;

use std::env;
use std::fs::File;
use std::io::{self, Read, Write};
use std::iter;
use std::os::fd::AsFd;
use std::process::ExitStatus;
use std::thread;
use std::time::Duration;

use common::{as_role, limit_with_room_for, open_descriptors, reexec, role, start};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use worker_proto::address::Address;
use worker_proto::env::CONTROL_FD;
use worker_proto::frame::{DispatchMode, FromMaster, Limits, Listening, ToMaster, Welcome};
use worker_proto::ids::{ListenerId, Role};
use worker_proto::scm::Wait;
use worker_proto::socket::{self, Inbox, QueueReceiver, QueueSender};
use worker_proto::{FakeMaster, Listener, Server, Worker};

#[test]
fn a_worker_without_its_master_is_gone_after_the_grace() {
    const NAME: &str = "a_worker_without_its_master_is_gone_after_the_grace";
    if role().is_some() {
        return hang();
    }
    assert_eq!(orphaned(NAME, Role::Worker).code(), Some(0));
}

#[test]
fn an_agent_without_its_master_is_gone_with_its_own_code() {
    const NAME: &str = "an_agent_without_its_master_is_gone_with_its_own_code";
    if role().is_some() {
        return hang();
    }
    assert_eq!(orphaned(NAME, Role::Agent).code(), Some(110));
}

#[test]
fn with_other_threads_running_the_variables_stay() {
    const NAME: &str = "with_other_threads_running_the_variables_stay";
    if role().is_none() {
        let (_master, mut child) = start(as_role(NAME, "worker"), FakeMaster::welcome());
        assert!(child.wait().unwrap().success());
        return;
    }
    thread::scope(|scope| {
        let (stop, stopped) = crossbeam_channel::bounded::<()>(0);
        scope.spawn(move || stopped.recv());
        let worker = Worker::connect().unwrap();
        assert!(!worker.is_alone());
        // Another thread may be reading them: see the safety of `std::env::remove_var`.
        assert!(env::var_os(CONTROL_FD).is_some());
        drop(stop);
    });
}

/// A forked child has copies of the worker, of its lock and of its channel. Whatever it does with
/// them, it must not part its parent from the master.
#[test]
fn a_forked_child_does_not_speak_for_its_parent() {
    const NAME: &str = "a_forked_child_does_not_speak_for_its_parent";
    if role().is_none() {
        let (master, mut child) = start(as_role(NAME, "forks"), FakeMaster::welcome());
        let mut inbox = Inbox::new();
        let frame = master.receive(&mut inbox, Wait::AsSet).unwrap().frame;
        assert_eq!(frame, ToMaster::Ready, "the first word after Hello");
        drop(master);
        assert!(child.wait().unwrap().success());
        return;
    }
    let worker = Worker::connect().unwrap();
    // SAFETY: the child touches only what belongs to the forking thread, then ends.
    #[allow(unsafe_code, reason = "there is no safe fork")]
    match unsafe { nix::unistd::fork() }.unwrap() {
        nix::unistd::ForkResult::Child => {
            _ = worker.leave();
            // SAFETY: _exit(2) only ends the process.
            unsafe { nix::libc::_exit(0) }
        }
        nix::unistd::ForkResult::Parent { child } => {
            nix::sys::wait::waitpid(child, None).unwrap();
            worker.ready().unwrap();
        }
    }
}

/// The page is shared with a forked child, and each counts what it received itself.
#[test]
fn a_forked_child_counts_what_it_received_itself() {
    const NAME: &str = "a_forked_child_counts_what_it_received_itself";
    if role().is_none() {
        return reexec(NAME, "forks");
    }
    let (master, worker) = FakeMaster::new();
    let listener = worker.listen(WEB).unwrap();
    let _client = master.connect(WEB);
    let parents = listener.accept().unwrap().unwrap();
    let _client = master.connect(WEB);
    master.ask_for_relief();
    // SAFETY: the child touches only what belongs to the forking thread, then ends.
    #[allow(unsafe_code, reason = "there is no safe fork")]
    match unsafe { nix::unistd::fork() }.unwrap() {
        nix::unistd::ForkResult::Child => {
            drop(parents);
            drop(listener.accept());
            // SAFETY: _exit(2) only ends the process.
            unsafe { nix::libc::_exit(0) }
        }
        nix::unistd::ForkResult::Parent { child } => {
            nix::sys::wait::waitpid(child, None).unwrap();
        }
    }
    let score = master.score().unwrap();
    assert_eq!((score.received, score.finished), (2, 1));
    // The master listens to the parent only, so the next one that it finishes is told.
    drop(parents);
    assert_eq!(master.score().unwrap().finished, 2);
    assert!(matches!(master.next_frame(), ToMaster::Listen(_)));
    assert_eq!(master.next_frame(), ToMaster::Relieved);
}

#[test]
fn a_bad_inheritance_is_an_error_that_names_it() {
    const NAME: &str = "a_bad_inheritance_is_an_error_that_names_it";
    const EXPECTED: &str = "EXPECTED";
    if role().is_some() {
        let err = Worker::connect().unwrap_err().to_string();
        return assert_eq!(err, env::var(EXPECTED).unwrap());
    }
    for (value, problem) in [
        ("", "is not the number of a descriptor"),
        ("control", "is not the number of a descriptor"),
        ("-1", "is not the number of a descriptor"),
        (
            "999",
            "names a descriptor that is not open: something between the master and this program closed it, as sudo does",
        ),
        (
            "1",
            "names a descriptor that is not a master's control channel",
        ),
    ] {
        let expected = format!(
            "RR_CONTROL_FD={value:?} {problem}; unset RR_CONTROL_FD to run without a master"
        );
        let output = as_role(NAME, "bad")
            .env(CONTROL_FD, value)
            .env(EXPECTED, expected)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{value:?}: {said}");
    }
}

#[test]
fn without_the_variable_a_program_is_on_its_own() {
    const NAME: &str = "without_the_variable_a_program_is_on_its_own";
    if role().is_none() {
        let alone = as_role(NAME, "alone").env_remove(CONTROL_FD).status();
        assert!(alone.unwrap().success());
        return;
    }
    assert!(Worker::connect().unwrap().is_alone());
    // Nothing was taken, so there may be another.
    assert!(Worker::connect().unwrap().is_alone());
}

#[test]
fn a_listener_at_the_descriptor_limit_says_so_and_recovers() {
    const NAME: &str = "a_listener_at_the_descriptor_limit_says_so_and_recovers";
    if role().is_none() {
        return reexec(NAME, "limit");
    }
    let (master, worker) = FakeMaster::new();
    let listener = worker.listen(WEB).unwrap();
    let mut clients = [(); 2].map(|()| master.connect(WEB));
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let before = open_descriptors();
    setrlimit(Resource::RLIMIT_NOFILE, limit_with_room_for(0), hard).unwrap();
    for _ in 0..2 {
        let err = listener.accept().unwrap_err();
        assert_eq!(err.raw_os_error(), Some(nix::libc::EMFILE));
    }
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    assert_eq!(open_descriptors(), before, "nothing leaks");
    let [lost, waiting] = &mut clients;
    // Closed, with an end that the client sees.
    assert_eq!(lost.read(&mut [0]).unwrap(), 0);
    let mut connection = listener.accept().unwrap().expect("left where it was");
    connection.write_all(b"x").unwrap();
    waiting.read_exact(&mut [0]).unwrap();
}

/// The master takes back what is left in the queue, and gives it again when there may be room.
#[test]
fn a_packet_that_finds_no_room_is_left_whole_and_reported_once() {
    const NAME: &str = "a_packet_that_finds_no_room_is_left_whole_and_reported_once";
    if role().is_none() {
        return reexec(NAME, "limit");
    }
    let (master, worker) = FakeMaster::new();
    let listener = near_the_limit(&worker);
    assert!(matches!(master.next_frame(), ToMaster::Listen(_)));
    let mut clients = [(); 2].map(|()| master.connect(WEB));
    for token in 0..2 {
        let full = all_descriptors();
        for _ in 0..3 {
            let err = listener.accept().unwrap_err();
            assert_eq!(err.raw_os_error(), Some(nix::libc::EMFILE));
        }
        drop(full);
        // One report, and none between it and the answer to this.
        master.send(FromMaster::Ping { token });
        let listener = ListenerId(0);
        assert_eq!(master.next_frame(), ToMaster::NoRoom { listener });
        assert_eq!(master.next_frame(), ToMaster::Pong { token });
        let reclaimed = master.reclaim(WEB);
        assert_eq!(reclaimed.len(), 2, "whole");
        for connection in reclaimed {
            master.hand_off(WEB, vec![connection]).unwrap();
        }
    }
    for client in &mut clients {
        let mut connection = listener.accept().unwrap().unwrap();
        connection.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
    }
    let score = master.score().unwrap();
    assert_eq!((score.received, score.finished), (2, 2));
}

#[test]
fn a_server_whose_queue_was_reclaimed_waits_for_the_next_connection() {
    const NAME: &str = "a_server_whose_queue_was_reclaimed_waits_for_the_next_connection";
    if role().is_none() {
        return reexec(NAME, "limit");
    }
    let (master, worker) = FakeMaster::new();
    let listener = near_the_limit(&worker);
    assert!(matches!(master.next_frame(), ToMaster::Listen(_)));
    let mut client = master.connect(WEB);
    let full = all_descriptors();
    thread::scope(|scope| {
        let server = scope.spawn(|| {
            Server::new().serve([listener], |mut connection| {
                connection.write_all(b"served").unwrap();
            })
        });
        let listener = ListenerId(0);
        assert_eq!(master.next_frame(), ToMaster::NoRoom { listener });
        drop(full);
        // Either the server was quicker, or it finds the queue empty and waits.
        for connection in master.reclaim(WEB) {
            master.hand_off(WEB, vec![connection]).unwrap();
        }
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "served");
        master.drain(PATIENCE);
        assert_eq!(server.join().unwrap().unwrap().connections, 1);
    });
}

#[test]
fn an_answer_whose_descriptor_is_lost_fails_the_question_and_not_the_worker() {
    const NAME: &str = "an_answer_whose_descriptor_is_lost_fails_the_question_and_not_the_worker";
    if role().is_none() {
        let (master, mut child) = start(as_role(NAME, "limit"), FakeMaster::welcome());
        let mut inbox = Inbox::new();
        for _ in 0..2 {
            let question = master.receive(&mut inbox, Wait::AsSet).unwrap().frame;
            let ToMaster::Listen(listen) = question else {
                panic!("{question:?}");
            };
            let answer = FromMaster::Listening(Listening {
                request: listen.request,
                listener: ListenerId(listen.request.0),
                name: listen.target,
                address: Address::Unnamed,
                mode: DispatchMode::HandOff,
            });
            let (_sender, queue): (QueueSender, QueueReceiver) = socket::pair().unwrap();
            let sent = master.send(&answer, &[queue.as_fd()], Wait::Never);
            sent.unwrap();
        }
        return assert!(child.wait().unwrap().success());
    }
    let worker = Worker::connect().unwrap();
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, limit_with_room_for(0), hard).unwrap();
    let err = io::Error::from(worker.listen("web").unwrap_err());
    assert_eq!(err.raw_os_error(), Some(nix::libc::EMFILE));
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    assert_eq!(worker.listen("web").unwrap().name(), "web");
}

#[test]
fn a_server_at_the_descriptor_limit_goes_on() {
    const NAME: &str = "a_server_at_the_descriptor_limit_goes_on";
    if role().is_none() {
        return reexec(NAME, "limit");
    }
    let (master, worker) = FakeMaster::new();
    let listener = worker.listen(WEB).unwrap();
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let [mut lost, mut waiting] = [(); 2].map(|()| master.connect(WEB));
    setrlimit(Resource::RLIMIT_NOFILE, limit_with_room_for(0), hard).unwrap();
    thread::scope(|scope| {
        let server = scope.spawn(|| {
            Server::new().serve([listener], |mut connection| {
                connection.write_all(b"served").unwrap();
            })
        });
        assert_eq!(lost.read(&mut [0]).unwrap(), 0);
        setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
        let mut answer = String::new();
        waiting.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "served");
        master.drain(PATIENCE);
        assert_eq!(server.join().unwrap().unwrap().connections, 1);
    });
}

/// A listener that looks before it receives.
fn near_the_limit(worker: &Worker) -> Listener {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, limit_with_room_for(32), hard).unwrap();
    worker.listen(WEB).unwrap()
}

/// All that this process may still open.
fn all_descriptors() -> Vec<File> {
    iter::from_fn(|| File::open("/dev/null").ok()).collect()
}

/// A worker that does nothing but hold on: only the SDK can end it in time.
fn hang() {
    let worker = Worker::connect().unwrap();
    worker.ready().unwrap();
    thread::park_timeout(2 * PATIENCE);
    panic!("still here long after the master has gone");
}

/// How a process ends whose master is gone.
fn orphaned(name: &str, role: Role) -> ExitStatus {
    let welcome = Welcome {
        role,
        limits: Limits {
            orphan_grace: Duration::from_millis(100),
            max_message_bytes: 64 << 20,
        },
        ..FakeMaster::welcome()
    };
    let (master, mut child) = start(as_role(name, "worker"), welcome);
    let frame = master.receive(&mut Inbox::new(), Wait::AsSet).unwrap();
    assert_eq!(frame.frame, ToMaster::Ready);
    drop(master);
    child.wait().unwrap()
}

const WEB: &str = "127.0.0.1:8000";
const PATIENCE: Duration = Duration::from_secs(5);
