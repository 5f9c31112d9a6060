//! What every process is given by flags: user, groups, limits, priority, CPUs, title, files; read
//! back from `/proc`. And what this master cannot give is refused before anything is started.

mod common;

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sched::{CpuSet, sched_getaffinity};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};

use common::client::get;
use common::command::{NOBODY, Unprivileged};
use common::processes::{environ, is_alive, pid_in, status};
use common::{Cluster, await_condition, run_to_end, test_worker};

/// Workers and agents alike. (P15)
#[test]
fn processes_become_another_user_with_its_groups_and_its_home() {
    let Some(programs) = as_root() else { return };
    let agent = format!("{} agent", programs.worker().display());
    let flags = ["--user", "nobody", "--agent", &agent];
    let (mut cluster, address) = serving(&programs.worker(), 1, &flags);
    let (uid, gid, home) = account("nobody");
    for who in ["agent slot=0", "w2 slot=0"] {
        let process = pid_in(&cluster.find_text(&format!("] {who}")));
        assert_eq!(status(process, "Uid"), four_times(uid), "{who}");
        assert_eq!(status(process, "Gid"), four_times(gid), "{who}");
        assert_eq!(status(process, "Groups"), gid.to_string(), "{who}");
        assert_eq!(status(process, "CapEff"), "0".repeat(16), "{who}");
        let environ = environ(process);
        assert_eq!(environ["HOME"], home, "{who}");
        assert_eq!(environ["USER"], "nobody", "{who}");
        assert_eq!(environ["LOGNAME"], "nobody", "{who}");
    }
    // What it was sent is its own, whoever made it.
    let maps = fs::read_to_string(format!("/proc/{}/maps", cluster.worker(0).pid())).unwrap();
    assert_eq!(maps.matches("memfd:rr-scoreboard").count(), 1);
    assert_eq!(status(cluster.pid(), "Uid"), four_times(0));
    assert_eq!(get(address, "/").unwrap().status, 200);
    let ended = cluster.stop();
    assert_eq!(ended.code(), 0, "{}", ended.log);
    assert!(!ended.log.contains("WARN"), "{}", ended.log);
}

#[test]
fn a_group_of_its_own_and_groups_of_their_own_replace_those_of_the_user() {
    let Some(programs) = as_root() else { return };
    for (flags, uid, gid, groups) in [
        (&["--user", "12345:23456"][..], 12345, 23456, "23456"),
        (&["--user", "12345", "--group", "7"], 12345, 7, "7"),
        (
            &["--user=nobody", "--groups=7,daemon"],
            NOBODY,
            NOBODY,
            "1 7",
        ),
        (&["--user=nobody:7", "--groups=8"], NOBODY, 7, "8"),
        (&["--group=7"], 0, 7, &status(Pid::this(), "Groups")),
    ] {
        let (cluster, _) = serving(&programs.worker(), 1, flags);
        let worker = cluster.worker(0).pid();
        assert_eq!(status(worker, "Uid"), four_times(uid), "{flags:?}");
        assert_eq!(status(worker, "Gid"), four_times(gid), "{flags:?}");
        assert_eq!(status(worker, "Groups"), groups, "{flags:?}");
    }
}

/// What was given by hand is not replaced.
#[test]
fn a_home_that_was_given_wins_over_the_users() {
    let Some(programs) = as_root() else { return };
    let flags = ["--user", "nobody", "--env", "HOME=/somewhere"];
    let (cluster, _) = serving(&programs.worker(), 1, &flags);
    let environ = environ(cluster.worker(0).pid());
    assert_eq!(
        (&*environ["HOME"], &*environ["USER"]),
        ("/somewhere", "nobody")
    );
}

/// The kernel takes the death signal away at the change of user.
#[test]
fn processes_of_another_user_do_not_outlive_a_killed_master() {
    let Some(programs) = as_root() else { return };
    let worker = programs.worker();
    // The second one never says Hello: nobody but the kernel can end it.
    let args = ["-w", "2", "-l", "127.0.0.1:0", "--user", "nobody"];
    let program = [worker.to_str().unwrap(), "by-slot", "serve", "--", "silent"];
    let mut cluster = Cluster::start(args.iter().chain(&program));
    let pids = [
        cluster.await_text("w1 slot=0"),
        cluster.await_text("w2 slot=1"),
    ];
    let pids = pids.map(|line| pid_in(&line));
    cluster.find_text("w1 slot=0 gen=1 pid=");
    cluster.find_line("a ready worker", |line| {
        line.contains("w1") && line.contains("ready")
    });
    cluster.signal(Signal::SIGKILL);
    await_condition("the end of both", || !pids.iter().any(|pid| is_alive(*pid)));
}

