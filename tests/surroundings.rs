//! What a worker finds around it: environment, directory, arguments, standard streams, signals,
//! limits, descriptors, process group. Nothing of the master's own, and nothing by accident.

mod common;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::pty::{OpenptyResult, openpty};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, getpgid};

use common::client::{ask, connect, get};
use common::command::after;
use common::processes::{environ, open_files, pid_in, status};
use common::{Cluster, Ended, rr_master, test_worker};

/// `--env` adds to what is inherited, and wins over it. (N28, F04)
#[test]
fn variables_are_added_and_overridden() {
    let mut command = Command::new(rr_master());
    command
        .args(args(
            1,
            &[
                "--env",
                "RRT_BOTH=flag",
                "--env",
                "RRT_NEW=grüße=日本 語",
                "--env",
                "RRT_EMPTY=",
            ],
        ))
        .env("RRT_BOTH", "inherited")
        .env("RRT_KEPT", "naïve");
    let (_cluster, address) = ready(Cluster::from_command(command));
    for (name, value) in [
        ("RRT_BOTH", "flag"),
        ("RRT_NEW", "grüße=日本 語"),
        ("RRT_KEPT", "naïve"),
        ("RRT_EMPTY", ""),
    ] {
        let body = get(address, &format!("/env/{name}")).unwrap().body;
        assert_eq!(body, value, "{name}");
    }
}

/// (F05)
#[test]
fn every_process_is_told_who_it_is() {
    let agent = format!("{} agent", test_worker().display());
    let flags = ["--agent", &agent, "--agent", &agent];
    let (mut cluster, _) = ready(Cluster::start(args(3, &flags)));
    for (who, role, slot, count, id) in [
        ("agent slot=0", "agent", 0, 2, 1),
        ("agent slot=1", "agent", 1, 2, 2),
        ("w3 slot=0", "worker", 0, 3, 3),
        ("w4 slot=1", "worker", 1, 3, 4),
        ("w5 slot=2", "worker", 2, 3, 5),
    ] {
        let process = pid_in(&cluster.find_text(&format!("] {who}")));
        let mut told = introduction(process);
        let control: i32 = told.remove("RR_CONTROL_FD").unwrap().parse().unwrap();
        assert!(is_socket(process, control));
        let expected = [
            ("RR_COUNT", count.to_string()),
            ("RR_GENERATION", "1".to_owned()),
            ("RR_MASTER_PID", cluster.pid().to_string()),
            ("RR_ROLE", role.to_owned()),
            ("RR_SLOT", slot.to_string()),
            ("RR_WORKER_ID", id.to_string()),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value));
        assert_eq!(told, BTreeMap::from(expected), "{who}");
    }
}

/// A program that a worker starts must not take itself for a worker.
#[test]
fn grandchildren_inherit_nothing_of_the_introduction() {
    let (mut cluster, address) = ready(Cluster::start(args(1, &[])));
    let worker = pid_in(&cluster.find_text("w1 slot=0"));
    for name in introduction(worker).keys() {
        assert_eq!(
            get(address, &format!("/env/{name}")).unwrap().body,
            "",
            "{name}"
        );
    }
    let grandchild = get(address, "/child").unwrap().body;
    let grandchild = Pid::from_raw(grandchild.parse().unwrap());
    assert_eq!(introduction(grandchild), BTreeMap::new());
    // Its loader may have something open for a moment.
    common::await_condition("standard streams and nothing else", || {
        open_files(grandchild).keys().eq(&[0, 1, 2])
    });
    kill(grandchild, Signal::SIGKILL).unwrap();
}

