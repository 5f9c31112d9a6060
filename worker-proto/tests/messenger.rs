//! Messages, as a program sends and gets them. Without a real master: the fake one is a cluster of
//! one, and says what other processes say.

mod common;

use std::collections::HashMap;
use std::iter;
use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use common::{reexec, role};
use crossbeam_channel::{RecvTimeoutError, TryRecvError, bounded, unbounded};
use worker_proto::frame::{FromMaster, Limits, ToMaster, Welcome};
use worker_proto::ids::{Role, Slot, WorkerId};
use worker_proto::message::{
    ContentType, Deliver, Kind, MAX_ACTION_BYTES, MAX_CHUNK_BYTES, MESSAGE_OVERHEAD_BYTES,
    MessageId, More, PeerState, RECEIVE_WINDOW_BYTES, Receipt, Recipient, Send, Sender,
};
use worker_proto::{
    BadAction, ContentError, Event, FakeMaster, Message, Messenger, Payload, SendFailure,
    Subscription, Worker,
};

#[test]
fn every_way_of_sending_names_its_recipient() {
    let (master, worker) = FakeMaster::new();
    let messenger = worker.messenger();
    master.answer_by_hand();
    let slot = Recipient::Slot {
        role: Role::Worker,
        slot: Slot(3),
    };
    let w7 = Recipient::Worker(WorkerId(7));
    messenger.send_to(w7.clone(), "a", "1").unwrap();
    messenger.send_to(slot.clone(), "a", "2").unwrap();
    messenger.send_to(Recipient::Pid(11), "a", "3").unwrap();
    messenger.send_to_agent(Some("logs"), "a", "4").unwrap();
    messenger.send_to_agent(None, "a", "5").unwrap();
    messenger.send_to_workers("a", "6").unwrap();
    messenger.send_random("a", "7").unwrap();
    messenger.broadcast("a", "8").unwrap();
    messenger.broadcast_to_others("a", "9").unwrap();
    messenger.send_to_master("a", "10").unwrap();
    let recipients = [
        w7,
        slot,
        Recipient::Pid(11),
        Recipient::Agent(Some("logs".to_owned())),
        Recipient::Agent(None),
        Recipient::Workers,
        Recipient::AnyWorker,
        Recipient::Everyone,
        Recipient::Others,
        Recipient::Master,
    ];
    for (number, recipient) in (1..).zip(recipients) {
        let sent = Send {
            message: MessageId(number),
            recipient,
            kind: Kind::Message,
            wants_receipt: false,
            within_ms: None,
            action: "a".to_owned(),
            content_type: ContentType::TEXT,
            len_bytes: number.to_string().len() as u64,
            chunk: number.to_string().into(),
        };
        assert_eq!(master.next_frame(), ToMaster::Send(sent));
    }
}

#[test]
fn what_is_sent_to_all_comes_back_in_order() {
    let (_master, worker) = FakeMaster::new();
    let messenger = worker.messenger();
    let inbox = messenger.subscribe("count");
    worker.ready().unwrap();
    for number in 0..1_000_u32 {
        messenger.broadcast("count", &number.to_le_bytes()).unwrap();
    }
    for number in 0..1_000_u32 {
        assert_eq!(next(&inbox).bytes()[..], number.to_le_bytes());
    }
    assert!(matches!(inbox.try_recv(), Err(TryRecvError::Empty)));
}

/// N78.
#[test]
fn every_subscription_of_an_action_gets_each_message_once() {
    let (_master, worker) = FakeMaster::new();
    let messenger = worker.messenger();
    let inboxes = [
        messenger.subscribe("colour"),
        messenger.subscribe("colour"),
        messenger.subscribe_all(),
    ];
    let other = messenger.subscribe("shape");
    messenger.broadcast("colour", "red").unwrap();
    messenger.broadcast("shape", "round").unwrap();
    assert_eq!(next(&other).text().unwrap(), "round");
    for inbox in &inboxes {
        let message = next(inbox);
        assert_eq!(message.action, "colour");
        assert_eq!(message.text().unwrap(), "red");
        assert_eq!(message.from, sender(&worker));
    }
    let [one, two, all] = inboxes;
    assert_eq!(next(&all).action, "shape");
    for inbox in [one, two, all, other] {
        assert!(matches!(inbox.try_recv(), Err(TryRecvError::Empty)));
    }
}

