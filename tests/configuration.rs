//! The configuration file and the environment beside the flags, at a real master: what it runs, what
//! it refuses in one line, what `--check` and `--print-config` say, and what its processes see of it.
//!
//! What each key and variable means, and which place wins, is for the unit tests of `cli::settings`.

mod common;

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tempfile::TempDir;

use common::client::get;
use common::processes::{environ, pid_in};
use common::{Cluster, rr_master, test_worker};

#[test]
fn a_file_alone_is_enough_to_serve() {
    let dir = Dir::new();
    let file = dir.serving("workers = 2\nenv = { RRT_FROM = 'the file' }");
    let mut cluster = Cluster::start([Path::new("-c"), &file]);
    let address = cluster.address();
    cluster.await_ready();
    assert_eq!(cluster.workers().len(), 2);
    assert_eq!(get(address, "/env/RRT_FROM").unwrap().body, "the file");
    let place = format!("({}: key \"workers\")", file.display());
    assert!(cluster.log().contains(&place), "{}", cluster.log());
    assert_eq!(cluster.stop().code(), 0);
}

#[test]
fn the_command_line_wins_over_the_environment_and_that_over_the_file() {
    let dir = Dir::new();
    let file = dir.serving("workers = 1\npidfile = 'never.pid'\nlog-level = 'error'");
    let pidfile = dir.path("rr.pid");
    let mut command = Command::new(rr_master());
    command
        .args(["--workers", "3"])
        .env("RR_CONFIG", &file)
        .env("RR_WORKERS", "2")
        .env("RR_PIDFILE", &pidfile)
        .env("RR_LOG_LEVEL", "info")
        .current_dir(dir.0.path());
    let mut cluster = Cluster::from_command(command);
    cluster.await_ready();
    assert_eq!(cluster.workers().len(), 3);
    let pid = fs::read_to_string(&pidfile).unwrap();
    assert_eq!(pid.trim(), cluster.pid().to_string());
    assert!(!dir.path("never.pid").exists());
}

#[test]
fn a_reload_changes_the_log_level() {
    let dir = Dir::new();
    let at = |level| dir.serving(&format!("canary = '1ms'\nlog-level = '{level}'"));
    let mut cluster = Cluster::start([Path::new("-c"), &at("info")]);
    cluster.await_ready();
    for (level, until) in [
        ("debug", "all at generation 2"),
        ("info", "all at generation 3"),
        ("info", "all at generation 4"),
    ] {
        at(level);
        cluster.signal(Signal::SIGHUP);
        cluster.await_text(until);
    }
    let ended = cluster.stop();
    assert_eq!(ended.code(), 0);
    assert_eq!(ended.log.matches("reload: log-level: ").count(), 2);
    let (before, after) = ended.log.split_once("all at generation 3").unwrap();
    assert!(before.contains(" DEBUG] "), "{before}");
    assert!(!after.contains(" DEBUG] "), "{after}");
}

/// A master below this one would take them for its own.
#[test]
fn processes_do_not_inherit_what_was_meant_for_the_master() {
    let dir = Dir::new();
    let file = dir.serving("workers = 1");
    let mut command = Command::new(rr_master());
    command
        .env("RR_CONFIG", &file)
        .env("RR_WINDOW", "7")
        .env("RR_LOG_LEVEL", "info")
        .env("RR_NOTHING_OF_OURS", "kept");
    let mut cluster = Cluster::from_command(command);
    cluster.await_ready();
    cluster.find_text("environment RR_NOTHING_OF_OURS: no such setting");
    let seen = environ(pid_in(&cluster.find_text("w1 slot=0")));
    for name in ["RR_CONFIG", "RR_WINDOW", "RR_LOG_LEVEL"] {
        assert!(!seen.contains_key(name), "{name}");
    }
    assert_eq!(seen["RR_NOTHING_OF_OURS"], "kept");
    assert_eq!(seen["RR_SLOT"], "0");
}

#[test]
fn a_file_that_cannot_be_read_is_refused() {
    let dir = Dir::new();
    let fifo = dir.path("fifo");
    mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    let long = dir.write("long.toml", &"#".repeat((1 << 20) + 1));
    let binary = dir.path("binary.toml");
    fs::write(&binary, b"# one\nprogram = '\xff'").unwrap();
    for (file, says) in [
        (dir.path("missing.toml"), &["ENOENT", "--config"][..]),
        (dir.path("missing/app.toml"), &["ENOENT"]),
        (dir.0.path().to_owned(), &["is a directory", "RR_CONFIG"]),
        (fifo, &["not a regular file"]),
        ("/dev/zero".into(), &["not a regular file"]),
        (long, &["longer than 1 MiB"]),
        (binary, &["line 2, column 12", "not UTF-8"]),
        (
            dir.write("bad.toml", "workers = 4\nwindow = = 5"),
            &["line 2, column 10"],
        ),
        (
            dir.write("unknown.toml", "wrokers = 4"),
            &["did you mean \"workers\"?"],
        ),
        (
            dir.write("value.toml", "window = 0"),
            &["key \"window\"", "1..=256"],
        ),
        (
            dir.write("type.toml", "workers = true"),
            &["key \"workers\"", "expected"],
        ),
        (
            dir.write("run.toml", "workers = 0"),
            &["key \"workers\"", "at least 1 worker"],
        ),
        (
            dir.write("line\nbreak.toml", "x = 1"),
            &["line\\nbreak.toml"],
        ),
    ] {
        let name = file.file_name().unwrap().to_str().unwrap();
        let name = name.replace('\n', "\\n");
        let says = [says, &[&name]].concat();
        for run in [&[][..], &["--check"]] {
            let mut command = Command::new(rr_master());
            command.arg("--config").arg(&file).args(run);
            refuse(command, &says);
        }
        let mut command = Command::new(rr_master());
        command.env("RR_CONFIG", &file);
        refuse(command, &says);
    }
}