/// A master that was itself started by a master.
#[test]
fn the_introduction_of_an_outer_master_is_not_passed_on() {
    let mut command = Command::new(rr_master());
    command.args(args(2, &[]));
    for (name, value) in [
        ("RR_CONTROL_FD", "99"),
        ("RR_ROLE", "agent"),
        ("RR_SLOT", "7"),
        ("RR_COUNT", "8"),
        ("RR_WORKER_ID", "70"),
        ("RR_GENERATION", "9"),
        ("RR_MASTER_PID", "1"),
    ] {
        command.env(name, value);
    }
    let (mut cluster, address) = ready(Cluster::from_command(command));
    let told = introduction(pid_in(&cluster.find_text("w1 slot=0")));
    assert_ne!(told["RR_CONTROL_FD"], "99");
    let others = [
        "RR_ROLE",
        "RR_SLOT",
        "RR_COUNT",
        "RR_WORKER_ID",
        "RR_GENERATION",
    ];
    let others = others.map(|name| told[name].as_str());
    assert_eq!(others, ["worker", "0", "2", "1", "1"]);
    assert_eq!(get(address, "/").unwrap().status, 200);
}

/// (N10)
#[test]
fn processes_run_in_the_directory_asked_for_or_the_masters() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().canonicalize().unwrap();
    let (_cluster, address) = ready(Cluster::start(args(1, &["--cwd", path.to_str().unwrap()])));
    assert_eq!(cwd(address), path);

    let mut command = Command::new(rr_master());
    command.args(args(1, &[])).current_dir(&path);
    let (_cluster, address) = ready(Cluster::from_command(command));
    assert_eq!(cwd(address), path);

    fs::create_dir(path.join("below")).unwrap();
    let mut command = Command::new(rr_master());
    command
        .args(args(1, &["--cwd", "below"]))
        .current_dir(&path);
    let (_cluster, address) = ready(Cluster::from_command(command));
    assert_eq!(cwd(address), path.join("below"));
}

/// A path to the program means the same whatever `--cwd` is; the agents run there, too.
#[test]
fn a_relative_program_is_found_from_the_masters_directory() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("worker");
    std::os::unix::fs::symlink(test_worker(), link).unwrap();
    let mut command = Command::new(rr_master());
    command
        .args([
            "-w",
            "1",
            "-l",
            "127.0.0.1:0",
            "--cwd",
            "/",
            "--agent",
            "./worker agent",
        ])
        .args(["./worker", "serve"])
        .current_dir(dir.path());
    let (mut cluster, address) = ready(Cluster::from_command(command));
    assert_eq!(cwd(address), Path::new("/"));
    let agent = pid_in(&cluster.find_text("agent slot=0"));
    let agent_cwd = fs::read_link(format!("/proc/{agent}/cwd")).unwrap();
    assert_eq!(agent_cwd, Path::new("/"));
}

/// (N64)
#[test]
fn what_follows_the_program_is_the_programs_own() {
    let mut command = Command::new(rr_master());
    let script = "echo \"$@\" >&2; exit 1";
    command.args(["-w", "1", "/bin/sh", "-c", script]);
    command.args([
        "sh",
        "--workers",
        "9",
        "-l",
        "nonsense",
        "--help",
        "--",
        "a b",
    ]);
    let ended = Cluster::from_command(command).wait();
    let said = "--workers 9 -l nonsense --help -- a b";
    assert!(ended.log.lines().any(|line| line == said), "{}", ended.log);
}

#[test]
fn standard_input_is_dev_null_and_the_other_streams_are_the_masters() {
    let dir = tempfile::tempdir().unwrap();
    let out = File::create(dir.path().join("out")).unwrap();
    let mut command = Command::new(rr_master());
    command.args(args(1, &[])).stdin(Stdio::piped()).stdout(out);
    let (mut cluster, _) = ready(Cluster::with_streams(command));
    let open = open_files(pid_in(&cluster.find_text("w1 slot=0")));
    let masters = open_files(cluster.pid());
    assert_eq!(open[&0], Path::new("/dev/null"));
    assert_eq!(open[&1], dir.path().canonicalize().unwrap().join("out"));
    assert_eq!(open[&2], masters[&2]);
    assert_ne!(
        masters[&0],
        Path::new("/dev/null"),
        "the test has given it a pipe"
    );
}

