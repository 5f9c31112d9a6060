//! Every cause to leave against every kind of worker: it is gone in time, whatever it does, and nothing
//! of it is left.
//!
//! The times are those of the ladder (`docs/life.md`): a worker that obeys goes at once, one that has to
//! be told with SIGTERM after the stop timeout, one that has to be killed a second after that.

mod common;

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tempfile::TempDir;

use common::{Cluster, Stopwatch, await_condition, operator, processes, test_worker};

/// P04: why a worker has to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Stop,
    FastStop,
    Reload,
    Scale,
    Drain,
    Restart,
    Age,
    Retirement,
    Kill,
}

/// What it does about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Obeys,
    Ignores,
    Spins,
    Stops,
}

const CAUSES: [Cause; 9] = [
    Cause::Stop,
    Cause::FastStop,
    Cause::Reload,
    Cause::Scale,
    Cause::Drain,
    Cause::Restart,
    Cause::Age,
    Cause::Retirement,
    Cause::Kill,
];

const KINDS: [Kind; 4] = [Kind::Obeys, Kind::Ignores, Kind::Spins, Kind::Stops];

/// `--stop-timeout` in these tests; the kill timeout is a second.
const STOP_TIMEOUT: Duration = Duration::from_millis(400);
const KILL_TIMEOUT: Duration = Duration::from_secs(1);

/// For a machine that is busy.
const SLACK: Duration = Duration::from_secs(4);

macro_rules! table {
    ($($name:ident: $cause:expr,)*) => {
        $(#[test]
        fn $name() {
            thread::scope(|scope| {
                for kind in KINDS {
                    scope.spawn(move || leaves_in_time($cause, kind));
                }
            });
        })*

        #[test]
        fn no_cause_is_missing() {
            assert_eq!([$($cause),*], CAUSES);
        }
    };
}

table! {
    a_stop_ends_every_kind_of_worker_in_time: Cause::Stop,
    a_fast_stop_ends_every_kind_of_worker_in_time: Cause::FastStop,
    a_reload_ends_every_kind_of_worker_in_time: Cause::Reload,
    scaling_down_ends_every_kind_of_worker_in_time: Cause::Scale,
    draining_a_slot_ends_every_kind_of_worker_in_time: Cause::Drain,
    restarting_a_slot_ends_every_kind_of_worker_in_time: Cause::Restart,
    old_age_ends_every_kind_of_worker_in_time: Cause::Age,
    retiring_ends_every_kind_of_worker_in_time: Cause::Retirement,
    killing_ends_every_kind_of_worker_in_time: Cause::Kill,
}

fn leaves_in_time(cause: Cause, kind: Kind) {
    let case = Case::start(cause, kind);
    let victim = case.victim();
    if kind == Kind::Stops && cause != Cause::Retirement {
        await_condition("it has stopped", || {
            processes::status(victim, "State").starts_with('T')
        });
    }
    let watch = case.begin();
    await_condition("it is gone", || is_gone(victim));
    let took = watch.elapsed();
    let (least, most) = expected(cause, kind);
    println!("{cause:?} {kind:?}: {took:.2?}");
    assert!(
        least <= took && took <= most + SLACK,
        "{cause:?} of one that {kind:?}: {took:?}, not {least:?} to {most:?}\n{}",
        case.cluster.log()
    );
    case.end();
}

/// How long it takes from the order to its end.
fn expected(cause: Cause, kind: Kind) -> (Duration, Duration) {
    let drain = match cause {
        Cause::Kill => return (Duration::ZERO, Duration::ZERO),
        Cause::FastStop => Duration::ZERO,
        // It has begun before the watch was started.
        Cause::Retirement => return (Duration::ZERO, STOP_TIMEOUT + KILL_TIMEOUT),
        Cause::Stop | Cause::Reload | Cause::Scale | Cause::Drain | Cause::Restart | Cause::Age => {
            STOP_TIMEOUT
        }
    };
    match kind {
        Kind::Obeys => (Duration::ZERO, drain),
        // SIGTERM ends it; one that is stopped goes on to obey it.
        Kind::Spins | Kind::Stops => (drain, drain),
        Kind::Ignores => (drain + KILL_TIMEOUT, drain + KILL_TIMEOUT),
    }
}

/// A cluster of two of the kind, whose replacements are harmless.
struct Case {
    cause: Cause,
    cluster: Cluster,
    control: PathBuf,
    _directory: TempDir,
}

impl Case {
    fn start(cause: Cause, kind: Kind) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let control = directory.path().join("control.sock");
        let how = format!("{kind:?}").to_lowercase();
        let mut args = vec!["-w", "2", "-l", "127.0.0.1:0", "--control"];
        args.push(control.to_str().unwrap());
        args.extend(["--stop-timeout", "400ms", "--canary", "0s"]);
        if cause == Cause::Age {
            args.extend(["--max-age", "300ms", "--recycle-jitter", "0%"]);
        }
        let worker = test_worker();
        args.extend([worker.to_str().unwrap(), "by-life", "stubborn"]);
        if cause == Cause::Retirement {
            args.push("retire");
        }
        args.extend([&how, "then", "serve"]);
        let mut cluster = Cluster::start(args);
        cluster.await_ready();
        Case {
            cause,
            cluster,
            control,
            _directory: directory,
        }
    }

    /// The one in the highest slot leaves, or both do.
    fn victim(&self) -> Pid {
        self.cluster.worker(1).pid()
    }

    /// Gives the order, or waits for the worker's own.
    fn begin(&self) -> Stopwatch {
        let watch = Stopwatch::start();
        match self.cause {
            Cause::Stop => self.cluster.signal(Signal::SIGTERM),
            Cause::FastStop => self.cluster.signal(Signal::SIGQUIT),
            Cause::Scale => self.order(&["scale", "1"]),
            Cause::Drain => self.order(&["drain", "1"]),
            Cause::Kill => self.order(&["kill", "1"]),
            Cause::Reload => self.order(&["reload"]),
            Cause::Restart => self.order(&["restart", "1"]),
            // Nobody has to say anything.
            Cause::Age | Cause::Retirement => {}
        }
        watch
    }

    fn order(&self, command: &[&str]) {
        operator::done(&self.control, command);
    }

    fn end(self) {
        let master = self.cluster.pid();
        let is_forced = matches!(self.cause, Cause::Stop | Cause::FastStop);
        let ended = match is_forced {
            true => self.cluster.wait(),
            false => self.cluster.stop(),
        };
        assert!(matches!(ended.code(), 0 | 7), "{}", ended.log);
        assert_eq!(processes::of_master(master), [], "{}", ended.log);
        assert!(!Path::new(&self.control).exists());
    }
}

/// Nobody of its group is left, itself included.
fn is_gone(leader: Pid) -> bool {
    kill(leader, None) == Err(Errno::ESRCH) && killpg(leader, None) == Err(Errno::ESRCH)
}
