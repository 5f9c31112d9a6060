//! Retiring: a worker in which something went wrong says so, is replaced at once, and finishes what
//! it has. And what processes report of themselves without leaving.

mod common;

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};

use common::client::{Asked, Server, ask, connect, get};
use common::gate::Gate;
use common::load::Load;
use common::processes::{is_alive, pid_in};
use common::{Cluster, Stopwatch, test_worker};

/// N34, F02, F11, G07: one retires, disconnects and exits, each once, after its successor is there; nobody
/// else notices.
#[test]
fn a_worker_that_panics_under_load_is_replaced_and_fails_nobody() {
    let (mut cluster, address) =
        Cluster::in_mode(&["ill", "catches"], 3, &["--log-level", "debug"]);
    let load = Load::start(address, 4);
    load.await_more(50);
    let mut beside = Held::begin(&mut cluster, address, "/beside");
    beside.go_on();

    let retires = cluster.await_text(" retires: ");
    assert!(retires.contains(" retires: panicked at "), "{retires}");
    assert!(
        retires.ends_with(": beside it, restart in 0 ms"),
        "{retires}"
    );
    let victim = pid_in(&retires);
    cluster.await_line("its successor", |line| {
        line.contains(" w4 slot=") && line.contains(" ready after ")
    });
    assert!(is_alive(victim), "it finishes what it has");
    assert_eq!(beside.end().pid(), victim);
    let exited = cluster.await_text(" exited after ");
    assert_eq!(pid_in(&exited), victim);
    assert!(exited.ends_with(": code 0"), "{exited}");
    load.await_more(50);
    let tally = load.stop();
    assert_eq!(tally.failures, [""; 0]);
    assert!(tally.answers.iter().any(|server| server.id == 4));

    let ended = cluster.stop();
    assert_eq!(ended.code(), 0, "{}", ended.log);
    let of_victim = format!(" pid={victim} ");
    for what in [
        " retires: ",
        " closed its control channel",
        " exited after ",
    ] {
        let lines = ended.log.lines();
        let said = lines.filter(|line| line.contains(&of_victim) && line.contains(what));
        assert_eq!(said.count(), 1, "{what}\n{}", ended.log);
    }
    assert_eq!(ended.log.matches(" retires: ").count(), 1);
    assert_eq!(ended.log.matches(" spawned").count(), 4);
}

/// F06, F10, N88: every listener of the only worker is served on at once, and a request that it holds ends
/// at the deadline.
#[test]
fn the_only_worker_panics_and_what_it_holds_ends_at_its_deadline() {
    let worker = test_worker();
    let flags = "-w 1 -l 127.0.0.1:0 -l other=127.0.0.1:0 --stop-timeout 800ms".split(' ');
    let program = [worker.to_str().unwrap(), "ill", "catches"];
    let mut cluster = Cluster::start(flags.chain(program));
    let addresses = cluster.addresses(2);
    let [address, other] = [0, 1].map(|index| addresses[index].parse().unwrap());
    cluster.await_ready();
    let held = ask(connect(address).unwrap(), "/slow/60000").unwrap();
    cluster.await_text("/slow/60000 begun");
    let since = Stopwatch::start();
    get(address, "/panic").unwrap_err();
    for address in [address, other] {
        assert_eq!(get(address, "/").unwrap().server().id, 2);
    }
    held.answer().unwrap_err();
    assert!(since.elapsed() >= Duration::from_millis(800));
    cluster.find_line("its deadline", |line| {
        line.contains(" w1 slot=0") && line.ends_with(" did not leave in time: SIGTERM")
    });
    cluster.find_text(": signal SIGTERM");
    assert_eq!(cluster.stop().code(), 0);
}

/// N18: what it was handed and has not received is for others, while it serves what it has.
#[test]
fn what_a_retiring_worker_has_not_received_is_served_by_its_successor() {
    // Nobody comes to the rescue of what it would leave in its queue.
    let flags = ["--stall-timeout", "never"];
    let (mut cluster, address) = Cluster::in_mode(&["ill", "catches"], 1, &flags);
    // It has two threads.
    let held = Held::begin(&mut cluster, address, "/held");
    let mut beside = Held::begin(&mut cluster, address, "/beside");
    let waiting: Vec<_> = (0..10)
        .map(|_| ask(connect(address).unwrap(), "/").unwrap())
        .collect();
    beside.go_on();
    for asked in waiting {
        assert_eq!(asked.answer().unwrap().server().id, 2);
    }
    for held in [held, beside] {
        assert_eq!(held.end().id, 1);
    }
}

/// An address that was bound for it stays bound, and its clients wait.
#[test]
fn an_address_bound_on_demand_stays_with_the_slot_of_a_retiring_worker() {
    let spare = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = spare.local_addr().unwrap();
    drop(spare);
    let worker = test_worker();
    let listens = format!("listens={address}");
    let mut cluster = Cluster::start([
        "-w",
        "1",
        worker.to_str().unwrap(),
        "ill",
        "catches",
        &listens,
    ]);
    cluster.await_ready();
    assert_eq!(get(address, "/retire/ill").unwrap().server().id, 1);
    for _ in 0..20 {
        assert_eq!(get(address, "/").unwrap().server().id, 2);
    }
    let ended = cluster.stop();
    assert_eq!(ended.code(), 0);
    assert!(!ended.log.contains("no longer listening"), "{}", ended.log);
}

