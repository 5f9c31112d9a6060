//! Jobs at a real master: who runs them and how often, also while workers are killed, and what
//! operators see of them.
#![allow(
    clippy::disallowed_methods,
    reason = "a test's deadlines are real time"
)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use serde_json::Value;
use tempfile::TempDir;

use common::operator::{ctl, done, events};
use common::processes::{of_master, pid_in};
use common::{Cluster, DEADLINE, await_condition, rr_master, run_to_end, test_worker};

/// A run of `tick` that was begun, and how often it came to its end.
#[derive(Debug, Default)]
struct Life {
    starts: u32,
    ends: u32,
}

/// The directory of a cluster whose workers do jobs.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Place(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Ready workers in the mode `jobs`, with these jobs and more flags.
    fn start(&self, workers: u32, jobs: &[&str], flags: &[&str]) -> (Cluster, PathBuf) {
        self.start_with(workers, jobs, flags, &[])
    }

    fn start_with(
        &self,
        workers: u32,
        jobs: &[&str],
        flags: &[&str],
        words: &[&str],
    ) -> (Cluster, PathBuf) {
        let mut args = vec!["-w".to_owned(), workers.to_string()];
        for job in jobs {
            args.extend(["--job".to_owned(), (*job).to_owned()]);
        }
        args.extend(flags.iter().map(|&flag| flag.to_owned()));
        let control = self.path("control");
        args.extend(["--control".to_owned(), control.display().to_string()]);
        args.push(test_worker().display().to_string());
        args.push("jobs".to_owned());
        args.push(self.0.path().display().to_string());
        args.extend(words.iter().map(|&word| word.to_owned()));
        let mut cluster = Cluster::start(args);
        cluster.await_ready();
        (cluster, control)
    }

    /// What the workers have written down: what, which run, which attempt, and who.
    fn book(&self) -> Vec<(String, u64, u32, i32)> {
        let text = fs::read_to_string(self.path("book")).unwrap_or_default();
        let lines = text.split_inclusive('\n').filter(|it| it.ends_with('\n'));
        let words = lines.map(|line| line.split_whitespace().collect::<Vec<_>>());
        words
            .map(|words| {
                let number = |index: usize| words[index].parse::<u64>().unwrap();
                let (attempt, pid) = (number(2).try_into().unwrap(), number(3).try_into().unwrap());
                (words[0].to_owned(), number(1), attempt, pid)
            })
            .collect()
    }

    fn latest_run(&self) -> u64 {
        self.book()
            .iter()
            .map(|(_, run, ..)| *run)
            .max()
            .unwrap_or(0)
    }

    fn open_gate(&self) {
        fs::write(self.path("gate"), "").unwrap();
    }
}

fn named(events: &[Value], name: &str) -> Vec<Value> {
    let events = events.iter().filter(|event| event["name"] == name);
    events.cloned().collect()
}

fn await_event(control: &Path, name: &str) -> Value {
    let mut found = None;
    await_condition(name, || {
        found = named(&events(control), name).pop();
        found.is_some()
    });
    found.unwrap()
}

fn list(control: &Path) -> Vec<Value> {
    let said = done(control, &["--json", "job", "list"]);
    let said: Value = serde_json::from_str(&said).unwrap();
    said["jobs"].as_array().unwrap().clone()
}

/// At most once per tick, and never two at a time.
#[test]
fn ticks_are_run_at_most_once_while_workers_are_killed() {
    let place = Place::new();
    let kills = run_ticks(&place, "drop");
    let lives = lives(&place);
    assert!(lives.values().all(|life| life.starts == 1), "{lives:?}");
    let lost = lives.values().filter(|life| life.ends == 0).count();
    assert!(lost > 0, "{kills} kills hit no run");
    eprintln!("{} runs, {kills} kills, {lost} lost", lives.len());
}

/// At least once per tick, and never two at a time.
#[test]
fn ticks_are_run_at_least_once_while_workers_are_killed() {
    let place = Place::new();
    let kills = run_ticks(&place, "retry");
    let lives = lives(&place);
    assert!(lives.values().all(|life| life.ends >= 1), "{lives:?}");
    let retried = lives.values().filter(|life| life.starts > 1).count();
    assert!(retried > 0, "{kills} kills hit no run");
    eprintln!("{} runs, {kills} kills, {retried} retried", lives.len());
}

