//! What open connections take of the master: nothing.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use common::{await_condition, example, processes, rr_master};

/// `scripts/memory` with small counts; it checks the master's growth itself, and that all of them
/// are counted again as closed.
#[test]
fn the_master_keeps_nothing_of_an_open_connection() {
    let programs = rr_master();
    // Says what to build, if it is not there.
    example("hold");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/memory");
    let measured = Command::new(script)
        .args(["--quick", "--json", "--programs"])
        .arg(programs.parent().unwrap())
        .output()
        .expect("run scripts/memory");
    let said = String::from_utf8_lossy(&measured.stderr);
    assert!(measured.status.success(), "{said}");
    let found: serde_json::Value = serde_json::from_slice(&measured.stdout).expect("JSON");
    let moments = found["poll_loop"].as_array().unwrap();
    let open = moments.iter().map(|it| it["connections"].as_u64().unwrap());
    assert_eq!(open.collect::<Vec<_>>(), [0, 500, 2500, 0].repeat(2));
    // Of the SDK's own: the stream, its peer, and the mark that it is open.
    assert!(
        found["sdk"]["connection"].as_u64().unwrap() <= 64,
        "{found}"
    );
    assert_eq!(found["sdk"]["heap_per_connection"], 0);
}

/// Not even if it cannot know that it ends.
#[test]
fn who_ends_it_leaves_nobody_behind() {
    let programs = rr_master();
    for program in ["hold", "bench_server", "hello_http", "sdk_size"] {
        example(program);
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/memory");
    for signal in [Signal::SIGHUP, Signal::SIGKILL] {
        let mut running = Command::new(&script)
            .args(["--workers=3", "--most=20000", "--programs"])
            .arg(programs.parent().unwrap())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start scripts/memory");
        let pid = Pid::from_raw(running.id().cast_signed());
        let is_worker = |it: &Pid| {
            let name = fs::read_to_string(format!("/proc/{it}/comm"));
            name.is_ok_and(|name| name.trim_end() == "bench_server")
        };
        let workers = || processes::descendants(pid).into_iter().filter(is_worker);
        await_condition("it measures", || workers().count() == 3);
        let started = processes::descendants(pid);
        kill(pid, signal).unwrap();
        running.wait().unwrap();
        for process in started {
            await_condition("they are gone", || !processes::is_alive(process));
        }
    }
}
