//! The master as a library: it serves, it tells, it ends, and the process it lives in is as before.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroU64};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rr_master::dispatch::{Reasons, Skipped};
use rr_master::supervisor::WorkerState;
use rr_master::{
    Config, Counters, Ended, ExitCode, Handle, ListenerStatus, Master, Program, QueueCounters,
    QueueStatus, StartError, Stop, StrategyName,
};
use worker_proto::frame::DispatchMode;
use worker_proto::ids::{Generation, Role, Slot, WorkerId};

use common::client::{Server, ask, connect, get};
use common::evidence::client::call;
use common::evidence::verdict::Verdict;
use common::evidence::witness::Testimony;
use common::load::Load;
use common::{DEADLINE, await_condition, example, processes, test_worker};

#[test]
fn the_status_shows_the_workers_and_what_became_of_connections() {
    let _alone = alone();
    let cluster = Embedded::start(config(3));
    let address = cluster.address();
    let servers: Vec<_> = (0..30)
        .map(|_| get(address, "/").unwrap().server())
        .collect();

    let status = cluster.handle.status().unwrap();
    let workers: Vec<_> = status
        .workers
        .iter()
        .map(|view| {
            let pid = view.pid.unwrap().cast_signed();
            let who = (view.worker, view.slot, view.generation, view.role);
            (who, pid, view.state)
        })
        .collect();
    let expected: Vec<_> = servers[..3]
        .iter()
        .map(|server| {
            let (worker, slot) = (WorkerId(server.id), Slot(server.slot));
            let who = (worker, slot, Generation(1), Role::Worker);
            (who, server.pid, WorkerState::Serving)
        })
        .collect();
    assert_eq!(workers, expected);
    let queue = |server: &Server| QueueStatus {
        worker: WorkerId(server.id),
        counters: QueueCounters {
            handed_off: 10,
            ..QueueCounters::default()
        },
        unread: 0,
        weight: NonZeroU32::MIN,
        aside: Reasons::new(),
    };
    let expected = ListenerStatus {
        name: "127.0.0.1:0".to_owned(),
        address: address.to_string().parse().unwrap(),
        mode: DispatchMode::HandOff,
        strategy: StrategyName::RoundRobin,
        counters: Counters {
            accepted: 30,
            handed_off: 30,
            ..Counters::default()
        },
        held: 0,
        handoff_delay: status.listeners[0].handoff_delay,
        is_paused: false,
        queues: servers[..3].iter().map(queue).collect(),
    };
    assert_eq!(expected.handoff_delay.count, 30);
    assert_eq!(status.listeners, [expected]);
    assert_eq!(cluster.stop(Stop::Graceful), ExitCode::Clean);
}

/// With the configuration that it has: there is nothing to read anew.
#[test]
fn a_watched_file_is_a_reason_for_a_reload() {
    let _alone = alone();
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut config = config(1);
    config.rollout.canary = Duration::ZERO;
    config.watch.paths.push(file.path().to_owned());
    config.watch.delay = Duration::ZERO;
    let cluster = Embedded::start(config);
    let generation = || get(cluster.address(), "/").unwrap().server().generation;
    assert_eq!(generation(), 1);
    // From some moment on it is watched.
    await_condition("a reload", || {
        fs::write(file.path(), "new").unwrap();
        generation() > 1
    });
    assert_eq!(cluster.stop(Stop::Graceful), ExitCode::Clean);
}

/// Also those that are too many for the log, and in a process that is still there. (G08)
#[test]
fn the_status_counts_what_workers_report() {
    let _alone = alone();
    let cluster = Embedded::start(config(2));
    let problems = || cluster.handle.status().unwrap().problems;
    assert_eq!(problems(), 0);
    let serving: BTreeSet<_> = (0..30)
        .map(|_| get(cluster.address(), "/report/odd").unwrap().server().id)
        .collect();
    await_condition("all of them", || problems() == 30);
    assert_eq!(serving, [1, 2].into());
    assert_eq!(cluster.stop(Stop::Graceful), ExitCode::Clean);
}

