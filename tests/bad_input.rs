//! What cannot work is refused: one line that names the value and the remedy, the right exit
//! code, nothing started and nothing left behind. And the two ways round it: waiting for an
//! address, and the pid file of a master that is gone.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use common::client::get;
use common::command::{Unprivileged, after, privileged_port};
use common::{Cluster, processes, rr_master, test_worker};

/// Flags and values that make no sense. (N45, E42, E47)
#[test]
fn a_bad_flag_is_refused_with_the_value_and_the_remedy() {
    let program = "/bin/true";
    for (flags, says) in [
        (
            &["--wrokers", "4"][..],
            &["--wrokers", "--workers", "--help"][..],
        ),
        (&["--workers=0"], &["workers 0", "--workers 4"]),
        (&["--workers=100000"], &["workers 100000", "at most 4096"]),
        (
            &["--workers=many"],
            &["many", "a number such as 4, or auto"],
        ),
        (&["--workers=-1"], &["-1", "a number such as 4, or auto"]),
        (&["--workers=1.5"], &["1.5", "a number such as 4, or auto"]),
        (
            &["--on-crash-loop=explode"],
            &["explode", "hold", "park", "exit"],
        ),
        (&["--log-level=loud"], &["loud", "--log-level"]),
        (&["--ready-timeout=soon"], &["soon", "500ms, 30s or 5m"]),
        (&["--ready-timeout=0s"], &["0s", "more than nothing"]),
        (&["--hang-timeout=0s"], &["0s", "more than nothing"]),
        (
            &["--hang-timeout=199ms"],
            &["hang timeout 199ms", "at least 200ms"],
        ),
        (
            &["--stall-timeout=19ms"],
            &["stall timeout 19ms", "at least 20ms"],
        ),
        (&["--stall-timeout=0s"], &["0s", "more than nothing"]),
        (&["--overflow=drop"], &["drop", "wait, close, reset"]),
        (
            &["--overflow-after=1s"],
            &["--overflow-after", "--overflow close"],
        ),
        (&["--max-connections=0"], &["0", "above 0"]),
        (&["--max-connections-per-worker=x"], &["x", "above 0"]),
        (&["--stop-timeout=10"], &["10", "500ms, 30s or 5m"]),
        (&["--stop-timeout=9999d"], &["9999d", "at most a year"]),
        (&["--bind-retry=later"], &["later", "500ms, 30s or 5m"]),
        (&["--orphan-grace=-1s"], &["-1s", "500ms, 30s or 5m"]),
        (&["--backoff=100ms"], &["100ms", "100ms..15s"]),
        (&["--backoff=5s..1s"], &["5s..1s", "longer than the last"]),
        (&["--window=0"], &["0", "1..=256"]),
        (&["--window=257"], &["257", "1..=256"]),
        (&["--restart-limit=60"], &["60", "60/60s"]),
        (&["--restart-limit=x/60s"], &["x/60s", "not a number"]),
        (&["--env=NOVALUE"], &["NOVALUE", "KEY=VALUE"]),
        (&["--env==x"], &["=x", "name before '=' is empty"]),
        (&["--env=RR_SLOT=1"], &["RR_SLOT=1", "the master's own"]),
        (&["--user="], &["--user", "name is empty"]),
        (&["--user=a:b:c"], &["b:c", "name of anybody"]),
        (&["--user=root:root", "--group=root", "x"], &["twice"]),
        (&["--group=4294967295"], &["4294967295", "nobody's number"]),
        (&["--umask=8"], &["8", "octal", "027"]),
        (&["--umask=1000"], &["1000", "octal"]),
        (&["--nice=20"], &["20", "-20..=19"]),
        (&["--nice=-21"], &["-21", "-20..=19"]),
        (&["--rlimit=nofile"], &["nofile", "nofile=1024:4096"]),
        (&["--rlimit=files=1"], &["files", "nofile"]),
        (&["--rlimit=nofile=2:1"], &["2:1", "above the hard one"]),
        (&["--cpu-affinity=all"], &["all", "auto", "0-3,5"]),
        (&["--cpu-affinity=3-1"], &["3-1", "no range of CPUs"]),
        (&["--stdout=a.log"], &["a.log", "file:PATH"]),
        (&["--stderr=file:"], &["file:", "empty"]),
        (&["--pidfile"], &["--pidfile", "FILE"]),
    ] {
        let args = flags
            .iter()
            .copied()
            .chain((flags.len() == 1 && !flags[0].ends_with("pidfile")).then_some(program));
        refuse(rr_master_with(args)).expect(2, says);
    }
}

