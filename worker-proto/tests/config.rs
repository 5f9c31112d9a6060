//! Values that a cluster is given while it runs, as one of its processes sees them.

use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use worker_proto::frame::ToMaster;
use worker_proto::name::BadName;
use worker_proto::{ConfigError, FakeMaster, Worker};

const PATIENCE: Duration = Duration::from_secs(10);
const SHORTLY: Duration = Duration::from_millis(20);

/// The next version that the master is told of.
fn adopted(master: &FakeMaster) -> u64 {
    loop {
        if let ToMaster::Adopted { version, .. } = master.next_frame() {
            return version;
        }
    }
}

fn text(value: worker_proto::ConfigValue) -> String {
    value.text().unwrap().to_owned()
}

#[test]
fn a_value_is_there_before_it_is_asked_for_and_counts_as_adopted_when_it_comes() {
    let (master, worker) = FakeMaster::new();
    master.push("greeting", "hello");
    let greeting = worker.config("greeting").unwrap();
    assert_eq!(greeting.current().map(text).as_deref(), Some("hello"));
    assert_eq!(greeting.version(), 1);
    assert_eq!(adopted(&master), 1);
    master.push("greeting", "hi");
    assert_eq!(adopted(&master), 2);
    assert_eq!(greeting.current().map(text).as_deref(), Some("hi"));
}

#[test]
fn a_key_without_a_value_may_get_one() {
    let (master, worker) = FakeMaster::new();
    let flag = worker.config("flag").unwrap();
    assert_eq!((flag.current(), flag.version()), (None, 0));
    let mut changes = flag.watch();
    assert_eq!(changes.changed(SHORTLY), None);
    master.push("flag", "on");
    assert_eq!(changes.changed(PATIENCE).map(text).as_deref(), Some("on"));
    assert_eq!(changes.changed(SHORTLY), None);
}

#[test]
fn who_watches_has_adopted_a_version_when_it_asks_for_the_next() {
    let (master, worker) = FakeMaster::new();
    let flag = worker.config("flag").unwrap();
    let (mut slow, mut fast) = (flag.watch(), worker.config("flag").unwrap().watch());
    master.push("flag", "1");
    assert_eq!(fast.changed(PATIENCE).map(text).as_deref(), Some("1"));
    assert_eq!(slow.changed(PATIENCE).map(text).as_deref(), Some("1"));
    master.push("flag", "2");
    assert_eq!(fast.changed(PATIENCE).map(text).as_deref(), Some("2"));
    fast.take_over();
    // The slow one has not said that it uses the first one.
    assert_eq!(slow.changed(PATIENCE).map(text).as_deref(), Some("2"));
    assert_eq!(adopted(&master), 1);
    drop(slow);
    assert_eq!(adopted(&master), 2);
}

#[test]
fn what_is_to_be_done_with_a_version_is_done_before_it_is_adopted() {
    let (master, worker) = FakeMaster::new();
    let (tell, told) = channel();
    let (go, wait): (_, Receiver<()>) = channel();
    let level = worker.config("level").unwrap();
    let handler = level
        .on_change(move |value| {
            let text = value.text()?.to_owned();
            tell.send(text.clone())?;
            wait.recv()?;
            match text.as_str() {
                "panic" => panic!("on the disco"),
                "bad" => Err("no such level".into()),
                _ => Ok(()),
            }
        })
        .unwrap();
    for (value, problem) in [
        ("bad", Some("failed: no such level")),
        ("panic", Some("panicked: on the disco")),
        ("debug", None),
    ] {
        master.push("level", value);
        assert_eq!(told.recv_timeout(PATIENCE).unwrap(), value);
        go.send(()).unwrap();
        let mut frame = master.next_frame();
        while matches!(frame, ToMaster::Watch { .. }) {
            frame = master.next_frame();
        }
        match (frame, problem) {
            (ToMaster::Report { problem }, Some(says)) => {
                assert!(problem.contains(says), "{problem}");
            }
            (ToMaster::Adopted { version, .. }, None) => assert_eq!(version, 3),
            (frame, _) => panic!("{frame:?}"),
        }
    }
    drop(handler);
    master.push("level", "info");
    assert_eq!(adopted(&master), 4);
    assert!(told.recv().is_err());
}

#[test]
fn a_value_longer_than_a_frame_comes_whole() {
    let (master, worker) = FakeMaster::new();
    let long = "x".repeat(3 << 20);
    master.push("long", long.as_str());
    let value = worker.config("long").unwrap().current().unwrap();
    assert_eq!(value.bytes().len(), long.len());
}

#[test]
fn a_bad_key_is_no_question_and_the_end_is_an_answer() {
    let (master, worker) = FakeMaster::new();
    for (key, expected) in [
        ("", BadName::Empty),
        ("a\nb", BadName::Control),
        (&"x".repeat(200), BadName::TooLong { len: 200 }),
    ] {
        match worker.config(key) {
            Err(ConfigError::BadKey { problem, .. }) => assert_eq!(problem, expected),
            other => panic!("{other:?}"),
        }
    }
    let flag = worker.config("flag").unwrap();
    let mut changes = flag.watch();
    master.die();
    assert_eq!(changes.changed(PATIENCE), None);
    assert!(matches!(
        worker.config("other"),
        Err(ConfigError::MasterGone { .. })
    ));
    // What it had, it has.
    assert_eq!(flag.version(), 0);
}

#[test]
fn without_a_master_there_is_nothing() {
    let worker = Worker::connect().unwrap();
    assert!(worker.is_alone());
    let flag = worker.config("flag").unwrap();
    assert_eq!(flag.current(), None);
    assert_eq!(flag.watch().changed(SHORTLY), None);
}