/// N72: its own hook chooses the code, and the end is no second failure.
#[test]
fn a_panic_may_end_the_process_after_the_master_was_told() {
    for (wish, end) in [("exits=42", "code 42"), ("aborts", "signal SIGABRT")] {
        let (mut cluster, address) = Cluster::in_mode(&["ill", wish, "catches"], 1, &[]);
        get(address, "/panic/oh").unwrap_err();
        let retires = cluster.await_text(" retires: ");
        assert!(retires.ends_with(": oh, restart in 0 ms"), "{retires}");
        let exited = cluster.find_text(" exited after ");
        assert!(exited.contains(end), "{exited}");
        assert_eq!(get(address, "/").unwrap().server().id, 2);
        let ended = cluster.stop();
        assert_eq!(ended.log.matches(" spawned").count(), 2, "{}", ended.log);
    }
}

/// F12
#[test]
fn a_panic_that_the_program_ignores_costs_its_connection_only() {
    let (mut cluster, address) = Cluster::in_mode(&["ill", "catches"], 1, &[]);
    for _ in 0..3 {
        get(address, "/panic/harmless").unwrap_err();
        assert_eq!(get(address, "/").unwrap().server().id, 1);
    }
    // Whatever was said before this was read before it.
    get(address, "/report/end").unwrap();
    cluster.await_text(" reports: end");
    let log = cluster.log();
    assert!(!log.contains(" reports: panicked at "), "{log}");
    assert!(!log.contains(" retires: "), "{log}");
}

/// G08: logged, counted, no restart. A peer's words are one line, and not too many of them.
#[test]
fn what_a_worker_reports_is_logged_and_counted() {
    let (mut cluster, address) = Cluster::in_mode(&["ill"], 1, &[]);
    for number in 1..=12 {
        let path = format!("/report/odd\x0b{number}");
        assert_eq!(get(address, &path).unwrap().server().id, 1);
    }
    for number in 1..=10 {
        cluster.await_line("the report", |line| {
            line.contains(" w1 slot=0 ") && line.ends_with(&format!(" reports: odd {number}"))
        });
    }
    let ended = cluster.stop();
    assert_eq!(ended.code(), 0);
    assert!(
        ended.log.contains(" has reported 2 more problems"),
        "{}",
        ended.log
    );
    assert_eq!(ended.log.matches(" spawned").count(), 1);
}

/// What an agent does is done by nobody else meanwhile.
#[test]
fn an_agent_that_panics_is_reported_and_not_restarted() {
    let worker = test_worker();
    let agent = format!("{} ill catches", worker.display());
    let mut cluster = Cluster::start(["-w", "0", "--agent", &agent, "/bin/true"]);
    for time in ["first", "second"] {
        let report = cluster.await_text(" reports: panicked at ");
        assert!(report.contains(" agent slot=0 "), "{report}");
        assert!(report.ends_with(&format!(": the {time} time")), "{report}");
    }
    let ended = cluster.stop();
    assert_eq!(ended.code(), 0, "{}", ended.log);
    assert_eq!(ended.log.matches(" spawned").count(), 1, "{}", ended.log);
    assert!(!ended.log.contains(": harmless"), "{}", ended.log);
}

/// E32: why an agent cannot start is in the master's log.
#[test]
fn a_start_that_fails_is_told_in_its_own_words() {
    let worker = test_worker();
    let agent = format!("{} ill catches fails", worker.display());
    let ended = Cluster::start(["-w", "1", "--agent", &agent, "/bin/true"]).wait();
    assert_eq!(ended.code(), 4, "{}", ended.log);
    let lines = ended.log.lines();
    let reports: Vec<_> = lines.filter(|line| line.contains(" reports: ")).collect();
    assert_eq!(reports.len(), 1, "{}", ended.log);
    assert!(reports[0].ends_with(": asked to fail"), "{reports:?}");
}

/// N26: reported, and gone in peace, once.
#[test]
fn a_worker_that_may_not_listen_says_why_and_leaves() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listens = format!("listens={}", taken.local_addr().unwrap());
    let worker = test_worker();
    let ended = Cluster::start(["-w", "1", worker.to_str().unwrap(), "ill", &listens]).wait();
    assert_eq!(ended.code(), 3, "{}", ended.log);
    let reports = " reports: listen: the master refuses: bind 127.0.0.1:";
    assert_eq!(ended.log.matches(reports).count(), 1, "{}", ended.log);
    assert!(ended.log.contains("in use"), "{}", ended.log);
    assert_eq!(ended.log.matches(" exited after ").count(), 1);
    assert!(ended.log.contains(": code 1"), "{}", ended.log);
}

