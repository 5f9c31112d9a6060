//! Programs that know nothing of their master, with the library that is preloaded to them: how they
//! start, how they are refused, and how they are let go.

mod common;

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::{Signal, kill};

use common::client::{Asked, ask, connect, get};
use common::load::Load;
use common::{Cluster, await_condition, rr_master, run_to_end};

const SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/any/server.py");

/// Its workers run the server in Python, which asks for this address.
fn start(flags: &[&str], asks_for: &str) -> Cluster {
    let program = ["--preload", "python3", SERVER, asks_for];
    Cluster::start([flags, &program].concat())
}

fn await_address(cluster: &mut Cluster) -> SocketAddr {
    let line = cluster.find_line("an address", |line| {
        line.contains("listening on ") && line.contains(" for w")
    });
    let (_, rest) = line.split_once("listening on ").unwrap();
    rest.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn an_unchanged_program_is_served_by_all_workers_in_turn() {
    let mut cluster = start(&["-w", "3"], "127.0.0.1:0");
    let address = await_address(&mut cluster);
    cluster.await_ready();
    let slots: Vec<u32> = (0..30)
        .map(|_| get(address, "/").unwrap().server().slot)
        .collect();
    assert_eq!(slots[..3], slots[3..6]);
    for slot in 0..3 {
        assert_eq!(slots.iter().filter(|it| **it == slot).count(), 10);
    }
    let port = get(address, "/port").unwrap().body;
    assert_eq!(port.trim(), address.port().to_string());
    assert_eq!(cluster.stop().code(), 0);
}

#[test]
fn one_that_is_killed_is_replaced_and_what_it_had_not_received_is_served() {
    let mut cluster = start(&["-w", "2"], "127.0.0.1:0");
    let address = await_address(&mut cluster);
    cluster.await_ready();
    let stopped = get(address, "/").unwrap().server();
    kill(stopped.pid(), Signal::SIGSTOP).unwrap();
    await_condition("it is stopped", || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", stopped.pid)).unwrap();
        stat.contains(") T ")
    });
    let asked: Vec<Asked<TcpStream>> = (0..6)
        .map(|_| ask(connect(address).unwrap(), "/").unwrap())
        .collect();
    kill(stopped.pid(), Signal::SIGKILL).unwrap();
    for answer in asked {
        assert_eq!(answer.answer().unwrap().status, 200);
    }
    await_condition("a replacement serves", || {
        let server = get(address, "/").unwrap().server();
        server.slot == stopped.slot && server.id != stopped.id
    });
    assert_eq!(cluster.stop().code(), 0);
}

#[test]
fn a_reload_fails_no_request() {
    let mut cluster = start(&["-w", "2", "--canary", "0s"], "127.0.0.1:0");
    let address = await_address(&mut cluster);
    cluster.await_ready();
    let load = Load::start(address, 4);
    load.await_more(50);
    cluster.signal(Signal::SIGHUP);
    cluster.await_text("all at generation 2");
    load.await_more(50);
    let tally = load.stop();
    assert_eq!(tally.failures, Vec::<String>::new());
    assert_eq!(cluster.stop().code(), 0);
}

/// What the program calls its port 3000 is another one outside.
#[test]
fn a_port_that_is_mapped_is_served_where_the_operator_wants_it() {
    let mut cluster = start(&["-w", "2", "-l", "127.0.0.1:0=3000"], "0.0.0.0:3000");
    let address = cluster.address();
    cluster.await_ready();
    assert_ne!(address.port(), 3000);
    assert_eq!(get(address, "/").unwrap().body, "hello\n");
    assert_eq!(get(address, "/port").unwrap().body, "3000\n");
    assert_eq!(cluster.stop().code(), 0);
}

/// The operator says where: a program that asks for the same port anywhere gets it there.
#[test]
fn a_declared_port_is_the_programs_whatever_host_it_asks_for() {
    let probe = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = probe.local_addr().unwrap();
    drop(probe);
    let mut cluster = start(
        &["-w", "2", "-l", &address.to_string()],
        &format!("0.0.0.0:{}", address.port()),
    );
    cluster.await_ready();
    assert_eq!(get(address, "/").unwrap().body, "hello\n");
    assert_eq!(cluster.stop().code(), 0);
}

