//! What programs see of their listening sockets: the same under a master as without one.
//!
//! `tests/calls/*.c` is a program that knows nothing of a master. Each of its cases runs twice, by
//! itself and under a master with the preloaded library, and must say the same both times, save
//! what [`DIFFERENCES`] gives a reason for.

mod common;

use std::collections::hash_map::DefaultHasher;
use std::fs::{self, File, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, killpg};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use tempfile::TempDir;

use common::{Cluster, DEADLINE, rr_master};

/// One test for each case of the program.
macro_rules! cases {
    ($($case:ident)*) => {
        $(
            #[test]
            fn $case() {
                is_the_same_under_a_master(stringify!($case));
            }
        )*

        const CASES: &[&str] = &[$(stringify!($case)),*];
    };
}

cases! {
    accepts_what_is_connected
    accept_waits_for_a_client
    accept_does_not_wait_where_it_must_not
    waiting_is_changed_after_listen
    accept4_flags_are_those_asked_for
    accept_times_out
    a_signal_interrupts_accept
    accept_is_restarted_after_a_signal
    a_signal_handler_accepts
    accept_of_what_does_not_listen
    a_peers_address_is_cut_to_its_room
    a_negative_room_is_an_error
    many_are_accepted_without_a_leak
    clients_are_accepted_in_their_order
    the_lowest_free_number_is_used
    at_the_limit_of_descriptors_a_client_waits
    a_low_limit_of_descriptors_is_enough
    a_client_that_has_left_is_accepted
    a_hundred_threads_accept
    closing_does_not_wake_who_waits
    who_waits_is_interrupted_when_something_else_is_there
    who_waits_is_cancelled
    who_is_to_be_cancelled_listens_first
    rights_are_given_up_after_listen
    shutdown_wakes_who_waits
    port_0_is_known_before_listen
    port_0_is_known_after_listen
    every_port_0_is_another_port
    listen_without_bind_chooses_a_port
    an_address_of_all_hosts_is_reached_by_each
    a_name_is_cut_to_its_room
    a_listener_has_no_peer
    a_port_in_use_is_refused
    a_bound_port_is_in_use_before_listen
    two_with_reuseaddr_are_bound_and_one_listens
    two_with_reuseport_share_the_clients
    a_port_of_another_process_is_refused
    bind_refuses_what_makes_no_sense
    a_foreign_address_is_bound_on_request
    an_unspecified_family_is_taken_for_all_hosts
    listen_refuses_what_cannot
    listen_again_changes_the_backlog
    a_bound_socket_connects_from_there
    a_bound_socket_connects_without_waiting
    a_listener_does_not_connect
    a_listener_has_nothing_to_read
    ipv6_has_its_own_addresses
    a_dual_stack_is_reached_both_ways
    v6only_leaves_ipv4_to_others
    a_privileged_port_needs_rights
    other_kinds_of_sockets_are_left_alone
    a_copy_of_a_fresh_socket_listens_too
    a_copy_of_a_bound_socket_listens_too
    a_copy_of_a_listening_socket_accepts
    copies_share_whether_they_wait
    one_of_two_copies_is_closed
    a_bound_copy_is_closed_before_listen
    dup2_onto_itself_changes_nothing
    something_else_is_put_in_its_place
    a_listener_is_put_in_a_connections_place
    a_copy_of_a_connection_keeps_it_open
    a_closed_number_is_used_again
    a_closed_listener_is_bound_again
    a_bound_socket_is_closed_and_bound_again
    a_child_accepts
    children_go_on_without_their_parent
    four_children_share_one_listener
    a_child_listens
    a_child_listens_on_what_was_bound_before_it
    two_children_listen_at_a_time
    it_is_passed_through_exec_by_its_number
    a_program_becomes_another_one_in_place
    exec_closes_what_it_should
    who_was_made_with_exec_listens
    it_is_sent_to_another_process
    what_is_above_2_is_closed_first
    a_daemon_of_two_forks_listens
    two_listeners_are_told_apart
    many_listen_at_a_time
    other_programs_are_started
    threads_listen_while_children_are_made
    children_share_a_port
    a_listener_is_shut_down
    a_listener_listens_again_after_shutdown
    a_shutdown_ends_it_for_every_process
    clients_of_a_closed_listener_are_reset
    clients_of_a_shut_down_listener_are_reset
    connections_outlive_their_listener
    a_connection_is_closed_in_every_way
    a_connection_goes_on_in_a_child
    options_set_before_bind_are_inherited
    options_set_after_bind_are_inherited
    options_set_after_listen_are_inherited
    options_on_port_0_are_inherited
    options_of_ipv6_are_inherited
    nothing_is_inherited_that_was_not_set
    a_late_option_is_taken_back
    a_listener_reuses_its_address
    a_listener_describes_itself
    wrong_options_are_refused
    a_connection_is_not_the_listener
    a_deferred_client_comes_with_its_first_bytes
    a_socket_of_fast_open_listens
    poll_tells_of_a_client
    a_listener_is_never_writable
    what_does_not_listen_yet_hangs_up
    select_tells_of_a_client
    epoll_tells_again_and_again
    epoll_tells_once_at_an_edge
    epoll_tells_one_shot
    epoll_wakes_one_of_several
    epoll_keeps_its_list
    epoll_knows_it_from_before_listen
    epoll_forgets_what_is_closed
    epoll_forgets_the_last_copy_only
    epoll_of_a_connection_is_its_own
    a_child_inherits_what_epoll_knows
    a_signal_tells_of_a_client
    a_loop_that_ends_does_not_spin
    a_path_is_served
    a_file_is_made_with_the_umask
    a_path_belongs_to_the_working_directory
    an_abstract_name_is_served
    a_name_is_chosen_by_the_kernel
    a_named_client_is_known_by_its_name
    a_path_in_use_is_refused
    a_stale_path_is_removed_first
    a_path_is_removed_while_it_is_served
    a_path_stays_when_its_socket_is_closed
    a_path_is_renamed
    impossible_paths_are_refused
    a_path_fills_its_room
    a_directory_without_rights_is_refused
    a_unix_listener_describes_itself
    both_ends_know_the_others_process
    a_unix_listener_is_shut_down
    a_unix_listener_does_not_wait
    descriptors_go_over_accepted_connections
}

