//! Leaving: panics, hooks, work that is waited for, and SIGTERM. What concerns the whole process, as
//! a panic hook does, runs in a process of its own.

mod common;

use std::panic;
use std::process::{Child, ExitCode};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use common::{as_role, reexec, role, start};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;
use worker_proto::frame::{FromMaster, ToMaster, Welcome};
use worker_proto::ids::Role;
use worker_proto::scm::Wait;
use worker_proto::socket::{Inbox, MasterChannel};
use worker_proto::{Event, FakeMaster, OnPanic, Server, Worker};

#[test]
fn a_worker_that_panics_retires_before_it_unwinds() {
    const NAME: &str = "a_worker_that_panics_retires_before_it_unwinds";
    if role().is_none() {
        return reexec(NAME, "worker");
    }
    let (tell, told) = channel();
    panic::set_hook(Box::new(move |panic| {
        tell.send(panic.location().unwrap().to_string()).unwrap();
    }));
    let (master, worker) = FakeMaster::new();
    worker.catch_panics();
    worker.catch_panics();
    panics("the first lamp\nis out");
    let places: Vec<String> = told.try_iter().collect();
    let [place] = &places[..] else {
        panic!("the hook before, once: {places:?}");
    };
    assert!(place.contains("leaving.rs:"), "{place}");
    let reason = format!("panicked at {place}: the first lamp\nis out");
    assert_eq!(master.next_frame(), ToMaster::Retiring { reason });
    assert!(worker.draining().is_draining());

    panics("the second lamp is out");
    let ToMaster::Report { problem } = master.next_frame() else {
        panic!("it retires once");
    };
    assert!(problem.ends_with(": the second lamp is out"), "{problem}");

    // Nobody is left to be told, and nothing hangs.
    assert_eq!(worker.leave(), ExitCode::SUCCESS);
    panics("the third lamp is out");
    assert_eq!(master.next_frame(), ToMaster::Goodbye);
}

/// E32
#[test]
fn an_agent_that_panics_reports_and_goes_on() {
    const NAME: &str = "an_agent_that_panics_reports_and_goes_on";
    if role().is_none() {
        return reexec(NAME, "agent");
    }
    let (master, agent) = FakeMaster::with(Welcome {
        role: Role::Agent,
        ..FakeMaster::welcome()
    });
    agent.catch_panics();
    panics("a lamp is out");
    assert!(matches!(master.next_frame(), ToMaster::Report { .. }));
    assert!(!agent.draining().is_draining());
}

/// F12, G08
#[test]
fn a_panic_is_what_the_program_takes_it_for() {
    const NAME: &str = "a_panic_is_what_the_program_takes_it_for";
    if role().is_none() {
        return reexec(NAME, "worker");
    }
    let (master, worker) = FakeMaster::new();
    worker.catch_panics_with(
        |panic| match panic.payload().downcast_ref::<&str>().copied() {
            Some("nothing") => OnPanic::Ignore,
            Some("little") => OnPanic::Report,
            _ => OnPanic::Retire,
        },
    );
    panics("nothing");
    panics("little");
    assert!(matches!(master.next_frame(), ToMaster::Report { .. }));
    assert!(!worker.draining().is_draining());
    _ = thread::spawn(|| panic::panic_any(42)).join();
    let ToMaster::Retiring { reason } = master.next_frame() else {
        panic!("it retires");
    };
    assert!(reason.ends_with("without a message"), "{reason}");
}

/// The hook that was there before may well end the process.
#[test]
fn what_is_said_before_an_abort_is_heard() {
    const NAME: &str = "what_is_said_before_an_abort_is_heard";
    if role().is_some() {
        panic::set_hook(Box::new(|_| std::process::abort()));
        let worker = Worker::connect().unwrap();
        worker.catch_panics();
        panic!("a lamp is out");
    }
    let (master, mut child) = start(as_role(NAME, "worker"), FakeMaster::welcome());
    assert!(matches!(next(&master), ToMaster::Retiring { .. }));
    assert_eq!(child.wait().unwrap().code(), None);
}

/// Its panic is told once, as what it is.
#[test]
fn a_last_hook_that_panics_is_told_of_once() {
    const NAME: &str = "a_last_hook_that_panics_is_told_of_once";
    if role().is_none() {
        return reexec(NAME, "worker");
    }
    let (master, worker) = FakeMaster::new();
    worker.catch_panics();
    // To write a backtrace may take long.
    worker.on_stop_within(PATIENCE, || panic!("a lamp is out"));
    assert_eq!(worker.leave(), ExitCode::SUCCESS);
    let problem = "the hook for stopping panicked: a lamp is out".to_owned();
    assert_eq!(master.next_frame(), ToMaster::Report { problem });
    assert_eq!(master.next_frame(), ToMaster::Goodbye);
}