#[test]
fn what_is_neither_declared_nor_allowed_is_refused_and_the_program_is_told() {
    let mut cluster = start(
        &["-w", "1", "--no-refork", "-l", "127.0.0.1:0"],
        "127.0.0.1:9",
    );
    cluster.find_text("may not listen on \"127.0.0.1:9\"");
    cluster.find_text("--listen 127.0.0.1:9");
    assert_ne!(cluster.wait().code(), 0);
}

/// It has no handler for SIGTERM: that would end it in the middle.
#[test]
fn a_program_without_a_handler_finishes_what_it_has() {
    let mut cluster = start(&["-w", "1"], "127.0.0.1:0");
    let address = await_address(&mut cluster);
    cluster.await_ready();
    let (stream, asked) = ask_slowly(address);
    cluster.signal(Signal::SIGTERM);
    cluster.await_text("stopping");
    await_condition("nobody is let in", || TcpStream::connect(address).is_err());
    finish(stream);
    assert_eq!(asked.answer().unwrap().body, "/slow\n");
    let ended = cluster.wait();
    assert_eq!(ended.code(), 0, "{}", ended.log);
}

/// Nobody else is left to whom they could be given.
#[test]
fn a_stop_serves_those_who_wait_for_a_busy_program() {
    let mut cluster = start(&["-w", "2"], "127.0.0.1:0");
    let address = await_address(&mut cluster);
    cluster.await_ready();
    let (streams, asked): (Vec<_>, Vec<_>) = (0..2).map(|_| ask_slowly(address)).unzip();
    let waiting: Vec<Asked<TcpStream>> = (0..4)
        .map(|_| ask(connect(address).unwrap(), "/").unwrap())
        .collect();
    finishes_what_it_has(cluster, address, streams);
    for asked in asked {
        assert_eq!(asked.answer().unwrap().body, "/slow\n");
    }
    for asked in waiting {
        assert_eq!(asked.answer().unwrap().body, "hello\n");
    }
}

/// What it has open counts from its first connection on, whatever it was refused before.
#[test]
fn a_program_that_was_refused_at_first_finishes_what_it_has() {
    let flags = ["-w", "1", "-l", "127.0.0.1:0=3000"];
    let others = ["--env", "ELSE=0.0.0.0:3000"];
    let mut cluster = start(&[&flags[..], &others].concat(), "127.0.0.1:9");
    let address = cluster.address();
    cluster.await_ready();
    let (stream, asked) = ask_slowly(address);
    finishes_what_it_has(cluster, address, vec![stream]);
    assert_eq!(asked.answer().unwrap().body, "/slow\n");
}

/// Each counts what it has, also one that was started before another had asked for anything.
#[test]
fn a_program_of_several_that_listen_finishes_what_any_of_them_has() {
    let line = format!("python3 {SERVER} 0.0.0.0:3000 & python3 {SERVER} 0.0.0.0:3001 & wait");
    let listeners = ["-l", "127.0.0.1:0=3000", "-l", "127.0.0.2:0=3001"];
    let program = ["-w", "1", "--preload", "sh", "-c", &line];
    for busy in 0..2 {
        let mut cluster = Cluster::start([&listeners[..], &program].concat());
        let addresses = cluster.addresses(2);
        let addresses = [0, 1].map(|place| addresses[place].parse().unwrap());
        for address in addresses {
            assert_eq!(get(address, "/").unwrap().body, "hello\n");
        }
        let (stream, asked) = ask_slowly(addresses[busy]);
        finishes_what_it_has(cluster, addresses[busy], vec![stream]);
        assert_eq!(asked.answer().unwrap().body, "/slow\n");
    }
}

/// Nothing says that it is not asked to leave, so that is looked at for longer than it would take.
fn finishes_what_it_has(mut cluster: Cluster, address: SocketAddr, streams: Vec<TcpStream>) {
    cluster.signal(Signal::SIGTERM);
    cluster.await_text("stopping");
    await_condition("nobody is let in", || TcpStream::connect(address).is_err());
    let watch = common::Stopwatch::start();
    await_condition("it has counted all", || watch.elapsed().as_millis() > 1000);
    streams.into_iter().for_each(finish);
    let ended = cluster.wait();
    assert_eq!(ended.code(), 0, "{}", ended.log);
}