/// What workers say of themselves, as far as it is possible.
#[test]
fn the_status_shows_how_many_connections_each_worker_has() {
    let _alone = alone();
    let cluster = Embedded::start(config(2));
    let address = cluster.address();
    let open: Vec<_> = (0..5).map(|_| connect(address).unwrap()).collect();
    let loads = || cluster.handle.status().unwrap().loads;
    let opened = || {
        let loads = loads();
        let loads = loads.iter();
        loads
            .map(|load| (load.given, load.score.map(|score| score.open())))
            .collect::<Vec<_>>()
    };
    await_condition("three and two open", || {
        opened() == [(Some(3), Some(3)), (Some(2), Some(2))]
    });
    drop(open);
    await_condition("none open", || {
        opened() == [(Some(3), Some(0)), (Some(2), Some(0))]
    });
    assert_eq!(loads()[0].score.unwrap().received, 3);
    assert_eq!(cluster.stop(Stop::Graceful), ExitCode::Clean);
}

/// The limit counts for what is moved from a stalled worker, too: it comes as room is made.
#[test]
fn a_worker_is_moved_no_more_connections_than_it_may_have() {
    let _alone = alone();
    let mut config = config(2);
    config.stall_timeout = Some(Duration::from_millis(100));
    config.connection_limits.per_worker = NonZeroU64::new(3);
    let cluster = Embedded::start(config);
    let address = cluster.address();
    let stalled = cluster.pids()[0];
    processes::freeze(stalled);
    // In turn: the first is the stalled one's, the second the other's.
    let pairs: Vec<_> = (0..3)
        .map(|_| [(); 2].map(|()| connect(address).unwrap()))
        .collect();
    let (_waiting, served): (Vec<_>, Vec<_>) = pairs.into_iter().map(<(_, _)>::from).unzip();
    for (moved, client) in (1..).zip(served) {
        assert_eq!(ask(client, "/").unwrap().answer().unwrap().status, 200);
        await_condition("one moved", || cluster.listener().counters.moved >= moved);
        let load = cluster.handle.status().unwrap().loads[1];
        let opened = (load.given, load.score.map(|score| score.finished));
        assert_eq!(opened, (Some(3 + moved), Some(moved)));
    }
    processes::thaw(stalled);
    assert_eq!(cluster.stop(Stop::Fast), ExitCode::Clean);
}

/// A program may serve each connection in a process of its own. When it is finished is for the
/// one to say that received it.
#[test]
fn what_a_forked_process_closes_is_not_finished_by_that() {
    let _alone = alone();
    let program = Program::new(test_worker()).args(["odd", "forks"]);
    let config = Config::new(program).workers(1);
    let cluster = Embedded::start(config.listen("127.0.0.1:0".parse().unwrap()));
    let _open = connect(cluster.address()).unwrap();
    let mut closed = connect(cluster.address()).unwrap();
    closed.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    // To its end: both processes have closed it.
    assert!(closed.read_to_end(&mut Vec::new()).unwrap() > 0);
    let score = cluster.handle.status().unwrap().loads[0].score.unwrap();
    assert_eq!((score.received, score.finished), (2, 0));
    assert_eq!(cluster.stop(Stop::Fast), ExitCode::Clean);
}

/// Reclaimed connections are counted, and handed off again.
#[test]
fn the_counters_account_for_what_a_dead_worker_left() {
    let _alone = alone();
    let cluster = Embedded::start(config(2));
    let address = cluster.address();
    let victim = cluster.pids()[0];
    processes::freeze(victim);
    let asked: Vec<_> = (0..10)
        .map(|_| ask(connect(address).unwrap(), "/").unwrap())
        .collect();
    await_condition("all of them handed off", || {
        cluster.listener().counters.handed_off == 10
    });
    kill(victim, Signal::SIGKILL).unwrap();
    for asked in asked {
        assert_eq!(asked.answer().unwrap().status, 200);
    }
    let expected = Counters {
        accepted: 10,
        handed_off: 15,
        reclaimed: 5,
        ..Counters::default()
    };
    assert_eq!(cluster.listener().counters, expected);
    assert_eq!(cluster.stop(Stop::Graceful), ExitCode::Clean);
}