/// (N45, E42, E43)
#[test]
fn an_address_that_is_none_is_refused_with_how_to_write_it() {
    let long = format!("unix:/{}", "x".repeat(107));
    for (address, remedy) in [
        ("127.0.0.1", "write HOST:PORT"),
        ("localhost", "write HOST:PORT"),
        ("[::1]", "write HOST:PORT"),
        ("8000", "127.0.0.1:PORT"),
        (":8000", "127.0.0.1:PORT"),
        ("localhost:80", "names are not looked up"),
        ("127.0.0.1:http", "number from 0 to 65535"),
        ("127.0.0.1:65536", "number from 0 to 65535"),
        ("::1:8000", "[::1]:8000"),
        ("/run/app.sock", "unix:PATH"),
        ("unix:", "unix:@NAME"),
        ("", "write HOST:PORT"),
        ("fd:three", "write fd:N"),
        ("=127.0.0.1:0", "name before '=' is empty"),
        ("127.0.0.1:0,backlog=0", "number above 0"),
        ("127.0.0.1:0,v6only=yes", "only an IPv6 address"),
        ("127.0.0.1:0,mode=660", "only a Unix socket"),
        ("unix:x,mode=rw", "in octal"),
        ("unix:x,owner=no-such-user", "there is no user"),
        ("127.0.0.1:0,speed=9", "backlog, v6only, mode, owner"),
        (&long, "107 bytes"),
    ] {
        let value = address
            .split([',', '='])
            .find(|part| !part.is_empty())
            .unwrap_or("--listen");
        refuse(rr_master_with(["-l", address, "/bin/true"])).expect(2, &[value, remedy]);
        if !address.contains([',', '=']) && !address.starts_with("fd:") {
            let flags = ["--allow-listen", address, "/bin/true"];
            refuse(rr_master_with(flags)).expect(2, &[remedy]);
        }
    }
}

#[test]
fn a_program_that_cannot_be_started_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let plain = dir.path().join("plain");
    fs::write(&plain, "#!/bin/sh\n").unwrap();
    let plain = plain.to_str().unwrap();
    let directory = dir.path().to_str().unwrap();
    for (program, remedy) in [
        ("/nonexistent/program", "check the path"),
        ("./nonexistent", "check the path"),
        ("/bin/true/x", "check the path"),
        (
            "no-such-program-anywhere",
            "write ./no-such-program-anywhere",
        ),
        (plain, "chmod +x"),
        (directory, "path of a program"),
        ("", "the name is empty"),
    ] {
        // It is shown with its absolute path.
        let name = program.trim_start_matches("./");
        refuse(rr_master_with(["-w", "1", program])).expect(2, &["program", name, remedy]);
        if !program.is_empty() {
            let flags = ["--agent", program, "/bin/true"];
            refuse(rr_master_with(flags)).expect(2, &["program", name, remedy]);
        }
    }
}

#[test]
fn a_directory_that_cannot_be_worked_in_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let file = file.to_str().unwrap();
    for (cwd, says) in [("/nonexistent", "create it"), (file, "not a directory")] {
        let flags = ["--cwd", cwd, "/bin/true"];
        refuse(rr_master_with(flags)).expect(2, &[cwd, says, "--cwd"]);
    }
}

#[test]
fn a_listener_name_that_is_given_twice_is_refused() {
    for listeners in [
        ["-l", "web=127.0.0.1:0", "-l", "web=unix:web.sock"],
        ["-l", "127.0.0.1:0", "-l", "127.0.0.1:0"],
    ] {
        let name = listeners[1].split('=').next().unwrap();
        let command = rr_master_with(listeners.into_iter().chain(["/bin/true"]));
        refuse(command).expect(2, &[name, "given twice", "NAME=ADDRESS"]);
    }
}