/// Its connections are counted although the first address was not to be had.
#[test]
fn a_program_that_looks_for_a_free_port_finishes_what_it_has() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let program = "
import socket, sys
try:
    socket.create_server(('127.0.0.1', int(sys.argv[1])))
except OSError:
    server = socket.create_server(('127.0.0.1', 0))
while True:
    connection, _ = server.accept()
    try:
        connection.sendall(b'x')
        connection.recv(1)
        connection.sendall(b'served')
    except OSError:
        pass # Somebody only looked whether clients are let in.
    connection.close()";
    let mut cluster = Cluster::start(["-w", "1", "--preload", "python3", "-c", program, &port]);
    let address = await_address(&mut cluster);
    cluster.await_ready();
    let mut stream = connect(address).unwrap();
    stream.read_exact(&mut [0]).unwrap();
    cluster.signal(Signal::SIGTERM);
    cluster.await_text("stopping");
    await_condition("nobody is let in", || TcpStream::connect(address).is_err());
    let watch = common::Stopwatch::start();
    await_condition("time passes", || watch.elapsed().as_millis() > 1000);
    stream.write_all(b"x").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "served");
    let ended = cluster.wait();
    assert_eq!(ended.code(), 0, "{}", ended.log);
}

/// A connection that nothing happens on does not keep a program for ever: it is told a little
/// before it would be made to.
#[test]
fn a_program_gets_its_stop_signal_before_the_deadline_whatever_it_has() {
    let mut cluster = start(
        &["-w", "1", "--stop-timeout", "4s", "--env", "HANDLES=TERM"],
        "127.0.0.1:0",
    );
    let address = await_address(&mut cluster);
    cluster.await_ready();
    let (_stream, _asked) = ask_slowly(address);
    cluster.signal(Signal::SIGTERM);
    cluster.await_text("slot=0 got SIGTERM");
    let ended = cluster.wait();
    assert_eq!(ended.code(), 0, "{}", ended.log);
    assert!(
        !ended.log.contains("did not leave in time"),
        "{}",
        ended.log
    );
}

#[test]
fn a_program_that_finishes_by_itself_may_be_told_at_once_and_with_its_own_signal() {
    let flags = [
        "-w",
        "2",
        "--stop-signal",
        "quit",
        "--stop-signal-when",
        "at-once",
        "--env",
        "HANDLES=QUIT",
    ];
    let mut cluster = start(&flags, "127.0.0.1:0");
    let address = await_address(&mut cluster);
    cluster.await_ready();
    let (_stream, _asked) = ask_slowly(address);
    cluster.signal(Signal::SIGTERM);
    for slot in 0..2 {
        cluster.find_text(&format!("slot={slot} got SIGQUIT"));
    }
    assert_eq!(cluster.wait().code(), 0);
}

/// Nothing is left to accept, and for a busy loop there would be no end of it.
#[test]
fn a_program_that_waits_for_its_stop_signal_does_not_spin() {
    let program = "
import asyncio, os, sys
async def serve(reader, writer):
    await reader.readline()
    writer.write(b'x'); await writer.drain()
    await reader.read(1)
    writer.close()
async def main():
    server = await asyncio.start_server(serve, '127.0.0.1', 0)
    await server.serve_forever()
asyncio.run(main())";
    let mut cluster = Cluster::start(["-w", "1", "--preload", "python3", "-c", program]);
    let address = await_address(&mut cluster);
    let ready = cluster.find_line("it is ready", |line| line.contains(" ready after "));
    let pid: u32 = word_after(&ready, "pid=").parse().unwrap();
    let mut stream = connect(address).unwrap();
    stream.write_all(b"hello\n").unwrap();
    stream.read_exact(&mut [0]).unwrap();
    cluster.signal(Signal::SIGTERM);
    await_condition("nobody is let in", || TcpStream::connect(address).is_err());
    let (used, switches) = (cpu_ticks(pid), switches(pid));
    // Half a second of looks at whether it is finished.
    let watch = common::Stopwatch::start();
    await_condition("time passes", || watch.elapsed().as_millis() > 500);
    assert!(cpu_ticks(pid) - used <= 5, "{used} {}", cpu_ticks(pid));
    assert!(
        self::switches(pid) - switches < 20,
        "it wakes up again and again"
    );
    stream.write_all(b"x").unwrap();
    let ended = cluster.wait();
    assert_eq!(ended.code(), 0, "{}", ended.log);
}