/// N82: what was sent to a process that has just said Hello.
#[test]
fn a_message_that_came_before_it_was_subscribed_to_is_received() {
    let (master, worker) = FakeMaster::new();
    let messenger = worker.messenger();
    for number in 0..10 {
        let action = if number % 2 == 0 { "even" } else { "odd" };
        deliver(&master, action, &number.to_string());
    }
    // A subscription that sees what comes after all of them has been waiting.
    let end = messenger.subscribe("end");
    deliver(&master, "end", "");
    next(&end);
    let even = messenger.subscribe("even");
    deliver(&master, "even", "10");
    assert_eq!(texts(&even, 6), ["0", "2", "4", "6", "8", "10"]);
    let all = messenger.subscribe_all();
    assert_eq!(texts(&all, 5), ["1", "3", "5", "7", "9"]);
}

/// While it subscribes messages go on arriving: none is lost, none comes twice or early.
#[test]
fn the_order_holds_across_subscribing() {
    let (_master, worker) = FakeMaster::new();
    let messenger = worker.messenger();
    for round in 0..20 {
        let action = round.to_string();
        let (sends, to) = (messenger.clone(), action.clone());
        let sending = thread::spawn(move || {
            for number in 0..500_u32 {
                sends.broadcast(&to, number.to_string()).unwrap();
            }
        });
        // Some of them have come by now, and some have not.
        let inbox = messenger.subscribe(&action);
        for number in 0..500_u32 {
            assert_eq!(next(&inbox).text().unwrap(), number.to_string());
        }
        sending.join().unwrap();
        assert!(inbox.try_recv().is_err());
    }
}

#[test]
fn what_nobody_has_subscribed_to_is_dropped_when_the_worker_is_ready() {
    let (master, worker) = FakeMaster::new();
    let messenger = worker.messenger();
    let end = messenger.subscribe("end");
    deliver(&master, "early", "1");
    deliver(&master, "end", "");
    next(&end);
    assert_eq!(messenger.unclaimed(), 0);
    worker.ready().unwrap();
    assert_eq!(messenger.unclaimed(), 1);
    let early = messenger.subscribe("early");
    drop(messenger.subscribe("late"));
    deliver(&master, "late", "2");
    deliver(&master, "end", "");
    next(&end);
    assert_eq!(messenger.unclaimed(), 2);
    assert!(matches!(early.try_recv(), Err(TryRecvError::Empty)));
}

/// G10: here an empty message is one, and an empty action is none.
#[test]
fn an_empty_message_is_a_message() {
    let (master, worker) = FakeMaster::new();
    let messenger = worker.messenger();
    let inbox = messenger.subscribe("empty");
    messenger.broadcast("empty", "").unwrap();
    assert!(next(&inbox).bytes().is_empty());
    // From somebody without an SDK.
    let nameless = messenger.subscribe_all();
    deliver(&master, "", "");
    assert_eq!(next(&nameless).action, "");
    // G10: closing removes the listener.
    drop(inbox);
    drop(nameless);
    worker.ready().unwrap();
    let end = messenger.subscribe("end");
    messenger.broadcast("empty", "").unwrap();
    messenger.broadcast("end", "").unwrap();
    next(&end);
    assert_eq!(messenger.unclaimed(), 1);
}

/// C06.
#[test]
fn a_long_text_arrives_intact() {
    let (_master, worker) = FakeMaster::new();
    let messenger = worker.messenger();
    let inbox = messenger.subscribe("text");
    // Three bytes each, so that the pieces end inside of characters.
    let long = "\u{2603}".repeat(5 << 20);
    messenger.broadcast("text", long.as_str()).unwrap();
    messenger.broadcast("text", "short").unwrap();
    assert!(next(&inbox).text().unwrap() == long, "not as it was sent");
    assert_eq!(next(&inbox).text().unwrap(), "short");
}