/// Both survive `exec`, and both would surprise a program: ignored by the master's parent, or
/// blocked by the master for itself.
#[test]
fn no_signal_is_blocked_or_ignored() {
    // Not a Rust program, which ignores SIGPIPE by itself.
    let script = "cat /proc/self/status >&2; exit 1";
    let mut command = after(
        "trap '' INT USR1 PIPE HUP QUIT",
        ["-w", "1", "/bin/sh", "-c", script],
    );
    command.stdout(Stdio::null());
    let ended = Cluster::with_streams(command).wait();
    let set = |label: &str| {
        let line = ended.log.lines().find_map(|line| line.strip_prefix(label));
        let line = line.unwrap_or_else(|| panic!("no {label}\n{}", ended.log));
        u64::from_str_radix(line.trim(), 16).unwrap()
    };
    // 32 and 33 are glibc's own: it keeps them from everybody, and ignores them in what it spawns.
    let ignored = set("SigIgn:") & !(0b11 << 31);
    assert_eq!((set("SigBlk:"), ignored), (0, 0));
}

/// The shell above does ignore them: without this, the test above shows nothing.
#[test]
fn a_signal_that_the_masters_parent_ignores_stays_ignored_in_the_master() {
    let (cluster, _) = ready(Cluster::from_command(after(
        "trap '' USR1 HUP",
        args(1, &[]),
    )));
    let ignored = u64::from_str_radix(&status(cluster.pid(), "SigIgn"), 16).unwrap();
    let bit = |signal: Signal| 1_u64 << (signal as i32 - 1);
    assert_eq!(ignored & bit(Signal::SIGUSR1), bit(Signal::SIGUSR1));
    assert_eq!(
        ignored & bit(Signal::SIGHUP),
        bit(Signal::SIGHUP),
        "as nohup wants it"
    );
}

/// The master's own limit is raised; programs that use `select` break with a high one.
#[test]
fn the_limit_on_descriptors_is_what_the_master_was_started_with() {
    let command = after("ulimit -Sn 300; ulimit -Hn 900", args(1, &[]));
    let (cluster, address) = ready(Cluster::from_command(command));
    assert_eq!(get(address, "/limit").unwrap().body, "300");
    let limits = fs::read_to_string(format!("/proc/{}/limits", cluster.pid())).unwrap();
    let own = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .unwrap();
    let own: Vec<_> = own.split_whitespace().collect();
    assert_eq!(own[3..5], ["900", "900"]);
}

/// Descriptors that the master's parent left open are not passed on. (N29)
#[test]
fn a_worker_has_its_standard_streams_and_its_control_channel_and_nothing_else() {
    let worker = test_worker();
    let args = [
        "-w",
        "1",
        "-l",
        "127.0.0.1:0",
        worker.to_str().unwrap(),
        "raw",
        "on-usr1",
        "closes",
    ];
    let mut cluster = Cluster::from_command(after("exec 7</dev/zero 9>&2", args));
    let worker = pid_in(&cluster.await_text("w1 slot=0"));
    // The loader has closed what it had open, and nothing was opened since: no SDK, it only waits.
    cluster.await_ready();
    let control: i32 = introduction(worker)["RR_CONTROL_FD"].parse().unwrap();
    let open: Vec<_> = open_files(worker).into_keys().collect();
    assert_eq!(open, [0, 1, 2, control]);
    assert!(is_socket(worker, control));
}

/// A worker maps its own page of the scoreboard and no other; an agent has no connections.
#[test]
fn every_worker_shares_one_page_with_the_master_and_agents_none() {
    let agent = format!("{} agent", test_worker().display());
    let (mut cluster, _) = ready(Cluster::start(args(2, &["--agent", &agent])));
    let who = ["agent slot=0", "w2 slot=0", "w3 slot=1"];
    let [agent, one, other] = who.map(|who| pid_in(&cluster.find_text(&format!("] {who}"))));
    let pages = [agent, one, other, cluster.pid()].map(|process| {
        let maps = fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
        maps.matches("memfd:rr-scoreboard").count()
    });
    assert_eq!(pages, [0, 1, 1, 2]);
}

#[test]
fn every_process_leads_a_group_of_its_own() {
    let agent = format!("{} agent", test_worker().display());
    let (mut cluster, _) = ready(Cluster::start(args(2, &["--agent", &agent])));
    for who in ["agent slot=0", "w2 slot=0", "w3 slot=1"] {
        let process = pid_in(&cluster.find_text(&format!("] {who}")));
        assert_eq!(getpgid(Some(process)).unwrap(), process);
    }
    assert_ne!(
        getpgid(Some(cluster.pid())).unwrap(),
        pid_in(&cluster.find_text("w2 slot=0"))
    );
}