/// Has `tick` run every 20 ms, and kills whoever runs it now and then, and others; answers how many.
/// `JOB_TICKS` says how often it is to run in all.
fn run_ticks(place: &Place, on_lost: &str) -> u64 {
    let ticks: u64 = match std::env::var("JOB_TICKS") {
        Ok(ticks) => ticks.parse().expect("a number of ticks"),
        Err(_) => 150,
    };
    let job = format!(r#"name="tick", interval="20ms", on-lost="{on_lost}""#);
    let flags = ["--backoff", "1ms..10ms", "--restart-limit", "100000/1s"];
    let (mut cluster, control) = place.start(4, &[&job], &flags);
    let master = cluster.pid();
    let deadline =
        Instant::now() + DEADLINE + Duration::from_millis(200) * ticks.try_into().unwrap();
    let (mut chance, mut kills) = (Chance(7), 0);
    while place.latest_run() < ticks {
        assert!(Instant::now() < deadline, "too slow\n{}", cluster.log());
        // Also keeps the master's log from filling its pipe.
        let until = Instant::now() + Duration::from_millis(30 + chance.below(60));
        while cluster.next_line(until).is_some() {}
        let is_aimed = chance.below(3) > 0;
        let mut runs = None;
        if is_aimed {
            await_condition("a run that goes on", || {
                let last = place.book().pop();
                runs = last
                    .filter(|(what, ..)| what == "start")
                    .map(|(.., pid)| pid);
                runs.is_some()
            });
        }
        let workers = of_master(master);
        let victim = match runs {
            Some(pid) => workers.iter().find(|it| it.as_raw() == pid).copied(),
            None if workers.is_empty() => None,
            None => {
                let index = usize::try_from(chance.below(workers.len() as u64)).unwrap();
                Some(workers[index])
            }
        };
        if let Some(victim) = victim
            && kill(victim, Signal::SIGKILL).is_ok()
        {
            kills += 1;
        }
    }
    let tick = list(&control).remove(0);
    let ended = cluster.stop();
    assert_eq!(ended.code(), 0, "{tick}\n{}", ended.log);
    assert!(!ended.log.contains("given up"), "{}", ended.log);
    kills
}

/// Every run in the book; nobody found another one going on.
fn lives(place: &Place) -> BTreeMap<u64, Life> {
    let mut lives: BTreeMap<u64, Life> = BTreeMap::new();
    for (what, run, attempt, _) in place.book() {
        let life = lives.entry(run).or_default();
        match what.as_str() {
            "start" => {
                life.starts += 1;
                assert!(attempt >= life.starts, "run {run} attempt {attempt}");
            }
            "end" => life.ends += 1,
            _ => panic!("run {run} beside another"),
        }
    }
    lives
}

/// Chance that can be repeated: a linear congruential generator is enough to kill by.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = self.0.wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

#[test]
fn an_operator_has_a_job_run_and_sees_what_came_of_it() {
    let place = Place::new();
    let jobs = [
        r#"name="hello", cron="0 4 * * *", time-zone="Europe/Berlin""#,
        r#"name="fail", enabled=false, interval="10ms""#,
        r#"name="panic""#,
        r#"name="nobody""#,
    ];
    let (cluster, control) = place.start(2, &jobs, &[]);
    let said = done(&control, &["job", "run", "hello", "--wait"]);
    assert!(
        said.contains("done: job hello run 1: hello from "),
        "{said}"
    );
    for (name, says) in [
        ("fail", "job fail run 2: no such luck"),
        ("panic", "panicked: oh no"),
        ("nobody", "nobody does \"nobody\" here"),
    ] {
        let said = ctl(&control, &["job", "run", name, "--wait"]);
        assert_eq!(said.code, 1, "{said:?}");
        assert!(said.err.contains(says), "{said:?}");
    }
    let unknown = ctl(&control, &["job", "run", "hallo"]);
    assert_eq!(unknown.code, 1);
    let names = "there is no job \"hallo\"; the jobs are: fail, hello, nobody, panic";
    assert!(unknown.err.contains(names), "{unknown:?}");

    let table = done(&control, &["job", "list"]);
    let row = |name: &str| {
        let row = table
            .lines()
            .find(|line| line.trim_start().starts_with(name));
        row.unwrap_or_else(|| panic!("{table}")).to_owned()
    };
    assert!(row("hello").contains("cron 0 4 * * * (Europe/Berlin)"));
    assert!(row("hello").contains("hello from"), "{table}");
    assert!(row("fail").contains("disabled"), "{table}");
    let jobs = list(&control);
    let counts: Vec<_> = jobs
        .iter()
        .map(|job| (job["done"].as_u64(), job["failed"].as_u64()))
        .collect();
    assert_eq!(
        counts,
        [(0, 1), (1, 0), (0, 1), (0, 1)].map(|(done, failed)| (Some(done), Some(failed)))
    );

    let events = events(&control);
    let done = named(&events, "job-done");
    assert_eq!(done.len(), 1, "{events:?}");
    assert_eq!(
        (&done[0]["job"], &done[0]["run"]),
        (&"hello".into(), &1.into())
    );
    assert!(done[0]["took_ms"].is_u64());
    let failed = named(&events, "job-failed");
    assert_eq!(failed[0]["error"], "no such luck");
    assert_eq!(named(&events, "job-started").len(), 4);
    // A panic is an error of the run, and not of the process.
    assert!(named(&events, "retiring").is_empty() && named(&events, "exit").is_empty());
    assert_eq!(cluster.stop().code(), 0);
}

/// Or a handler could make the log look like something else.
#[test]
fn what_a_handler_says_is_one_line_of_the_log() {
    let place = Place::new();
    let (mut cluster, control) = place.start(1, &[r#"name="odd""#], &[]);
    let said = done(&control, &["job", "run", "odd", "--wait"]);
    assert!(!said.contains('\u{1b}'), "{said:?}");
    let line = cluster.find_text("job odd run 1: ");
    assert!(line.ends_with("run 1: one [31mtwo three"), "{line:?}");
    assert_eq!(cluster.stop().code(), 0);
}

#[test]
fn a_worker_that_is_replaced_finishes_its_run_first() {
    let place = Place::new();
    let (cluster, control) = place.start(1, &[r#"name="gate""#], &["--canary", "1ms"]);
    let started = done(&control, &["job", "run", "gate"]);
    assert!(started.contains("job gate: run 1"), "{started}");
    await_event(&control, "job-started");
    done(&control, &["reload"]);
    await_event(&control, "replaced");
    // The old one has it still, so it is not run in the new one.
    let refused = ctl(&control, &["job", "run", "gate"]);
    assert!(
        refused.err.contains("the run before has not ended"),
        "{refused:?}"
    );
    place.open_gate();
    let result = await_event(&control, "job-done");
    assert_eq!(result["worker"], 1, "{result}");
    let said = done(&control, &["job", "run", "gate", "--wait"]);
    assert!(said.contains("run 2: through the gate"), "{said}");
    assert_eq!(await_event(&control, "job-done")["worker"], 2);
    assert_eq!(cluster.stop().code(), 0);
}

/// S05.
#[test]
fn a_stop_waits_for_what_runs_and_begins_nothing() {
    let place = Place::new();
    let jobs = [r#"name="gate""#, r#"name="tick", interval="10ms""#];
    let (mut cluster, control) = place.start(1, &jobs, &["--stop-timeout", "20s"]);
    done(&control, &["job", "run", "gate"]);
    await_event(&control, "job-started");
    cluster.signal(Signal::SIGTERM);
    cluster.await_text("stopping");
    let refused = ctl(&control, &["job", "run", "tick"]);
    assert!(refused.err.contains("the cluster stops"), "{refused:?}");
    let latest = list(&control)
        .iter()
        .map(|job| job["started"].as_u64())
        .max();
    place.open_gate();
    let ended = cluster.wait();
    assert_eq!(ended.code(), 0, "{}", ended.log);
    assert!(
        place
            .book()
            .iter()
            .any(|(what, run, ..)| what == "end" && *run > 0)
    );
    let starts = place
        .book()
        .iter()
        .filter(|(what, ..)| what == "start")
        .count() as u64;
    assert!(
        starts <= latest.flatten().unwrap() + 1,
        "begun after the stop began"
    );
}

#[test]
fn a_run_that_takes_too_long_is_cancelled_and_nothing_runs_beside_it() {
    let place = Place::new();
    let jobs = [
        r#"name="cancel", timeout="50ms""#,
        r#"name="gate", timeout="50ms""#,
    ];
    let (cluster, control) = place.start(2, &jobs, &[]);
    let said = ctl(&control, &["job", "run", "cancel", "--wait"]);
    assert!(said.err.contains("took too long"), "{said:?}");
    await_event(&control, "job-ended");
    assert_eq!(
        list(&control)[0]["running"],
        Value::Array(vec![]),
        "it looked"
    );

    let said = ctl(&control, &["job", "run", "gate", "--wait"]);
    assert_eq!(said.code, 1, "{said:?}");
    let gate = &list(&control)[1];
    assert_eq!((&gate["overdue"], &gate["failed"]), (&1.into(), &1.into()));
    let refused = ctl(&control, &["job", "run", "gate"]);
    assert!(
        refused.err.contains("the run before has not ended"),
        "{refused:?}"
    );
    // Its end comes with its process.
    let pid = place.book().last().unwrap().3;
    kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    place.open_gate();
    await_condition("the job to be free", || {
        ctl(&control, &["job", "run", "gate", "--wait"]).code == 0
    });
    assert_eq!(cluster.stop().code(), 0);
}

#[test]
fn a_job_that_kills_its_workers_does_not_take_the_cluster_along() {
    let place = Place::new();
    let jobs = [
        r#"name="die", interval="10ms", on-lost="retry""#,
        r#"name="hello""#,
    ];
    let flags = ["--backoff", "1ms..10ms"];
    let (cluster, control) = place.start(3, &jobs, &flags);
    await_condition("it rests", || {
        list(&control)[0]["rests_ms"].as_u64() > Some(500)
    });
    let before = list(&control)[0]["lost"].as_u64().unwrap();
    assert!((3..=8).contains(&before), "{before} workers died of it");
    done(&control, &["job", "run", "hello", "--wait"]);
    let lost = named(&events(&control), "job-lost");
    assert!(lost.iter().all(|it| it["job"] == "die"), "{lost:?}");
    assert_eq!(cluster.stop().code(), 0);
}

#[test]
fn everybody_runs_what_is_for_all_and_the_agent_what_is_for_it() {
    let place = Place::new();
    let agent = format!(
        "{} jobs {}",
        test_worker().display(),
        place.0.path().display()
    );
    let jobs = [
        r#"name="hello", target="all", immediate=true"#,
        r#"name="gate", target="agent", immediate=true"#,
        r#"name="tick", target="slot 1", immediate=true"#,
    ];
    place.open_gate();
    let (cluster, control) = place.start(3, &jobs, &["--agent", &agent]);
    await_condition("all of them", || {
        list(&control)
            .iter()
            .all(|job| job["last"]["how"] == "done")
    });
    let events = named(&events(&control), "job-done");
    let of = |name: &str| -> BTreeSet<(String, u64)> {
        let events = events.iter().filter(|event| event["job"] == name);
        events
            .map(|event| {
                let role = event["role"].as_str().unwrap().to_owned();
                (role, event["slot"].as_u64().unwrap())
            })
            .collect()
    };
    let worker = |slot: u64| ("worker".to_owned(), slot);
    assert_eq!(of("hello"), [worker(0), worker(1), worker(2)].into());
    assert_eq!(of("gate"), [("agent".to_owned(), 0)].into());
    assert_eq!(of("tick"), [worker(1)].into());
    assert_eq!(cluster.stop().code(), 0);
}

#[test]
fn workers_register_a_job_and_a_bad_one_is_an_error_of_theirs() {
    let place = Place::new();
    let words = ["register", "tick=20ms", "bad=61 * * * *"];
    let (mut cluster, control) = place.start_with(2, &[], &[], &words);
    let refused = cluster.find_text("register bad: Err");
    assert!(refused.contains("minute"), "{refused}");
    let jobs = list(&control);
    assert_eq!(jobs.len(), 1, "{jobs:?}");
    assert_eq!(
        (&jobs[0]["origin"], &jobs[0]["registrants"]),
        (&"workers".into(), &2.into())
    );
    // It outlives the death of everybody who wants it.
    let pids = [0, 1].map(|slot| cluster.worker(slot).pid);
    for pid in pids {
        kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    }
    let before = place.latest_run();
    await_condition("it goes on", || place.latest_run() > before + 5);
    assert_eq!(list(&control).len(), 1);
    assert_eq!(cluster.stop().code(), 0);
}

#[test]
fn a_worker_that_registers_all_the_time_fills_no_log() {
    let place = Place::new();
    let (mut cluster, control) = place.start_with(1, &[], &[], &["flip"]);
    cluster.find_text("flipped");
    let told = events(&control);
    let told = [
        named(&told, "job-registered"),
        named(&told, "job-withdrawn"),
    ]
    .concat();
    assert_eq!(told.len(), 100);
    let ended = cluster.stop();
    assert_eq!(ended.log.matches("job flip registered").count(), 50);
    assert_eq!(ended.code(), 0);
}

#[test]
fn a_reload_changes_the_jobs() {
    let place = Place::new();
    let file = place.path("app.toml");
    let write = |jobs: &str| fs::write(&file, format!("canary = '1ms'\n{jobs}")).unwrap();
    write("[[job]]\nname = 'tick'\ninterval = '20ms'");
    let flags = ["-c", file.to_str().unwrap()];
    let (mut cluster, control) = place.start(1, &[], &flags);
    await_condition("it runs", || place.latest_run() > 2);
    write("[[job]]\nname = 'tick'\ninterval = '1h'\n[[job]]\nname = 'hello'\nimmediate = true");
    let said = done(&control, &["config", "check"]);
    assert!(said.contains("job: tick (every 20ms"), "{said}");
    done(&control, &["reload", "--wait"]);
    cluster.find_text("reload: job: ");
    await_condition("the new one runs", || {
        list(&control)[0]["last"]["how"] == "done"
    });
    let tick = &list(&control)[1];
    assert_eq!(tick["schedule"], "every 1h");
    write("[[job]]\nname = 'tick'\ncron = '@never'");
    let refused = ctl(&control, &["reload", "--wait"]);
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("cron \"@never\""), "{refused:?}");
    assert_eq!(list(&control).len(), 2, "everything stays as it is");
    assert_eq!(cluster.stop().code(), 0);
}

/// S03.
#[test]
fn a_job_that_cannot_be_is_refused_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("app.toml");
    for (job, says) in [
        (
            "name = 'a'\ncron = '61 * * * *'",
            &["cron \"61 * * * *\": minute \"61\"", "0 to 59"][..],
        ),
        ("name = 'a'\ntarget = 'agent'", &["add one with --agent"]),
        (
            "name = 'a'\ntarget = 'slot 7'",
            &["slot 7: there are 2 workers"],
        ),
        ("name = 'a'\nimediate = true", &["unknown field `imediate`"]),
        ("interval = '1s'", &["missing field `name`"]),
        ("name = 'a'\n[[job]]\nname = 'a'", &["there are two"]),
    ] {
        fs::write(&file, format!("workers = 2\n[[job]]\n{job}")).unwrap();
        let ended = run_to_end(&["-c", file.to_str().unwrap()]);
        assert_eq!(ended.code(), 2, "{job}: {}", ended.log);
        assert_eq!(ended.log.lines().count(), 1, "{}", ended.log);
        for says in [&["key \"job\""], says].concat() {
            assert!(ended.log.contains(says), "{job}: {}", ended.log);
        }
    }
}

/// Or jobs would run at another hour, and nobody knew why.
#[test]
fn a_time_zone_that_is_none_is_told() {
    let cron = r#"name="hello", cron="@daily""#;
    let zoned = r#"name="hello", cron="@daily", time-zone="Europe/Berlin""#;
    for (zone, job, is_told) in [
        ("Mars/Phobos", cron, true),
        ("Europe/Berlin", cron, false),
        ("Mars/Phobos", zoned, false),
    ] {
        let mut command = Command::new(rr_master());
        command.args(["-w", "1", "--job", job]).env("TZ", zone);
        command.arg(test_worker()).args(["jobs", "."]);
        let mut cluster = Cluster::from_command(command);
        cluster.await_ready();
        let ended = cluster.stop();
        assert_eq!(
            ended.log.contains("cron lines without one mean UTC"),
            is_told,
            "{zone} {job}: {}",
            ended.log
        );
        assert_eq!(ended.code(), 0);
    }
}

/// The log names who lost what.
#[test]
fn a_run_that_is_lost_is_told_and_run_again_elsewhere() {
    let place = Place::new();
    let job = r#"name="gate", on-lost="retry""#;
    let (mut cluster, control) = place.start(2, &[job], &[]);
    done(&control, &["job", "run", "gate"]);
    await_condition("it runs", || !place.book().is_empty());
    let first = place.book()[0].3;
    kill(nix::unistd::Pid::from_raw(first), Signal::SIGKILL).unwrap();
    let lost = cluster.find_text("job gate run 1 (w1 slot=0) lost with its process");
    assert!(lost.contains("run again"), "{lost}");
    await_condition("it runs again", || place.book().len() == 2);
    let (what, run, attempt, second) = place.book()[1].clone();
    assert_eq!((what.as_str(), run, attempt), ("start", 1, 2));
    assert_ne!(first, second);
    let exited = cluster.find_text("exited");
    assert_eq!(pid_in(&exited).as_raw(), first);
    place.open_gate();
    await_event(&control, "job-done");
    let retried = await_event(&control, "job-retried");
    assert_eq!(
        (&retried["run"], &retried["attempt"]),
        (&1.into(), &1.into())
    );
    assert_eq!(cluster.stop().code(), 0);
}