/// The master counts what the clients saw and what the workers received, while workers die with
/// packets unread, read, and half answered.
#[test]
fn the_counters_agree_with_the_clients_and_the_workers() {
    let _alone = alone();
    let evidence = tempfile::tempdir().unwrap();
    let directory = evidence.path().to_str().unwrap();
    let fates = [
        "packet-unread:kill:5",
        "packet-read:kill:5",
        "half-answered:kill:5",
        "none",
    ];
    let slots = fates.map(|fate| ["witness", directory, fate, "--"].map(str::to_owned));
    let mut args = ["by-slot".to_owned()].to_vec();
    args.extend(slots.concat());
    args.pop();
    let program = Program::new(test_worker()).args(args);
    let config = Config::new(program).workers(4);
    let cluster = Embedded::start(config.listen("127.0.0.1:0".parse().unwrap()));
    let address = cluster.address();
    let clients: Vec<_> = (0..8)
        .map(|_| thread::spawn(move || [(); 50].map(|()| call(address))))
        .collect();
    let accounts = clients
        .into_iter()
        .flat_map(|client| client.join().unwrap());
    let accounts: Vec<_> = accounts.collect();
    let listener = cluster.listener();
    assert_eq!(cluster.stop(Stop::Graceful), ExitCode::Clean);

    let testimonies = Testimony::all(evidence.path()).unwrap();
    let verdict = Verdict::weigh(&accounts, &testimonies, &BTreeSet::new());
    assert_eq!(verdict.broken, []);
    assert!(verdict.lost_when_received > 0);
    let received: usize = testimonies.iter().map(|said| said.receipts.len()).sum();
    let Counters {
        accepted,
        handed_off,
        reclaimed,
        refused,
        ..
    } = listener.counters;
    assert_eq!((accepted, refused.total(), listener.held), (400, 0, 0));
    assert!(reclaimed > 0);
    assert_eq!(handed_off - reclaimed, received as u64);
}

/// Whenever one looks: under load, and while workers die.
#[test]
fn every_accepted_connection_is_accounted_for_at_any_moment() {
    let _alone = alone();
    let cluster = Embedded::start(config(2));
    let load = Load::start(cluster.address(), 4);
    for round in 0..20 {
        load.await_more(10);
        if round % 5 == 2 {
            kill(*cluster.pids().last().unwrap(), Signal::SIGKILL).unwrap();
        }
        let listener = cluster.listener();
        assert_eq!(listener.counters.accepted, accounted_for(&listener));
    }
    load.stop();
    assert_eq!(cluster.stop(Stop::Graceful), ExitCode::Clean);
}

/// A worker without room is no reason to accept without bound: clients wait in the backlog.
#[test]
fn little_is_held_while_every_worker_is_saturated() {
    let _alone = alone();
    let cluster = Embedded::start(config(1));
    processes::freeze(cluster.pids()[0]);
    let asked: Vec<_> = (0..400)
        .map(|_| ask(connect(cluster.address()).unwrap(), "/").unwrap())
        .collect();
    await_condition("the worker saturated", || cluster.listener().held > 0);
    let full = cluster.listener();
    assert_eq!(full.counters.accepted, accounted_for(&full));
    assert!(full.counters.accepted < 400, "{full:?}");
    cluster.pids().into_iter().for_each(processes::thaw);
    for asked in asked {
        assert_eq!(asked.answer().unwrap().status, 200);
    }
    let expected = Counters {
        accepted: 400,
        handed_off: 400,
        ..Counters::default()
    };
    let relieved = cluster.listener();
    assert_eq!((without_skips(&relieved), relieved.held), (expected, 0));
    assert!(relieved.counters.skipped.saturated > 0, "{relieved:?}");
    assert_eq!(cluster.stop(Stop::Graceful), ExitCode::Clean);
}

/// What happened to connections, apart from the turns that nobody could use.
fn without_skips(listener: &ListenerStatus) -> Counters {
    Counters {
        skipped: Skipped::default(),
        ..listener.counters
    }
}

/// Where the connections are that the listener accepted.
fn accounted_for(listener: &ListenerStatus) -> u64 {
    let Counters {
        accepted: _,
        handed_off,
        reclaimed,
        refused,
        moved: _,
        aborted: _,
        skipped: _,
        rescued: _,
        mended: _,
    } = listener.counters;
    handed_off - reclaimed + refused.total() + listener.held
}

