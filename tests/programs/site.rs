//! One program in four processes, run with the command of the page, and what has to be true of it.
//!
//! The port of the page is replaced by one that is free; settings of the master that make a test
//! quick come in its environment, so that the command stays as people will type it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::Program;
use crate::common::load::Load;
use crate::common::operator::{self, status};
use crate::common::port::Port;
use crate::common::processes::{await_idle, descendants, descriptors, is_alive, parent};
use crate::common::{Cluster, await_condition, example, rr_master};
use crate::page;

/// How many processes every command of the page asks for.
pub(crate) const WORKERS: usize = 4;

/// A running program.
pub(crate) struct Site {
    pub(crate) program: &'static Program,
    pub(crate) address: SocketAddr,
    pub(crate) control: PathBuf,
    pub(crate) cluster: Cluster,
    _directory: TempDir,
    _port: Port,
}

impl Site {
    /// Starts it and waits until every process serves.
    pub(crate) fn start(program: &'static Program) -> Self {
        let path = search_path();
        program.check_installed(&path);
        let port = Port::reserve();
        let address = port.address();
        let with_port = |text: &str| text.replace(program.port, &address.port().to_string());
        let directory = directory(with_port);

        // Lines before the last prepare something.
        let lines = with_port(page::command(program.name));
        let (prepare, run) = lines.rsplit_once('\n').unwrap_or((":", &lines));
        let script = format!("{prepare} && exec {run} >&2");
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &script]).current_dir(directory.path());
        command.env("PATH", path);
        command.env("HOME", directory.path());
        command.envs(SETTINGS);
        let mut cluster = Cluster::from_command(command);
        let control = cluster.control();
        cluster.await_ready();
        hear_from_all(&mut cluster, &with_port(program.announces));
        Site {
            program,
            address,
            control,
            cluster,
            _directory: directory,
            _port: port,
        }
    }

    /// Everything that a program owes to its four processes, one after the other.
    pub(crate) fn keeps_its_promises(mut self) {
        self.serves_in_rotation(400);
        let before = self.descriptors();
        self.program.visitor.load(self.address, CONNECTIONS);
        self.leaks_nothing(&before);
        self.reloads_under_load();
        self.replaces_the_killed();
        await_idle(&descendants(self.cluster.pid()));
        self.stops();
    }

    /// Asks on one connection after the other: everybody answers in turn, and not one is passed
    /// over.
    pub(crate) fn serves_in_rotation(&mut self, connections: usize) {
        self.await_everybody_awake();
        let (handed_off, reclaimed) = self.handed_off();
        let slots = self.who_answers(connections);
        let (round, _) = slots.split_at(WORKERS);
        for (at, slot) in slots.iter().enumerate() {
            let log = self.cluster.log();
            assert_eq!(*slot, round[at % WORKERS], "connection {at}\n{log}");
        }
        let all = u64::try_from(connections).unwrap();
        assert_eq!(self.handed_off(), (handed_off + all, reclaimed));
    }

    /// Waits until four connections are answered by all four: a program may listen first and then
    /// prepare itself, as Flask's reloader does, and is passed over meanwhile.
    fn await_everybody_awake(&self) {
        await_condition("an answer of everybody", || {
            let slots: BTreeSet<_> = self.who_answers(WORKERS).into_iter().collect();
            slots.len() == WORKERS
        });
    }

    /// The slots that answer on one connection after the other.
    fn who_answers(&self, connections: usize) -> Vec<u64> {
        // A program may have children that answer, so what counts is whose children they are.
        let mut known = BTreeMap::new();
        (0..connections)
            .map(|_| {
                let pid = self.ask();
                *known.entry(pid).or_insert_with(|| self.slot_of(pid))
            })
            .collect()
    }

    /// Every process of the program has the descriptors that it had, after so many connections.
    fn leaks_nothing(&self, before: &BTreeMap<Pid, usize>) {
        // A program may close a connection a little later than its client.
        await_condition("no descriptor more than before", || {
            self.descriptors()
                .iter()
                .all(|(pid, &now)| before.get(pid).is_none_or(|&before| now <= before + SPARE))
        });
    }

    /// Clients that ask all the time notice nothing of a reload, and it replaces everybody.
    fn reloads_under_load(&self) {
        let before = self.workers();
        let load = self.load();
        load.await_more(50);
        operator::done(&self.control, &["reload", "--wait"]);
        load.await_more(50);
        let tally = load.stop();
        assert_eq!(
            tally.failures,
            [""; 0],
            "of {} and more",
            tally.answers.len()
        );
        let after = self.workers();
        let stayed = before.keys().find(|it| after.contains_key(it));
        assert_eq!(stayed, None);
        assert_eq!(after.len(), WORKERS);
    }

    /// SIGKILL, and soon there are four again, in rotation.
    fn replaces_the_killed(&mut self) {
        let workers = self.workers();
        let (&victim, _) = workers
            .iter()
            .find(|&(_, &slot)| slot == 1)
            .expect("slot 1");
        let below = descendants(victim);
        kill(victim, Signal::SIGKILL).expect("kill it");
        await_condition("its successor", || {
            let workers = self.workers();
            workers.len() == WORKERS && !workers.contains_key(&victim)
        });
        await_condition("nobody left of it", || {
            !below.iter().any(|&it| is_alive(it))
        });
        self.serves_in_rotation(2 * WORKERS);
    }

    /// SIGTERM to the master: it ends well, in time, and nobody is left.
    pub(crate) fn stops(self) {
        let everybody = descendants(self.cluster.pid());
        assert!(everybody.len() >= WORKERS);
        let ended = self.cluster.stop();
        assert_eq!(ended.code(), 0, "{}", ended.log);
        await_condition("nobody left", || !everybody.iter().any(|&it| is_alive(it)));
    }

    /// Clients that ask until they are stopped.
    pub(crate) fn load(&self) -> Load<Pid> {
        let (visitor, address) = (self.program.visitor, self.address);
        Load::asking(8, move || visitor.ask(address))
    }

    /// The pid of who answers next.
    pub(crate) fn ask(&self) -> Pid {
        let answer = self.program.visitor.ask(self.address);
        answer.unwrap_or_else(|err| panic!("{err}\n{}", self.cluster.log()))
    }

    /// The workers that serve, and the slot of each.
    pub(crate) fn workers(&self) -> BTreeMap<Pid, u64> {
        let status = status(&self.control);
        let workers = status["workers"].as_array().expect("workers").iter();
        let serving = workers.filter(|worker| worker["state"] == "serving");
        serving
            .map(|worker| {
                let pid = i32::try_from(worker["pid"].as_i64().expect("a pid")).unwrap();
                (Pid::from_raw(pid), worker["slot"].as_u64().expect("a slot"))
            })
            .collect()
    }

    /// How many connections the listener has handed off, and those of them that it took back.
    fn handed_off(&self) -> (u64, u64) {
        let status = status(&self.control);
        let mut listeners = status["listeners"].as_array().expect("listeners").iter();
        // Java's address is `[::ffff:127.0.0.1]`.
        let port = format!(":{}", self.address.port());
        let ours = listeners.find(|it| it["address"].as_str().unwrap().ends_with(&port));
        let ours = ours.unwrap_or_else(|| panic!("{port} is not in {status}"));
        let count = |what: &str| ours[what].as_u64().expect("a number");
        (count("handed_off"), count("reclaimed"))
    }

    /// The slot that this process is in, or whoever started it.
    fn slot_of(&self, pid: Pid) -> u64 {
        let workers = self.workers();
        let mut ancestors = std::iter::successors(Some(pid), |&it| parent(it));
        let slot = ancestors.find_map(|it| workers.get(&it));
        *slot.unwrap_or_else(|| panic!("{pid} is of no worker: {workers:?}"))
    }

    /// What every process of the program has open.
    fn descriptors(&self) -> BTreeMap<Pid, usize> {
        let everybody = descendants(self.cluster.pid()).into_iter();
        everybody.map(|pid| (pid, descriptors(pid))).collect()
    }
}