#[test]
fn every_case_is_a_test() {
    let listed = Command::new(program()).arg("--list").output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let mut listed: Vec<_> = listed.lines().collect();
    let mut tested = CASES.to_vec();
    listed.sort_unstable();
    tested.sort_unstable();
    assert_eq!(tested, listed);
}

#[test]
fn the_library_speaks_for_the_program() {
    let said = Said::new();
    let mut cluster = start_under_a_master("accepts_what_is_connected", &said);
    cluster.find_text("speaks rr-preload");
}

fn is_the_same_under_a_master(case: &str) {
    let plain = by_itself(case);
    let troubles = ["failed=", "ran out of time"];
    let is_trouble = |line: &&String| troubles.iter().any(|trouble| line.starts_with(trouble));
    assert_eq!(plain.iter().find(is_trouble), None, "{plain:#?}");

    let expected = with_differences(case, &plain);
    let (served, log) = under_a_master(case);
    assert!(
        served == expected,
        "{case} is not the same under a master:\n{}\n{log}",
        comparison(&expected, &served)
    );
}

/// What else a case says under a master than by itself.
struct Difference {
    case: &'static str,
    /// By itself, and under a master; nothing there if that is not said.
    lines: &'static [(&'static str, &'static str)],
    /// Why that is so, and may be so.
    reason: &'static str,
}

const LINGERS: &str =
    "the master closes its copy of a connection, perhaps as the last, and waits for no client";