/// F18: plain, failing, panicking, timing out; the code is the same and the failure is told.
#[test]
fn the_last_hooks_run_in_order_before_goodbye_whatever_they_do() {
    let (master, worker) = FakeMaster::new();
    let (tell, told) = channel();
    let (hold, held) = channel::<()>();
    let says = |word: &'static str| {
        let tell = tell.clone();
        move || tell.send(word).unwrap()
    };
    let (first, second, third, last) = (says("1"), says("2"), says("3"), says("4"));
    worker.on_stop(move || {
        first();
        Ok(())
    });
    worker.on_stop(move || {
        second();
        Err("no such file".into())
    });
    worker.on_stop_within(PATIENCE, move || {
        third();
        panic!("oh no")
    });
    worker.on_stop_within(Duration::from_millis(10), move || Ok(held.recv()?));
    worker.on_stop(move || {
        last();
        Ok(())
    });
    assert_eq!(worker.leave(), ExitCode::SUCCESS);
    assert_eq!(told.try_iter().collect::<String>(), "1234");
    for what in [
        "failed: no such file",
        "panicked: oh no",
        "has not ended within 10ms",
    ] {
        let problem = format!("the hook for stopping {what}");
        assert_eq!(master.next_frame(), ToMaster::Report { problem });
    }
    assert_eq!(master.next_frame(), ToMaster::Goodbye);
    drop(hold);
}

#[test]
fn the_hook_for_draining_does_not_keep_the_master_waiting() {
    let (master, worker) = FakeMaster::new();
    let (hold, held) = channel::<()>();
    let (tell, told) = channel();
    worker
        .on_drain(move || {
            tell.send("begun")?;
            held.recv()?;
            Err("the list is closed".into())
        })
        .unwrap();
    assert!(told.try_recv().is_err());
    master.drain(PATIENCE);
    assert_eq!(told.recv_timeout(PATIENCE), Ok("begun"));
    master.send(FromMaster::Ping { token: 7 });
    assert_eq!(master.next_frame(), ToMaster::Pong { token: 7 });
    hold.send(()).unwrap();
    // Who leaves waits for it.
    assert_eq!(worker.leave(), ExitCode::SUCCESS);
    let problem = "the hook for draining failed: the list is closed".to_owned();
    assert_eq!(master.next_frame(), ToMaster::Report { problem });
    assert_eq!(master.next_frame(), ToMaster::Goodbye);
}

#[test]
fn a_hook_for_draining_that_comes_late_runs_at_once() {
    let (_master, worker) = FakeMaster::new();
    worker.retire("ill");
    let (tell, told) = channel();
    worker.on_drain(move || Ok(tell.send(())?)).unwrap();
    assert_eq!(told.recv_timeout(PATIENCE), Ok(()));
}

/// N87
#[test]
fn work_that_is_no_connection_is_waited_for() {
    let (master, worker) = FakeMaster::new();
    let (work, draining) = (worker.begin_work(), worker.draining());
    let (hold, held) = channel::<()>();
    master.drain(PATIENCE);
    assert!(draining.wait(PATIENCE));
    thread::scope(|scope| {
        scope.spawn(move || {
            _ = held.recv();
            drop(work);
        });
        let leaving = scope.spawn(|| worker.leave());
        master.send(FromMaster::Ping { token: 7 });
        assert_eq!(master.next_frame(), ToMaster::Pong { token: 7 });
        assert!(!leaving.is_finished(), "it waits for the work");
        drop(hold);
        assert_eq!(leaving.join().unwrap(), ExitCode::SUCCESS);
    });
    assert_eq!(master.next_frame(), ToMaster::Goodbye);
}