/// A master with more rights than its workers can make them leave.
#[test]
fn a_process_of_another_user_that_does_not_leave_is_killed() {
    let Some(programs) = as_root() else { return };
    let worker = programs.worker();
    let flags = ["-w", "1", "--user", "nobody", "--stop-timeout", "50ms"];
    let program = [worker.to_str().unwrap(), "ignore", "SIGTERM"];
    let mut cluster = Cluster::start(flags.iter().chain(&program));
    cluster.await_ready();
    let ended = cluster.stop();
    assert_eq!(ended.code(), 7, "{}", ended.log);
    assert!(ended.log.contains("signal SIGKILL"), "{}", ended.log);
}

/// (C19)
#[test]
fn a_master_without_rights_is_refused_another_user_and_starts_nothing() {
    let programs = Unprivileged::new();
    for (flags, says) in [
        (&["--user", "root"][..], &["user 0", "CAP_SETUID"][..]),
        (&["--group", "root"], &["groups 0", "CAP_SETGID"]),
        (&["--groups", "root"], &["groups 0", "CAP_SETGID"]),
        (&["--nice", "-1"], &["nice -1", "CAP_SYS_NICE"]),
    ] {
        let command = programs.command(flags.iter().chain(&["/bin/true"]));
        let (code, log) = end_of(command);
        assert_eq!(code, 2, "{log}");
        assert!(log.contains("EPERM") && !log.contains("spawned"), "{log}");
        assert!(says.iter().all(|text| log.contains(text)), "{log}");
    }
    let command = programs.after("ulimit -n 500", ["--rlimit", "nofile=501", "/bin/true"]);
    let (code, log) = end_of(command);
    assert_eq!(code, 2, "{log}");
    assert!(log.contains("hard limit is 500"), "{log}");
}

/// To be what one is already takes no rights.
#[test]
fn a_master_without_rights_may_name_its_own_user() {
    if !geteuid().is_root() {
        return eprintln!("the user of the test is not known by name: nothing tested");
    }
    let programs = Unprivileged::new();
    let worker = programs.worker();
    let flags = ["-w", "1", "--user", "nobody", "--nice", "19"];
    let program = [worker.to_str().unwrap(), "agent"];
    let mut cluster = Cluster::from_command(programs.command(flags.iter().chain(&program)));
    cluster.await_ready();
    assert_eq!(cluster.stop().code(), 0);
}

#[test]
fn what_does_not_exist_is_refused_before_anything_is_started() {
    let worker = test_worker();
    for (flags, says) in [
        (
            &["--user", "no-such-user"][..],
            "user no-such-user: no such user",
        ),
        (&["--group", "no-such"], "group no-such: no such group"),
        (&["--groups", "no-such"], "group no-such: no such group"),
        (&["--user", "3999999999"], "--user 3999999999:GROUP"),
        (&["--cpu-affinity", "0,1023"], "CPU 1023"),
        (&["--rlimit", "nofile=99999999999"], "fs.nr_open"),
        (&["--title", "{99999999999999999999+slot}"], "below 2^63"),
        (&["--env", "A={99999999999999999999+slot}"], "below 2^63"),
        (
            &["--stdout", "file:/no/such/dir/a.log"],
            "/no/such/dir/a.log",
        ),
        (&["--stderr", "file:/"], "EISDIR"),
    ] {
        let worker = worker.to_str().unwrap();
        let args = [&["-w", "1"], flags, &[worker, "serve"]].concat();
        let ended = run_to_end(&args);
        assert_eq!(ended.code(), 2, "{flags:?}: {}", ended.log);
        assert!(ended.log.contains(says), "{flags:?}: {}", ended.log);
        assert_eq!(ended.log.lines().count(), 1, "{}", ended.log);
    }
}

/// Root's programs often lie where nobody else comes.
#[test]
fn a_program_out_of_the_users_reach_is_refused_before_anything_is_started() {
    let Some(programs) = as_root() else { return };
    let worker = programs.worker();
    let worker = worker.to_str().unwrap();
    fs::set_permissions(worker, Permissions::from_mode(0o700)).unwrap();
    let refused = run_to_end(&["-w", "1", "--user", "nobody", worker, "serve"]);
    assert_eq!(refused.code(), 2, "{}", refused.log);
    assert!(refused.log.contains("EACCES"), "{}", refused.log);
    fs::set_permissions(worker, Permissions::from_mode(0o755)).unwrap();
    let closed = tempfile::tempdir().unwrap();
    fs::set_permissions(closed.path(), Permissions::from_mode(0o700)).unwrap();
    let cwd = closed.path().to_str().unwrap();
    let refused = run_to_end(&["-w", "1", "--user", "nobody", "--cwd", cwd, worker, "serve"]);
    assert_eq!(refused.code(), 2, "{}", refused.log);
    assert!(refused.log.contains(cwd), "{}", refused.log);
}