/// As the terminal sends it at Ctrl-C: to its whole foreground group. The request in flight ends
/// well, because its worker is not in that group.
#[test]
fn ctrl_c_reaches_the_master_alone() {
    let OpenptyResult {
        master: keyboard,
        slave: terminal,
    } = openpty(None, None).unwrap();
    // Takes the terminal on its standard input as the controlling one of a new session.
    let mut command = Command::new("setsid");
    command.arg("--ctty").arg(rr_master()).args(args(2, &[]));
    command.stdin(terminal).stdout(Stdio::null());
    let (mut cluster, address) = ready(Cluster::with_streams(command));
    assert_eq!(
        getpgid(Some(cluster.pid())).unwrap(),
        cluster.pid(),
        "the foreground group"
    );

    let slow = ask(connect(address).unwrap(), "/slow/300").unwrap();
    cluster.await_text("/slow/300 begun");
    File::from(keyboard).write_all(b"\x03").unwrap();
    cluster.await_text("SIGINT received");
    assert_eq!(slow.answer().unwrap().status, 200);
    let Ended { status, log } = cluster.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert_eq!(
        log.matches("exited after").count(),
        log.matches(": code 0").count(),
        "{log}"
    );
}

/// Nor does a signal that the master dies of: the request in flight is answered within the grace.
#[test]
fn a_signal_to_the_masters_group_does_not_reach_the_workers() {
    let mut command = Command::new(rr_master());
    command
        .args(args(1, &["--orphan-grace", "20s"]))
        .process_group(0);
    let (mut cluster, address) = ready(Cluster::from_command(command));
    let slow = ask(connect(address).unwrap(), "/slow/100").unwrap();
    cluster.await_text("/slow/100 begun");
    killpg(cluster.pid(), Signal::SIGALRM).unwrap();
    assert_eq!(slow.answer().unwrap().status, 200);
    let ended = cluster.wait();
    assert_eq!(ended.status.signal(), Some(Signal::SIGALRM as i32));
}

/// (C20)
#[test]
fn output_written_just_before_the_exit_arrives_completely() {
    const LINES: usize = 20_000;
    let worker = test_worker();
    let output = Command::new(rr_master())
        .args([
            "-w",
            "1",
            worker.to_str().unwrap(),
            "talk",
            &LINES.to_string(),
        ])
        .output()
        .unwrap();
    assert_eq!(
        output.status.code(),
        Some(3),
        "it exits without having been ready"
    );
    let expected = |prefix: &str| {
        (0..LINES)
            .map(|n| format!("{prefix} {n}"))
            .collect::<Vec<_>>()
    };
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    assert!(stdout.lines().eq(expected("out")));
    assert!(
        stderr
            .lines()
            .filter(|line| line.starts_with("err "))
            .eq(expected("err"))
    );
}

/// The master's arguments for test workers that serve on port 0.
fn args(workers: usize, flags: &[&str]) -> Vec<String> {
    let worker = test_worker();
    let workers = workers.to_string();
    let fixed = ["-w", &workers, "-l", "127.0.0.1:0"];
    let program = [worker.to_str().unwrap(), "serve"];
    let all = fixed.iter().chain(flags).chain(&program);
    all.map(|&arg| arg.to_owned()).collect()
}

fn ready(mut cluster: Cluster) -> (Cluster, SocketAddr) {
    cluster.await_ready();
    let address = cluster.address();
    (cluster, address)
}

/// The master's variables that the process was started with.
fn introduction(process: Pid) -> BTreeMap<String, String> {
    let mut environ = environ(process);
    environ.retain(|name, _| name.starts_with("RR_"));
    environ
}

fn cwd(address: SocketAddr) -> PathBuf {
    get(address, "/cwd").unwrap().body.into()
}

fn is_socket(process: Pid, fd: i32) -> bool {
    open_files(process)[&fd]
        .to_string_lossy()
        .starts_with("socket:")
}