/// Every difference there is.
const DIFFERENCES: &[Difference] = &[
    Difference {
        case: "a_foreign_address_is_bound_on_request",
        lines: &[("bind=ok", "bind=EADDRNOTAVAIL"), ("listen=ok", "")],
        reason: "the master knows nothing of IP_FREEBIND",
    },
    Difference {
        case: "a_listener_has_nothing_to_read",
        lines: &[
            ("read=ENOTCONN", "read=EAGAIN"),
            ("recv=ENOTCONN", "recv=EAGAIN"),
        ],
        reason: "nobody reads from a listening socket, so every other read is spared the question",
    },
    Difference {
        case: "a_path_fills_its_room",
        lines: &[
            ("bind=ok", "bind=ENAMETOOLONG"),
            ("length=111", ""),
            ("served=served", ""),
        ],
        reason: "for the master, in another directory, the whole path is longer",
    },
    Difference {
        case: "a_path_is_removed_while_it_is_served",
        lines: &[
            ("removed=ENOENT", "removed=socket 755"),
            ("connect=ENOENT", "connect=ok"),
            ("bind_again=ok", "bind_again=EADDRINUSE"),
        ],
        reason: "every worker removes what it takes for a stale path: the others are to keep it",
    },
    Difference {
        case: "a_path_stays_when_its_socket_is_closed",
        lines: &[("file=socket 755", "file=ENOENT")],
        reason: "the master removes the path when nobody is left who listens on it",
    },
    Difference {
        case: "a_stale_path_is_removed_first",
        lines: &[
            ("stale=EADDRINUSE", "stale=ok"),
            ("bind=ok", "bind=EADDRINUSE"),
        ],
        reason: "the master takes the place of a stale path",
    },
    Difference {
        case: "both_ends_know_the_others_process",
        lines: &[("server_is_this_process=yes", "server_is_this_process=no")],
        reason: "the master has made the socket",
    },
    Difference {
        case: "children_go_on_without_their_parent",
        lines: &[("refuses=yes", "refuses=no")],
        reason: "once a program has forked, nobody can tell whether a child listens still: until its first process ends",
    },
    Difference {
        case: "children_share_a_port",
        lines: &[("another_binds=ok", "another_binds=EADDRINUSE")],
        reason: "a worker has one queue for each address: its processes inherit a listener, or share one process's",
    },
    Difference {
        case: "clients_of_a_closed_listener_are_reset",
        lines: &[("silent=ECONNRESET", "silent=0")],
        reason: "the master had accepted the client already, and closes it",
    },
    Difference {
        case: "clients_of_a_shut_down_listener_are_reset",
        lines: &[("client=ECONNRESET", "client=0")],
        reason: "the master had accepted the client already, and closes it",
    },
    Difference {
        case: "epoll_forgets_the_last_copy_only",
        lines: &[("first_closed=in", "first_closed=")],
        reason: "the master has the queue open, too, so the number is removed when it is closed",
    },
    Difference {
        case: "epoll_knows_it_from_before_listen",
        lines: &[("bound=hup", "bound=")],
        reason: "the queue is there from bind on: nobody hangs up who does not listen yet",
    },
    Difference {
        case: "nothing_is_inherited_that_was_not_set",
        lines: &[("reuse_address=0", "reuse_address=1")],
        reason: "the master binds with SO_REUSEADDR",
    },
    Difference {
        case: "options_on_port_0_are_inherited",
        lines: &[("accepted_linger=1,3", "accepted_linger=0,0")],
        reason: LINGERS,
    },
    Difference {
        case: "options_set_after_bind_are_inherited",
        lines: &[("accepted_linger=1,3", "accepted_linger=0,0")],
        reason: LINGERS,
    },
    Difference {
        case: "options_set_after_listen_are_inherited",
        lines: &[("accepted_linger=1,3", "accepted_linger=0,0")],
        reason: LINGERS,
    },
    Difference {
        case: "options_set_before_bind_are_inherited",
        lines: &[("accepted_linger=1,3", "accepted_linger=0,0")],
        reason: LINGERS,
    },
    Difference {
        case: "two_with_reuseaddr_are_bound_and_one_listens",
        lines: &[
            ("other=ok", "other=EADDRINUSE"),
            ("listen_other=EADDRINUSE", "listen_other=ok"),
        ],
        reason: "the master listens from bind on",
    },
    Difference {
        case: "what_does_not_listen_yet_hangs_up",
        lines: &[("bound=out,hup", "bound=")],
        reason: "the queue is there from bind on: nobody hangs up who does not listen yet",
    },
];

/// What the case has to say under a master.
fn with_differences(case: &str, plain: &[String]) -> Vec<String> {
    let mut expected = plain.to_vec();
    for Difference { lines, reason, .. } in DIFFERENCES.iter().filter(|it| it.case == case) {
        for (plain, served) in *lines {
            let line = expected.iter_mut().find(|line| line == plain);
            let line = line.unwrap_or_else(|| panic!("{case} says no {plain:?}, with {reason:?}"));
            (*served).clone_into(line);
        }
    }
    expected.retain(|line| !line.is_empty());
    expected
}