/// A master with more rights than its workers has nothing bound for them that nobody named.
#[test]
fn workers_of_another_user_have_nothing_bound_but_what_is_allowed() {
    let Some(programs) = as_root() else { return };
    let worker = programs.worker();
    let steps = [
        "steps",
        "listen:127.0.0.1:0",
        "listen:unix:/tmp/rr-never.sock",
        "ready",
    ];
    let program = [&[worker.to_str().unwrap()], &steps[..]].concat();
    let start = |flags: &[&str]| {
        let mut cluster = Cluster::start([&["-w", "1"], flags, &program[..]].concat());
        cluster.await_ready();
        let answers = ["127.0.0.1:0", "unix:/tmp/rr-never.sock"]
            .map(|target| cluster.find_text(&format!("slot=0 listen {target}: ")));
        answers.map(|line| line.contains("EACCES"))
    };
    assert_eq!(start(&["--user", "nobody"]), [true, true]);
    assert_eq!(start(&["--group", "nogroup"]), [true, true]);
    let allowed = ["--user", "nobody", "--allow-listen", "127.0.0.1:0"];
    assert_eq!(start(&allowed), [false, true]);
}

#[test]
fn umask_nice_value_limits_and_privileges_are_as_given() {
    let agent = format!("{} agent", test_worker().display());
    let flags = [
        "--umask=027",
        "--nice=7",
        "--rlimit=nofile=201:301",
        "--rlimit=core=0",
        "--no-new-privs",
        "--agent",
        &agent,
    ];
    let (mut cluster, _) = serving(&test_worker(), 1, &flags);
    for who in ["agent slot=0", "w2 slot=0"] {
        let process = pid_in(&cluster.find_text(&format!("] {who}")));
        assert_eq!(status(process, "Umask"), "0027", "{who}");
        assert_eq!(status(process, "NoNewPrivs"), "1", "{who}");
        assert_eq!(nice(process), 7, "{who}");
        let limits = limits(process);
        assert_eq!(limits["Max open files"], ["201", "301"], "{who}");
        assert_eq!(limits["Max core file size"], ["0", "0"], "{who}");
    }
    // The master's own are not touched.
    assert_ne!(status(cluster.pid(), "Umask"), "0027");
    assert_eq!(status(cluster.pid(), "NoNewPrivs"), "0");
    assert_ne!(nice(cluster.pid()), 7);
}

/// In turn, those of the master's own mask.
#[test]
fn slots_spread_over_the_cpus_of_the_master() {
    let own = sched_getaffinity(Pid::from_raw(0)).unwrap();
    let own = (0..CpuSet::count()).filter(|&cpu| own.is_set(cpu).unwrap());
    let own: Vec<_> = own.collect();
    let (cluster, _) = serving(&test_worker(), 3, &["--cpu-affinity", "auto"]);
    for (slot, worker) in cluster.workers() {
        let cpu = own[slot as usize % own.len()];
        let allowed = status(worker.pid(), "Cpus_allowed_list");
        assert_eq!(allowed, cpu.to_string(), "slot {slot}");
    }
    let last = own.last().unwrap().to_string();
    let (cluster, _) = serving(&test_worker(), 2, &["--cpu-affinity", &last]);
    for worker in cluster.workers().values() {
        assert_eq!(status(worker.pid(), "Cpus_allowed_list"), last);
    }
}