#[test]
fn workers_that_retire_again_and_again_meet_the_restart_limit() {
    let flags = ["--restart-limit", "3/60s"];
    let (mut cluster, _) = Cluster::in_mode(&["ill", "retires"], 1, &flags);
    cluster.await_text("restart limit reached: 3 in 60 s, restarts wait");
    let log = cluster.log();
    assert_eq!(log.matches(" retires: again").count(), 4, "{log}");
    assert_eq!(log.matches(" spawned").count(), 4, "{log}");
    assert_eq!(cluster.stop().code(), 0);
}

/// F18: the code stays 0, and the failure is told.
#[test]
fn a_last_hook_that_fails_is_told_and_changes_nothing() {
    for (stops, told) in [
        ("stops=well", None),
        ("stops=badly", Some("failed: no such file")),
        ("stops=panicking", Some("panicked: asked to")),
        ("stops=never", Some("has not ended within 1s")),
    ] {
        let (cluster, _) = Cluster::in_mode(&["ill", "catches", stops], 1, &[]);
        let ended = cluster.stop();
        assert_eq!(ended.code(), 0, "{stops}\n{}", ended.log);
        assert!(ended.log.contains("the last hook"), "{}", ended.log);
        let reports = ended.log.lines().filter(|line| line.contains(" reports: "));
        let reports: Vec<_> = reports
            .map(|line| line.rsplit_once("the hook for stopping ").unwrap().1)
            .collect();
        assert_eq!(reports, Vec::from_iter(told), "{stops}\n{}", ended.log);
        let exited = ended
            .log
            .lines()
            .find(|line| line.contains(" exited after "));
        assert!(exited.unwrap().ends_with(": code 0"), "{}", ended.log);
    }
}

/// F16: asked by an operator, not by the master.
#[test]
fn a_worker_that_is_terminated_from_outside_retires_if_it_wants_to() {
    let mode = ["ill", "terminates", "stops=never"];
    let (mut cluster, address) = Cluster::in_mode(&mode, 1, &[]);
    let worker = cluster.worker(0).pid();
    let held = Held::begin(&mut cluster, address, "/held");
    kill(worker, Signal::SIGTERM).unwrap();
    let retires = cluster.await_text(" retires: SIGTERM, restart in 0 ms");
    assert_eq!(pid_in(&retires), worker);
    assert_eq!(held.end().pid(), worker);
    cluster.find_text("the last hook");
    kill(worker, Signal::SIGTERM).unwrap();
    let exited = cluster.await_text(" exited after ");
    assert_eq!(pid_in(&exited), worker);
    assert!(exited.ends_with(": code 0"), "{exited}");
    assert_eq!(get(address, "/").unwrap().server().id, 2);
}

#[test]
fn sigterm_after_the_deadline_ends_a_worker_that_wants_to_finish() {
    let flags = ["--stop-timeout", "300ms"];
    let (mut cluster, address) = Cluster::in_mode(&["ill", "terminates"], 1, &flags);
    let held = ask(connect(address).unwrap(), "/slow/60000").unwrap();
    cluster.await_text("/slow/60000 begun");
    let ended = cluster.stop();
    assert!(ended.log.contains(": signal SIGTERM"), "{}", ended.log);
    held.answer().unwrap_err();
}

/// N77. What a code means is for the operator to say.
#[test]
fn a_worker_that_is_told_to_leave_may_choose_its_code() {
    for (flags, end) in [(&[][..], 7), (&["--stop-exit-codes", "42"], 0)] {
        let (cluster, _) = Cluster::in_mode(&["ill", "code=42"], 1, flags);
        let ended = cluster.stop();
        assert_eq!(ended.code(), end, "{}", ended.log);
        let mut lines = ended.log.lines();
        let exited = lines.find(|line| line.contains(" exited after "));
        assert!(exited.unwrap().contains(": code 42"), "{}", ended.log);
    }
}

/// N87
#[test]
fn a_worker_stays_until_its_work_is_finished() {
    let mut gate = Gate::new();
    let begins = format!("begins={}", gate.path().display());
    let (mut cluster, _) = Cluster::in_mode(&["ill", &begins], 1, &[]);
    let worker = cluster.worker(0).pid();
    cluster.signal(Signal::SIGTERM);
    cluster.await_text("drains, with work under way");
    assert!(is_alive(worker));
    gate.let_one_through();
    let ended = cluster.wait();
    assert_eq!(ended.code(), 0, "{}", ended.log);
    let place = |what| ended.log.find(what).expect(what);
    assert!(
        place("work finished") < place(" exited after "),
        "{}",
        ended.log
    );
}

/// A request that its worker answers when it is told to go on.
struct Held {
    asked: Asked<TcpStream>,
    client: TcpStream,
}

impl Held {
    fn begin(cluster: &mut Cluster, address: SocketAddr, path: &str) -> Self {
        let client = connect(address).unwrap();
        let asked = ask(client.try_clone().unwrap(), path).unwrap();
        cluster.await_text(&format!("{path} begun"));
        Held { asked, client }
    }

    fn go_on(&mut self) {
        self.client.write_all(b".").unwrap();
    }

    fn end(mut self) -> Server {
        self.go_on();
        self.asked.answer().unwrap().server()
    }
}
