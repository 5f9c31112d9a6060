//! Where a master listens: every kind of address, what becomes of its socket file, sockets that
//! were inherited, and the backlog.

mod common;

use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{self, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};

use common::client::{ask, get, get_unix};
use common::command::{NOBODY, after};
use common::processes::{environ, pid_in};
use common::sockets::backlog;
use common::{Cluster, Ended, rr_master, run_to_end, test_worker};

/// Port 0 becomes a port of the kernel's choice, and the start-up screen shows which. (N38)
#[test]
fn port_0_is_shown_as_the_port_really_bound() {
    let (_cluster, address) = Cluster::hello(1);
    assert_ne!(address.port(), 0);
    assert_eq!(get(address, "/").unwrap().status, 200);
}

#[test]
fn an_ipv6_address_is_served() {
    if !has_ipv6() {
        return;
    }
    let mut cluster = serve(2, &["-l", "[::1]:0"], &[]);
    let address = cluster.address();
    assert!(address.is_ipv6());
    assert_eq!(slots(2, || get(address, "/")), [1, 1]);
}

/// `v6only=no` takes IPv4 clients, too, and every worker sees the same address. (N41, N43)
#[test]
fn v6only_no_is_reached_over_ipv4_as_well() {
    if !has_ipv6() {
        return;
    }
    let flags = ["-l", "all=[::]:0,v6only=no"];
    let mut cluster = serve(2, &flags, &["steps", "listen:all", "ready"]);
    let port = cluster.address().port();
    for slot in 0..2 {
        cluster.find_text(&format!("slot={slot} listen all: [::]:{port}"));
    }
    for address in [loopback_v4(port), loopback_v6(port)] {
        assert_eq!(get(address, "/").unwrap().status, 200, "{address}");
    }
}

/// With `v6only=yes` IPv4 is left to others; with `v6only=no` the same port is in use. (N42, N43)
#[test]
fn v6only_yes_shares_its_port_with_ipv4() {
    if !has_ipv6() {
        return;
    }
    let other = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let port = other.local_addr().unwrap().port();

    let both = run_to_end(&["-l", &format!("[::]:{port},v6only=no"), "/bin/true"]);
    assert_eq!(both.code(), 6, "{}", both.log);

    let mut cluster = serve(1, &["-l", &format!("[::]:{port},v6only=yes")], &[]);
    assert_eq!(cluster.address().port(), port);
    assert_eq!(get(loopback_v6(port), "/").unwrap().status, 200);
    let mine = TcpStream::connect(loopback_v4(port)).unwrap();
    let (_, client) = other.accept().unwrap();
    assert_eq!(client, mine.local_addr().unwrap());
}

/// Requests alternate between two listeners: with one rotation for both, each listener would
/// always be served by the same worker.
#[test]
fn every_listener_has_its_own_rotation() {
    let flags = ["-l", "127.0.0.1:0", "-l", "admin=127.0.0.1:0"];
    let mut cluster = serve(2, &flags, &[]);
    let addresses: Vec<SocketAddr> = cluster
        .addresses(2)
        .iter()
        .map(|address| address.parse().unwrap())
        .collect();
    assert!(cluster.log().contains("(admin)"), "{}", cluster.log());

    let mut served = [[0, 0], [0, 0]];
    for round in 0..20 {
        let listener = round % 2;
        let answer = get(addresses[listener], "/").unwrap();
        served[listener][answer.server().slot as usize] += 1;
    }
    assert_eq!(served, [[5, 5], [5, 5]]);
}

#[test]
fn a_worker_gets_the_listener_that_it_asks_for_by_name() {
    let flags = ["-l", "main=127.0.0.1:0", "-l", "admin=127.0.0.1:0"];
    let workers = ["by-slot", "serve", "admin", "--", "serve", "main", "admin"];
    let mut cluster = serve(2, &flags, &workers);
    let addresses = cluster.addresses(2);
    let [main, admin] = [0, 1].map(|listener: usize| addresses[listener].parse().unwrap());
    assert_eq!(slots(6, || get(main, "/")), [0, 6]);
    assert_eq!(slots(6, || get(admin, "/")), [3, 3]);
}

/// (N31, N37)
#[test]
fn a_unix_socket_has_the_mode_and_owner_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.sock");
    let owner = match nix::unistd::geteuid().is_root() {
        true => (NOBODY, NOBODY),
        false => (
            nix::unistd::geteuid().as_raw(),
            nix::unistd::getegid().as_raw(),
        ),
    };
    let listen = format!(
        "unix:{},mode=617,owner={}:{}",
        path.display(),
        owner.0,
        owner.1
    );
    let mut cluster = serve(2, &["-l", &listen], &[]);
    assert_eq!(cluster.addresses(1), [format!("unix:{}", path.display())]);

    let file = fs::symlink_metadata(&path).unwrap();
    assert!(file.file_type().is_socket());
    assert_eq!(file.permissions().mode() & 0o7777, 0o617);
    assert_eq!((file.uid(), file.gid()), owner);

    assert_eq!(slots(4, || get_unix(&path, "/")), [2, 2]);
    // An ordinary Unix client has no name.
    assert_eq!(get_unix(&path, "/peer").unwrap().body, "unix:");

    assert_eq!(cluster.stop().code(), 0);
    assert!(!path.exists(), "the socket file is removed at the end");
}