/// So that a debugger's port per worker is one flag.
#[test]
fn placeholders_stand_for_what_differs_between_processes() {
    let json = r#"{"a":{"slot": 1},"b":[{}]}"#;
    let worker = test_worker();
    let agent = format!("{} agent {{role}}-{{slot}}", worker.display());
    let flags = [
        "--agent",
        &agent,
        "--env",
        "RRT_WHO={role} {slot} {id} {generation} {x}",
    ];
    let args = ["-w", "2", "-l", "web=127.0.0.1:0"];
    let program = [worker.to_str().unwrap(), "by-slot", "serve", "web"];
    let more = ["--", "serve", "--", "--inspect={9230+slot}", json];
    let mut all = args.to_vec();
    all.extend(flags);
    all.extend(program);
    all.extend(more);
    let mut cluster = Cluster::start(all);
    cluster.await_ready();
    for (slot, worker) in cluster.workers() {
        let arguments = cmdline(worker.pid());
        assert_eq!(
            arguments[7..],
            [format!("--inspect={}", 9230 + slot), json.to_owned()]
        );
        let who = format!("worker {slot} {} 1 {{x}}", worker.id);
        assert_eq!(environ(worker.pid())["RRT_WHO"], who);
    }
    let agent = pid_in(&cluster.find_text("] agent slot=0"));
    assert_eq!(cmdline(agent)[1..], ["agent", "agent-0"]);
    assert_eq!(environ(agent)["RRT_WHO"], "agent 0 1 1 {x}");

    // The replacement is somebody else in the same slot.
    let before = cluster.worker(0);
    kill(before.pid(), Signal::SIGKILL).unwrap();
    cluster.await_line("a replacement", |line| {
        line.contains("w4 slot=0") && line.contains("ready")
    });
    let who = environ(cluster.worker(0).pid())["RRT_WHO"].clone();
    assert_eq!(who, "worker 0 4 1 {x}");
}

#[test]
fn a_title_is_what_ps_shows() {
    let (cluster, address) = serving(&test_worker(), 2, &["--title", "app: {role} {slot}"]);
    for (slot, worker) in cluster.workers() {
        let arguments = cmdline(worker.pid());
        assert_eq!(arguments, [&format!("app: worker {slot}"), "serve"]);
    }
    assert_eq!(get(address, "/args").unwrap().body, "serve");
}

#[test]
fn an_environment_can_be_cleared_but_for_the_path() {
    let mut command = Command::new(common::rr_master());
    command.env("RRT_KEPT", "no").args(args(
        &test_worker(),
        1,
        &["--env-clear", "--env", "RRT_NEW=yes"],
    ));
    let mut cluster = Cluster::from_command(command);
    cluster.await_ready();
    let mut environ = environ(cluster.worker(0).pid());
    environ.retain(|name, _| !name.starts_with("RR_"));
    let expected = [
        ("PATH".to_owned(), std::env::var("PATH").unwrap()),
        ("RRT_NEW".to_owned(), "yes".to_owned()),
    ];
    assert_eq!(environ, BTreeMap::from(expected));
}

/// Appended to, across restarts; created with what the umask leaves of 0640.
#[test]
fn streams_go_to_files_that_processes_open_themselves() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| format!("file:{}/{name}", dir.path().display());
    let (out, err) = (path("{role}-{slot}.out"), path("all.err"));
    let flags = ["--stdout", &out, "--stderr", &err, "--umask", "027"];
    let (mut cluster, address) = serving(&test_worker(), 2, &flags);
    for _ in 0..2 {
        get(address, "/flood/2").unwrap();
        get(address, &format!("/say/{}", hex("said\n"))).unwrap();
    }
    let file = |name: &str| dir.path().join(name);
    let read = |name: &str| fs::read_to_string(file(name)).unwrap();
    let lines = format!("{:099}\n{:099}\n", 0, 1);
    let both = read("worker-0.out") + &read("worker-1.out");
    assert_eq!(both, lines.repeat(2));
    assert_eq!(read("all.err"), "said\n".repeat(2));
    assert_eq!(fs::metadata(file("all.err")).unwrap().mode() & 0o777, 0o640);

    let before = cluster.worker(0);
    get(address, "/exit/9").unwrap_err();
    let again = "a replacement";
    cluster.await_line(again, |line| line.contains("w3") && line.contains("ready"));
    assert!(
        is_alive(cluster.workers().values().last().unwrap().pid()),
        "{before:?}"
    );
    assert_eq!(
        read("worker-0.out") + &read("worker-1.out"),
        lines.repeat(2)
    );
}

