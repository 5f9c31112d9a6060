//! The operator's door: `rr-ctl` against real clusters, and operators who misbehave.

mod common;

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, IoSlice, Read};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde_json::{Value, json};
use socket2::{Domain, SockAddr, Socket, Type};

use common::client::{ask, connect, get};
use common::command::{NOBODY, after};
use common::load::Load;
use common::operator::{ByHand, Said, command, ctl, done, events, rr_ctl, status};
use common::{Cluster, await_condition, processes, rr_master, run_to_end, sockets, test_worker};

// What can be seen.

#[test]
fn the_status_shows_the_master_its_workers_and_listeners() {
    let (mut cluster, address) = Cluster::test_workers(2, &[]);
    let control = cluster.control();
    for _ in 0..6 {
        get(address, "/").unwrap();
    }
    let shown = status(&control);
    assert_eq!(shown["master"]["pid"], cluster.pid().as_raw());
    assert_eq!(shown["master"]["stage"], "serving");
    assert_eq!(shown["master"]["generation"], 1);
    assert_eq!(shown["master"]["settled"], true);
    for slot in 0..2 {
        let worker = &shown["workers"][slot];
        let expected = cluster.worker(u32::try_from(slot).unwrap());
        assert_eq!(worker["worker"], expected.id);
        assert_eq!(worker["pid"], expected.pid);
        assert_eq!(worker["state"], "serving");
        assert_eq!(worker["load"]["received"], 3, "{shown}");
    }
    assert_eq!(shown["listeners"][0]["accepted"], 6);
    assert_eq!(shown["listeners"][0]["address"], address.to_string());

    let table = done(&control, &["status"]);
    assert!(table.contains("2 of 2 workers serve"), "{table}");
    assert!(!table.contains('\x1b'), "no colours for a pipe: {table}");
    cluster.stop();
}

#[test]
fn the_delay_of_hand_offs_is_shown_without_those_who_waited_for_room() {
    let (mut cluster, address) = Cluster::test_workers(1, &["--window", "1"]);
    let control = cluster.control();
    for _ in 0..5 {
        get(address, "/").unwrap();
    }
    let shown = status(&control);
    let delay = &shown["listeners"][0]["handoff_delay"];
    assert_eq!(
        (&delay["count"], &delay["waited_for_room"]),
        (&json!(5), &json!(0))
    );
    let of = |name: &str| delay[name].as_u64().unwrap_or_else(|| panic!("{shown}"));
    assert!(of("p50_us") > 0, "{shown}");
    assert!(
        of("p50_us") <= of("p99_us") && of("p99_us") <= of("p999_us"),
        "{shown}"
    );
    assert!(of("p999_us") <= of("max_us"), "{shown}");

    let worker = cluster.worker(0);
    processes::freeze(worker.pid());
    let waiting: Vec<_> = (0..5)
        .map(|_| ask(connect(address).unwrap(), "/").unwrap())
        .collect();
    await_condition("one of them held", || {
        status(&control)["listeners"][0]["held"] == 1
    });
    processes::thaw(worker.pid());
    for asked in waiting {
        asked.answer().unwrap();
    }
    let shown = status(&control);
    let delay = &shown["listeners"][0]["handoff_delay"];
    let waited = delay["waited_for_room"].as_u64().unwrap();
    assert!(waited > 0, "{shown}");
    assert_eq!(delay["count"].as_u64().unwrap() + waited, 10, "{shown}");
    cluster.stop();
}

#[test]
fn an_empty_slot_and_an_agent_are_shown_by_name() {
    let worker = test_worker();
    let agent = format!("{} agent", worker.display());
    let mut cluster = Cluster::start([
        "-w",
        "2",
        "-l",
        "127.0.0.1:0",
        "--agent",
        &agent,
        worker.to_str().unwrap(),
        "serve",
    ]);
    cluster.await_ready();
    let control = cluster.control();
    done(&control, &["drain", "1", "--wait"]);
    let shown = status(&control);
    let states: Vec<_> = ["role", "slot", "name", "state"]
        .map(|key| {
            let workers = shown["workers"].as_array().unwrap().iter();
            workers.map(|it| it[key].clone()).collect::<Vec<_>>()
        })
        .to_vec();
    assert_eq!(
        states,
        [
            vec![json!("agent"), json!("worker"), json!("worker")],
            vec![json!(0), json!(0), json!(1)],
            vec![json!("test_worker"), json!(null), json!(null)],
            vec![json!("ready"), json!("serving"), json!("parked")],
        ]
    );
    assert_eq!(
        done(&control, &["signal", "agent:test_worker", "CONT"]),
        "1 process signalled\n"
    );
    let said = ctl(&control, &["kill", "agent:other"]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("the agents are: test_worker"), "{said:?}");
    cluster.stop();
}

