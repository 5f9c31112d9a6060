//! Requests and their replies, as a program makes and answers them.

use std::thread;
use std::time::Duration;

use worker_proto::frame::{FromMaster, ToMaster};
use worker_proto::ids::WorkerId;
use worker_proto::message::{
    ContentType, Deliver, Kind, MessageId, Receipt, Recipient, Send, Sender,
};
use worker_proto::{
    FakeMaster, Message, Messenger, Payload, RequestFailure, SendFailure, Subscription, Worker,
};

#[test]
fn a_request_gets_its_reply() {
    let (_master, worker) = FakeMaster::new();
    let messenger = worker.messenger();
    let requests = messenger.subscribe("double");
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..3 {
                let request = next(&requests);
                assert!(request.is_request());
                let number: u32 = request.bincode().unwrap();
                request
                    .reply(Payload::bincode(&(2 * number)).unwrap())
                    .unwrap();
            }
        });
        for number in [1_u32, 20, 300] {
            let payload = Payload::bincode(&number).unwrap();
            let reply = messenger.request(own(&worker), "double", payload, PATIENCE);
            let reply = reply.unwrap();
            assert_eq!(reply.bincode::<u32>().unwrap(), 2 * number);
            assert!(!reply.is_request());
        }
    });
}

#[test]
fn a_request_says_how_long_it_waits_and_a_reply_whom_it_is_for() {
    let (master, worker) = FakeMaster::new();
    let messenger = worker.messenger();
    master.answer_by_hand();
    thread::scope(|scope| {
        let asks = scope.spawn(|| messenger.request(W9, "a", "ping", PATIENCE));
        let request = next_send(&master);
        let expected = Send {
            message: MessageId(1),
            recipient: W9,
            kind: Kind::Request,
            wants_receipt: true,
            within_ms: Some(5_000),
            action: "a".to_owned(),
            content_type: ContentType::TEXT,
            len_bytes: 4,
            chunk: "ping".into(),
        };
        assert_eq!(request, expected);
        master.send(reply_to(1, "pong"));
        assert_eq!(asks.join().unwrap().unwrap().text().unwrap(), "pong");
    });

    let inbox = messenger.subscribe("b");
    for (from, recipient) in [
        (FakeMaster::peer(9), W9),
        (Sender::Master, Recipient::Master),
    ] {
        let number = master.deliver(from, Kind::Request, "b", "ping");
        let request = next(&inbox);
        assert_eq!(request.from, from);
        request.reply("pong").unwrap();
        let reply = next_send(&master);
        assert_eq!(reply.kind, Kind::Reply { to: number });
        assert_eq!(reply.recipient, recipient);
        assert_eq!(reply.chunk, "pong");
        assert!(!reply.wants_receipt);
    }
}

/// N33.
#[test]
fn an_answer_that_nobody_waits_for_is_ignored() {
    let (master, worker) = FakeMaster::new();
    let messenger = worker.messenger();
    let delivered = Receipt::Delivered {
        receivers: 1,
        missed: 0,
    };
    for message in [0, 1_000, u64::MAX] {
        master.send(reply_to(message, "unasked"));
        let message = MessageId(message);
        for receipt in [delivered, Receipt::NoSuchPeer] {
            master.send(FromMaster::Receipt { message, receipt });
        }
    }
    // It answers after them all, with what was asked for.
    let receipt = messenger.deliver(W9, "a", "", PATIENCE).unwrap();
    assert_eq!(receipt, Receipt::NoSuchPeer);
    // A message that asks for a receipt has no use for a reply.
    master.answer_by_hand();
    let to = next_send(&master).message.0 + 1;
    thread::scope(|scope| {
        let waits = scope.spawn(|| messenger.deliver(W9, "a", "", PATIENCE));
        assert_eq!(next_send(&master).message, MessageId(to));
        master.send(reply_to(to, "unasked"));
        master.send(FromMaster::Receipt {
            message: MessageId(to),
            receipt: Receipt::Full,
        });
        assert_eq!(waits.join().unwrap().unwrap(), Receipt::Full);
    });
}

