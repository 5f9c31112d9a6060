//! Leaders and followers, as one process sees them: it may be both.

#![allow(
    clippy::disallowed_methods,
    reason = "a test's deadlines are real time"
)]

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use worker_proto::frame::{FromMaster, ToMaster};
use worker_proto::ids::WorkerId;
use worker_proto::message::{MessageId, Receipt};
use worker_proto::shared::{self, LeadError, Leader, Reign, SharedFailure};
use worker_proto::{FakeMaster, HookResult, Payload, Worker};

const PATIENCE: Duration = Duration::from_secs(10);
const SHORTLY: Duration = Duration::from_millis(50);

/// Says what is called, and does what it is told.
struct Teller {
    tell: Sender<String>,
    start: Result<(), String>,
}

impl Teller {
    fn new() -> (Self, Receiver<String>) {
        let (tell, told) = channel();
        let start = Ok(());
        (Teller { tell, start }, told)
    }

    fn say(&self, what: &str) {
        _ = self.tell.send(what.to_owned());
    }
}

impl Leader for Teller {
    fn elected(&self, reign: &Reign) -> HookResult {
        self.say(&format!("elected {}", reign.term()));
        reign.publish("term", reign.term().to_string())?;
        Ok(self.start.clone()?)
    }

    fn subscribed(&self, key: &str, _: &Reign) {
        self.say(&format!("subscribed {key}"));
    }

    fn published(&self, key: &str, value: Payload, reign: &Reign) -> Result<(), String> {
        if key == "refused" {
            return Err("not this one".to_owned());
        }
        reign.publish(key, value).map_err(|err| err.to_string())
    }

    fn invoke(&self, method: &str, argument: Payload, _: &Reign) -> Result<Payload, String> {
        match method {
            "echo" => Ok(argument),
            "fail" => Err("as asked".to_owned()),
            "panic" => panic!("at the disco"),
            "hang" => {
                self.say("hangs");
                std::thread::park();
                Err("woken".to_owned())
            }
            other => Err(format!("no {other}")),
        }
    }

    fn deposed(&self) {
        self.say("deposed");
    }
}

fn text(payload: Payload) -> String {
    payload.read_text().unwrap().to_owned()
}

fn said(told: &Receiver<String>) -> String {
    told.recv_timeout(PATIENCE).expect("something is called")
}

/// The same in a cluster and in a program on its own.
fn everywhere(story: impl Fn(&Worker)) {
    let (_master, worker) = FakeMaster::new();
    story(&worker);
    let worker = Worker::connect().unwrap();
    assert!(worker.is_alone());
    story(&worker);
}

/// G03: publish, subscribe, invoke, close.
#[test]
fn a_process_may_lead_and_follow_itself_with_a_master_or_without() {
    everywhere(|worker| {
        let (teller, told) = Teller::new();
        let follower = shared::follow(worker, "both").unwrap();
        let early = follower.subscribe("news");
        let candidacy = shared::lead(worker, "both", teller).unwrap();
        assert_eq!(said(&told), "elected 1");
        assert_eq!(said(&told), "subscribed news");
        follower.publish("news", "one").unwrap();
        assert_eq!(early.recv_timeout(PATIENCE).map(text).unwrap(), "one");
        let late = shared::follow(worker, "both").unwrap().subscribe("news");
        assert_eq!(late.recv_timeout(PATIENCE).map(text).unwrap(), "one");
        follower.publish("news", "two").unwrap();
        for values in [&early, &late] {
            assert_eq!(values.recv_timeout(PATIENCE).map(text).unwrap(), "two");
            assert!(values.recv_timeout(SHORTLY).is_err());
        }
        assert!(candidacy.is_leading());
        let echo = follower.invoke("echo", "x", PATIENCE).unwrap();
        assert_eq!(text(echo), "x");
        drop(candidacy);
        assert_eq!(said(&told), "deposed");
        // Whoever asks in the moment before that is known waits for an answer in vain.
        let nobody = SharedFailure::NoLeader { within: SHORTLY };
        let deadline = Instant::now() + PATIENCE;
        while follower.invoke("echo", "x", SHORTLY).as_ref() != Err(&nobody) {
            assert!(Instant::now() < deadline, "somebody seems to lead");
        }
    });
}