/// The same where somebody else takes its place, and its queue away.
#[test]
fn a_program_that_was_replaced_does_not_spin() {
    let program = "
import asyncio, os, sys
async def serve(reader, writer):
    await reader.readline()
    writer.write(b'x'); await writer.drain()
    await reader.read(1)
    writer.close()
async def main():
    server = await asyncio.start_server(serve, '127.0.0.1', 0)
    await server.serve_forever()
asyncio.run(main())";
    let mut cluster = Cluster::start([
        "-w",
        "1",
        "--canary",
        "0s",
        "--preload",
        "python3",
        "-c",
        program,
    ]);
    let address = await_address(&mut cluster);
    let ready = cluster.find_line("it is ready", |line| line.contains(" ready after "));
    let pid: u32 = word_after(&ready, "pid=").parse().unwrap();
    let mut stream = connect(address).unwrap();
    stream.write_all(b"hello\n").unwrap();
    stream.read_exact(&mut [0]).unwrap();
    cluster.signal(Signal::SIGHUP);
    let control = cluster.control();
    await_condition("it is leaving", || {
        let status = common::operator::status(&control);
        status["workers"]
            .as_array()
            .unwrap()
            .iter()
            .any(|it| it["pid"] == pid && it["state"] == "leaving")
    });
    let (used, switches) = (cpu_ticks(pid), switches(pid));
    // Half a second of looks at whether it is finished.
    let watch = common::Stopwatch::start();
    await_condition("time passes", || watch.elapsed().as_millis() > 500);
    assert!(cpu_ticks(pid) - used <= 5, "{used} {}", cpu_ticks(pid));
    assert!(
        self::switches(pid) - switches < 20,
        "it wakes up again and again"
    );
    stream.write_all(b"x").unwrap();
    cluster.await_text("all at generation 2");
    assert_eq!(cluster.stop().code(), 0);
}

#[test]
fn programs_do_not_outlive_a_killed_master() {
    let mut cluster = start(&["-w", "2", "--env", "HANDLES=TERM"], "127.0.0.1:0");
    let address = await_address(&mut cluster);
    cluster.await_ready();
    let pids: Vec<i32> = (0..2)
        .map(|_| get(address, "/").unwrap().server().pid)
        .collect();
    assert_ne!(pids[0], pids[1]);
    cluster.signal(Signal::SIGKILL);
    await_condition("they are gone", || {
        let alive = |pid: &&i32| {
            fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
        };
        pids.iter().find(alive).is_none()
    });
}

/// It answers when the program has given up waiting: what nobody takes is given back.
#[test]
fn a_master_that_answers_too_late_is_asked_again() {
    let program = "
import os, signal, socket, sys
master = int(os.environ['RR_MASTER_PID'])
address = ('127.0.0.1', int(sys.argv[1]))
os.kill(master, signal.SIGSTOP)
try:
    socket.create_server(address)
except TimeoutError:
    os.kill(master, signal.SIGCONT)
    server = socket.create_server(address)
while True:
    connection, _ = server.accept()
    connection.sendall(b'served')
    connection.close()";
    let probe = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = probe.local_addr().unwrap();
    drop(probe);
    let port = address.port().to_string();
    let program = ["--preload", "python3", "-c", program, &port];
    let mut cluster = Cluster::start([&["-w", "1", "--no-refork"][..], &program].concat());
    cluster.await_ready();
    let mut served = String::new();
    let mut stream = connect(address).unwrap();
    stream.read_to_string(&mut served).unwrap();
    assert_eq!(served, "served");
    assert_eq!(cluster.stop().code(), 0);
}