/// N25: with several listeners, and on the same addresses, and nothing is left over.
#[test]
fn a_process_may_have_one_cluster_after_the_other() {
    let _alone = alone();
    let program = || Program::new(test_worker()).args(["serve"]);
    let on = |addresses: [SocketAddr; 2]| {
        let [a, b] = addresses;
        let config = Config::new(program()).workers(4);
        config
            .listen(format!("a={a}").parse().unwrap())
            .listen(format!("b={b}").parse().unwrap())
    };
    let mut addresses = ["127.0.0.1:0".parse().unwrap(); 2];
    let mut descriptors = Vec::new();
    for _ in 0..3 {
        let cluster = Embedded::start(on(addresses));
        addresses = [cluster.addresses[0], cluster.addresses[1]];
        for address in addresses {
            let slots: Vec<u32> = (0..8)
                .map(|_| get(address, "/").unwrap().server().slot)
                .collect();
            assert_eq!(slots, [0, 1, 2, 3, 0, 1, 2, 3]);
        }
        let pids = cluster.pids();
        assert_eq!(cluster.stop(Stop::Graceful), ExitCode::Clean);
        // `run` has returned: they are gone, not going.
        let left: Vec<_> = pids.into_iter().filter(|&pid| exists(pid)).collect();
        assert_eq!(left, []);
        for address in addresses {
            let err = connect(address).unwrap_err();
            assert_eq!(err.kind(), io::ErrorKind::ConnectionRefused);
        }
        descriptors.push(processes::descriptors(Pid::this()));
    }
    assert_eq!(descriptors, [descriptors[0]; 3]);
}

/// N05, N69.
#[test]
fn a_second_master_does_not_get_the_address_of_the_first() {
    let _alone = alone();
    let cluster = Embedded::start(config(1));
    let address = cluster.address();
    let second = config(1).listen(address.to_string().parse().unwrap());
    let err = Master::bind(second).err().expect("the address is taken");
    assert_eq!(err.exit_code(), ExitCode::Bind);
    assert!(err.to_string().contains(&address.to_string()), "{err}");
    match err {
        StartError::Bind(err) => assert!(err.is_in_use()),
        err @ (StartError::Preflight(_)
        | StartError::Control { .. }
        | StartError::Cgroup(_)
        | StartError::Interrupted
        | StartError::Io(_)) => panic!("{err}"),
    }
    assert_eq!(get(address, "/").unwrap().status, 200);
    assert_eq!(cluster.stop(Stop::Graceful), ExitCode::Clean);
}

#[test]
fn the_library_touches_no_signal_and_no_limit_of_the_process() {
    let _alone = alone();
    // Where both limits are the same nobody could tell whether the lower one was raised.
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, soft.min(hard - 1), hard).unwrap();
    let before = surroundings();
    let cluster = Embedded::start(config(2));
    assert_eq!(surroundings(), before);
    // Nor do the threads that it starts have other masks than the one that started them. The C
    // library blocks everything while a thread begins, so this may take a moment to be true.
    let own = blocked("/proc/thread-self/status");
    await_condition("the same mask in every thread", || {
        let mut threads = fs::read_dir("/proc/self/task").unwrap();
        threads.all(|thread| {
            let status = thread.unwrap().path().join("status");
            blocked(status.to_str().unwrap()) == own
        })
    });
    // Its workers start with the limit that the process has.
    let limit = get(cluster.address(), "/limit").unwrap().body;
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    assert_eq!(limit, soft.to_string());
    assert_eq!(cluster.stop(Stop::Graceful), ExitCode::Clean);
    assert_eq!(surroundings(), before);
}

/// Whoever starts processes beside the cluster learns how they end.
#[test]
fn the_library_reaps_no_child_but_its_own() {
    let _alone = alone();
    let cluster = Embedded::start(config(1));
    let mut own = Command::new("sh").args(["-c", "exit 5"]).spawn().unwrap();
    let pid = Pid::from_raw(own.id().cast_signed());
    await_condition("its end", || !processes::is_alive(pid));
    get(cluster.address(), "/exit/1").unwrap_err();
    assert_eq!(get(cluster.address(), "/").unwrap().server().id, 2);
    assert_eq!(own.wait().unwrap().code(), Some(5));
    assert_eq!(cluster.stop(Stop::Graceful), ExitCode::Clean);
}

#[test]
fn who_waits_for_a_cluster_that_fails_to_start_is_told() {
    let _alone = alone();
    let master = Master::bind(Config::new(Program::new("false")).workers(2)).unwrap();
    let handle = master.handle();
    let running = thread::spawn(move || master.run());
    assert_eq!(handle.await_ready(DEADLINE), Err(Ended));
    assert_eq!(running.join().unwrap().unwrap(), ExitCode::WorkerStart);
    assert_eq!(handle.status().err(), Some(Ended));
    assert_eq!(handle.stop(Stop::Fast), Err(Ended));
}