/// L02, L05.
#[test]
fn what_the_leader_says_is_what_its_follower_gets() {
    let (_master, worker) = FakeMaster::new();
    let (teller, told) = Teller::new();
    let _candidacy = shared::lead(&worker, "calls", teller).unwrap();
    let follower = shared::follow(&worker, "calls").unwrap();
    let failure = |method: &str| follower.invoke(method, "", PATIENCE).unwrap_err();
    assert_eq!(failure("fail"), SharedFailure::Failed("as asked".into()));
    assert_eq!(failure("jump"), SharedFailure::Failed("no jump".into()));
    let SharedFailure::Failed(panic) = failure("panic") else {
        panic!("a panic is a failure");
    };
    assert!(panic.contains("panicked: at the disco"), "{panic}");
    assert_eq!(
        follower.publish("refused", "x"),
        Err(SharedFailure::Failed("not this one".into()))
    );
    let hung = follower.invoke("hang", "", SHORTLY);
    assert_eq!(hung, Err(SharedFailure::TimedOut { within: SHORTLY }));
    assert_eq!(said(&told), "elected 1");
    assert_eq!(said(&told), "hangs");
    // One that hangs keeps no other.
    let long = "x".repeat(1 << 20);
    let echo = follower.invoke("echo", long.as_str(), PATIENCE).unwrap();
    assert_eq!(echo.len(), long.len());
}

/// L03, L04.
#[test]
fn what_keeps_a_leader_from_beginning_is_what_its_followers_get() {
    let (master, worker) = FakeMaster::new();
    let (mut teller, _told) = Teller::new();
    teller.start = Err("no connection".to_owned());
    let follower = shared::follow(&worker, "ill").unwrap();
    let _candidacy = shared::lead(&worker, "ill", teller).unwrap();
    let failed = follower.invoke("echo", "", PATIENCE);
    let Err(SharedFailure::Failed(why)) = failed else {
        panic!("{failed:?}");
    };
    assert!(why.contains("begin failed: no connection"), "{why}");
    let is_report = |frame: &ToMaster| matches!(frame, ToMaster::Report { .. });
    while !is_report(&master.next_frame()) {}
}

/// L03.
#[test]
fn a_follower_waits_for_a_leader_and_not_for_ever() {
    let (_master, worker) = FakeMaster::new();
    let follower = shared::follow(&worker, "late").unwrap();
    let none = follower.invoke("echo", "x", SHORTLY);
    assert_eq!(none, Err(SharedFailure::NoLeader { within: SHORTLY }));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| follower.invoke("echo", "x", PATIENCE));
        let (teller, _told) = Teller::new();
        let candidacy = shared::lead(&worker, "late", teller).unwrap();
        assert_eq!(waiting.join().unwrap().map(text), Ok("x".to_owned()));
        drop(candidacy);
    });
}

#[test]
fn who_is_elected_again_begins_again_and_its_subscribers_stay() {
    let (master, worker) = FakeMaster::new();
    let (teller, told) = Teller::new();
    let _candidacy = shared::lead(&worker, "again", teller).unwrap();
    let follower = shared::follow(&worker, "again").unwrap();
    let terms = follower.subscribe("term");
    assert_eq!(terms.recv_timeout(PATIENCE).map(text).unwrap(), "1");
    master.elect("again", None);
    master.elect("again", Some(worker.identity().worker));
    assert_eq!(terms.recv_timeout(PATIENCE).map(text).unwrap(), "3");
    let calls: Vec<_> = (0..5).map(|_| said(&told)).collect();
    assert_eq!(
        calls,
        [
            "elected 1",
            "subscribed term",
            "deposed",
            "elected 3",
            "subscribed term"
        ]
    );
}