/// Behind a shell the kernel does not tell them, and an error of `accept` would be their end.
#[test]
fn the_end_of_the_master_is_a_stop_signal() {
    let directory = tempfile::tempdir().unwrap();
    let program = "
import os, signal, socket, sys
def path(what): return os.path.join(sys.argv[1], '%s.%s' % (what, os.environ['RR_SLOT']))
def finish(number, frame):
    open(path('handled'), 'w').close()
    sys.exit(0)
signal.signal(signal.SIGTERM, finish)
server = socket.create_server(('127.0.0.1', 0))
while True:
    try:
        server.accept()
    except OSError as error:
        open(path(os.strerror(error.errno)), 'w').close()";
    let script = directory.path().join("server.py");
    fs::write(&script, program).unwrap();
    let line = format!(
        "python3 {} {}; exit 3",
        script.display(),
        directory.path().display()
    );
    let mut cluster = Cluster::start(["-w", "4", "--preload", "sh", "-c", &line]);
    cluster.await_ready();
    cluster.signal(Signal::SIGKILL);
    let said = || {
        let names = fs::read_dir(directory.path()).unwrap();
        let mut names: Vec<String> = names
            .map(|it| it.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "server.py")
            .collect();
        names.sort();
        names
    };
    await_condition("each has said something", || said().len() >= 4);
    let expected = ["handled.0", "handled.1", "handled.2", "handled.3"];
    assert_eq!(said(), expected);
}

/// A shell between the master and the server, as npm and others have it.
#[test]
fn whoever_of_the_program_listens_is_served() {
    let line = format!("python3 {SERVER} 127.0.0.1:0; exit 3");
    let mut cluster = Cluster::start(["-w", "2", "--preload", "sh", "-c", &line]);
    let address = await_address(&mut cluster);
    cluster.await_ready();
    let slots: Vec<u32> = (0..4)
        .map(|_| get(address, "/").unwrap().server().slot)
        .collect();
    assert_eq!(slots[..2], slots[2..]);
    assert_ne!(slots[0], slots[1]);
    assert_eq!(cluster.stop().code(), 0);
}

#[test]
fn other_preloaded_libraries_stay() {
    let given = "LD_PRELOAD=libc.so.6";
    let mut cluster = start(&["-w", "1", "--env", given], "127.0.0.1:0");
    let address = await_address(&mut cluster);
    cluster.await_ready();
    let preloaded = get(address, "/preload").unwrap().body;
    let (ours, others) = preloaded.trim().split_once(':').unwrap();
    assert!(ours.ends_with("/librr_preload.so"), "{preloaded}");
    assert_eq!(others, "libc.so.6");
    assert_eq!(cluster.stop().code(), 0);
}

/// A static program would serve by itself, or not at all, and nobody would see why.
#[test]
fn a_static_program_is_refused_before_anything_starts() {
    let directory = tempfile::tempdir().unwrap();
    let program = static_program(directory.path(), "int main(void) { return 0; }");
    let ended = run_to_end(&["--preload", program.to_str().unwrap()]);
    assert_eq!(ended.code(), 2);
    assert!(ended.log.contains("is linked statically"), "{}", ended.log);
    assert!(ended.log.contains("LISTEN_FDS"), "{}", ended.log);
}

#[test]
fn what_fails_at_once_without_a_word_is_told_of_what_it_may_lack() {
    let ended = run_to_end(&["-w", "1", "false"]);
    assert_eq!(ended.code(), 3, "{}", ended.log);
    assert!(ended.log.contains("needs --preload"), "{}", ended.log);

    let ended = run_to_end(&["-w", "1", "--preload", "false"]);
    assert_eq!(ended.code(), 3, "{}", ended.log);
    assert!(!ended.log.contains("needs --preload"), "{}", ended.log);
    assert!(!ended.log.contains("foreground"), "{}", ended.log);

    // As the first process of a daemon ends.
    let ended = run_to_end(&["-w", "1", "--preload", "true"]);
    assert_eq!(ended.code(), 3, "{}", ended.log);
    assert!(ended.log.contains("in the foreground"), "{}", ended.log);

    let ended = run_to_end(&["--preload", "node server.js"]);
    assert_eq!(ended.code(), 2, "{}", ended.log);
    assert!(ended.log.contains("without quotes"), "{}", ended.log);
}