impl Program {
    fn check_installed(&self, path: &OsString) {
        for command in self.needs {
            let is_there = env::split_paths(path).any(|it| it.join(command).exists());
            assert!(
                is_there,
                "{command} is not installed: scripts/test installs it"
            );
        }
    }
}

/// Waits until every process has said where it listens, which is what getsockname told it.
fn hear_from_all(cluster: &mut Cluster, announces: &str) {
    for slot in 0..WORKERS {
        let of_slot = format!(" slot={slot} ");
        cluster.find_line(announces, |line| {
            // The name of a process, and what it said: `w1 slot=0 pid=4711 | listening`.
            let said = line.split_once(" | ");
            said.is_some_and(|(who, what)| who.contains(&of_slot) && what.contains(announces))
        });
    }
}

/// A copy of what the page's commands name, with another port.
fn directory(with_port: impl Fn(&str) -> String) -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/any");
    for source in fs::read_dir(sources).expect("examples/any").flatten() {
        if let Ok(text) = fs::read_to_string(source.path()) {
            let copy = directory.path().join(source.file_name());
            fs::write(copy, with_port(&text)).expect("write a copy");
        }
    }
    for (name, target) in [
        ("node_modules", installed().join("node_modules")),
        ("plain_axum", example("plain_axum")),
    ] {
        symlink(target, directory.path().join(name)).expect("a link");
    }
    directory
}

/// Where commands are looked for: what was built, and what `scripts/test` installed, come first.
fn search_path() -> OsString {
    let built = rr_master().parent().unwrap().to_owned();
    let inherited = env::var_os("PATH").unwrap_or_default();
    // Debian has servers where users do not look.
    let system = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    let all = [built, installed().join("venv/bin")].into_iter();
    let all = all.chain(env::split_paths(&inherited)).chain(system);
    env::join_paths(all).expect("directories without a colon")
}

/// Where `scripts/test` puts what comes from PyPI and npm.
fn installed() -> PathBuf {
    rr_master().ancestors().nth(2).unwrap().join("programs")
}

/// Descriptors that a program may open once and keep: a pipe, a thread's event, a log.
const SPARE: usize = 3;

/// The master as it is, only quicker to trust a new generation and slower to pass over who gets no
/// CPU on a busy machine, and with everything in one log.
const SETTINGS: [(&str, &str); 4] = [
    ("RR_CANARY", "100ms"),
    ("RR_STALL_TIMEOUT", "10s"),
    ("RR_STDOUT", "lines"),
    ("RR_STDERR", "lines"),
];

/// How many of them may not fail, nor leak a descriptor.
const CONNECTIONS: usize = 10_000;