#[test]
fn a_stale_socket_file_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "as a killed process leaves it");

    let _cluster = serve(1, &["-l", &unix(&path)], &[]);
    assert_eq!(get_unix(&path, "/").unwrap().status, 200);
}

#[test]
fn a_unix_socket_that_somebody_serves_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.sock");
    let other = UnixListener::bind(&path).unwrap();
    let before = fs::symlink_metadata(&path).unwrap();

    let refused = refused_bind(&unix(&path));
    assert!(refused.contains("EADDRINUSE"), "{refused}");
    assert!(refused.contains("another process answers"), "{refused}");

    let now = fs::symlink_metadata(&path).unwrap();
    assert_eq!((now.ino(), now.mode()), (before.ino(), before.mode()));
    // The master's question, and then ours.
    let _mine = UnixStream::connect(&path).unwrap();
    other.accept().unwrap();
    other.accept().unwrap();
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.sock");
    fs::write(&path, "precious").unwrap();
    let refused = refused_bind(&unix(&path));
    assert!(refused.contains("no socket is in the way"), "{refused}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");

    let link = dir.path().join("link.sock");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    refused_bind(&unix(&link));
    assert_eq!(fs::read_link(&link).unwrap(), path);
}

/// A successor may have put its own socket in the place of ours.
#[test]
fn a_socket_file_that_is_no_longer_ours_is_not_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.sock");
    let cluster = serve(1, &["-l", &unix(&path)], &[]);
    let theirs = dir.path().join("theirs.sock");
    let other = UnixListener::bind(&theirs).unwrap();
    fs::rename(&theirs, &path).unwrap();

    assert_eq!(cluster.stop().code(), 0);
    let _mine = UnixStream::connect(&path).unwrap();
    other.accept().unwrap();
}

#[test]
fn a_unix_path_is_relative_to_the_masters_directory() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(rr_master());
    command
        .args(["-w", "1", "-l", "unix:app.sock", "--cwd", "/"])
        .arg(test_worker())
        .arg("serve")
        .current_dir(dir.path());
    let mut cluster = Cluster::from_command(command);
    cluster.await_ready();
    let path = dir.path().join("app.sock");
    assert_eq!(get_unix(&path, "/cwd").unwrap().body, "/");
    assert_eq!(cluster.stop().code(), 0);
    assert!(!path.exists());
}

/// The limit is on what is given to `bind(2)`, not on where that is. (N44)
#[test]
fn a_relative_unix_path_may_be_long_in_its_absolute_form() {
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("d".repeat(120));
    fs::create_dir(&deep).unwrap();

    let too_long = run_to_end(&["-l", &unix(&deep.join("app.sock")), "/bin/true"]);
    assert_eq!(too_long.code(), 2);
    assert!(too_long.log.contains("107 bytes"), "{}", too_long.log);

    let mut command = Command::new(rr_master());
    command
        .args(["-w", "1", "-l", "unix:app.sock"])
        .arg(test_worker())
        .arg("serve")
        .current_dir(&deep);
    let mut cluster = Cluster::from_command(command);
    cluster.await_ready();
    // Ours to connect by a short name: the descriptor of the directory.
    let directory = fs::File::open(&deep).unwrap();
    let short = format!(
        "/proc/self/fd/{}/app.sock",
        std::os::fd::AsRawFd::as_raw_fd(&directory)
    );
    assert_eq!(get_unix(Path::new(&short), "/").unwrap().status, 200);
    assert_eq!(cluster.stop().code(), 0);
    assert!(!deep.join("app.sock").exists());
}

#[test]
fn an_abstract_unix_socket_is_served() {
    let name = format!("rr-master-test-{}", std::process::id());
    let mut cluster = serve(2, &["-l", &format!("unix:@{name}")], &[]);
    assert_eq!(cluster.addresses(1), [format!("unix:@{name}")]);
    let address = net::SocketAddr::from_abstract_name(&name).unwrap();
    let request = || ask(UnixStream::connect_addr(&address)?, "/")?.answer();
    assert_eq!(slots(4, request), [2, 2]);
}