/// F16: and the one that comes while the last hook runs changes nothing.
#[test]
fn sigterm_asks_to_finish_and_the_last_hook_is_not_disturbed() {
    const NAME: &str = "sigterm_asks_to_finish_and_the_last_hook_is_not_disturbed";
    if role().is_some() {
        let worker = Worker::connect().unwrap();
        worker.handle_termination().unwrap();
        let alarm = worker.alarm();
        worker.on_stop_within(PATIENCE, move || {
            alarm.report("the last hook");
            // Taken, and not by us.
            kill(Pid::this(), Signal::SIGTERM)?;
            await_that(|| sigterms_pending() == 0);
            Ok(())
        });
        worker.ready().unwrap();
        assert!(worker.draining().wait(PATIENCE));
        _ = worker.leave();
        return;
    }
    let (master, mut child) = start_as_first_thread(NAME, "worker");
    assert_eq!(next(&master), ToMaster::Ready);
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
    let reason = "SIGTERM".to_owned();
    assert_eq!(next(&master), ToMaster::Retiring { reason });
    let problem = "the last hook".to_owned();
    assert_eq!(next(&master), ToMaster::Report { problem });
    assert_eq!(next(&master), ToMaster::Goodbye);
    master
        .send(&FromMaster::Farewell, &[], Wait::Never)
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn sigterm_ends_who_is_not_ready_or_was_asked_before() {
    use std::os::unix::process::ExitStatusExt;

    const NAME: &str = "sigterm_ends_who_is_not_ready_or_was_asked_before";
    if let Some(role) = role() {
        let worker = Worker::connect().unwrap();
        worker.handle_termination().unwrap();
        if role == "ready" {
            worker.ready().unwrap();
        }
        worker.report("here");
        loop {
            thread::park();
        }
    }
    for role in ["not ready", "ready"] {
        let (master, mut child) = start_as_first_thread(NAME, role);
        let pid = Pid::from_raw(child.id().cast_signed());
        let here = ToMaster::Report {
            problem: "here".to_owned(),
        };
        while next(&master) != here {}
        kill(pid, Signal::SIGTERM).unwrap();
        if role == "ready" {
            assert!(matches!(next(&master), ToMaster::Retiring { .. }));
            // It has begun to drain when it answers this.
            master
                .send(&FromMaster::Drain { within: PATIENCE }, &[], Wait::Never)
                .unwrap();
            master
                .send(&FromMaster::Ping { token: 1 }, &[], Wait::Never)
                .unwrap();
            assert_eq!(next(&master), ToMaster::Pong { token: 1 });
            kill(pid, Signal::SIGTERM).unwrap();
        }
        let status = child.wait().unwrap();
        assert_eq!(status.signal(), Some(Signal::SIGTERM as i32), "{role}");
    }
}

/// Its listeners end, and so does its `main`.
#[test]
fn sigterm_asks_a_program_without_a_master_to_finish() {
    const NAME: &str = "sigterm_asks_a_program_without_a_master_to_finish";
    if role().is_none() {
        let output = with_sigterm_blocked(|| as_role(NAME, "alone").output().unwrap());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}\n{said}", output.status);
        return;
    }
    let worker = Worker::connect().unwrap();
    worker.handle_termination().unwrap();
    let listener = worker.listen("127.0.0.1:0").unwrap();
    worker.ready().unwrap();
    let served = thread::scope(|scope| {
        let server = scope.spawn(|| Server::new().serve([listener], |_| {}));
        kill(Pid::this(), Signal::SIGTERM).unwrap();
        server.join().unwrap().unwrap()
    });
    assert_eq!(served.connections, 0);
    let drain = |event| matches!(event, Event::Drain { .. });
    assert!(worker.events().iter().any(drain));
    assert_eq!(worker.leave(), ExitCode::SUCCESS);
}

#[test]
fn sigterm_is_left_alone_if_another_thread_would_die_of_it() {
    const NAME: &str = "sigterm_is_left_alone_if_another_thread_would_die_of_it";
    if role().is_none() {
        return reexec(NAME, "worker");
    }
    let (_master, worker) = FakeMaster::new();
    let err = worker.handle_termination().unwrap_err().to_string();
    assert!(err.contains("before they are started"), "{err}");
}

/// Panics here, and survives it.
fn panics(message: &'static str) {
    assert!(panic::catch_unwind(|| panic::panic_any(message)).is_err());
}

/// The threads of the test harness, which are there before the worker, inherit the mask.
fn start_as_first_thread(name: &str, role: &str) -> (MasterChannel, Child) {
    with_sigterm_blocked(|| start(as_role(name, role), FakeMaster::welcome()))
}

fn with_sigterm_blocked<T>(start: impl FnOnce() -> T) -> T {
    let terminate = SigSet::from_iter([Signal::SIGTERM]);
    terminate.thread_block().unwrap();
    let started = start();
    terminate.thread_unblock().unwrap();
    started
}

fn sigterms_pending() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("ShdPnd:"));
    u64::from_str_radix(line.unwrap().trim(), 16).unwrap() & (1 << (Signal::SIGTERM as i32 - 1))
}

fn await_that(condition: impl Fn() -> bool) {
    let (_hold, never): (_, Receiver<()>) = channel();
    for _ in 0..5_000 {
        if condition() {
            return;
        }
        _ = never.recv_timeout(Duration::from_millis(1));
    }
    panic!("not within 5 s");
}

fn next(master: &MasterChannel) -> ToMaster {
    master
        .receive(&mut Inbox::new(), Wait::AsSet)
        .unwrap()
        .frame
}

const PATIENCE: Duration = Duration::from_secs(5);
