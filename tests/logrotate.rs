//! The agent that rotates logs: `examples/agent_logrotate.rs`.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use jiff::Timestamp;
use nix::sys::signal::{Signal, kill};
use tempfile::TempDir;

use common::operator::done;
use common::processes::{open_in, pid_in};
use common::{Cluster, await_condition, example, rr_master, test_worker};

/// Every line that anybody wrote is in exactly one of the files, and whole.
#[test]
fn no_line_is_lost_through_twenty_rotations() {
    let (directory, path) = place();
    let agent = agent(
        &["--size", "1KiB", "--every", "5ms", "--keep", "1000"],
        &path,
    );
    let cluster = scribes(4, &agent, &path);
    for count in 1..=20 {
        let another = format!("rotation {count}");
        await_condition(&another, || old_files(&path).len() >= count);
    }
    cluster.signal(Signal::SIGTERM);
    let ended = cluster.wait();
    assert_eq!(ended.code(), 0, "{}", ended.log);
    assert!(!ended.log.contains("reports"), "{}", ended.log);

    let mut expected = BTreeMap::new();
    let said = ended
        .log
        .lines()
        .filter_map(|it| it.strip_prefix("scribe "));
    for said in said {
        let (id, count) = said.split_once(" wrote ").expect("how many");
        expected.insert(id.to_owned(), count.parse::<u64>().expect("a number"));
    }
    assert_eq!(expected.len(), 4, "{}", ended.log);
    let mut found: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for file in fs::read_dir(directory.path()).unwrap() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        assert!(text.ends_with('\n'));
        for line in text.lines() {
            let whole = line.strip_suffix(" of a writer that has much to say about very little");
            let (id, number) = whole.and_then(|it| it.split_once(' ')).expect(line);
            let number = number.parse().expect(line);
            found.entry(id.to_owned()).or_default().push(number);
        }
    }
    for (id, count) in expected {
        let numbers = found.get_mut(&id).expect("lines of every writer");
        numbers.sort_unstable();
        assert!(count > 20, "writer {id} wrote {count}");
        assert!(
            numbers.iter().copied().eq(0..count),
            "writer {id} wrote {count}, and these are in the files: {numbers:?}"
        );
    }
}

/// Its lines would be lost. Who has it open for reading only, loses nothing.
#[test]
fn an_old_file_is_kept_as_long_as_somebody_writes_to_it() {
    let (_directory, path) = place();
    let agent = agent(
        &["--size", "1KiB", "--every", "200ms", "--keep", "2"],
        &path,
    );
    let mut cluster = scribes(2, &agent, &path);
    let slow = pid_in(&cluster.find_text("slot=1 gen=1"));
    kill(slow, Signal::SIGSTOP).unwrap();
    let log = path.to_str().unwrap();
    let open = open_in(slow, |target| target.starts_with(log)).expect("its log");
    let held = inode(&open);
    assert!(held.is_some());
    let reader = fs::File::open(&open).unwrap();
    for place in 0..=2 {
        await_condition("the next rotation", || {
            let old = old_files(&path).into_iter().skip(place);
            old.map(|old| inode(&old)).any(|inode| inode == held)
        });
    }
    await_condition("old files, one too many", || old_files(&path).len() == 3);
    kill(slow, Signal::SIGCONT).unwrap();
    await_condition("only those to keep", || {
        let inodes: Vec<_> = old_files(&path).iter().map(|old| inode(old)).collect();
        inodes.len() == 2 && !inodes.contains(&held)
    });
    drop(reader);
    assert_eq!(cluster.stop().code(), 0);
}

/// In a time zone where that is soon.
#[test]
fn at_midnight_the_log_of_the_day_becomes_an_old_one() {
    let (_directory, path) = place();
    fs::write(&path, "yesterday\n").unwrap();
    let midnight = Timestamp::now().as_second() + 2;
    let mut command = Command::new(rr_master());
    // In POSIX a positive offset is west of Greenwich: what the clock shows there is earlier.
    let offset = midnight % DAY;
    let (hours, minutes, seconds) = (offset / 3600, offset / 60 % 60, offset % 60);
    command.env("TZ", format!("HERE{hours:02}:{minutes:02}:{seconds:02}"));
    let agent = agent(&["--daily", "--every", "5ms"], &path);
    command.args(["-w", "1", "--agent", &agent]);
    command.arg(test_worker()).arg("scribe").arg(&path);
    let cluster = Cluster::from_command(command);
    await_condition("an old file", || old_files(&path).len() == 1);
    assert!(Timestamp::now().as_second() >= midnight);
    await_condition("lines of today", || {
        fs::metadata(&path).is_ok_and(|file| file.len() > 100)
    });
    assert_eq!(cluster.stop().code(), 0);
    let old = old_files(&path);
    assert_eq!(old.len(), 1, "once a day");
    assert!(
        fs::read_to_string(&old[0])
            .unwrap()
            .starts_with("yesterday\n")
    );
}