/// Behind a shell it is seen only when it does not get ready.
#[test]
fn a_program_that_was_never_heard_of_fails_the_start_with_the_reasons() {
    let directory = tempfile::tempdir().unwrap();
    let source = "#include <unistd.h>\nint main(void) { for (;;) pause(); }";
    let program = static_program(directory.path(), source);
    let ended = run_to_end(&[
        "-w",
        "1",
        "--no-refork",
        "--ready-timeout",
        "300ms",
        "--preload",
        "sh",
        "-c",
        &format!("exec {}", program.display()),
    ]);
    assert_eq!(ended.code(), 3, "{}", ended.log);
    assert!(
        ended.log.contains("linked statically (Go)"),
        "{}",
        ended.log
    );
}

#[test]
fn without_its_library_it_says_where_it_has_looked() {
    let directory = tempfile::tempdir().unwrap();
    let binary = copy_of_rr_master(directory.path(), Library::Missing);
    let (code, log) = run(&binary, &["--preload", "true"]);
    assert_eq!(code, Some(2), "{log}");
    assert!(log.contains("librr_preload.so"), "{log}");
    assert!(log.contains("lib/rr-master"), "{log}");
}

#[test]
fn a_library_that_anybody_may_change_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let binary = copy_of_rr_master(directory.path(), Library::Beside);
    let library = directory.path().join("librr_preload.so");
    let everybody = fs::Permissions::from_mode(0o646);
    fs::set_permissions(&library, everybody).unwrap();
    let (code, log) = run(&binary, &["--preload", "true"]);
    assert_eq!(code, Some(2), "{log}");
    assert!(log.contains("everybody may write to"), "{log}");
    assert!(log.contains("chmod o-w"), "{log}");
}

#[test]
fn a_port_that_could_not_be_mapped_is_refused() {
    let ended = run_to_end(&["-l", "127.0.0.1:0=3000", "true"]);
    assert_eq!(ended.code(), 2);
    assert!(ended.log.contains("only with --preload"), "{}", ended.log);
    let twice = ["-l", "127.0.0.1:0=3000", "-l", "127.0.0.2:0=3000"];
    let ended = run_to_end(&[&twice[..], &["--preload", "sh"]].concat());
    assert_eq!(ended.code(), 2);
    assert!(
        ended
            .log
            .contains("both are served as the program's port 3000"),
        "{}",
        ended.log
    );
}

enum Library {
    Missing,
    Beside,
}

fn copy_of_rr_master(directory: &Path, library: Library) -> PathBuf {
    let binary = directory.join("rr-master");
    fs::copy(rr_master(), &binary).unwrap();
    match library {
        Library::Missing => {}
        Library::Beside => {
            let name = "librr_preload.so";
            fs::copy(rr_master().with_file_name(name), directory.join(name)).unwrap();
        }
    }
    binary
}

fn run(binary: &Path, args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(binary).args(args).output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), log)
}

fn static_program(directory: &Path, source: &str) -> PathBuf {
    let (file, program) = (directory.join("program.c"), directory.join("program"));
    fs::write(&file, source).unwrap();
    let compiled = Command::new("cc")
        .args([OsStr::new("-static"), OsStr::new("-o")])
        .args([&program, &file])
        .status()
        .expect("a C compiler: apt-get install gcc libc6-dev");
    assert!(compiled.success());
    program
}

/// A request that is answered when a further byte comes.
fn ask_slowly(address: SocketAddr) -> (TcpStream, Asked<TcpStream>) {
    let stream = connect(address).unwrap();
    let ours = stream.try_clone().unwrap();
    let asked = ask(stream, "/slow").unwrap();
    (ours, asked)
}

fn finish(mut stream: TcpStream) {
    stream.write_all(b"x").unwrap();
}

fn word_after<'a>(line: &'a str, mark: &str) -> &'a str {
    let (_, rest) = line.split_once(mark).unwrap();
    rest.split(' ').next().unwrap()
}

/// User and system time so far, in ticks of 10 ms, see `proc_pid_stat(5)`.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, rest) = stat.rsplit_once(") ").unwrap();
    let fields: Vec<&str> = rest.split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// How often it has gone to sleep by itself.
fn switches(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.unwrap().trim().parse().unwrap()
}