#[test]
fn a_reply_that_comes_too_late_is_not_that_of_the_next_request() {
    let (master, worker) = FakeMaster::new();
    let messenger = worker.messenger();
    master.answer_by_hand();
    let err = messenger.request(W9, "a", "1", SHORT).unwrap_err();
    assert!(
        matches!(
            err,
            RequestFailure::TimedOut {
                within: SHORT,
                delivered: false
            }
        ),
        "{err:?}"
    );
    assert_eq!(
        err.to_string(),
        "no reply within 20ms, and the request was not delivered"
    );
    let first = next_send(&master).message.0;
    thread::scope(|scope| {
        let asks = scope.spawn(|| messenger.request(W9, "a", "2", PATIENCE));
        let second = next_send(&master).message.0;
        master.send(reply_to(first, "to the first"));
        master.send(reply_to(second, "to the second"));
        master.send(reply_to(second, "once more"));
        let reply = asks.join().unwrap().unwrap();
        assert_eq!(reply.text().unwrap(), "to the second");
    });
}

#[test]
fn who_asks_learns_how_far_the_request_came() {
    let (master, worker) = FakeMaster::new();
    let messenger = worker.messenger();
    master.answer_by_hand();
    let delivered = Receipt::Delivered {
        receivers: 1,
        missed: 0,
    };
    let missed = Receipt::Delivered {
        receivers: 0,
        missed: 3,
    };
    for (receipts, outcome) in [
        (vec![Receipt::NoSuchPeer], "Undelivered(NoSuchPeer)"),
        (
            vec![Receipt::TooManyRequests],
            "Undelivered(TooManyRequests)",
        ),
        (
            vec![missed],
            "Undelivered(Delivered { receivers: 0, missed: 3 })",
        ),
        (
            vec![Receipt::Expired],
            "TimedOut { within: 5s, delivered: false }",
        ),
        (
            vec![delivered, Receipt::Expired],
            "TimedOut { within: 5s, delivered: true }",
        ),
        (vec![delivered, Receipt::NoSuchPeer], "PeerGone"),
    ] {
        thread::scope(|scope| {
            let asks = scope.spawn(|| messenger.request(W9, "a", "", PATIENCE));
            let message = next_send(&master).message;
            for receipt in receipts {
                master.send(FromMaster::Receipt { message, receipt });
            }
            let failure = asks.join().unwrap().unwrap_err();
            assert_eq!(format!("{failure:?}"), outcome);
        });
    }
    thread::scope(|scope| {
        let within = Duration::from_millis(300);
        let asks = scope.spawn(move || messenger.request(W9, "a", "", within));
        master.send(FromMaster::Receipt {
            message: next_send(&master).message,
            receipt: delivered,
        });
        let failure = asks.join().unwrap().unwrap_err();
        assert_eq!(
            format!("{failure:?}"),
            "TimedOut { within: 300ms, delivered: true }"
        );
    });
}

#[test]
fn a_request_is_for_one() {
    let (_master, managed) = FakeMaster::new();
    let alone = Worker::connect().unwrap();
    assert!(alone.is_alone());
    for worker in [managed, alone] {
        let messenger = worker.messenger();
        let _inbox = messenger.subscribe("a");
        for recipient in [
            Recipient::Workers,
            Recipient::Everyone,
            Recipient::Others,
            Recipient::Master,
        ] {
            let failure = messenger.request(recipient, "a", "?", Duration::from_secs(5));
            assert!(
                matches!(
                    failure,
                    Err(RequestFailure::Undelivered(Receipt::NoSuchPeer))
                ),
                "{failure:?}"
            );
        }
    }
}

#[test]
fn a_request_ends_with_the_master() {
    let (master, worker) = FakeMaster::new();
    let messenger = worker.messenger();
    master.answer_by_hand();
    let asking: Vec<_> = (0..4)
        .map(|_| {
            let messenger = messenger.clone();
            thread::spawn(move || messenger.request(W9, "a", "", Duration::MAX))
        })
        .collect();
    for _ in &asking {
        next_send(&master);
    }
    master.die();
    for asks in asking {
        let failure = asks.join().unwrap().unwrap_err();
        assert!(matches!(failure, RequestFailure::MasterGone), "{failure:?}");
    }
    let failure = messenger.request(W9, "a", "", PATIENCE).unwrap_err();
    assert!(matches!(failure, RequestFailure::MasterGone), "{failure:?}");
}