/// What it cannot do is told once, and is no reason to end.
#[test]
fn what_is_no_log_is_left_alone_and_reported_once() {
    let (_directory, path) = place();
    fs::create_dir(&path).unwrap();
    let agent = agent(&["--size", "1", "--every", "1ms"], &path);
    let mut cluster = Cluster::start(["-w", "0", "--agent", &agent, "/bin/true"]);
    cluster.await_text("reports: rotate ");
    let control = cluster.control();
    // Each of them makes it look again, if it has not by itself.
    for _ in 0..20 {
        done(&control, &["logs", "reopen"]);
    }
    let ended = cluster.stop();
    assert_eq!(ended.code(), 0, "{}", ended.log);
    assert_eq!(ended.log.matches("reports").count(), 1, "{}", ended.log);
    assert!(path.is_dir());
}

/// A date looks like a number, and the largest number has none after it.
#[test]
fn files_that_it_has_not_made_stay_as_they_are() {
    let (_directory, path) = place();
    let others =
        ["20260101", "18446744073709551615"].map(|end| path.with_extension(format!("log.{end}")));
    for other in &others {
        fs::write(other, other.to_str().unwrap()).unwrap();
    }
    let agent = agent(&["--size", "1KiB", "--every", "5ms", "--keep", "1"], &path);
    let cluster = scribes(1, &agent, &path);
    let first = path.with_extension("log.1");
    await_condition("an old file", || first.exists());
    let before = inode(&first);
    await_condition("another", || {
        inode(&first).is_some_and(|it| Some(it) != before)
    });
    cluster.signal(Signal::SIGTERM);
    let ended = cluster.wait();
    assert_eq!(ended.code(), 0, "{}", ended.log);
    for other in &others {
        assert_eq!(fs::read_to_string(other).unwrap(), other.to_str().unwrap());
    }
}

#[test]
fn flags_that_make_no_sense_are_refused() {
    for (flags, says) in [
        (&["log"][..], "--size"),
        (&["--size", "0", "log"], "at least 1"),
        (&["--size", "much", "log"], "512KiB"),
        (&["--daily", "--every", "0s", "log"], "at least 1ms"),
        (&["--daily", "--keep", "0", "log"], "--keep"),
        (&["--daily"], "FILE"),
    ] {
        let program = Command::new(example("agent_logrotate"))
            .args(flags)
            .output();
        let ended = program.unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(2), "{flags:?}: {said}");
        assert!(said.contains(says), "{flags:?}: {said}");
    }
}

/// A directory that is gone at the end, and a log in it that there is none of yet.
fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.log");
    (directory, path)
}

/// An agent's command: the one that rotates this log.
fn agent(flags: &[&str], path: &Path) -> String {
    let program = example("agent_logrotate").display().to_string();
    format!("{program} {} {}", flags.join(" "), path.display())
}

/// So many ready writers of this log, and the agent.
fn scribes(workers: usize, agent: &str, path: &Path) -> Cluster {
    let mut command = Command::new(rr_master());
    command.args(["-w", &workers.to_string(), "--agent", agent]);
    command.arg(test_worker()).arg("scribe").arg(path);
    let mut cluster = Cluster::from_command(command);
    cluster.await_ready();
    cluster
}

/// The old files of the log that there are, in the order of their numbers.
fn old_files(path: &Path) -> Vec<PathBuf> {
    let name = path.file_name().unwrap().to_str().unwrap();
    let mut numbers: Vec<u64> = fs::read_dir(path.parent().unwrap())
        .unwrap()
        .filter_map(|file| {
            let file = file.unwrap().file_name();
            let number = file.to_str()?.strip_prefix(name)?.strip_prefix('.')?;
            Some(number.parse().expect("a number"))
        })
        .collect();
    numbers.sort_unstable();
    let old = |number| PathBuf::from(format!("{}.{number}", path.display()));
    numbers.into_iter().map(old).collect()
}

fn inode(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|file| file.ino())
}

const DAY: i64 = 24 * 60 * 60;