/// A value is shown, but it cannot break the one line into two.
#[test]
fn a_line_break_in_a_value_stays_within_the_line() {
    for args in [
        &["evil\nprogram"][..],
        &["-l", "127.0.0.1\n:80", "x"],
        &["--cwd", "/a\nb", "/bin/true"],
        &["-l", "unix:/nonexistent\n/x", "/bin/true"],
    ] {
        let refused = refuse(rr_master_with(args));
        assert_eq!(refused.stderr.lines().count(), 1, "{}", refused.stderr);
    }
}

/// The first is not disturbed by the second. (N05, E43)
#[test]
fn an_address_in_use_is_refused_by_its_name() {
    let (_first, address) = Cluster::hello(1);
    let address_text = address.to_string();
    let flags = [
        "-w",
        "1",
        "-l",
        "unix:other.sock",
        "-l",
        &address_text,
        "/bin/true",
    ];
    let remedies = [&address_text[..], "EADDRINUSE", "ss -ltnp", "--bind-retry"];
    refuse(rr_master_with(flags)).expect(6, &remedies);
    assert_eq!(get(address, "/").unwrap().status, 200);
}

#[test]
fn an_address_that_no_interface_has_is_refused() {
    let flags = ["-l", "192.0.2.1:8000", "/bin/true"];
    let says = ["192.0.2.1:8000", "EADDRNOTAVAIL", "no interface"];
    refuse(rr_master_with(flags)).expect(6, &says);
}

#[test]
fn a_unix_socket_in_a_missing_directory_is_refused() {
    let flags = ["-l", "unix:missing/app.sock", "/bin/true"];
    let says = [
        "unix:missing/app.sock",
        "ENOENT",
        "directory does not exist",
    ];
    refuse(rr_master_with(flags)).expect(6, &says);
}

/// (N04, N70)
#[test]
fn a_privileged_port_is_refused_to_a_user_without_rights() {
    let Some(port) = privileged_port() else {
        return eprintln!("every port is free for everybody here: nothing tested");
    };
    let programs = Unprivileged::new();
    let address = format!("127.0.0.1:{port}");
    let command = programs.command(["-w", "1", "-l", &address, "/bin/true"]);
    refuse_here(command).expect(6, &[&address, "EACCES", "CAP_NET_BIND_SERVICE"]);
}

#[test]
fn more_workers_than_descriptors_allow_are_refused_with_how_many_are_possible() {
    // Each stream that the master reads is one more of its descriptors.
    let needed = [
        &[][..],
        &["--stdout=lines"],
        &["--stdout=lines", "--stderr=lines"],
    ]
    .map(descriptors_needed);
    // A hundred, and the one more that a rollout needs.
    assert_eq!(needed[1] - needed[0], 101);
    assert_eq!(needed[2] - needed[1], 101);
}

/// How many descriptors a hundred workers with these flags are said to need.
fn descriptors_needed(flags: &[&str]) -> u32 {
    let args = |workers: u32, program: &str| {
        let workers = workers.to_string();
        let args = [&["-w", &workers], flags, &[program]].concat();
        args.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let refused = refuse(after("ulimit -n 64", args(100, "/bin/true")));
    refused.expect(2, &["workers 100", "the limit is 64", "ulimit -n"]);

    // Both numbers in the message are true.
    let number = |before: &str| -> u32 {
        let (_, rest) = refused.stderr.split_once(before).unwrap();
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next();
        digits.unwrap().parse().unwrap()
    };
    let (possible, needed) = (number("at most "), number("ulimit -n "));
    for (limit, workers) in [(64, possible), (needed, 100)] {
        let prelude = format!("ulimit -n {limit}");
        let command = after(&prelude, args(workers, "/bin/false"));
        let ended = Cluster::from_command(command).wait();
        assert_eq!(
            ended.code(),
            3,
            "started, and failed as it must\n{}",
            ended.log
        );
    }
    needed
}

#[test]
fn a_second_master_with_the_same_pid_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let pidfile = dir.path().join("rr.pid");
    let path = pidfile.to_str().unwrap();
    let (first, address) = Cluster::test_workers(1, &["--pidfile", path]);
    let content = fs::read_to_string(&pidfile).unwrap();

    let socket = dir.path().join("second.sock");
    let listen = format!("unix:{}", socket.display());
    let flags = ["--pidfile", path, "-l", &listen, "/bin/true"];
    let pid = first.pid().to_string();
    refuse(rr_master_with(flags)).expect(2, &[path, &pid, "--pidfile"]);

    assert_eq!(fs::read_to_string(&pidfile).unwrap(), content);
    assert!(!socket.exists());
    assert_eq!(get(address, "/").unwrap().status, 200);
}