#[test]
fn a_fast_stop_waits_for_no_request() {
    let _alone = alone();
    let cluster = Embedded::start(config(1));
    let asked = ask(connect(cluster.address()).unwrap(), "/slow/60000").unwrap();
    await_condition("it is with the worker", || {
        cluster.listener().counters.handed_off == 1
    });
    assert_eq!(cluster.stop(Stop::Fast), ExitCode::Clean);
    asked.answer().unwrap_err();
}

/// The example is what people copy: it works as its first lines say.
#[test]
fn the_example_serves_until_somebody_presses_enter() {
    let mut child = Command::new(example("embedded"))
        .arg("127.0.0.1:0")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let master = Pid::from_raw(child.id().cast_signed());
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut line = || output.next().expect("more output").unwrap();
    let pids: Vec<String> = (0..4)
        .map(|slot| {
            let line = line();
            let pid = line.strip_prefix(&format!("slot {slot} is pid "));
            pid.unwrap_or_else(|| panic!("{line}")).to_owned()
        })
        .collect();
    let serving = line();
    let address = serving
        .strip_prefix("serving on http://")
        .and_then(|rest| rest.split('/').next()?.parse().ok());
    let address: SocketAddr = address.unwrap_or_else(|| panic!("{serving}"));
    for turn in 0..8 {
        let expected = format!("hello from pid {}\n", pids[turn % 4]);
        assert_eq!(get(address, "/").unwrap().body, expected);
    }
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert_eq!(line(), "127.0.0.1:0: 8 connections accepted");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(processes::of_master(master), []);
}

/// A master in a thread of this process, its cluster ready.
struct Embedded {
    handle: Handle,
    running: JoinHandle<io::Result<ExitCode>>,
    addresses: Vec<SocketAddr>,
}

impl Embedded {
    fn start(config: Config) -> Self {
        let master = Master::bind(config).unwrap();
        let addresses = master.listeners().iter();
        let addresses = addresses.map(|listener| listener.address.to_string().parse().unwrap());
        let addresses = addresses.collect();
        let handle = master.handle();
        let running = thread::spawn(move || master.run());
        assert_eq!(handle.await_ready(DEADLINE), Ok(true));
        Embedded {
            handle,
            running,
            addresses,
        }
    }

    fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// The first listener now.
    fn listener(&self) -> ListenerStatus {
        self.handle.status().unwrap().listeners.remove(0)
    }

    /// Every process now, the oldest first.
    fn pids(&self) -> Vec<Pid> {
        let workers = self.handle.status().unwrap().workers.into_iter();
        let pids = workers.filter_map(|view| view.pid);
        pids.map(|pid| Pid::from_raw(pid.cast_signed())).collect()
    }

    /// Ends it and waits until it has ended.
    fn stop(self, how: Stop) -> ExitCode {
        self.handle.stop(how).unwrap();
        self.running.join().unwrap().unwrap()
    }
}

/// So many workers that serve on port 0.
fn config(workers: u32) -> Config {
    let program = Program::new(test_worker()).args(["serve"]);
    let mut config = Config::new(program)
        .workers(workers)
        .listen("127.0.0.1:0".parse().unwrap());
    // Whoever is frozen here is to keep what waits for it.
    config.stall_timeout = None;
    config
}

/// The tests look at the process that they share under `cargo test`.
fn alone() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether there is such a process, be it a zombie.
fn exists(pid: Pid) -> bool {
    kill(pid, None).is_ok()
}

/// What a library has to leave alone: dispositions, this thread's mask, the limit on descriptors.
fn surroundings() -> (Vec<String>, (u64, u64)) {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    let signals = status
        .lines()
        .filter(|line| ["SigBlk:", "SigIgn:", "SigCgt:"].contains(&&line[..7.min(line.len())]));
    let signals = signals.map(str::to_owned).collect();
    (signals, getrlimit(Resource::RLIMIT_NOFILE).unwrap())
}

/// The signals that a thread has blocked; nothing of one that is gone.
fn blocked(status: &str) -> Option<String> {
    let status = fs::read_to_string(status).ok()?;
    let line = status.lines().find(|line| line.starts_with("SigBlk:"));
    line.map(str::to_owned)
}