#[test]
fn a_variable_that_is_wrong_is_refused() {
    let mut command = Command::new(rr_master());
    command.env("RR_WINDOW", "x").arg("/bin/true");
    refuse(command, &["environment RR_WINDOW", "'x'"]);
}

/// It looks at everything, and touches nothing.
#[test]
fn check_says_that_a_configuration_is_right_and_binds_nothing() {
    let dir = Dir::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let file = dir.write(
        "app.toml",
        &format!(
            "program = '/bin/false'\nlisten = ['{}', 'unix:app.sock']\npidfile = 'rr.pid'",
            taken.local_addr().unwrap()
        ),
    );
    let output = dir.run(&["--check", "-c", file.to_str().unwrap()]);
    assert_eq!(told(&output), (Some(0), "configuration ok\n", ""));
    assert_eq!(fs::read_dir(dir.0.path()).unwrap().count(), 1);
}

#[test]
fn check_says_what_is_wrong() {
    for (flags, says) in [
        (
            &["/nonexistent/program"][..],
            "program /nonexistent/program",
        ),
        (
            &["--cwd", "/nonexistent", "/bin/true"],
            "directory /nonexistent",
        ),
        (&["-l", "fd:77", "/bin/true"], "fd:77"),
        (&["--overflow-after=1s", "/bin/true"], "--overflow close"),
    ] {
        let mut command = Command::new(rr_master());
        command.arg("--check").args(flags);
        refuse(command, &[says]);
    }
}

/// From every place at once; what it prints is the same configuration.
#[test]
fn what_print_config_prints_can_be_run() {
    let dir = Dir::new();
    let file = dir.write("app.toml", "workers = 3\nlisten = ['web=127.0.0.1:0']");
    let mut command = Command::new(rr_master());
    command
        .args(["--print-config", "--stop-timeout", "7s", "-c"])
        .arg(&file)
        .args(["./worker", "--its own", "-w"])
        .env("RR_WINDOW", "7")
        .env("RR_AGENT", "./a --b\n./c");
    let first = command.output().unwrap();
    let (code, printed, stderr) = told(&first);
    assert_eq!((code, stderr), (Some(0), ""));
    let from_file = format!("workers = 3  # {}\n", file.display());
    for line in [
        "program = \"./worker\"  # command line\n",
        "args = [\"--its own\", \"-w\"]  # command line\n",
        "stop-timeout = \"7s\"  # command line\n",
        "window = 7  # environment\n",
        "agent = [\"./a --b\", \"./c\"]  # environment\n",
        "ready-timeout = \"30s\"  # default\n",
        "# pidfile is not set\n",
        &from_file,
    ] {
        assert!(printed.contains(line), "no {line:?} in:\n{printed}");
    }

    let again = dir.write("again.toml", printed);
    let output = dir.run(&["--print-config", "-c", again.to_str().unwrap()]);
    let values = |text: &str| text.parse::<toml::Table>().unwrap();
    assert_eq!(values(told(&output).1), values(printed));
}

#[test]
fn what_may_be_a_mistake_is_said_where_there_is_no_log() {
    let mut command = Command::new(rr_master());
    command
        .args(["--check", "/bin/true"])
        .env("RR_WROKERS", "4");
    let output = command.output().unwrap();
    let warning = "rr-master: environment RR_WROKERS: no such setting: did you mean RR_WORKERS?\n";
    assert_eq!(told(&output), (Some(0), "configuration ok\n", warning));
}

/// A directory with configuration files.
struct Dir(TempDir);

impl Dir {
    fn new() -> Self {
        Dir(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// A file for test workers that serve on port 0, with this in it.
    fn serving(&self, text: &str) -> PathBuf {
        let worker = test_worker();
        let program = format!(
            "program = '{}'\nargs = ['serve']\nlisten = ['127.0.0.1:0']\n{text}\n",
            worker.display()
        );
        self.write("app.toml", &program)
    }

    /// Runs the master to its end in here.
    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(rr_master());
        command.args(args).current_dir(self.0.path());
        command.stdin(Stdio::null()).output().unwrap()
    }
}

fn told(output: &Output) -> (Option<i32>, &str, &str) {
    let text = |bytes| str::from_utf8(bytes).unwrap();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    (output.status.code(), stdout, stderr)
}

/// One line with all of this in it, exit code 2, nothing left behind.
#[track_caller]
fn refuse(mut command: Command, says: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    command.current_dir(dir.path());
    let ended = Cluster::from_command(command).wait();
    assert_eq!(ended.code(), 2, "{}", ended.log);
    assert_eq!(ended.log.lines().count(), 1, "{}", ended.log);
    assert!(ended.log.starts_with("rr-master: "), "{}", ended.log);
    for text in says {
        assert!(ended.log.contains(text), "no {text:?} in: {}", ended.log);
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