/// Both side by side; `-` is expected only, `+` is there only.
fn comparison(expected: &[String], served: &[String]) -> String {
    let mut text = String::new();
    let mut rest = served.iter().peekable();
    for line in expected {
        if rest.peek() == Some(&line) {
            rest.next();
            text += &format!("  {line}\n");
            continue;
        }
        text += &format!("- {line}\n");
        let key = line.split_once('=').map(|(key, _)| key);
        let is_other = |other: &&String| other.split_once('=').map(|(key, _)| key) == key;
        if let Some(other) = rest.next_if(|other| is_other(other)) {
            text += &format!("+ {other}\n");
        }
    }
    rest.fold(text, |text, line| text + &format!("+ {line}\n"))
}

/// What the case says under a master, and the master's log.
fn under_a_master(case: &str) -> (Vec<String>, String) {
    let said = Said::new();
    let cluster = start_under_a_master(case, &said);
    let lines = said.to_the_end();
    cluster.signal(Signal::SIGKILL);
    let log = cluster.wait().log;
    match lines {
        Ok(lines) => (lines, log),
        Err(lines) => (lines, format!("{case} did not end\n{log}")),
    }
}

fn start_under_a_master(case: &str, said: &Said) -> Cluster {
    let mut command = Command::new(rr_master());
    command
        .args(["--workers", "1", "--preload", "--no-control"])
        .args(["--log-level", "debug"])
        .arg(program())
        .args([case, "said"])
        .current_dir(said.directory());
    Cluster::from_command(command)
}

/// What the case says without a master.
fn by_itself(case: &str) -> Vec<String> {
    let said = Said::new();
    let mut command = Command::new(program());
    command.args([case, "said"]).current_dir(said.directory());
    let mut child = command
        .stdin(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap();
    let lines = said.to_the_end();
    // Not yet waited for, so the group is still this one.
    let group = Pid::from_raw(child.id().cast_signed());
    killpg(group, Signal::SIGKILL).unwrap();
    child.wait().unwrap();
    lines.unwrap_or_else(|lines| panic!("{case} did not end: {lines:#?}"))
}

/// A FIFO in which a case says what it sees, in the directory that it works in.
struct Said {
    directory: TempDir,
    lines: Receiver<String>,
}

impl Said {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("said");
        mkfifo(&path, Mode::S_IRWXU).expect("make a FIFO");
        // For both, see fifo(7): so there is no end when one process of a case has left.
        let fifo = OpenOptions::new().read(true).write(true).open(path);
        let fifo = BufReader::new(fifo.expect("open the FIFO"));
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in fifo.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Said { directory, lines }
    }

    fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Every line before the last; those that came, if the last one does not.
    fn to_the_end(&self) -> Result<Vec<String>, Vec<String>> {
        let mut said = Vec::new();
        loop {
            match self.lines.recv_timeout(DEADLINE) {
                Ok(line) if line == "end" => return Ok(said),
                Ok(line) => said.push(line),
                Err(_) => return Err(said),
            }
        }
    }
}

/// The program, compiled by the first test of all that needs it.
fn program() -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let sources = sources();
    let mut hasher = DefaultHasher::new();
    for source in &sources {
        fs::read(source).unwrap().hash(&mut hasher);
    }
    let program = directory.join(format!("calls-{:016x}", hasher.finish()));
    let lock = File::create(directory.join("calls.lock")).unwrap();
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).unwrap();
    if !program.exists() {
        compile(&sources, &program);
    }
    program
}

fn sources() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/calls");
    let entries = fs::read_dir(directory).unwrap();
    let mut sources: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    sources.sort_unstable();
    sources
}

fn compile(sources: &[PathBuf], program: &Path) {
    let unfinished = program.with_extension("unfinished");
    let is_code = |path: &&PathBuf| path.extension().is_some_and(|extension| extension == "c");
    let output = Command::new("cc")
        .args([
            "-std=gnu11",
            "-O1",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-pthread",
            "-o",
        ])
        .arg(&unfinished)
        .args(sources.iter().filter(is_code))
        .output()
        .expect("cc compiles the program of these tests: apt-get install gcc libc6-dev");
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaints}");
    fs::rename(unfinished, program).unwrap();
}