/// The parent bound it, passed it on and has closed its own copy; the workers below the master
/// serve it. (N98)
#[test]
fn an_inherited_socket_is_served_without_its_first_owner() {
    let (socket, address) = listening_socket();
    let mut command = after(
        "exec 3<&0 0</dev/null",
        args(2, &["-l", "fd:3"], &["serve"]),
    );
    command.stdin(socket).stdout(Stdio::null());
    let mut cluster = Cluster::with_streams(command);
    assert_eq!(cluster.address(), address);
    cluster.await_ready();
    assert_eq!(slots(6, || get(address, "/")), [3, 3]);
    assert_eq!(cluster.stop().code(), 0);
    assert!(TcpStream::connect(address).is_err());
}

/// Its file belongs to whoever bound it, and so does the decision when it is closed.
#[test]
fn an_inherited_socket_that_others_share_outlives_the_master() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.sock");
    let ours = UnixListener::bind(&path).unwrap();
    let theirs: OwnedFd = ours.try_clone().unwrap().into();
    let mut command = after(
        "exec 3<&0 0</dev/null",
        args(1, &["-l", "web=fd:3"], &["serve", "web"]),
    );
    command.stdin(theirs).stdout(Stdio::null());
    let mut cluster = Cluster::with_streams(command);
    cluster.await_ready();
    assert_eq!(get_unix(&path, "/").unwrap().status, 200);

    assert_eq!(cluster.stop().code(), 0);
    let _mine = UnixStream::connect(&path).unwrap();
    ours.set_nonblocking(false).unwrap();
    ours.accept().unwrap();
}

#[test]
fn a_descriptor_that_cannot_be_listened_on_is_refused_with_the_reason() {
    let bound = "exec 3<&0 0</dev/null";
    let not_listening =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    for (prelude, stdin, listen, says) in [
        ("", Stdio::null(), "fd:77", "passed no such descriptor"),
        ("exec 3</dev/null", Stdio::null(), "fd:3", "not a listening"),
        (
            bound,
            OwnedFd::from(not_listening).into(),
            "fd:3",
            "not a listening",
        ),
        ("", Stdio::null(), "fd:0", "standard streams"),
    ] {
        let mut command = after(prelude, ["-w", "1", "-l", listen, "/bin/true"]);
        command.stdin(stdin).stdout(Stdio::null());
        let ended = Cluster::with_streams(command).wait();
        assert_eq!(ended.code(), 6, "{}", ended.log);
        let start = format!("rr-master: bind {listen}: ");
        assert!(
            ended.log.starts_with(&start) && ended.log.contains(says),
            "{}",
            ended.log
        );
    }
}

#[test]
fn a_descriptor_is_taken_only_once() {
    let (socket, _) = listening_socket();
    let mut command = after(
        "exec 3<&0 0</dev/null",
        args(1, &["-l", "fd:3", "-l", "again=fd:3"], &["serve"]),
    );
    command.stdin(socket).stdout(Stdio::null());
    let ended = Cluster::with_streams(command).wait();
    assert_eq!(ended.code(), 2, "{}", ended.log);
    assert!(ended.log.contains("fd:3"), "{}", ended.log);
}

/// Waiting for one address must not cost the descriptors that were passed for the others.
#[test]
fn an_inherited_socket_survives_a_bind_retry() {
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let busy_address = busy.local_addr().unwrap();
    let (socket, address) = listening_socket();
    let flags = [
        "-l",
        "fd:3",
        "-l",
        &busy_address.to_string(),
        "--bind-retry",
        "20s",
    ];
    let mut command = after("exec 3<&0 0</dev/null", args(1, &flags, &["serve"]));
    command.stdin(socket).stdout(Stdio::null());
    let mut cluster = Cluster::with_streams(command);
    cluster.await_text("trying again");
    drop(busy);
    cluster.await_ready();
    for address in [address, busy_address] {
        assert_eq!(get(address, "/").unwrap().status, 200);
    }
}