/// With the rights of the process: a link that it planted leads it nowhere that it could not go
/// itself.
#[test]
fn a_process_of_another_user_cannot_make_the_master_open_a_file_for_it() {
    let Some(programs) = as_root() else { return };
    let dir = tempfile::tempdir().unwrap();
    chown(dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    let log = dir.path().join("0.log");
    let flag = format!("file:{}/{{slot}}.log", dir.path().display());
    let flags = [
        "--user",
        "nobody",
        "--stderr",
        &flag,
        "--backoff",
        "1ms..1ms",
    ];
    let (mut cluster, address) = serving(&programs.worker(), 1, &flags);
    assert_eq!(fs::metadata(&log).unwrap().uid(), NOBODY);

    let treasure = tempfile::NamedTempFile::new().unwrap();
    fs::remove_file(&log).unwrap();
    std::os::unix::fs::symlink(treasure.path(), &log).unwrap();
    get(address, "/exit/9").unwrap_err();
    let failed = cluster.await_text("failed to spawn");
    assert!(
        failed.contains("open its standard error (--stderr): "),
        "{failed}"
    );
    assert!(failed.contains("EACCES"), "{failed}");
    fs::remove_file(&log).unwrap();
    cluster.await_text("ready after");
    assert_eq!(fs::read(treasure.path()).unwrap(), b"");
}

/// It would wait for somebody to read, and with it everybody who comes after it.
#[test]
fn a_fifo_that_nobody_reads_does_not_keep_the_others_from_starting() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("1.log");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let flag = format!("file:{}/{{slot}}.log", dir.path().display());
    let worker = test_worker();
    let mut cluster = Cluster::start(args(&worker, 3, &["--stdout", &flag]));
    let failed = cluster.await_text("failed to spawn");
    assert!(
        failed.contains("slot=1") && failed.contains("ENXIO"),
        "{failed}"
    );
    let ended = cluster.wait();
    assert!(ended.log.contains("w3 slot=2 gen=1 pid="), "{}", ended.log);
}

#[test]
fn streams_can_go_nowhere() {
    let (cluster, address) = serving(&test_worker(), 1, &["--stdout=null", "--stderr=null"]);
    get(address, &format!("/say/{}", hex("unheard\n"))).unwrap();
    let files = common::processes::open_files(cluster.worker(0).pid());
    let null = Path::new("/dev/null");
    assert!((0..3).all(|fd| files[&fd] == null), "{files:?}");
    assert!(!cluster.stop().log.contains("unheard"));
}

/// A limit that the shell has lowered is the master's own, and that of its processes.
#[test]
fn a_limit_within_the_masters_own_needs_no_rights() {
    let programs = Unprivileged::new();
    let worker = programs.worker();
    let args = args(&worker, 1, &["--rlimit", "nofile=300:400"]);
    let mut cluster = Cluster::from_command(programs.after("ulimit -n 500", args));
    cluster.await_ready();
    let limits = limits(cluster.worker(0).pid());
    assert_eq!(limits["Max open files"], ["300", "400"]);
}

/// The programs where other users can run them; `None` if this is not root.
fn as_root() -> Option<Unprivileged> {
    if geteuid().is_root() {
        return Some(Unprivileged::new());
    }
    eprintln!("only root can become somebody else: nothing tested");
    None
}

/// Ready workers of this test worker.
fn serving(worker: &Path, workers: usize, flags: &[&str]) -> (Cluster, SocketAddr) {
    let mut cluster = Cluster::start(args(worker, workers, flags));
    cluster.await_ready();
    let address = cluster.address();
    (cluster, address)
}

fn args(worker: &Path, workers: usize, flags: &[&str]) -> Vec<String> {
    let workers = workers.to_string();
    let fixed = ["-w", &workers, "-l", "127.0.0.1:0"];
    let program = [worker.to_str().unwrap(), "serve"];
    let all = fixed.iter().chain(flags).chain(&program);
    all.map(|&arg| arg.to_owned()).collect()
}

/// What a master that does not come to run says.
fn end_of(mut command: Command) -> (i32, String) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), log)
}

/// Number, group and home of a user.
fn account(name: &str) -> (u32, u32, String) {
    let user = nix::unistd::User::from_name(name).unwrap().unwrap();
    let home = user.dir.to_str().unwrap().to_owned();
    (user.uid.as_raw(), user.gid.as_raw(), home)
}

/// Real, effective, saved, and for the file system.
fn four_times(id: u32) -> String {
    [id.to_string().as_str(); 4].join("\t")
}

fn nice(process: Pid) -> i64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let (_, after_name) = stat.rsplit_once(") ").unwrap();
    after_name.split(' ').nth(16).unwrap().parse().unwrap()
}

fn limits(process: Pid) -> BTreeMap<String, [String; 2]> {
    let limits = fs::read_to_string(format!("/proc/{process}/limits")).unwrap();
    let lines = limits.lines().skip(1);
    lines
        .map(|line| {
            let (name, values) = line.split_at(26);
            let mut values = values.split_whitespace().map(str::to_owned);
            let values = [values.next().unwrap(), values.next().unwrap()];
            (name.trim().to_owned(), values)
        })
        .collect()
}

fn cmdline(process: Pid) -> Vec<String> {
    let cmdline = fs::read(format!("/proc/{process}/cmdline")).unwrap();
    let cmdline = String::from_utf8(cmdline).unwrap();
    cmdline.split_terminator('\0').map(str::to_owned).collect()
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}