#[test]
fn a_pid_file_that_cannot_be_written_is_refused() {
    for (path, says) in [
        ("missing/rr.pid", "ENOENT"),
        ("/", "EISDIR"),
        ("/proc/rr.pid", "ENOENT"),
    ] {
        let flags = ["--pidfile", path, "/bin/true"];
        refuse(rr_master_with(flags)).expect(2, &["pid file", path, says, "--pidfile"]);
    }
}

/// (E10)
#[test]
fn the_pid_file_has_the_pid_and_a_lock_and_is_removed_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rr.pid");
    let flags = ["--pidfile", path.to_str().unwrap()];
    let (cluster, _) = Cluster::test_workers(1, &flags);
    let content = fs::read_to_string(&path).unwrap();
    assert_eq!(content, format!("{}\n", cluster.pid()));
    assert!(!can_lock(&path));
    assert_eq!(cluster.stop().code(), 0);
    assert!(!path.exists());
}

/// What a killed master leaves behind has no lock. (E10)
#[test]
fn a_stale_pid_file_is_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rr.pid");
    let flags = ["--pidfile", path.to_str().unwrap()];
    let (killed, _) = Cluster::test_workers(1, &flags);
    killed.signal(Signal::SIGKILL);
    let killed = killed.wait();
    assert_eq!(killed.status.code(), None);
    assert!(path.exists(), "as a killed master leaves it");

    // Longer than what will be written over it.
    fs::write(&path, "1234567890 and more\n").unwrap();
    let (cluster, _) = Cluster::test_workers(1, &flags);
    let content = fs::read_to_string(&path).unwrap();
    assert_eq!(content, format!("{}\n", cluster.pid()));
}

/// (E10)
#[test]
fn a_pid_file_that_is_gone_or_not_ours_at_the_end_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rr.pid");
    let flags = ["--pidfile", path.to_str().unwrap()];
    let (cluster, _) = Cluster::test_workers(1, &flags);
    fs::remove_file(&path).unwrap();
    assert_eq!(cluster.stop().code(), 0);

    let (cluster, _) = Cluster::test_workers(1, &flags);
    let theirs = dir.path().join("theirs.pid");
    fs::write(&theirs, "theirs").unwrap();
    fs::rename(&theirs, &path).unwrap();
    assert_eq!(cluster.stop().code(), 0);
    assert_eq!(fs::read_to_string(&path).unwrap(), "theirs");
}

/// (N27)
#[test]
fn bind_retry_waits_until_the_address_is_free() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap();
    let mut cluster = waiting_for(&address.to_string(), "60s");
    drop(other);
    cluster.await_ready();
    assert_eq!(get(address, "/").unwrap().status, 200);
}

#[test]
fn bind_retry_ends_when_its_time_is_over() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    let ended = waiting_for(&address, "150ms").wait();
    assert_eq!(ended.code(), 6, "{}", ended.log);
    let last = ended.log.lines().last().unwrap();
    assert!(
        last.starts_with(&format!("rr-master: bind {address}: ")),
        "{}",
        ended.log
    );
    assert!(!ended.log.contains("spawned"), "{}", ended.log);
}

#[test]
fn a_signal_ends_the_wait_for_an_address() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT] {
        let cluster = waiting_for(&address, "1h");
        cluster.signal(signal);
        let ended = cluster.wait();
        assert_eq!(ended.code(), 0, "{}", ended.log);
        assert!(!ended.log.contains("spawned"), "{}", ended.log);
    }
}