/// The master says who got a request; the leader is another process here, which only the test plays.
#[test]
fn a_call_fails_when_its_leader_is_gone_and_goes_to_the_next_if_nobody_has_got_it() {
    let (master, worker) = FakeMaster::new();
    master.answer_by_hand();
    let follower = shared::follow(&worker, "others").unwrap();
    master.elect("others", Some(WorkerId(7)));
    let request = || loop {
        if let ToMaster::Send(send) = master.next_frame() {
            break send.message;
        }
    };
    let receipt = |message: MessageId, receipt| {
        master.send(FromMaster::Receipt { message, receipt });
    };
    let delivered = Receipt::Delivered {
        receivers: 1,
        missed: 0,
    };
    std::thread::scope(|scope| {
        let began = Instant::now();
        let call = scope.spawn(|| follower.invoke("echo", "x", PATIENCE * 6));
        let message = request();
        receipt(message, delivered);
        receipt(message, Receipt::NoSuchPeer);
        assert_eq!(call.join().unwrap(), Err(SharedFailure::LeaderGone));
        assert!(began.elapsed() < PATIENCE, "not at the timeout");

        let call = scope.spawn(|| follower.invoke("echo", "x", PATIENCE));
        receipt(request(), Receipt::Draining);
        let (teller, _told) = Teller::new();
        let candidacy = shared::lead(&worker, "others", teller).unwrap();
        master.elect("others", Some(worker.identity().worker));
        // From here on it is the worker itself: first the request, then its reply.
        for _ in 0..2 {
            let sent = loop {
                let frame = master.next_frame();
                if matches!(frame, ToMaster::Send(_)) {
                    break frame;
                }
            };
            master.answer(&sent);
        }
        assert_eq!(call.join().unwrap().map(text), Ok("x".to_owned()));
        drop(candidacy);
    });
}

/// L07.
#[test]
fn a_process_leads_several_names_and_each_of_them_once() {
    let (_master, worker) = FakeMaster::new();
    let lead = |name: &str| shared::lead(&worker, name, Teller::new().0);
    let first = lead("one").unwrap();
    let _second = lead("two").unwrap();
    assert!(matches!(lead("one"), Err(LeadError::Twice { .. })));
    drop(first);
    let again = lead("one").unwrap();
    assert_eq!(again.name(), "one");
    for name in ["", "a\nb", &"x".repeat(129)] {
        assert!(matches!(lead(name), Err(LeadError::BadName { .. })));
        assert!(matches!(
            shared::follow(&worker, name),
            Err(LeadError::BadName { .. })
        ));
    }
}

#[test]
fn who_may_not_lead_may_follow() {
    let (master, worker) = FakeMaster::new();
    master.answer_by_hand();
    let (teller, _told) = Teller::new();
    let candidacy = shared::lead(&worker, "n", teller).unwrap();
    let follower = shared::follow(&worker, "n").unwrap();
    let refuse = |reason: &str| {
        let (name, reason) = ("n".to_owned(), reason.to_owned());
        master.send(FromMaster::NotLeading { name, reason });
    };
    refuse("only agents lead");
    let none = follower.invoke("echo", "", SHORTLY);
    assert_eq!(none, Err(SharedFailure::NoLeader { within: SHORTLY }));
    assert!(!candidacy.is_leading());
    refuse("too many names");
    let refused = follower.invoke("echo", "", PATIENCE);
    assert_eq!(
        refused,
        Err(SharedFailure::Refused("too many names".into()))
    );
}

/// G04.
#[test]
fn the_end_of_the_master_is_the_end_of_waiting() {
    let (master, worker) = FakeMaster::new();
    let follower = shared::follow(&worker, "orphan").unwrap();
    let values = follower.subscribe("k");
    std::thread::scope(|scope| {
        let call = scope.spawn(|| follower.invoke("echo", "x", PATIENCE * 6));
        let reader = scope.spawn(|| values.recv());
        master.die();
        assert_eq!(call.join().unwrap(), Err(SharedFailure::Closed));
        assert!(reader.join().unwrap().is_err());
    });
    let after = shared::follow(&worker, "orphan").unwrap();
    assert_eq!(after.publish("k", "x"), Err(SharedFailure::Closed));
}

/// Nobody may lead any more: there is no sense in waiting for the whole time.
#[test]
fn who_has_to_finish_does_not_wait_long_for_a_leader() {
    let (master, worker) = FakeMaster::new();
    let follower = shared::follow(&worker, "closing").unwrap();
    let within = PATIENCE * 6;
    std::thread::scope(|scope| {
        let call = scope.spawn(|| follower.invoke("echo", "x", within));
        master.drain(PATIENCE);
        let began = Instant::now();
        assert_eq!(
            call.join().unwrap(),
            Err(SharedFailure::NoLeader { within })
        );
        assert!(began.elapsed() < PATIENCE);
    });
}