#[test]
fn a_request_is_replied_to_once() {
    let (master, worker) = FakeMaster::new();
    let messenger = worker.messenger();
    let (one, other) = (messenger.subscribe("a"), messenger.subscribe("a"));
    master.deliver(FakeMaster::peer(9), Kind::Request, "a", "");
    next(&one).reply("1").unwrap();
    let copy = next(&other);
    let err = copy.reply("2").unwrap_err();
    assert!(matches!(err, SendFailure::AlreadyReplied), "{err:?}");
    let err = copy.clone().reply("3").unwrap_err();
    assert!(matches!(err, SendFailure::AlreadyReplied), "{err:?}");
    assert_eq!(next_send(&master).chunk, "1");

    master.deliver(FakeMaster::peer(9), Kind::Message, "a", "");
    let err = next(&one).reply("4").unwrap_err();
    assert!(matches!(err, SendFailure::NotARequest), "{err:?}");
}

/// What was refused was not sent.
#[test]
fn after_a_reply_that_is_too_long_there_is_another_one() {
    let (master, worker) = FakeMaster::new();
    let inbox = worker.messenger().subscribe("a");
    master.deliver(FakeMaster::peer(9), Kind::Request, "a", "");
    let request = next(&inbox);
    let max = FakeMaster::welcome().limits.max_message_bytes;
    let err = request.reply(vec![0; usize::try_from(max).unwrap() + 1]);
    assert!(matches!(err, Err(SendFailure::TooLarge { .. })), "{err:?}");
    request.reply("too long to tell").unwrap();
    assert_eq!(next_send(&master).chunk, "too long to tell");
}

/// Each gets its own, however they cross.
#[test]
fn many_threads_may_ask_at_once() {
    let (_master, worker) = FakeMaster::new();
    let messenger = worker.messenger();
    let answers = ["even", "odd"].map(|action| {
        messenger.on(action, |request: Message| {
            let text = request.text().unwrap().to_owned();
            request.reply(text.repeat(2)).unwrap();
        })
    });
    thread::scope(|scope| {
        for asker in 0..8 {
            let (messenger, own) = (&messenger, own(&worker));
            scope.spawn(move || ask_often(messenger, &own, asker));
        }
    });
    drop(answers);
}

fn ask_often(messenger: &Messenger, own: &Recipient, asker: usize) {
    let action = ["even", "odd"][asker % 2];
    for number in 0..100 {
        let text = format!("{asker}:{number};");
        let reply = messenger.request(own.clone(), action, text.as_str(), PATIENCE);
        assert_eq!(reply.unwrap().text().unwrap(), text.repeat(2));
    }
}

fn own(worker: &Worker) -> Recipient {
    Recipient::Worker(worker.identity().worker)
}

fn reply_to(message: u64, text: &'static str) -> FromMaster {
    FromMaster::Deliver(Deliver {
        from: FakeMaster::peer(9),
        message: MessageId(77),
        kind: Kind::Reply {
            to: MessageId(message),
        },
        action: "a".to_owned(),
        content_type: ContentType::TEXT,
        len_bytes: text.len() as u64,
        chunk: text.into(),
    })
}

fn next(subscription: &Subscription) -> Message {
    subscription.recv_timeout(PATIENCE).expect("a message")
}

fn next_send(master: &FakeMaster) -> Send {
    let frame = master.next_frame();
    let ToMaster::Send(send) = frame else {
        panic!("{frame:?}");
    };
    send
}

const W9: Recipient = Recipient::Worker(WorkerId(9));

const PATIENCE: Duration = Duration::from_secs(5);

/// How long it is waited for what does not come.
const SHORT: Duration = Duration::from_millis(20);
