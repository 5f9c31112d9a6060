//! The library's door: what a [`Handle`] changes, and what it is told.

mod common;

use std::io;
use std::net::SocketAddr;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rr_master::supervisor::{Refused, RolloutPlan, WorkerState};
use rr_master::{
    Config, Content, Denied, EVENTS, Ended, ExitCode, Handle, Master, Program, Recipients,
    ReloadOutcome, ScaleTo, Stop, StrategyName, Target,
};
use worker_proto::ids::{Generation, Role, Slot};
use worker_proto::message::ContentType;

use common::client::{ask, connect, get};
use common::{DEADLINE, await_condition, sockets, test_worker};

#[test]
fn a_handle_reloads_scales_and_restarts() {
    let cluster = Embedded::start(2);
    let handle = &cluster.handle;
    let mut events = handle.events().unwrap();
    let mut await_event = |name: &str| {
        let found = events.find(|event| event.fact.name == name);
        found.unwrap_or_else(|| panic!("no {name}"))
    };
    let generation = Generation(2);
    let done = ReloadOutcome::Done {
        generation,
        unapplied: Vec::new(),
    };
    assert_eq!(handle.reload(), Ok(done));
    let done = await_event("reload-done");
    assert_eq!(done.fact.fields["generation"], 2);
    assert_eq!(get(cluster.address, "/").unwrap().server().generation, 2);

    handle.scale(ScaleTo::More(1)).unwrap();
    await_event("scale-done");
    assert_eq!(handle.status().unwrap().workers.len(), 3);
    let denied = handle.scale(ScaleTo::Fewer(100)).unwrap_err();
    assert_eq!(
        denied.to_string(),
        "scale -100: there are 3 workers, so at most that many can go"
    );

    let before = cluster.id(0);
    handle.restart(worker(0)).unwrap();
    let replaced = await_event("replaced");
    assert_eq!(replaced.fact.fields["worker"], before);
    assert_ne!(cluster.id(0), before);
    assert_eq!(cluster.stop(), ExitCode::Clean);
}

#[test]
fn a_handle_chooses_the_strategy() {
    let cluster = Embedded::start(2);
    let handle = &cluster.handle;
    let strategy = || handle.status().unwrap().listeners[0].strategy;
    assert_eq!(strategy(), StrategyName::RoundRobin);
    handle.choose_by(StrategyName::SourceHash, None).unwrap();
    assert_eq!(strategy(), StrategyName::SourceHash);
    let slots = [(); 6].map(|()| get(cluster.address, "/").unwrap().server().slot);
    assert_eq!(slots, [slots[0]; 6]);
    let denied = handle.choose_by(StrategyName::Random, Some("nowhere"));
    assert!(matches!(denied, Err(Denied::NoSuchListener { .. })));
    assert_eq!(strategy(), StrategyName::SourceHash);
    assert_eq!(cluster.stop(), ExitCode::Clean);
}

#[test]
fn a_handle_pushes_values() {
    let cluster = Embedded::start(1);
    let mut events = cluster.handle.events().unwrap();
    let push = |key: &str, text: &'static str| {
        let content = Content {
            content_type: ContentType::TEXT,
            bytes: text.into(),
        };
        cluster.handle.push(key, content)
    };
    assert_eq!(push("flags", "on"), Ok(1));
    assert_eq!(push("flags", "on"), Ok(1));
    assert_eq!(push("flags", "off"), Ok(2));
    let denied = push("", "on").unwrap_err();
    assert_eq!(denied.to_string(), "key \"\": it is empty");
    let pushed = events.find(|event| event.fact.name == "pushed").unwrap();
    assert_eq!(pushed.fact.fields["key"], "flags");
    assert_eq!(pushed.fact.fields["from"], "handle");
    assert_eq!(cluster.stop(), ExitCode::Clean);
}

#[test]
fn a_handle_drains_kills_and_signals() {
    let cluster = Embedded::start(2);
    let handle = &cluster.handle;
    let mut events = handle.events().unwrap();
    let mut await_exit = || {
        let exit = events.find(|event| event.fact.name == "exit");
        exit.expect("an exit").fact.fields
    };
    handle.drain(worker(1)).unwrap();
    assert_eq!(await_exit()["code"], 0);
    handle.kill(worker(1)).unwrap();
    handle.kill(worker(0)).unwrap();
    let exit = await_exit();
    assert_eq!(
        (&exit["signal"], &exit["slot"]),
        (&"SIGKILL".into(), &0.into())
    );
    await_condition("a new worker", || {
        let workers = handle.status().unwrap().workers;
        workers.iter().any(|it| it.state == WorkerState::Serving)
    });
    let usr1 = "USR1".parse().unwrap();
    assert_eq!(handle.signal(Recipients::Role(Role::Agent), usr1), Ok(0));
    assert_eq!(handle.signal(Recipients::All, usr1), Ok(1));
    assert_eq!(await_exit()["signal"], "SIGUSR1");
    let refused = Refused::NoSuchSlot {
        role: Role::Worker,
        slot: Slot(7),
    };
    assert_eq!(handle.drain(worker(7)), Err(Denied::Refused(refused)));
    assert_eq!(cluster.stop(), ExitCode::Clean);
}