/// As systemd does it: `LISTEN_FDS` descriptors from 3 on, for the process `LISTEN_PID`, with
/// names. The variables are not the workers' business.
#[test]
fn sockets_from_systemd_are_served_under_their_names() {
    let ((web, web_address), (admin, admin_address)) = (listening_socket(), listening_socket());
    let workers = ["by-slot", "serve", "web", "--", "serve", "admin"];
    let mut command = after(
        "exec 3<&0 4<&1 0</dev/null 1>/dev/null
         export LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=web:admin",
        args(2, &[], &workers),
    );
    command.stdin(web).stdout(admin);
    let mut cluster = Cluster::with_streams(command);
    let shown = [web_address, admin_address].map(|address| address.to_string());
    assert_eq!(cluster.addresses(2), shown);
    let worker = pid_in(&cluster.find_text("w1 slot=0"));
    cluster.await_ready();
    assert_eq!(slots(2, || get(web_address, "/")), [2, 0]);
    assert_eq!(slots(2, || get(admin_address, "/")), [0, 2]);
    let inherited = environ(worker);
    let left: Vec<_> = inherited
        .keys()
        .filter(|name| name.starts_with("LISTEN_"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

/// All sockets of one systemd unit have the unit's name.
#[test]
fn sockets_from_systemd_may_share_a_name() {
    let ((one, one_address), (other, other_address)) = (listening_socket(), listening_socket());
    let mut command = after(
        "exec 3<&0 4<&1 0</dev/null 1>/dev/null
         export LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=app.socket:app.socket",
        args(1, &[], &["serve"]),
    );
    command.stdin(one).stdout(other);
    let mut cluster = Cluster::with_streams(command);
    cluster.await_ready();
    for (address, name) in [(one_address, "app.socket"), (other_address, "fd:4")] {
        cluster.find_text(&format!("{address} ({name})"));
        assert_eq!(get(address, "/").unwrap().status, 200);
    }
}

/// They were meant for another process, for instance the shell that started this one.
#[test]
fn systemd_variables_of_another_process_are_ignored() {
    let (socket, address) = listening_socket();
    let mut command = after(
        "exec 3<&0 0</dev/null; export LISTEN_PID=1 LISTEN_FDS=1",
        args(1, &[], &["serve", "127.0.0.1:0"]),
    );
    command.stdin(socket).stdout(Stdio::null());
    let mut cluster = Cluster::with_streams(command);
    cluster.await_text("on what the workers ask for");
    let bound = cluster.await_text("listening on 127.0.0.1:");
    assert!(!bound.contains(&address.to_string()), "{bound}");
}

/// (N40)
#[test]
fn the_backlog_asked_for_is_the_real_one() {
    let mut cluster = serve(1, &["-l", "127.0.0.1:0,backlog=17"], &[]);
    assert_eq!(backlog(cluster.address()), 17);
}

#[test]
fn the_default_backlog_is_the_kernels_or_4096() {
    let (_cluster, address) = Cluster::hello(1);
    assert_eq!(backlog(address), somaxconn().min(4096));
}

/// (N40)
#[test]
fn a_backlog_beyond_the_kernels_limit_is_cut_with_a_warning() {
    let asked = somaxconn() + 1;
    let mut cluster = serve(1, &["-l", &format!("127.0.0.1:0,backlog={asked}")], &[]);
    let warning = cluster.find_text(&format!("backlog {asked} is cut to {}", somaxconn()));
    assert!(warning.contains("WARN"), "{warning}");
    assert!(warning.contains("net.core.somaxconn"), "{warning}");
    assert_eq!(backlog(cluster.address()), somaxconn());
}

/// A ready cluster of test workers. `program` is the test worker's mode; `serve` if empty.
fn serve(workers: usize, flags: &[&str], program: &[&str]) -> Cluster {
    let program = if program.is_empty() {
        &["serve"]
    } else {
        program
    };
    let mut cluster = Cluster::start(args(workers, flags, program));
    cluster.await_ready();
    cluster
}

fn args(workers: usize, flags: &[&str], program: &[&str]) -> Vec<String> {
    let mut args = vec!["-w".to_owned(), workers.to_string()];
    args.extend(flags.iter().map(|&flag| flag.to_owned()));
    args.push(test_worker().to_str().unwrap().to_owned());
    args.extend(program.iter().map(|&arg| arg.to_owned()));
    args
}

/// How many of `count` requests each of two slots answered.
fn slots(count: usize, request: impl Fn() -> io::Result<common::client::Response>) -> [usize; 2] {
    let mut served = [0, 0];
    for _ in 0..count {
        served[request().expect("an answer").server().slot as usize] += 1;
    }
    served
}

/// Starts a master that must not get this address; answers its one line.
fn refused_bind(listen: &str) -> String {
    let Ended { status, log } = run_to_end(&["-w", "1", "-l", listen, "/bin/true"]);
    assert_eq!(status.code(), Some(6), "{log}");
    let start = format!("rr-master: bind {listen}: ");
    assert!(log.starts_with(&start) && log.lines().count() == 1, "{log}");
    log
}

fn listening_socket() -> (OwnedFd, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener.into(), address)
}

fn unix(path: &Path) -> String {
    format!("unix:{}", path.display())
}

fn loopback_v4(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn loopback_v6(port: u16) -> SocketAddr {
    (Ipv6Addr::LOCALHOST, port).into()
}

/// A machine without IPv6 cannot show anything about it.
fn has_ipv6() -> bool {
    let has = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    if !has {
        eprintln!("no IPv6 on this machine: nothing tested");
    }
    has
}

fn somaxconn() -> u32 {
    let limit = fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    limit.trim().parse().unwrap()
}