/// N03, N38, P14.
#[test]
fn events_tell_a_life_in_order_with_one_disconnect_and_one_exit() {
    let (mut cluster, address) = Cluster::test_workers(1, &[]);
    let control = cluster.control();
    let first = cluster.worker(0);
    let _ = get(address, "/abort");
    // It may take longer to write its core than its successor to be ready.
    cluster.await_text("exited after");
    let all = events(&control);
    let of_first = all.iter().filter(|event| event["worker"] == first.id);
    let names: Vec<_> = of_first.clone().map(|event| &event["name"]).collect();
    assert_eq!(
        names,
        [
            "fork",
            "online",
            "listening",
            "ready",
            "disconnect",
            "refork",
            "exit"
        ]
    );
    let listening = of_first.clone().find(|it| it["name"] == "listening");
    let listening = listening.unwrap();
    assert_eq!(listening["port"], address.port());
    assert_eq!(listening["address"], address.ip().to_string());
    assert_eq!(listening["addressType"], 4);
    let exit = of_first.clone().find(|it| it["name"] == "exit").unwrap();
    assert_eq!(
        (
            &exit["code"],
            &exit["signal"],
            &exit["expected"],
            &exit["during"]
        ),
        (
            &json!(null),
            &json!("SIGABRT"),
            &json!(false),
            &json!("serving")
        )
    );
    assert_eq!(all[0]["name"], "setup");
    let numbers: Vec<_> = all
        .iter()
        .map(|it| it["number"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    cluster.stop();
}

/// In the log and in the event.
#[test]
fn an_exit_tells_how_far_the_process_had_come_and_its_last_words() {
    let dir = tempfile::tempdir().unwrap();
    let (bad, worker) = (dir.path().join("bad"), test_worker());
    let script = format!(
        "[ -e {} ] && {{ echo no database >&2; exit 3; }}; exec {} serve",
        bad.display(),
        worker.display()
    );
    let args = ["-w", "1", "-l", "127.0.0.1:0", "--stderr", "lines"];
    let mut cluster = Cluster::start([&args[..], &["/bin/sh", "-c", &script]].concat());
    cluster.await_ready();
    let control = cluster.control();
    fs::write(&bad, "").unwrap();
    done(&control, &["kill", "0"]);
    let line = cluster.await_text("exited after");
    assert!(line.ends_with("signal SIGKILL; it was serving"), "{line}");
    let line = cluster.await_text("exited after");
    assert!(line.ends_with("code 3; it was starting"), "{line}");
    cluster.await_text("w2 stderr: no database");
    let all = events(&control);
    let exit = |id: u64| {
        let mut all = all.iter();
        let found = all.find(|it| it["name"] == "exit" && it["worker"] == id);
        let exit = found.expect("an exit");
        ["during", "oom", "stderr"].map(|key| exit[key].clone())
    };
    assert_eq!(exit(1), [json!("serving"), json!(false), json!([])]);
    assert_eq!(
        exit(2),
        [json!("start"), json!(false), json!(["no database"])]
    );
    cluster.stop();
}

/// A process whose channel never opens.
#[test]
fn who_never_said_hello_has_a_disconnect_and_an_exit_too() {
    let mode = ["by-slot", "serve", "--", "silent"];
    let (mut cluster, _) = Cluster::in_mode(&mode, 1, &[]);
    let control = cluster.control();
    done(&control, &["scale", "2"]);
    cluster.await_text("w2 slot=1 gen=1 pid=");
    done(&control, &["kill", "1"]);
    cluster.await_text("signal SIGKILL");
    let events = events(&control);
    let mut of_it = events.iter().filter(|event| event["worker"] == 2);
    let names: Vec<_> = of_it.clone().map(|event| &event["name"]).collect();
    assert_eq!(names, ["fork", "disconnect", "refork", "exit"]);
    assert_eq!(of_it.next_back().unwrap()["during"], "start");
    done(&control, &["stop", "--fast"]);
    cluster.wait();
}

#[test]
fn events_are_followed_until_the_cluster_ends() {
    let (mut cluster, _) = Cluster::test_workers(1, &[]);
    let control = cluster.control();
    let mut follower = command(&control, &["events", "-f", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let mut next = || -> Option<Value> {
        let line = lines.next()?.unwrap();
        Some(serde_json::from_str(&line).unwrap())
    };
    while next().expect("the past")["name"] != "cluster-ready" {}
    done(&control, &["scale", "2", "--wait"]);
    while next().expect("the scaling")["name"] != "scale-done" {}
    cluster.stop();
    let mut last = Value::Null;
    while let Some(event) = next() {
        last = event;
    }
    assert_eq!(
        (&last["name"], &last["code"]),
        (&json!("stopped"), &json!(0))
    );
    assert_eq!(follower.wait().unwrap().code(), Some(0));
}

#[test]
fn the_configuration_in_force_is_shown_and_follows_a_scale() {
    let (mut cluster, _) = Cluster::test_workers(1, &["--stop-timeout", "7s"]);
    let control = cluster.control();
    done(&control, &["scale", "2", "--wait"]);
    let shown = done(&control, &["config", "show", "--json"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(
        (&shown["workers"], &shown["stop-timeout"]),
        (&json!(2), &json!("7s"))
    );
    // As a file, every setting with its origin.
    let text = done(&control, &["config", "show"]);
    assert!(text.contains("stop-timeout = \"7s\""), "{text}");
    assert!(text.contains("backoff = \"100ms..15s\""), "{text}");
    assert!(text.ends_with("# Now: 2 workers wanted.\n"), "{text}");
    cluster.stop();
}

#[test]
fn a_configuration_is_checked_before_it_is_reloaded() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("app.toml");
    let path = file.to_str().unwrap();
    let worker = test_worker();
    let write = |workers: &str| {
        let program = worker.display();
        let text = format!(
            "program = '{program}'\nargs = ['serve']\nlisten = ['127.0.0.1:0']\ncanary = '1ms'\nworkers = {workers}\n"
        );
        fs::write(&file, text).unwrap();
    };
    write("1");
    let mut cluster = Cluster::start(["--config", path]);
    cluster.await_ready();
    let control = cluster.control();
    let check = || ctl(&control, &["config", "check"]);
    assert!(check().out.contains("nothing has changed"), "{:?}", check());
    write("2");
    let said = check();
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.contains("workers: 1 -> 2"), "{said:?}");
    write("'many'");
    let said = check();
    assert_eq!(said.code, 1, "{said:?}");
    assert!(
        said.err.starts_with("rr-ctl: ") && said.err.contains("app.toml: key \"workers\""),
        "{said:?}"
    );
    assert!(
        !said.err.contains("reload"),
        "nobody asked for one: {said:?}"
    );
    let line = cluster.await_text("config check: failed: ");
    assert!(line.contains("control: uid "), "{line}");
    let said = ctl(&control, &["reload", "--wait"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("app.toml"), "{said:?}");
    write("2");
    assert_eq!(ctl(&control, &["reload", "--wait"]).code, 0);
    assert_eq!(status(&control)["master"]["wanted"], 2);
    cluster.stop();
}

// What can be changed.

#[test]
fn scaling_waits_for_newcomers_and_leavers() {
    let (mut cluster, _) = Cluster::test_workers(2, &[]);
    let control = cluster.control();
    assert_eq!(
        done(&control, &["scale", "+2", "--wait"]),
        "done: 4 workers\n"
    );
    let serving = || {
        let shown = status(&control);
        let workers = shown["workers"].as_array().unwrap().iter();
        workers.filter(|it| it["state"] == "serving").count()
    };
    assert_eq!(serving(), 4);
    done(&control, &["scale", "1", "--wait"]);
    assert_eq!(
        (serving(), processes::of_master(cluster.pid()).len()),
        (1, 1)
    );
    cluster.stop();
}

/// P09.
#[test]
fn a_number_of_workers_that_cannot_be_is_refused() {
    let (mut cluster, _) = Cluster::test_workers(2, &[]);
    let control = cluster.control();
    for (to, code, why) in [
        ("-100", 1, "there are 2 workers"),
        ("0", 1, "at least one worker is needed"),
        ("5000", 1, "at most 4096"),
        ("+4294967295", 1, "at most 4096"),
        ("many", 2, "write 6, +2"),
    ] {
        let said = ctl(&control, &["scale", to]);
        assert_eq!(said.code, code, "{to}: {said:?}");
        assert!(said.err.contains(why), "{to}: {said:?}");
    }
    assert_eq!(status(&control)["master"]["wanted"], 2);
    cluster.stop();
}

#[test]
fn a_reload_is_watched_to_its_end() {
    let (mut cluster, address) = Cluster::test_workers(2, &["--canary", "1ms"]);
    let control = cluster.control();
    let said = ctl(&control, &["reload", "--wait"]);
    assert_eq!(
        (said.code, &*said.out),
        (0, "done: all at generation 2\n"),
        "{said:?}"
    );
    assert!(
        said.err.contains("reload: 2 of 2 at generation 2"),
        "{said:?}"
    );
    assert_eq!(get(address, "/").unwrap().server().generation, 2);
    cluster.find_text("reload: all at generation 2 after");
    cluster.stop();
}

/// Those who do not wait for the end take no place among those who do.
#[test]
fn however_many_reloads_were_asked_for_one_more_is_waited_for() {
    let (mut cluster, _) = Cluster::test_workers(1, &["--canary", "100ms"]);
    let control = cluster.control();
    let mut operator = ByHand::connect(&control);
    for id in 0..1100 {
        let answer = operator.ask(&format!("{{\"id\":{id},\"command\":\"reload\"}}"));
        assert_eq!(answer["ok"]["did"], "reloading", "{answer}");
    }
    let said = ctl(&control, &["reload", "--wait", "--timeout", "10s"]);
    assert_eq!(said.code, 0, "{said:?}");
    cluster.stop();
}

/// A wrong configuration is told to who asked, even if he does not wait for the end.
#[test]
fn a_reload_of_a_wrong_file_is_refused_to_whoever_asks() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("rr.toml");
    fs::write(&file, "workers = 1\n").unwrap();
    let mut cluster = Cluster::start(["--config", file.to_str().unwrap(), "-l", "127.0.0.1:0"]);
    cluster.await_ready();
    let control = cluster.control();
    assert_eq!(done(&control, &["reload"]), "reloading\n");
    cluster.await_text("reload: all at generation 2");
    fs::write(&file, "wokers = 1\n").unwrap();
    for flags in [&["reload"][..], &["reload", "--wait"]] {
        let said = ctl(&control, flags);
        assert_eq!(said.code, 1, "{said:?}");
        assert!(said.err.contains("did you mean \"workers\""), "{said:?}");
        assert_eq!(said.err.lines().count(), 1, "{said:?}");
    }
    let all = events(&control);
    let refused = all.iter().filter(|it| it["name"] == "reload-refused");
    assert_eq!(refused.count(), 2, "{all:?}");
    cluster.stop();
}

#[test]
fn a_reload_that_goes_back_says_why() {
    let mode = ["by-life", "serve", "then", "exit", "9"];
    let (mut cluster, address) = Cluster::in_mode(&mode, 2, &["--canary", "1ms"]);
    let control = cluster.control();
    let said = ctl(&control, &["reload", "--wait"]);
    assert_eq!(said.code, 5, "{said:?}");
    let last = said.err.lines().last().unwrap();
    assert!(
        last.starts_with("rr-ctl: ") && last.contains("given up"),
        "{said:?}"
    );
    assert_eq!(get(address, "/").unwrap().server().generation, 1);
    let said = ctl(&control, &["reload", "--abort"]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("no reload is under way"), "{said:?}");
    cluster.stop();
}

#[test]
fn a_slot_is_drained_refilled_and_renewed() {
    let (mut cluster, _) = Cluster::test_workers(2, &[]);
    let control = cluster.control();
    let pid = |slot: usize| status(&control)["workers"][slot]["pid"].clone();
    let before = [pid(0), pid(1)];
    done(&control, &["drain", "1", "--wait"]);
    assert_eq!(pid(1), json!(null));
    // Nobody has to do anything about it.
    let line = cluster.await_text("worker slot=1 parked");
    assert!(line.contains("INFO ] "), "{line}");
    assert!(line.ends_with(": drained by an operator"), "{line}");
    done(&control, &["restart", "1", "--wait"]);
    done(&control, &["restart", "0", "--wait"]);
    let after = [pid(0), pid(1)];
    assert!(after[0] != before[0] && after[1] != before[1] && after[1] != json!(null));
    for slot in ["2", "agent:0"] {
        let said = ctl(&control, &["drain", slot]);
        assert_eq!(said.code, 1, "{said:?}");
        assert!(said.err.contains("in slot"), "{said:?}");
    }
    cluster.stop();
}

/// It may take for ever until all the others are as they should be.
#[test]
fn who_waits_for_one_slot_does_not_wait_for_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let (bad, worker) = (dir.path().join("bad"), test_worker());
    let script = format!(
        "[ $RR_SLOT = 1 ] && [ -e {} ] && exit 3; exec {} serve",
        bad.display(),
        worker.display()
    );
    let args = ["-w", "2", "-l", "127.0.0.1:0", "/bin/sh", "-c", &script];
    let mut cluster = Cluster::start(args);
    cluster.await_ready();
    let control = cluster.control();
    fs::write(&bad, "").unwrap();
    done(&control, &["kill", "1"]);
    cluster.await_text("exited after");
    for (change, outcome) in [
        ("restart", "done: worker:0 restarted\n"),
        ("drain", "done: worker:0 drained, and kept empty\n"),
        ("restart", "done: worker:0 restarted\n"),
    ] {
        let said = ctl(&control, &[change, "0", "--wait", "--timeout", "10s"]);
        assert_eq!((said.code, &*said.out), (0, outcome), "{said:?}");
    }
    cluster.stop();
}

#[test]
fn a_restart_whose_newcomer_fails_says_so() {
    let mode = ["by-life", "serve", "then", "exit", "9"];
    let (mut cluster, _) = Cluster::in_mode(&mode, 1, &[]);
    let control = cluster.control();
    let said = ctl(&control, &["restart", "0", "--wait"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("the one before stays"), "{said:?}");
    cluster.stop();
}

/// N06: whoever is gone already cannot be killed, and that is what was wanted.
#[test]
fn killing_a_slot_kills_its_group_and_an_empty_one_is_no_error() {
    let (mut cluster, address) = Cluster::test_workers(2, &[]);
    let control = cluster.control();
    let answer = get(address, "/child").unwrap();
    let child = nix::unistd::Pid::from_raw(answer.body.parse().unwrap());
    let server = answer.server();
    done(&control, &["kill", &server.slot.to_string()]);
    cluster.await_text("signal SIGKILL");
    await_condition("the helper gone, too", || !processes::is_alive(child));
    done(&control, &["drain", &server.slot.to_string()]);
    await_condition("an empty slot", || {
        done(&control, &["kill", &server.slot.to_string()]).contains("nobody is in")
    });
    cluster.stop();
}

/// N105, P16.
#[test]
fn signals_go_by_name_and_number_to_whom_they_are_meant_for() {
    let (mut cluster, _) = Cluster::test_workers(2, &[]);
    let control = cluster.control();
    done(&control, &["signal", "1", "usr1"]);
    let line = cluster.await_text("signal SIGUSR1");
    assert!(line.contains("slot=1"), "{line}");
    cluster.await_text("ready after");
    assert_eq!(
        done(&control, &["signal", "workers", "12"]),
        "2 processes signalled\n"
    );
    cluster.await_text("signal SIGUSR2");
    cluster.await_text("signal SIGUSR2");
    assert_eq!(
        done(&control, &["signal", "agents", "HUP"]),
        "0 processes signalled\n"
    );
    for args in [["signal", "all", "NOPE"], ["signal", "everybody", "HUP"]] {
        let said = ctl(&control, &args);
        assert_eq!(said.code, 2, "{said:?}");
    }
    cluster.stop();
}

#[test]
fn while_paused_clients_wait_in_the_backlog() {
    let flags = ["--overflow", "reset", "--overflow-after", "50ms"];
    let (mut cluster, address) = Cluster::test_workers(1, &flags);
    let control = cluster.control();
    done(&control, &["pause"]);
    let waiting = ask(connect(address).unwrap(), "/").unwrap();
    await_condition("a client in the backlog", || {
        sockets::unaccepted(address) == 1
    });
    let shown = status(&control);
    assert_eq!(shown["listeners"][0]["paused"], true);
    assert_eq!(shown["listeners"][0]["accepted"], 0);
    let said = ctl(&control, &["resume", "other"]);
    assert_eq!(said.code, 1);
    assert!(
        said.err.contains("the listeners are: 127.0.0.1:0"),
        "{said:?}"
    );
    done(&control, &["resume", "127.0.0.1:0"]);
    assert_eq!(waiting.answer().unwrap().status, 200);
    // Whoever waits when the cluster stops is served.
    done(&control, &["pause", "127.0.0.1:0"]);
    let waiting = ask(connect(address).unwrap(), "/").unwrap();
    await_condition("a client in the backlog", || {
        sockets::unaccepted(address) == 1
    });
    done(&control, &["stop"]);
    assert_eq!(waiting.answer().unwrap().status, 200);
    assert_eq!(cluster.wait().code(), 0);
}

#[test]
fn the_log_says_more_when_it_is_told_to() {
    let (mut cluster, _) = Cluster::test_workers(1, &[]);
    let control = cluster.control();
    done(&control, &["log-level", "debug"]);
    done(&control, &["scale", "2", "--wait"]);
    cluster.await_text("slot=1 gen=1 pid=");
    cluster.await_line("a line of debug", |line| line.contains("DEBUG"));
    done(&control, &["log-level", "error"]);
    done(&control, &["scale", "1", "--wait"]);
    let ended = cluster.stop();
    let quiet = ended
        .log
        .rsplit_once("log level error")
        .unwrap_or(("", ""))
        .1;
    assert!(!quiet.contains("INFO"), "{}", ended.log);
    assert_eq!(ctl(&control, &["log-level", "loud"]).code, 2);
}

#[test]
fn a_stop_is_waited_for_and_asking_again_does_not_hurry_it() {
    let (mut cluster, address) = Cluster::test_workers(1, &[]);
    let control = cluster.control();
    let slow = ask(connect(address).unwrap(), "/slow/300").unwrap();
    cluster.await_text("/slow/300 begun");
    let mut waiting = command(&control, &["stop", "--wait"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    cluster.await_text("stopping gracefully");
    assert_eq!(done(&control, &["stop"]), "stopping\n");
    assert_eq!(slow.answer().unwrap().status, 200);
    let mut said = String::new();
    waiting
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert_eq!(said, "stopped with exit code 0\n");
    assert_eq!(waiting.wait().unwrap().code(), Some(0));
    assert_eq!(cluster.wait().code(), 0);
    assert!(!control.exists(), "the socket goes with its master");
}

#[test]
fn who_waits_no_longer_than_a_time_is_told_that_it_passed() {
    let mode = ["by-life", "serve", "then", "never-ready"];
    let (mut cluster, _) = Cluster::in_mode(&mode, 1, &[]);
    let control = cluster.control();
    let said = ctl(&control, &["restart", "0", "--wait", "--timeout", "50ms"]);
    assert_eq!(said.code, 4, "{said:?}");
    assert!(said.err.contains("no answer within 50ms"), "{said:?}");
    done(&control, &["stop", "--fast", "--wait"]);
    cluster.wait();
}

/// `nc -N`: it has said everything, and goes on listening until it has its answer.
#[test]
fn who_closes_one_direction_gets_what_he_waits_for() {
    let (mut cluster, _) = Cluster::test_workers(1, &["--canary", "60s"]);
    let control = cluster.control();
    let said = |line: &str| {
        let mut operator = ByHand::connect(&control);
        operator.say(line.as_bytes()).unwrap();
        operator.stream().shutdown(Shutdown::Write).unwrap();
        operator
    };
    let restart = "{\"id\":1,\"command\":\"restart\",\"slot\":0,\"wait\":true}\n";
    let mut operator = said(restart);
    let answers: Vec<_> = std::iter::from_fn(|| operator.hear()).collect();
    let last = answers.last().expect("an answer");
    assert_eq!(last["ok"]["did"], "restarted", "{answers:?}");

    // And who closes both is gone, whatever he waited for.
    let reload = "{\"id\":1,\"command\":\"reload\",\"wait\":true}\n";
    let follow = "{\"id\":1,\"command\":\"events\",\"follow\":true}\n";
    let crowd: Vec<_> = (0..16)
        .map(|nth| said(if nth % 2 == 0 { reload } else { follow }))
        .collect();
    assert_eq!(ctl(&control, &["status"]).code, 1);
    drop(crowd);
    await_condition("room for another", || ctl(&control, &["status"]).code == 0);
    cluster.stop();
}

/// A master that is stopped lets nobody in, and after a while nobody can even wait at its door.
#[test]
fn a_master_that_stands_still_is_not_waited_for_longer_than_a_time() {
    let (mut cluster, _) = Cluster::test_workers(1, &[]);
    let control = cluster.control();
    cluster.signal(Signal::SIGSTOP);
    let crowd: Vec<_> = std::iter::from_fn(|| {
        let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None).unwrap();
        let came = socket.connect(&SockAddr::unix(&control).unwrap());
        came.is_ok().then_some(socket)
    })
    .collect();
    assert!(!crowd.is_empty());
    let said = ctl(&control, &["status", "--timeout", "50ms"]);
    assert_eq!(said.code, 4, "{said:?}");
    assert!(said.err.contains("no answer within 50ms"), "{said:?}");
    cluster.signal(Signal::SIGCONT);
    drop(crowd);
    cluster.stop();
}

#[test]
fn every_change_is_in_the_log_with_who_wanted_it() {
    let (mut cluster, _) = Cluster::test_workers(1, &[]);
    let control = cluster.control();
    done(&control, &["scale", "2"]);
    let uid = nix::unistd::getuid();
    let line = cluster.await_text("control: uid");
    assert!(line.contains(&format!("uid {uid} pid ")), "{line}");
    assert!(
        line.contains("scale 2: scaling from 1 to 2 workers"),
        "{line}"
    );
    ctl(&control, &["kill", "7"]);
    cluster.await_text("kill worker:7: denied: there is no worker in slot 7");
    cluster.stop();
}

/// E25, F15, N35, N85: a leave that was ordered is no trouble, whenever its channel ends; a kill is.
#[test]
fn who_was_told_to_leave_leaves_no_warning_behind() {
    let (mut cluster, _) = Cluster::test_workers(3, &["--backoff", "1ms..1ms"]);
    let control = cluster.control();
    done(&control, &["drain", "2", "--wait"]);
    done(&control, &["restart", "1", "--wait"]);
    done(&control, &["kill", "0"]);
    cluster.await_line("the replacement", |line| {
        line.contains("slot=0") && line.contains(" ready after ")
    });
    let exits: Vec<(Value, Value)> = events(&control)
        .into_iter()
        .filter(|event| event["name"] == "exit")
        .map(|event| (event["slot"].clone(), event["expected"].clone()))
        .collect();
    assert_eq!(
        exits,
        [(2, true), (1, true), (0, false)].map(|(slot, told)| (json!(slot), json!(told)))
    );
    let ended = cluster.stop();
    assert_eq!(ended.code(), 0, "{}", ended.log);
    let trouble = ended
        .log
        .lines()
        .filter(|it| it.contains(" WARN") || it.contains(" ERROR"));
    let trouble: Vec<_> = trouble.collect();
    assert!(
        trouble.iter().all(|line| line.contains("slot=0")),
        "{trouble:?}"
    );
}

/// As many workers as its descriptors allow: nobody may have more, whichever way he asks.
#[test]
fn a_signal_is_in_the_log_and_within_limits_like_any_other_change() {
    let within = |workers: &str| after("ulimit -n 64", ["-w", workers, "-l", "127.0.0.1:0"]);
    let refused = Cluster::from_command(within("100")).wait();
    let (_, possible) = refused.log.split_once("at most ").expect("a remedy");
    let possible: u32 = possible[..1].parse().expect("fewer than ten");
    let mut cluster = Cluster::from_command(within(&possible.to_string()));
    cluster.await_ready();
    let control = cluster.control();
    cluster.signal(Signal::SIGTTIN);
    let line = cluster.await_text("SIGTTIN received: scale +1: denied: ");
    assert!(line.contains("ulimit -n"), "{line}");
    assert_eq!(status(&control)["master"]["wanted"], possible);
    cluster.signal(Signal::SIGTTOU);
    let (from, to) = (possible, possible - 1);
    cluster.await_text(&format!(
        "SIGTTOU received: scale -1: scaling from {from} to {to} workers"
    ));
    cluster.signal(Signal::SIGHUP);
    cluster.await_text("SIGHUP received: reload: reloading");
    let ended = cluster.stop();
    let stop = "SIGTERM received: stop gracefully: stopping";
    assert!(ended.log.contains(stop), "{}", ended.log);
}

// Finding the master.

/// A directory of its own for control sockets.
struct Places(tempfile::TempDir);

impl Places {
    fn new() -> Self {
        Places(tempfile::tempdir().unwrap())
    }

    fn master(&self) -> Cluster {
        let mut command = Command::new(rr_master());
        command.env("RR_CONTROL_DIR", self.0.path());
        command.args(["-w", "1", "-l", "127.0.0.1:0"]);
        let mut cluster = Cluster::from_command(command);
        cluster.await_ready();
        cluster
    }

    fn ctl(&self, args: &[&str]) -> Said {
        let mut command = Command::new(rr_ctl());
        command.env("RR_CONTROL_DIR", self.0.path()).args(args);
        command.output().expect("run rr-ctl").into()
    }

    fn of(&self, cluster: &Cluster) -> PathBuf {
        let name = format!("rr-master-{}.sock", cluster.pid());
        self.0.path().join(name)
    }
}

#[test]
fn the_only_master_is_found_and_of_several_one_has_to_be_named() {
    let places = Places::new();
    let said = places.ctl(&["status"]);
    assert_eq!(said.code, 3);
    assert!(
        said.err.contains("no master of this user is running"),
        "{said:?}"
    );

    let first = places.master();
    assert_eq!(places.ctl(&["status"]).code, 0);
    let second = places.master();
    let said = places.ctl(&["status"]);
    assert_eq!(said.code, 2);
    for cluster in [&first, &second] {
        let hint = format!("--pid {}", cluster.pid());
        assert!(said.err.contains(&hint), "{said:?}");
    }
    let pid = second.pid().to_string();
    let said = places.ctl(&["status", "--pid", &pid]);
    assert!(said.out.contains(&format!("pid {pid}")), "{said:?}");

    // What a killed master leaves behind is nobody, and goes with the next one.
    let (left, pid) = (places.of(&first), first.pid());
    first.signal(Signal::SIGKILL);
    drop(first);
    await_condition("a dead master", || !processes::is_alive(pid));
    assert!(left.exists());
    assert_eq!(places.ctl(&["status"]).code, 0);
    let third = places.master();
    assert!(!left.exists());
    third.stop();
    second.stop();
}

#[test]
fn a_control_socket_is_made_where_it_is_wanted_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("door.sock");
    let path = path.to_str().unwrap();
    let control = ["-w", "1", "-l", "127.0.0.1:0", "--control", path];
    let mut first = Cluster::start(control);
    first.await_ready();
    assert_eq!(first.control(), Path::new(path));
    let mode = fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // Another master neither takes it over nor starts without.
    let second = run_to_end(&control);
    assert_eq!(second.code(), 6, "{second:?}");
    assert!(
        second.log.contains(path) && second.log.contains("EADDRINUSE"),
        "{second:?}"
    );
    done(Path::new(path), &["status"]);
    // A killed one leaves it, and the next one takes it over.
    first.signal(Signal::SIGKILL);
    first.wait();
    let mut third = Cluster::start(control);
    third.await_ready();
    done(Path::new(path), &["status"]);
    third.stop();
    assert!(!Path::new(path).exists());

    let ended = run_to_end(&["--no-control", "--control", path]);
    assert_eq!(ended.code(), 2, "{ended:?}");
    let mut none = Cluster::start(["-w", "1", "-l", "127.0.0.1:0", "--no-control"]);
    none.await_ready();
    assert!(!none.stop().log.contains("control "));
}

// Operators who misbehave.

#[test]
fn junk_is_answered_with_what_would_be_right() {
    let (mut cluster, address) = Cluster::test_workers(1, &[]);
    let mut operator = ByHand::connect(&cluster.control());
    for (line, kind, why) in [
        ("junk", "bad-request", "no JSON object"),
        (
            r#"{"id":1,"command":"stauts"}"#,
            "bad-request",
            "did you mean \"status\"?",
        ),
        (
            r#"{"id":1,"command":"scale","n":1}"#,
            "bad-request",
            "unknown field `n`",
        ),
        (
            r#"{"id":1,"command":"kill","slot":9}"#,
            "not-found",
            "no worker in slot 9",
        ),
    ] {
        let answer = operator.ask(line);
        assert_eq!(answer["error"]["kind"], kind, "{answer}");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(why), "{answer}");
    }
    // And it is still listened to.
    assert_eq!(operator.ask(r#"{"id":7,"command":"status"}"#)["id"], 7);
    assert_eq!(get(address, "/").unwrap().status, 200);
    cluster.stop();
}

#[test]
fn a_line_without_an_end_costs_the_connection() {
    let (mut cluster, address) = Cluster::test_workers(1, &[]);
    let mut operator = ByHand::connect(&cluster.control());
    // The master may hang up before all of it is written.
    let _ = operator.say(&vec![b'x'; 1024 * 1024]);
    let _ = operator.stream().shutdown(Shutdown::Write);
    cluster.await_text("a line without an end: disconnected");
    assert_eq!(get(address, "/").unwrap().status, 200);
    cluster.stop();
}

#[test]
fn who_asks_and_never_reads_is_not_asked_again_and_disconnected() {
    let (mut cluster, address) = Cluster::test_workers(2, &[]);
    let mut operator = ByHand::connect(&cluster.control());
    let question = b"{\"id\":1,\"command\":\"status\"}\n".repeat(1000);
    operator.stream().set_nonblocking(true).unwrap();
    let load = Load::start(address, 2);
    // As much as goes in: the master stops reading when nobody reads its answers.
    while operator.say(&question).is_ok() {}
    load.await_more(50);
    cluster.await_text("reads nothing: disconnected");
    load.await_more(50);
    assert_eq!(load.stop().failures, [""; 0]);
    let memory = processes::status(cluster.pid(), "VmRSS");
    let kilobytes: u64 = memory.split_whitespace().next().unwrap().parse().unwrap();
    assert!(kilobytes < 64 * 1024, "{memory}");
    cluster.stop();
}

#[test]
fn a_follower_who_never_reads_loses_events_and_is_told_so() {
    let (mut cluster, _) = Cluster::test_workers(1, &[]);
    let control = cluster.control();
    let mut follower = ByHand::connect(&control);
    follower
        .say(b"{\"id\":1,\"command\":\"events\",\"follow\":true}\n")
        .unwrap();
    // Each pause and each resumption is an event; there are far more than a socket holds.
    let mut operator = ByHand::connect(&control);
    for id in 0..4000 {
        let command = if id % 2 == 0 { "pause" } else { "resume" };
        let answer = operator.ask(&format!("{{\"id\":{id},\"command\":\"{command}\"}}"));
        assert!(answer["ok"].is_object(), "{answer}");
    }
    let mut lost = 0;
    let mut heard = 0;
    while lost == 0 {
        let line = follower.hear().expect("the rest");
        if let Some(count) = line["lost"].as_u64() {
            lost = count;
        }
        heard += 1;
        if heard % 50 == 0 {
            operator.ask(r#"{"id":1,"command":"pause"}"#);
        }
    }
    assert!(lost > 0 && heard > 500, "{lost} lost, {heard} heard");
    cluster.stop();
}

#[test]
fn the_seventeenth_operator_is_told_to_come_back() {
    let (mut cluster, _) = Cluster::test_workers(1, &[]);
    let control = cluster.control();
    let mut operators: Vec<_> = (0..16).map(|_| ByHand::connect(&control)).collect();
    let (_, first) = ByHand::at_the_door(&control);
    assert_eq!(first["error"]["kind"], "busy", "{first}");
    let said = ctl(&control, &["status"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("16 operators are connected"), "{said:?}");
    operators.pop();
    await_condition("room for another", || ctl(&control, &["status"]).code == 0);
    cluster.stop();
}

/// Sixteen that sit there and say nothing do not keep everybody else out for ever.
#[test]
fn operators_who_want_nothing_make_room() {
    let (mut cluster, _) = Cluster::test_workers(1, &[]);
    let control = cluster.control();
    let mut idle: Vec<_> = (0..16).map(|_| ByHand::connect(&control)).collect();
    await_condition("room for another", || ctl(&control, &["status"]).code == 0);
    assert_eq!(idle[0].hear(), None);
    cluster.stop();
}

#[test]
fn a_flood_of_requests_does_not_keep_clients_from_being_served() {
    let (mut cluster, address) = Cluster::test_workers(2, &[]);
    let control = cluster.control();
    let load = Load::start(address, 4);
    let floods: Vec<_> = (0..4)
        .map(|_| {
            let mut operator = ByHand::connect(&control);
            let reader = operator.stream().try_clone().unwrap();
            let reading = std::thread::spawn(move || {
                let lines = BufReader::new(reader).lines();
                lines.map_while(Result::ok).count()
            });
            let question = b"{\"id\":1,\"command\":\"status\"}\n".repeat(100);
            std::thread::spawn(move || {
                for _ in 0..20 {
                    operator.say(&question).unwrap();
                }
                operator.stream().shutdown(Shutdown::Write).unwrap();
                reading.join().unwrap()
            })
        })
        .collect();
    load.await_more(200);
    for flood in floods {
        // All of them, though it had closed its side by then.
        assert_eq!(flood.join().unwrap(), 2000);
    }
    let tally = load.stop();
    assert_eq!(tally.failures, [""; 0]);
    cluster.stop();
}

#[test]
fn whoever_sends_descriptors_is_disconnected() {
    let (mut cluster, address) = Cluster::test_workers(1, &[]);
    let control = cluster.control();
    let before = processes::descriptors(cluster.pid());
    let mut operator = ByHand::connect(&control);
    let (gift, _other) = UnixStream::pair().unwrap();
    let gifts = [gift.as_raw_fd()];
    let line = b"{\"id\":1,\"command\":\"status\"}\n";
    let sent = sendmsg::<()>(
        operator.stream().as_raw_fd(),
        &[IoSlice::new(line)],
        &[ControlMessage::ScmRights(&gifts)],
        MsgFlags::empty(),
        None,
    );
    match sent {
        // Linux 6.16 and later keep such things from the master.
        Err(nix::errno::Errno::EPERM) => {}
        Ok(_) => {
            assert!(operator.hear().is_none());
            cluster.await_text("sent descriptors: disconnected");
        }
        Err(err) => panic!("send: {err}"),
    }
    drop(operator);
    await_condition("as many descriptors as before", || {
        processes::descriptors(cluster.pid()) == before
    });
    assert_eq!(get(address, "/").unwrap().status, 200);
    cluster.stop();
}

/// The file's mode keeps others out; should somebody open it to them, the kernel still tells who comes.
#[test]
fn another_user_is_turned_away() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let open = |path: &Path| fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
    open(dir.path());
    let program = dir.path().join("rr-ctl");
    fs::copy(rr_ctl(), &program).unwrap();
    open(&program);
    let path = dir.path().join("door.sock");
    let control = path.to_str().unwrap();
    let mut cluster = Cluster::start(["-w", "1", "-l", "127.0.0.1:0", "--control", control]);
    cluster.await_ready();
    let as_nobody = || -> Said {
        let mut command = Command::new(&program);
        command.args(["--control", control, "stop"]);
        command.uid(NOBODY).gid(NOBODY).current_dir(dir.path());
        command.output().expect("run rr-ctl").into()
    };
    let said = as_nobody();
    assert_eq!(said.code, 3);
    assert!(said.err.contains("permission denied"), "{said:?}");
    open(&path);
    let said = as_nobody();
    assert_eq!(said.code, 3);
    assert!(said.err.contains("may not command this master"), "{said:?}");
    cluster.await_text(&format!("uid {NOBODY} pid "));
    done(&path, &["status"]);
    cluster.stop();
}

// The program itself.

#[test]
fn rr_ctl_ends_quietly_when_nobody_reads_it() {
    let (mut cluster, _) = Cluster::test_workers(1, &[]);
    let control = cluster.control();
    let mut follower = command(&control, &["events", "-f"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    lines.next().unwrap().unwrap();
    drop(lines);
    // The next event meets nobody.
    done(&control, &["pause"]);
    done(&control, &["resume"]);
    let output = follower.wait_with_output().unwrap();
    let said = Said::from(output);
    assert_eq!((said.code, &*said.err), (0, ""), "{said:?}");
    cluster.stop();
}

#[test]
fn watching_shows_the_status_again_until_the_master_ends() {
    let (mut cluster, _) = Cluster::test_workers(1, &[]);
    let control = cluster.control();
    let mut watcher = command(&control, &["status", "--watch"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watcher.stdout.take().unwrap()).lines();
    let mut seen = 0;
    while seen < 2 {
        let line = lines.next().expect("another status").unwrap();
        seen += usize::from(line.contains("1 of 1 workers serve"));
    }
    cluster.stop();
    let rest: Vec<_> = lines.map_while(Result::ok).collect();
    assert_eq!(
        rest.last().map(String::as_str),
        Some("the master has ended")
    );
    assert_eq!(watcher.wait().unwrap().code(), Some(0));
}

#[test]
fn what_is_wrong_with_the_command_line_is_said_before_anybody_is_asked() {
    for (args, why) in [
        (&["restrat", "1"][..], "restart"),
        (&["scale"], "N|+N|-N"),
        (&["kill", "x"], "write 3 for a worker"),
        (&["status", "--timeout", "0s"], "more than nothing"),
    ] {
        let said = ctl(Path::new("/nowhere"), args);
        assert_eq!(said.code, 2, "{said:?}");
        assert!(said.err.contains(why), "{said:?}");
    }
    let said = ctl(Path::new("/nowhere"), &["status"]);
    assert_eq!(said.code, 3);
    assert!(
        said.err.contains("/nowhere: there is no such socket"),
        "{said:?}"
    );
}