#[test]
fn a_handle_has_logs_reopened() {
    let cluster = Embedded::start(2);
    let handle = cluster.handle.clone();
    let mut events = handle.events().unwrap();
    assert_eq!(handle.reopen_logs(), Ok(2));
    let told = events.find(|event| event.fact.name == "logs-reopened");
    let told = told.expect("an event").fact;
    assert_eq!(
        told.text, "2 processes told, there is no log file",
        "a master that is embedded has none"
    );
    assert_eq!(cluster.stop(), ExitCode::Clean);
    assert_eq!(handle.reopen_logs(), Err(Denied::Ended));
}

#[test]
fn a_handle_pauses_and_resumes_a_listener() {
    let cluster = Embedded::start(1);
    let address = cluster.address;
    cluster.handle.pause(Some("127.0.0.1:0")).unwrap();
    let waiting = ask(connect(address).unwrap(), "/").unwrap();
    await_condition("a client in the backlog", || {
        sockets::unaccepted(address) == 1
    });
    assert!(cluster.handle.pause(Some("other")).is_err());
    cluster.handle.resume(None).unwrap();
    assert_eq!(waiting.answer().unwrap().status, 200);
    assert_eq!(cluster.stop(), ExitCode::Clean);
}

#[test]
fn a_reader_of_events_that_is_too_slow_is_told_what_it_lost() {
    let cluster = Embedded::start(1);
    let mut events = cluster.handle.events().unwrap();
    for _ in 0..EVENTS {
        cluster.handle.pause(None).unwrap();
        cluster.handle.resume(None).unwrap();
    }
    for _ in 0..EVENTS {
        let event = events.next_within(DEADLINE).unwrap();
        assert_ne!(event.fact.name, "lost");
    }
    assert!(events.next_within(Duration::ZERO).is_none());
    cluster.handle.pause(None).unwrap();
    let lost = events.next().unwrap();
    assert_eq!(lost.fact.name, "lost");
    assert_eq!(lost.fact.fields["count"], EVENTS);
    assert_eq!(events.next().unwrap().fact.name, "paused");
    assert_eq!(cluster.stop(), ExitCode::Clean);
    assert_eq!(events.last().unwrap().fact.name, "stopped");
}

#[test]
fn after_the_end_nothing_can_be_asked_for() {
    let cluster = Embedded::start(1);
    let handle = cluster.handle.clone();
    assert_eq!(cluster.stop(), ExitCode::Clean);
    assert_eq!(handle.reload(), Err(Ended));
    assert_eq!(handle.abort_reload(), Err(Denied::Ended));
    assert_eq!(handle.scale(ScaleTo::Exactly(2)), Err(Denied::Ended));
    assert!(handle.events().is_err());
}

fn worker(slot: u32) -> Target {
    let (role, slot) = (Role::Worker, Slot(slot));
    Target::Slot { role, slot }
}

/// A master in a thread of this process.
struct Embedded {
    handle: Handle,
    running: JoinHandle<io::Result<ExitCode>>,
    address: SocketAddr,
}

impl Embedded {
    fn start(workers: u32) -> Self {
        let program = Program::new(test_worker()).args(["serve"]);
        let mut config = Config::new(program).workers(workers);
        config = config.listen("127.0.0.1:0".parse().unwrap());
        config.rollout = RolloutPlan {
            surge: 1,
            unavailable: 0,
            canary: Duration::from_millis(1),
        };
        let master = Master::bind(config).unwrap();
        let address = master.listeners()[0].address.to_string().parse().unwrap();
        let handle = master.handle();
        let running = thread::spawn(move || master.run());
        assert_eq!(handle.await_ready(DEADLINE), Ok(true));
        Embedded {
            handle,
            running,
            address,
        }
    }

    /// Who serves in that slot.
    fn id(&self, slot: u32) -> u64 {
        let workers = self.handle.status().unwrap().workers.into_iter();
        let mut serving = workers.filter(|it| it.state == WorkerState::Serving);
        let found = serving.find(|it| it.slot == Slot(slot));
        found.expect("somebody serves").worker.0
    }

    fn stop(self) -> ExitCode {
        self.handle.stop(Stop::Graceful).unwrap();
        self.running.join().unwrap().unwrap()
    }
}