#[test]
fn help_and_version_are_printed_on_standard_output() {
    let Output {
        status,
        stdout,
        stderr,
    } = rr_master_with(["--help"]).output().unwrap();
    let help = String::from_utf8(stdout).unwrap();
    assert_eq!((status.code(), stderr), (Some(0), vec![]));
    for code in 0..=8 {
        assert!(
            help.contains(&format!("\n  {code}  ")),
            "exit code {code} in {help}"
        );
    }
    let examples = help.split("Examples:").nth(1).expect("examples");
    // Its tables are laid out by hand, for a terminal that is not wide.
    for line in examples.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    // As the manual of the signals has it.
    for signal in ["SIGHUP            reload", "SIGTTIN", "SIGTTOU", "SIGUSR1"] {
        assert!(examples.contains(signal), "{signal} in {examples}");
    }
    assert!(
        examples
            .lines()
            .filter(|line| line.starts_with("  rr-master"))
            .count()
            >= 4
    );
    for flag in [
        "--workers",
        "--listen",
        "--agent",
        "--stop-timeout",
        "--pidfile",
        "SIGTERM",
    ] {
        assert!(help.contains(flag), "{flag} in {help}");
    }

    let Output {
        status,
        stdout,
        stderr,
    } = rr_master_with(["--version"]).output().unwrap();
    let version = String::from_utf8(stdout).unwrap();
    assert_eq!((status.code(), stderr), (Some(0), vec![]));
    assert_eq!(
        version,
        format!("rr-master {}\n", env!("CARGO_PKG_VERSION"))
    );
}

/// What the README and the help say of each exit code is the same.
#[test]
fn the_readme_and_the_help_agree_on_the_exit_codes() {
    let help = rr_master_with(["--help"]).output().unwrap().stdout;
    let help = String::from_utf8(help).unwrap();
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    for code in 0..=8 {
        let label = format!("| {code} | ");
        let meaning = readme
            .lines()
            .find_map(|line| line.strip_prefix(&label))
            .unwrap();
        let meaning = meaning.trim_end_matches(" |").replace('`', "");
        assert!(
            help.contains(&format!("  {code}  {meaning}\n")),
            "{code}: {meaning}\n{help}"
        );
    }
}

/// What is left of a master that refused to start.
#[derive(Debug)]
struct Refused {
    code: Option<i32>,
    stderr: String,
}

impl Refused {
    /// Exactly one line, with all of this in it.
    #[track_caller]
    fn expect(&self, code: i32, says: &[&str]) {
        let Refused {
            code: found,
            stderr,
        } = self;
        assert_eq!(*found, Some(code), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(
            stderr.starts_with("rr-master: ") && stderr.ends_with('\n'),
            "{stderr:?}"
        );
        for text in says {
            assert!(stderr.contains(text), "no {text:?} in: {stderr}");
        }
    }
}

fn rr_master_with<'a>(args: impl IntoIterator<Item = impl AsRef<std::ffi::OsStr> + 'a>) -> Command {
    let mut command = Command::new(rr_master());
    command.args(args);
    command
}

/// Runs it to its end in an empty directory, which it must leave empty.
#[track_caller]
fn refuse(mut command: Command) -> Refused {
    let dir = tempfile::tempdir().unwrap();
    command.current_dir(dir.path());
    let refused = refuse_here(command);
    assert_eq!(
        names_in(dir.path()),
        BTreeSet::new(),
        "left behind: {refused:?}"
    );
    refused
}

#[track_caller]
fn refuse_here(mut command: Command) -> Refused {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (stdout, stderr) = (read(child.stdout.take()), read(child.stderr.take()));
    let code = wait(&mut child);
    assert_eq!(stdout, "", "on standard output");
    let master = Pid::from_raw(child.id().cast_signed());
    assert_eq!(processes::of_master(master), [], "still running: {stderr}");
    assert!(!stderr.contains("spawned"), "{stderr}");
    Refused { code, stderr }
}

fn read(stream: Option<impl Read>) -> String {
    let mut text = String::new();
    stream.unwrap().read_to_string(&mut text).unwrap();
    text
}

fn wait(child: &mut Child) -> Option<i32> {
    child.wait().unwrap().code()
}

fn names_in(dir: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(dir).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

/// A master that has found the address in use and tries again for so long.
fn waiting_for(address: &str, patience: &str) -> Cluster {
    let worker = test_worker();
    let flags = ["-w", "1", "-l", address, "--bind-retry", patience];
    let program = [worker.to_str().unwrap(), "serve"];
    let mut cluster = Cluster::start(flags.into_iter().chain(program));
    cluster.await_text("trying again");
    cluster
}

fn can_lock(path: &Path) -> bool {
    let file = fs::File::open(path).unwrap();
    Flock::lock(file, FlockArg::LockExclusiveNonblock).is_ok()
}