#[test]
fn messages_of_every_length_around_a_piece_arrive_intact() {
    let (_master, worker) = FakeMaster::new();
    let messenger = worker.messenger();
    let inbox = messenger.subscribe("bytes");
    for len in [
        0,
        1,
        MAX_CHUNK_BYTES - 1,
        MAX_CHUNK_BYTES,
        MAX_CHUNK_BYTES + 1,
        2 * MAX_CHUNK_BYTES,
        2 * MAX_CHUNK_BYTES + 1,
    ] {
        let bytes: Vec<u8> = (0..251).cycle().take(len).collect();
        messenger.broadcast("bytes", bytes.clone()).unwrap();
        let message = next(&inbox);
        assert_eq!(message.content_type, ContentType::BYTES);
        assert!(message.bytes() == &bytes, "{len} bytes");
    }
}

/// Long and short ones from many threads: no piece of one comes into another.
#[test]
fn many_threads_may_send_at_once() {
    let (_master, worker) = FakeMaster::new();
    let messenger = worker.messenger();
    let inbox = messenger.subscribe("from");
    thread::scope(|scope| {
        for sender in 0..8_u8 {
            let messenger = messenger.clone();
            scope.spawn(move || {
                for number in 0..50_u8 {
                    let len = 2 + usize::from(number) * 2_000;
                    let mut bytes = vec![sender; len];
                    bytes[1] = number;
                    messenger.broadcast("from", bytes).unwrap();
                }
            });
        }
        let mut counts = HashMap::new();
        for _ in 0..8 * 50 {
            let message = next(&inbox);
            let bytes = message.bytes();
            let (sender, number) = (bytes[0], bytes[1]);
            let expected = counts.entry(sender).or_insert(0_u8);
            assert_eq!(number, *expected);
            *expected += 1;
            assert_eq!(bytes.len(), 2 + usize::from(number) * 2_000);
            assert!(bytes[2..].iter().all(|byte| *byte == sender));
        }
    });
}

#[test]
fn what_a_payload_is_travels_with_it() {
    let (_master, worker) = FakeMaster::new();
    let messenger = worker.messenger();
    let inbox = messenger.subscribe("point");
    let point = (3_u8, "four".to_owned());
    messenger
        .broadcast("point", Payload::json(&point).unwrap())
        .unwrap();
    let json = next(&inbox);
    assert_eq!(json.content_type, ContentType::JSON);
    assert_eq!(json.text().unwrap(), r#"[3,"four"]"#);
    let read: (u8, String) = json.json().unwrap();
    assert_eq!(read, point);

    messenger
        .broadcast("point", Payload::bincode(&point).unwrap())
        .unwrap();
    let packed = next(&inbox);
    assert_eq!(packed.content_type, ContentType::BINCODE);
    let read: (u8, String) = packed.bincode().unwrap();
    assert_eq!(read, point);
}

#[test]
fn a_payload_that_is_something_else_is_an_error() {
    let (_master, worker) = FakeMaster::new();
    let messenger = worker.messenger();
    let inbox = messenger.subscribe("a");
    let get = |payload: Payload| {
        messenger.broadcast("a", payload).unwrap();
        next(&inbox)
    };
    let bytes = get(Payload::bytes(vec![0xff, 0xfe]));
    assert!(matches!(bytes.text(), Err(ContentError::NotText(_))));
    let text = get("{".into());
    assert!(matches!(text.json::<u8>(), Err(ContentError::Json(_))));
    let err = text.bincode::<u8>().unwrap_err();
    assert_eq!(err.to_string(), "read text as bincode");
    let short = get(Payload::bincode("x").unwrap());
    let err = short.bincode::<(String, u64)>().unwrap_err();
    assert!(matches!(err, ContentError::Decode(_)), "{err}");
    let long = get(Payload::bincode(&(1_u8, 2_u8)).unwrap());
    let err = long.bincode::<u8>().unwrap_err();
    assert!(matches!(err, ContentError::Decode(_)), "{err}");
}

#[test]
fn what_cannot_be_sent_is_refused_here() {
    let (master, worker) = FakeMaster::with(Welcome {
        limits: Limits {
            max_message_bytes: 1_000,
            ..FakeMaster::welcome().limits
        },
        ..FakeMaster::welcome()
    });
    let messenger = worker.messenger();
    let refused = |action: &str, len| {
        let sent = messenger.broadcast(action, vec![0; len]);
        sent.unwrap_err()
    };
    let (len, max) = (1_001, 1_000);
    let err = refused("a", 1_001);
    assert!(
        matches!(err, SendFailure::TooLarge { len: l, max: m } if (l, m) == (len, max)),
        "{err:?}"
    );
    assert_eq!(
        err.to_string(),
        "send a message of 1001 bytes: the master carries at most 1000 (--max-message)"
    );
    for (action, bad) in [
        (String::new(), BadAction::Empty),
        ("x".repeat(1 << 20), BadAction::TooLong { len: 1 << 20 }),
        (
            "rr.stop".to_owned(),
            BadAction::Reserved {
                action: "rr.stop".to_owned(),
            },
        ),
    ] {
        let err = refused(&action, 0);
        assert!(
            matches!(&err, SendFailure::BadAction(why) if *why == bad),
            "{err:?}"
        );
    }
    let err = messenger.send_to_agent(Some(&"x".repeat(1 << 20)), "a", "");
    assert!(matches!(err, Err(SendFailure::BadName { len }) if len == 1 << 20));

    messenger
        .broadcast(&"x".repeat(MAX_ACTION_BYTES), vec![0; 1_000])
        .unwrap();
    let first = next_send(&master);
    assert_eq!(first.len_bytes, 1_000, "nothing was sent before");
}

/// C04: what became of a message is the master's to say.
#[test]
fn a_receipt_says_what_became_of_a_message() {
    let (master, worker) = FakeMaster::new();
    let messenger = worker.messenger();
    let within = Duration::from_millis(2_500);
    let delivered = Receipt::Delivered {
        receivers: 1,
        missed: 0,
    };
    let receipt = messenger.deliver(own(&worker), "a", "", within).unwrap();
    assert_eq!(receipt, delivered);
    let send = next_send(&master);
    assert!(send.wants_receipt);
    assert_eq!(send.within_ms, Some(2_500));
    let nobody = Recipient::Worker(WorkerId(99));
    let receipt = messenger.deliver(nobody, "a", "", within).unwrap();
    assert_eq!(receipt, Receipt::NoSuchPeer);
    next_send(&master);

    master.answer_by_hand();
    for receipt in [Receipt::Full, Receipt::Draining, Receipt::Expired] {
        thread::scope(|scope| {
            let waits = scope.spawn(|| messenger.deliver(Recipient::AnyWorker, "a", "", within));
            let message = next_send(&master).message;
            // Of somebody else's message.
            master.send(FromMaster::Receipt {
                message: MessageId(message.0 + 1),
                receipt: delivered,
            });
            master.send(FromMaster::Receipt { message, receipt });
            assert_eq!(waits.join().unwrap().unwrap(), receipt);
        });
    }
}

/// C09.
#[test]
fn a_panic_of_a_handler_loses_no_message() {
    let (master, worker) = FakeMaster::new();
    worker.catch_panics();
    let messenger = worker.messenger();
    let (tell, handled) = unbounded();
    let handler = messenger
        .on("count", move |message: Message| {
            let number: u32 = message.text().unwrap().parse().unwrap();
            assert!(number != 0, "the first one is bad");
            tell.send(number).unwrap();
        })
        .unwrap();
    for number in 0..10 {
        deliver(&master, "count", &number.to_string());
    }
    for number in 1..10 {
        assert_eq!(handled.recv_timeout(PATIENCE), Ok(number));
    }
    let ToMaster::Report { problem } = master.next_frame() else {
        panic!("a report");
    };
    assert_eq!(
        problem,
        "the handler of \"count\" panicked: the first one is bad"
    );
    assert!(!worker.draining().is_draining(), "it was survived");

    // Its end is the end of the closure, and of what it holds.
    drop(handler);
    assert_eq!(
        handled.recv_timeout(PATIENCE),
        Err(RecvTimeoutError::Disconnected)
    );
    worker.ready().unwrap();
    let end = messenger.subscribe("end");
    deliver(&master, "count", "10");
    deliver(&master, "end", "");
    next(&end);
    assert_eq!(messenger.unclaimed(), 1);
}

/// What waits behind the message that it is busy with is not for it any more.
#[test]
fn a_handler_that_is_dropped_is_not_called_again() {
    let (master, worker) = FakeMaster::new();
    let messenger = worker.messenger();
    let (enter, entered) = bounded(0);
    let (leave, left) = bounded::<()>(0);
    let count = Arc::new(AtomicU32::new(0));
    let counts = Arc::clone(&count);
    let handler = messenger
        .on("a", move |_| {
            counts.fetch_add(1, Ordering::AcqRel);
            enter.send(()).unwrap();
            _ = left.recv();
        })
        .unwrap();
    let others = messenger.subscribe("a");
    deliver(&master, "a", "1");
    deliver(&master, "a", "2");
    entered.recv_timeout(PATIENCE).unwrap();
    assert_eq!(texts(&others, 2), ["1", "2"]);
    drop(handler);
    drop(leave);
    // The closure, and with it the channel, is gone with its thread.
    assert_eq!(
        entered.recv_timeout(PATIENCE),
        Err(RecvTimeoutError::Disconnected)
    );
    assert_eq!(count.load(Ordering::Acquire), 1);
}

/// C10, from this side: what was sent is before `Goodbye`, and nothing is after it.
#[test]
fn last_words_come_before_goodbye() {
    let (master, worker) = FakeMaster::new();
    let messenger = worker.messenger();
    let last = messenger.clone();
    worker.on_stop(move || Ok(last.broadcast("bye", vec![0; 2 * MAX_CHUNK_BYTES])?));
    _ = worker.leave();
    assert!(matches!(master.next_frame(), ToMaster::Send(_)));
    assert!(matches!(
        master.next_frame(),
        ToMaster::SendMore(More { index: 1, .. })
    ));
    assert_eq!(master.next_frame(), ToMaster::Goodbye);
    let err = messenger.broadcast("a", "").unwrap_err();
    assert!(matches!(err, SendFailure::Left), "{err:?}");
}

#[test]
fn a_draining_worker_sends_and_receives() {
    let (master, worker) = FakeMaster::new();
    let messenger = worker.messenger();
    let inbox = messenger.subscribe("a");
    master.drain(PATIENCE);
    assert!(worker.draining().wait(PATIENCE));
    messenger.broadcast("a", "still here").unwrap();
    assert_eq!(next(&inbox).text().unwrap(), "still here");
}

#[test]
fn everything_ends_with_the_master() {
    let (master, worker) = FakeMaster::new();
    let messenger = worker.messenger();
    let inbox = messenger.subscribe("a");
    let mut peers = worker.peers();
    peers.changed(PATIENCE).unwrap();
    deliver(&master, "a", "1");
    let early = next(&inbox);
    let (tell, handled) = unbounded::<()>();
    let _handler = messenger.on("b", move |_| tell.send(()).unwrap()).unwrap();
    master.die();
    // Its closure goes with its thread.
    assert_eq!(
        handled.recv_timeout(PATIENCE),
        Err(RecvTimeoutError::Disconnected)
    );
    assert!(inbox.recv().is_err());
    assert_eq!(inbox.iter().count(), 0);
    assert_eq!(peers.changed(PATIENCE), Err(RecvTimeoutError::Disconnected));
    let err = messenger.broadcast("a", "").unwrap_err();
    assert!(matches!(err, SendFailure::MasterGone), "{err:?}");
    assert!(messenger.subscribe("a").recv().is_err());
    assert_eq!(early.text().unwrap(), "1");
}

/// A master that makes no sense is left, as for any other violation.
#[test]
fn pieces_that_make_no_sense_part_the_worker_from_its_master() {
    let (master, worker) = FakeMaster::new();
    let inbox = worker.messenger().subscribe("a");
    master.send(FromMaster::Deliver(Deliver {
        from: Sender::Master,
        message: MessageId(1),
        kind: Kind::Message,
        action: "a".to_owned(),
        content_type: ContentType::BYTES,
        len_bytes: 2,
        chunk: "a".into(),
    }));
    master.send(FromMaster::DeliverMore(More {
        index: 2,
        chunk: "b".into(),
    }));
    assert!(inbox.recv().is_err());
    let event = worker.events().recv_timeout(PATIENCE);
    assert_eq!(event, Ok(Event::MasterGone));
}

/// The master keeps back what does not fit the window, and gets to know when it does.
#[test]
fn what_does_not_fit_the_window_comes_when_there_is_room() {
    let (master, worker) = FakeMaster::new();
    let messenger = worker.messenger();
    let inbox = messenger.subscribe("large");
    let (count, len) = (500_u64, 10_000);
    for number in 0..count {
        let mut bytes = vec![0; len];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        master.deliver(FakeMaster::peer(2), Kind::Message, "large", bytes);
    }
    for number in 0..count {
        assert_eq!(next(&inbox).bytes()[..8], number.to_le_bytes());
    }
    let quarter = RECEIVE_WINDOW_BYTES / 4;
    let reported = taken(&master, &messenger);
    assert!(
        reported.iter().all(|bytes| *bytes >= quarter),
        "{reported:?}"
    );
    let owed = count * (len as u64 + MESSAGE_OVERHEAD_BYTES) - reported.iter().sum::<u64>();
    assert!(owed < quarter, "{owed} would keep nothing back");
}

/// One that is larger than the window comes by itself.
#[test]
fn a_message_larger_than_the_window_comes_between_small_ones() {
    let (master, worker) = FakeMaster::new();
    let inbox = worker.messenger().subscribe("a");
    for round in 0..5_u8 {
        for len in [1, 3 << 20, 1, 300_000] {
            let bytes = vec![round; len];
            master.deliver(FakeMaster::peer(2), Kind::Message, "a", bytes);
        }
    }
    for round in 0..5_u8 {
        for len in [1, 3 << 20, 1, 300_000] {
            let message = next(&inbox);
            assert_eq!((message.bytes()[0], message.bytes().len()), (round, len));
        }
    }
}

/// One frame for a thousand of them.
#[test]
fn small_messages_are_reported_in_bulk() {
    let (master, worker) = FakeMaster::new();
    let messenger = worker.messenger();
    let inbox = messenger.subscribe("small");
    for _ in 0..10_000 {
        deliver(&master, "small", "");
    }
    for _ in 0..10_000 {
        next(&inbox);
    }
    let reported = taken(&master, &messenger);
    assert_eq!(reported, [RECEIVE_WINDOW_BYTES / 4; 9]);
}

/// A window of messages that nobody takes must not keep those back that somebody would.
#[test]
fn what_is_dropped_makes_room_as_what_is_taken() {
    let (master, worker) = FakeMaster::new();
    let messenger = worker.messenger();
    let flood = |action| {
        for _ in 0..8 {
            let bytes = vec![0; 300_000];
            master.deliver(FakeMaster::peer(2), Kind::Message, action, bytes);
        }
    };
    let end = messenger.subscribe("end");
    // In the queue of a subscription that is dropped.
    let ignored = messenger.subscribe("ignored");
    flood("ignored");
    deliver(&master, "end", "1");
    assert!(end.recv_timeout(SHORT).is_err(), "no room for it");
    drop(ignored);
    // Kept until the worker is ready, without a subscription.
    assert!(end.recv_timeout(SHORT).is_err(), "no room for it");
    worker.ready().unwrap();
    assert_eq!(next(&end).text().unwrap(), "1");
    // Without a subscription, ready.
    flood("nobody's");
    deliver(&master, "end", "2");
    assert_eq!(next(&end).text().unwrap(), "2");
    assert!(messenger.unclaimed() >= 8);
}

#[test]
fn a_message_counts_until_the_last_subscription_has_taken_it() {
    let (master, worker) = FakeMaster::new();
    let messenger = worker.messenger();
    let (fast, slow) = (messenger.subscribe("a"), messenger.subscribe("a"));
    for number in 0..10 {
        let mut bytes = vec![0; 400_000];
        bytes[0] = number;
        master.deliver(FakeMaster::peer(2), Kind::Message, "a", bytes);
    }
    assert_eq!(next(&fast).bytes()[0], 0);
    let mut seen = 1;
    while let Ok(message) = fast.recv_timeout(SHORT) {
        assert_eq!(message.bytes()[0], seen);
        seen += 1;
    }
    assert!((1..=3).contains(&seen), "{seen} fit the window");
    for number in 0..10 {
        assert_eq!(next(&slow).bytes()[0], number);
        if number >= seen {
            assert_eq!(next(&fast).bytes()[0], number);
        }
    }
}

#[test]
fn peers_come_change_and_go() {
    let (master, worker) = FakeMaster::new();
    let mut peers = worker.peers();
    let states = |list: Vec<worker_proto::message::Peer>| -> Vec<(u64, PeerState)> {
        let pairs = list.iter();
        pairs.map(|peer| (peer.worker.0, peer.state)).collect()
    };
    let own = peers.changed(PATIENCE).unwrap();
    let mut other = own[0].clone();
    assert_eq!(states(own), [(1, PeerState::Starting)]);
    worker.ready().unwrap();
    let changed = peers.changed(PATIENCE).unwrap();
    assert_eq!(states(changed), [(1, PeerState::Ready)]);
    assert_eq!(peers.changed(SHORT), Err(RecvTimeoutError::Timeout));

    other.worker = WorkerId(2);
    for (state, seen) in [
        (
            PeerState::Draining,
            vec![(1, PeerState::Ready), (2, PeerState::Draining)],
        ),
        (PeerState::Gone, vec![(1, PeerState::Ready)]),
    ] {
        other.state = state;
        master.send(FromMaster::Peers(vec![other.clone()]));
        assert_eq!(states(peers.changed(PATIENCE).unwrap()), seen);
        assert_eq!(states(peers.now()), seen);
    }
    // One question for all who look.
    let mut more = worker.messenger().peers();
    assert_eq!(
        states(more.changed(PATIENCE).unwrap()),
        [(1, PeerState::Ready)]
    );
    assert_eq!(master.next_frame(), ToMaster::WatchPeers);
    assert_eq!(master.next_frame(), ToMaster::Ready);
    worker.report("the next frame");
    assert!(matches!(master.next_frame(), ToMaster::Report { .. }));
}

/// G15: without a master every method works, on this one process.
#[test]
fn alone_a_program_is_the_whole_cluster() {
    let worker = Worker::connect().unwrap();
    assert!(worker.is_alone());
    let messenger = worker.messenger();
    messenger.broadcast("early", "kept").unwrap();
    let early = messenger.subscribe("early");
    assert_eq!(next(&early).text().unwrap(), "kept");
    worker.ready().unwrap();

    let inbox = messenger.subscribe("a");
    let slot = |role, slot| Recipient::Slot {
        role,
        slot: Slot(slot),
    };
    let own_pid = Recipient::Pid(std::process::id());
    for (recipient, arrives) in [
        (own(&worker), true),
        (slot(Role::Worker, 0), true),
        (own_pid, true),
        (Recipient::Workers, true),
        (Recipient::AnyWorker, true),
        (Recipient::Everyone, true),
        (Recipient::Worker(WorkerId(1)), false),
        (slot(Role::Worker, 1), false),
        (slot(Role::Agent, 0), false),
        (Recipient::Pid(1), false),
        (Recipient::Agent(None), false),
        (Recipient::Agent(Some("logs".to_owned())), false),
        (Recipient::Others, false),
        (Recipient::Master, false),
    ] {
        messenger.send_to(recipient.clone(), "a", "1").unwrap();
        let receipt = messenger
            .deliver(recipient.clone(), "a", "2", PATIENCE)
            .unwrap();
        let expected = if arrives {
            Receipt::Delivered {
                receivers: 1,
                missed: 0,
            }
        } else {
            Receipt::NoSuchPeer
        };
        assert_eq!(receipt, expected, "{recipient:?}");
        if arrives {
            assert_eq!(texts(&inbox, 2), ["1", "2"], "{recipient:?}");
        }
        assert!(inbox.try_recv().is_err(), "{recipient:?}");
    }
    messenger.send_to_agent(None, "a", "").unwrap();
    messenger.send_to_workers("a", "w").unwrap();
    messenger.send_random("a", "r").unwrap();
    messenger.broadcast("a", "b").unwrap();
    messenger.broadcast_to_others("a", "o").unwrap();
    messenger.send_to_master("a", "m").unwrap();
    assert_eq!(texts(&inbox, 3), ["w", "r", "b"]);
    assert!(inbox.try_recv().is_err());

    let _doubles = messenger.on("double", |request| {
        let number: u32 = request.text().unwrap().parse().unwrap();
        request.reply((2 * number).to_string()).unwrap();
    });
    let reply = messenger.request(own(&worker), "double", "21", PATIENCE);
    assert_eq!(reply.unwrap().text().unwrap(), "42");

    let peers = worker.peers().changed(PATIENCE).unwrap();
    assert_eq!(peers.len(), 1);
    assert_eq!(peers[0].pid, std::process::id());

    _ = worker.leave();
    assert!(inbox.recv().is_err(), "nothing comes any more");
}

/// C04: without a master it is this process that has no room.
#[test]
fn alone_a_program_that_takes_nothing_is_full() {
    let worker = Worker::connect().unwrap();
    let messenger = worker.messenger();
    let inbox = messenger.subscribe("a");
    let payload = Payload::bytes(vec![0; 16 << 20]);
    let send = || messenger.deliver(own(&worker), "a", payload.clone(), PATIENCE);
    let delivered = Receipt::Delivered {
        receivers: 1,
        missed: 0,
    };
    for _ in 0..3 {
        assert_eq!(send().unwrap(), delivered);
    }
    assert_eq!(send().unwrap(), Receipt::Full);
    next(&inbox);
    assert_eq!(send().unwrap(), delivered);
}

/// It has copies of the messenger, and of locks that threads hold which it does not have.
#[test]
fn a_forked_child_sends_nothing() {
    const NAME: &str = "a_forked_child_sends_nothing";
    if role().is_none() {
        return reexec(NAME, "forks");
    }
    let (master, worker) = FakeMaster::new();
    let messenger = worker.messenger();
    let inbox = messenger.subscribe("a");
    messenger.broadcast("a", "1").unwrap();
    next(&inbox);
    // SAFETY: the child touches only what belongs to the forking thread, then ends.
    #[allow(unsafe_code, reason = "there is no safe fork")]
    match unsafe { nix::unistd::fork() }.unwrap() {
        nix::unistd::ForkResult::Child => {
            let sent = messenger.broadcast("a", "the child's");
            drop(inbox);
            _ = worker.leave();
            let refused = matches!(sent, Err(SendFailure::MasterGone));
            // SAFETY: _exit(2) only ends the process.
            unsafe { nix::libc::_exit(i32::from(!refused)) }
        }
        nix::unistd::ForkResult::Parent { child } => {
            let ended = nix::sys::wait::waitpid(child, None).unwrap();
            assert_eq!(ended, nix::sys::wait::WaitStatus::Exited(child, 0));
            messenger.broadcast("a", "2").unwrap();
            assert_eq!(next(&inbox).text().unwrap(), "2");
            assert_eq!(next_send(&master).chunk, "1");
            assert_eq!(next_send(&master).chunk, "2");
        }
    }
}

fn own(worker: &Worker) -> Recipient {
    Recipient::Worker(worker.identity().worker)
}

fn sender(worker: &Worker) -> Sender {
    let own = worker.identity();
    Sender::Process {
        worker: own.worker,
        slot: own.slot,
        generation: own.generation,
        role: own.role,
        pid: own.pid,
    }
}

fn deliver(master: &FakeMaster, action: &str, text: &str) {
    master.deliver(FakeMaster::peer(2), Kind::Message, action, text);
}

fn next(subscription: &Subscription) -> Message {
    subscription.recv_timeout(PATIENCE).expect("a message")
}

fn texts(subscription: &Subscription, count: usize) -> Vec<String> {
    let take = || next(subscription).text().unwrap().to_owned();
    (0..count).map(|_| take()).collect()
}

fn next_send(master: &FakeMaster) -> Send {
    let frame = master.next_frame();
    let ToMaster::Send(send) = frame else {
        panic!("{frame:?}");
    };
    send
}

/// What the worker has reported as taken so far.
fn taken(master: &FakeMaster, messenger: &Messenger) -> Vec<u64> {
    messenger.send_to_master("that was all", "").unwrap();
    let frames = iter::repeat_with(|| master.next_frame());
    frames
        .map_while(|frame| {
            if let ToMaster::Taken { bytes } = frame {
                return Some(bytes);
            }
            assert!(matches!(frame, ToMaster::Send(_)), "{frame:?}");
            None
        })
        .collect()
}

const PATIENCE: Duration = Duration::from_secs(5);

/// How long it is watched that nothing happens.
const SHORT: Duration = Duration::from_millis(100);
