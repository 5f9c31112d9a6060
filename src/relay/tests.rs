//! The relay by itself: who gets what, in which order, and what its sender is told.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "what else comes fails the test"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "the clock of a script begins somewhere"
)]

mod disorder;

use std::time::{Duration, Instant};

use bytes::Bytes;
use worker_proto::frame::FromMaster;
use worker_proto::ids::{Generation, Role, Slot, WorkerId};
use worker_proto::message::{
    ContentType, Deliver, Kind, MAX_CHUNK_BYTES, MESSAGE_OVERHEAD_BYTES, MessageId, More,
    PeerState, RECEIVE_WINDOW_BYTES, Receipt, Recipient, Send, Sender,
};

use super::{Envelope, Identity, Limits, Nonsense, Relay};
use crate::supervisor::WorkerState;

const LIMITS: Limits = Limits {
    max_message: 4 << 20,
    memory: 16 << 20,
    hold: Duration::from_secs(10),
};

/// A relay, the time, and who is there.
struct Script {
    relay: Relay,
    now: Instant,
    sent: u64,
}

impl Script {
    /// One agent called `rotate` (w1) and workers w2, w3 … in the slots from 0, all of them ready.
    fn ready(workers: u32) -> Self {
        let mut script = Self::starting(workers);
        script.agent_joins(1);
        for slot in 0..workers {
            script.joins(u64::from(slot) + 2, slot);
            script.is(u64::from(slot) + 2, WorkerState::Serving);
        }
        script.relay.note_cluster_ready(script.now);
        script
    }

    /// The same cluster, of which nobody has joined.
    fn starting(workers: u32) -> Self {
        Script {
            relay: Relay::new(LIMITS, vec!["rotate".to_owned()], workers, 7),
            now: Instant::now(),
            sent: 0,
        }
    }

    fn joins(&mut self, worker: u64, slot: u32) {
        self.relay
            .join(self.now, identity(worker, Role::Worker, slot));
    }

    fn agent_joins(&mut self, worker: u64) {
        let agent = Identity {
            name: Some("rotate".to_owned()),
            ..identity(worker, Role::Agent, 0)
        };
        self.relay.join(self.now, agent);
    }

    fn is(&mut self, worker: u64, state: WorkerState) {
        self.relay.note_state(w(worker), state);
    }

    fn parts(&mut self, worker: u64) {
        self.relay.part(w(worker));
    }

    fn passes(&mut self, time: Duration) {
        self.now += time;
        self.relay.tick(self.now);
    }

    /// A message of which the sender wants to know what became; its number.
    fn sends(&mut self, from: u64, recipient: Recipient, payload: &str) -> MessageId {
        self.sends_as(Kind::Message, from, recipient, payload)
    }

    fn sends_as(
        &mut self,
        kind: Kind,
        from: u64,
        recipient: Recipient,
        payload: &str,
    ) -> MessageId {
        self.sent += 1;
        let send = Send {
            kind,
            ..message(self.sent, recipient, payload)
        };
        self.relay.send(self.now, w(from), send).unwrap();
        MessageId(self.sent)
    }

    /// Everything that can be sent to a process at this moment.
    fn frames(&mut self, worker: u64) -> Vec<FromMaster> {
        let mut frames = Vec::new();
        while let Some(frame) = self.relay.frame(w(worker)) {
            self.relay.note_sent(w(worker));
            frames.push(frame);
        }
        assert!(!self.relay.active().contains(&w(worker)));
        frames
    }

    /// The payloads among them.
    fn got(&mut self, worker: u64) -> Vec<String> {
        let frames = self.frames(worker).into_iter();
        frames
            .filter_map(|frame| match frame {
                FromMaster::Deliver(deliver) => Some(text(&deliver)),
                _ => None,
            })
            .collect()
    }

    /// The receipts among them.
    fn receipts(&mut self, worker: u64) -> Vec<(MessageId, Receipt)> {
        let frames = self.frames(worker).into_iter();
        frames
            .filter_map(|frame| match frame {
                FromMaster::Receipt { message, receipt } => Some((message, receipt)),
                _ => None,
            })
            .collect()
    }
}

#[test]
fn a_message_carries_the_stamp_of_the_channel_that_it_came_on() {
    let mut script = Script::ready(2);
    script.sends(2, Recipient::Worker(w(3)), "hello");
    let [FromMaster::Deliver(deliver)] = &script.frames(3)[..] else {
        panic!("one message");
    };
    assert_eq!(deliver.from, sender(2, 0));
    assert_eq!(text(deliver), "hello");
    assert_eq!(script.receipts(2), [(MessageId(1), delivered(1))]);
    assert_eq!(script.relay.memory(), 0);
}

/// E13, and C06: to an id, a slot, a pid, an agent by name or without.
#[test]
fn every_way_to_name_somebody_finds_the_same_process() {
    let slot = |role, slot| Recipient::Slot {
        role,
        slot: Slot(slot),
    };
    for (recipient, receiver) in [
        (Recipient::Worker(w(3)), 3),
        (slot(Role::Worker, 1), 3),
        (Recipient::Pid(1003), 3),
        (slot(Role::Agent, 0), 1),
        (Recipient::Agent(None), 1),
        (Recipient::Agent(Some("rotate".to_owned())), 1),
        // To itself, too.
        (Recipient::Worker(w(2)), 2),
    ] {
        let mut script = Script::ready(2);
        script.sends(2, recipient.clone(), "it");
        assert_eq!(script.got(receiver), ["it"], "{recipient:?}");
    }
}

#[test]
fn nobody_is_nobody_and_its_sender_is_told() {
    let mut script = Script::ready(2);
    let nobody = [
        Recipient::Worker(w(9)),
        Recipient::Pid(1),
        Recipient::Slot {
            role: Role::Worker,
            slot: Slot(2),
        },
        Recipient::Slot {
            role: Role::Agent,
            slot: Slot(1),
        },
        Recipient::Agent(Some("nightly".to_owned())),
    ];
    for recipient in nobody {
        script.sends(2, recipient, "anybody?");
    }
    let why: Vec<_> = script.receipts(2).iter().map(|it| it.1).collect();
    assert_eq!(why, [Receipt::NoSuchPeer; 5]);
    assert_eq!(script.relay.memory(), 0);
}

/// E12; the sender is one of them, unless it asks otherwise.
#[test]
fn a_message_to_many_reaches_each_of_them_once() {
    for (recipient, receivers) in [
        (Recipient::Workers, [0, 1, 1, 1]),
        (Recipient::Everyone, [1, 1, 1, 1]),
        (Recipient::Others, [1, 0, 1, 1]),
    ] {
        let mut script = Script::ready(3);
        script.sends(2, recipient.clone(), "all");
        let got = [1, 2, 3, 4].map(|worker| {
            let frames = script.frames(worker).into_iter();
            frames
                .filter(|it| matches!(it, FromMaster::Deliver(_)))
                .count()
        });
        assert_eq!(got, receivers, "{recipient:?}");
        let reached = u32::try_from(got.iter().sum::<usize>()).unwrap();
        assert_eq!(script.receipts(2), [(MessageId(1), delivered(reached))]);
        assert_eq!(script.relay.memory(), 0);
    }
}

/// G13.
#[test]
fn chance_chooses_among_those_who_serve() {
    let mut script = Script::ready(4);
    script.is(5, WorkerState::Standby);
    for _ in 0..100 {
        script.sends(1, Recipient::AnyWorker, "any");
    }
    let got = [2, 3, 4, 5].map(|worker| script.got(worker).len());
    assert_eq!(got.iter().sum::<usize>(), 100);
    assert!(got[..3].iter().all(|count| *count > 10), "{got:?}");
    assert_eq!(got[3], 0, "a spare worker has nothing to do yet");
}

#[test]
fn who_leaves_gets_nothing_new_but_what_it_waits_for() {
    let mut script = Script::ready(2);
    script.sends(2, Recipient::Worker(w(3)), "before");
    script.sends_as(Kind::Request, 3, Recipient::Worker(w(2)), "question");
    script.is(3, WorkerState::Leaving);
    let refused = script.sends(2, Recipient::Worker(w(3)), "after");
    script.sends(2, Recipient::Workers, "to those who stay");
    script.sends_as(
        Kind::Reply { to: MessageId(2) },
        2,
        Recipient::Worker(w(3)),
        "answer",
    );
    assert_eq!(script.got(3), ["before", "answer"]);
    assert_eq!(script.receipts(2)[0], (refused, Receipt::Draining));
}

#[test]
fn a_slot_is_whoever_holds_it_and_an_id_never_its_successor() {
    let mut script = Script::ready(1);
    let slot = Recipient::Slot {
        role: Role::Worker,
        slot: Slot(0),
    };
    script.sends(1, slot.clone(), "for the first");
    script.parts(2);
    script.joins(9, 0);
    script.is(9, WorkerState::Serving);
    let late = script.sends(1, Recipient::Worker(w(2)), "for the first alone");
    script.sends(1, slot, "for the second");
    assert_eq!(script.got(9), ["for the second"]);
    assert_eq!(
        script.receipts(1),
        [
            (MessageId(1), Receipt::NoSuchPeer),
            (late, Receipt::NoSuchPeer),
            (MessageId(3), delivered(1)),
        ]
    );
}

#[test]
fn a_successor_that_starts_leaves_the_slot_to_the_incumbent() {
    let mut script = Script::ready(1);
    script.joins(9, 0);
    let slot = Recipient::Slot {
        role: Role::Worker,
        slot: Slot(0),
    };
    script.sends(1, slot.clone(), "old");
    script.is(9, WorkerState::Serving);
    script.sends(1, slot, "new");
    assert_eq!(script.got(2), ["old"]);
    assert_eq!(script.got(9), ["new"]);
}

/// G11: an agent starts first, and what it says to workers is not lost.
#[test]
fn before_the_cluster_is_ready_messages_wait_for_newcomers() {
    let mut script = Script::starting(2);
    script.agent_joins(1);
    script.sends(1, Recipient::Workers, "all");
    let second = Recipient::Slot {
        role: Role::Worker,
        slot: Slot(1),
    };
    script.sends(1, second, "second");
    script.sends(1, Recipient::AnyWorker, "any");
    script.joins(2, 0);
    script.joins(3, 1);
    script.sends(1, Recipient::Workers, "later");
    assert_eq!(script.got(2), ["all", "any", "later"]);
    assert_eq!(script.got(3), ["all", "second", "later"]);
    script.relay.note_cluster_ready(script.now);
    let mut receipts = script.receipts(1);
    receipts.sort_by_key(|receipt| receipt.0);
    assert_eq!(
        receipts,
        [
            (MessageId(1), delivered(2)),
            (MessageId(2), delivered(1)),
            (MessageId(3), delivered(1)),
            (MessageId(4), delivered(2)),
        ]
    );
    assert_eq!(script.relay.memory(), 0);
}

#[test]
fn when_the_cluster_is_ready_nobody_is_waited_for() {
    let mut script = Script::starting(2);
    script.agent_joins(1);
    script.sends(1, Recipient::AnyWorker, "any");
    script.relay.note_cluster_ready(script.now);
    assert_eq!(script.receipts(1), [(MessageId(1), Receipt::NoSuchPeer)]);
    assert_eq!(script.relay.memory(), 0);
}

#[test]
fn an_agent_that_is_down_gets_what_was_sent_meanwhile_for_a_time() {
    let mut script = Script::ready(1);
    script.parts(1);
    let expires = script.sends(2, Recipient::Agent(None), "too early");
    script.passes(Duration::from_secs(6));
    script.sends(2, Recipient::Agent(None), "one");
    script.sends(2, Recipient::Agent(Some("rotate".to_owned())), "two");
    script.passes(Duration::from_secs(4));
    assert_eq!(script.receipts(2), [(expires, Receipt::Expired)]);
    script.agent_joins(8);
    script.sends(2, Recipient::Agent(None), "three");
    assert_eq!(script.got(8), ["one", "two", "three"]);
    assert_eq!(script.relay.memory(), 0);
}

#[test]
fn what_waits_for_a_receiver_does_so_no_longer_than_its_sender_wants() {
    let mut script = Script::ready(2);
    let payload = "x".repeat(10_000);
    let in_window = RECEIVE_WINDOW_BYTES / (10_000 + MESSAGE_OVERHEAD_BYTES);
    for _ in 0..in_window {
        script.sends(2, Recipient::Worker(w(3)), &payload);
    }
    assert_eq!(script.got(3).len() as u64, in_window);
    script.receipts(2);
    let sends_within = |script: &mut Script, ms, payload| {
        let number = script.sent + 1;
        let send = Send {
            within_ms: Some(ms),
            ..message(number, Recipient::Worker(w(3)), payload)
        };
        script.sent = number;
        script.relay.send(script.now, w(2), send).unwrap();
        MessageId(number)
    };
    let late = sends_within(&mut script, 100, &payload);
    sends_within(&mut script, 60_000, &payload);
    let later = sends_within(&mut script, 200, &payload);
    script.passes(Duration::from_millis(99));
    assert_eq!(script.receipts(2), []);
    script.passes(Duration::from_millis(1));
    assert_eq!(script.receipts(2), [(late, Receipt::Expired)]);
    script.passes(Duration::from_millis(100));
    assert_eq!(script.receipts(2), [(later, Receipt::Expired)]);
    assert_eq!(script.frames(3), []);
    script.relay.note_taken(w(3), RECEIVE_WINDOW_BYTES);
    assert_eq!(script.got(3).len(), 1);
    assert_eq!(script.relay.memory(), 0);
    script.passes(Duration::from_secs(60));
    assert_eq!(script.relay.next_deadline(), None);
}

/// Its receiver has the beginning: the rest has to come, and what is behind it as well.
#[test]
fn what_is_sent_in_part_is_sent_whole_however_long_that_takes() {
    let mut script = Script::ready(2);
    script.sent = 1;
    let send = Send {
        len_bytes: MAX_CHUNK_BYTES as u64 + 1,
        within_ms: Some(10),
        chunk: vec![0; MAX_CHUNK_BYTES].into(),
        ..message(1, Recipient::Worker(w(3)), "")
    };
    script.relay.send(script.now, w(2), send).unwrap();
    let more = More {
        index: 1,
        chunk: Bytes::from_static(b"b"),
    };
    script.relay.send_more(script.now, w(2), more).unwrap();
    assert!(script.relay.frame(w(3)).is_some());
    script.relay.note_sent(w(3));
    script.passes(Duration::from_secs(1));
    assert_eq!(script.receipts(2), []);
    assert_eq!(script.frames(3).len(), 1);
    assert_eq!(script.receipts(2), [(MessageId(1), delivered(1))]);
}

#[test]
fn a_request_is_answered_by_the_one_who_was_asked() {
    let mut script = Script::ready(3);
    let question = script.sends_as(Kind::Request, 2, Recipient::Worker(w(3)), "?");
    let reply = Kind::Reply { to: question };
    script.sends_as(reply, 4, Recipient::Worker(w(2)), "forged");
    script.sends_as(reply, 3, Recipient::Worker(w(2)), "true");
    script.sends_as(reply, 3, Recipient::Worker(w(2)), "again");
    assert_eq!(script.got(3), ["?"]);
    assert_eq!(script.got(2), ["true"]);
    let of = |it: (MessageId, Receipt)| it.1;
    assert_eq!(of(script.receipts(4)[0]), Receipt::NoSuchPeer);
}

#[test]
fn who_asked_somebody_that_dies_is_told() {
    let mut script = Script::ready(2);
    let unsent = script.sends_as(Kind::Request, 2, Recipient::Worker(w(3)), "a");
    script.parts(3);
    assert_eq!(script.receipts(2), [(unsent, Receipt::NoSuchPeer)]);

    let mut script = Script::ready(2);
    let sent = script.sends_as(Kind::Request, 2, Recipient::Worker(w(3)), "b");
    assert_eq!(script.got(3), ["b"]);
    assert_eq!(script.receipts(2), [(sent, delivered(1))]);
    script.parts(3);
    assert_eq!(script.receipts(2), [(sent, Receipt::NoSuchPeer)]);
    // Whoever comes late finds nobody who waits.
    script.passes(Duration::from_secs(60));
    assert_eq!(script.relay.next_deadline(), None);
}

#[test]
fn a_request_is_for_one() {
    let mut script = Script::ready(2);
    for recipient in [Recipient::Workers, Recipient::Everyone, Recipient::Master] {
        let message = script.sends_as(Kind::Request, 2, recipient, "?");
        assert_eq!(script.receipts(2), [(message, Receipt::NoSuchPeer)]);
    }
}

#[test]
fn what_is_no_message_is_refused_and_costs_nothing() {
    let mut script = Script::ready(2);
    let good = || message(0, Recipient::Worker(w(3)), "x");
    let bad = [
        (
            Send {
                action: String::new(),
                ..good()
            },
            Receipt::BadAction,
        ),
        (
            Send {
                action: "a".repeat(1 << 10),
                ..good()
            },
            Receipt::BadAction,
        ),
        (
            Send {
                action: "rr.leader".to_owned(),
                ..good()
            },
            Receipt::BadAction,
        ),
        (
            Send {
                content_type: ContentType(200),
                ..good()
            },
            Receipt::UnknownContentType,
        ),
    ];
    for (index, (send, why)) in (1..).zip(bad) {
        let message = MessageId(index);
        let send = Send { message, ..send };
        script.relay.send(script.now, w(2), send).unwrap();
        assert_eq!(script.receipts(2), [(message, why)]);
    }
    assert_eq!(script.got(3), Vec::<String>::new());
    assert_eq!(
        (script.relay.memory(), script.relay.totals().refused),
        (0, 4)
    );
}

#[test]
fn a_large_message_arrives_in_its_pieces() {
    let mut script = Script::ready(2);
    sends_large(&mut script, 2, 3, 3 * MAX_CHUNK_BYTES as u64 + 1);
    let frames = script.frames(3);
    let shape: Vec<_> = frames
        .iter()
        .map(|frame| match frame {
            FromMaster::Deliver(first) => (0, first.chunk.len()),
            FromMaster::DeliverMore(more) => (more.index, more.chunk.len()),
            other => panic!("{other:?}"),
        })
        .collect();
    let full = MAX_CHUNK_BYTES;
    assert_eq!(shape, [(0, full), (1, full), (2, full), (3, 1)]);
    assert_eq!(script.receipts(2).len(), 1);
    assert_eq!(script.relay.memory(), 0);
}

#[test]
fn too_large_is_refused_and_what_comes_of_it_not_kept() {
    let mut script = Script::ready(2);
    let message = sends_large(&mut script, 2, 3, LIMITS.max_message + 1);
    assert_eq!(script.receipts(2), [(message, Receipt::TooLarge)]);
    assert_eq!(script.relay.memory(), 0);
    script.sends(2, Recipient::Worker(w(3)), "goes on");
    assert_eq!(script.got(3), ["goes on"]);
}

#[test]
fn pieces_that_make_no_message_are_nonsense() {
    let more = |index, len: usize| More {
        index,
        chunk: vec![0; len].into(),
    };
    let begun = |len_bytes| {
        let mut script = Script::ready(2);
        let send = Send {
            len_bytes,
            ..message(1, Recipient::Worker(w(3)), "x")
        };
        script.relay.send(script.now, w(2), send).unwrap();
        script
    };
    let goes_on = |script: &mut Script, more| script.relay.send_more(script.now, w(2), more);

    let mut script = Script::ready(2);
    assert_eq!(goes_on(&mut script, more(1, 1)), Err(Nonsense::NoMessage));
    let mut script = begun(3);
    assert_eq!(
        goes_on(&mut script, more(2, 1)),
        Err(Nonsense::Piece {
            expected: 1,
            found: 2
        })
    );
    let mut script = begun(3);
    assert_eq!(
        goes_on(&mut script, more(1, 0)),
        Err(Nonsense::PieceLength(0))
    );
    let mut script = begun(3);
    assert_eq!(goes_on(&mut script, more(1, 3)), Err(Nonsense::Excess));
    let mut script = begun(3);
    let next = message(2, Recipient::Master, "x");
    assert_eq!(
        script.relay.send(script.now, w(2), next),
        Err(Nonsense::Incomplete)
    );
    let mut script = begun(1);
    let same = message(1, Recipient::Master, "x");
    assert_eq!(
        script.relay.send(script.now, w(2), same),
        Err(Nonsense::Order(MessageId(1), MessageId(1)))
    );
    let mut script = Script::ready(2);
    let value = Send {
        kind: Kind::Value { version: 1 },
        ..message(1, Recipient::Worker(w(3)), "x")
    };
    assert_eq!(
        script.relay.send(script.now, w(2), value),
        Err(Nonsense::Kind)
    );
}

#[test]
fn who_does_not_take_gets_no_more_than_its_window_and_others_are_served() {
    let mut script = Script::ready(3);
    let each = 10_000 + MESSAGE_OVERHEAD_BYTES;
    let payload = "x".repeat(10_000);
    let bound = LIMITS.max_message / each;
    for _ in 0..bound + 50 {
        script.sends(2, Recipient::Worker(w(3)), &payload);
    }
    let in_window = script.got(3).len() as u64;
    assert_eq!(in_window, RECEIVE_WINDOW_BYTES / each);
    // All of them were sent before the first was written.
    let full = script.receipts(2).into_iter();
    let full = full.filter(|it| it.1 == Receipt::Full).count();
    assert_eq!(full, 50);
    assert!(script.relay.memory() <= LIMITS.max_message);
    script.sends(2, Recipient::Worker(w(4)), "others");
    assert_eq!(script.got(4), ["others"]);
    // As it takes them the rest comes.
    let mut taken = in_window;
    while script.relay.backlog(w(3)).0 > 0 {
        script
            .relay
            .note_taken(w(3), RECEIVE_WINDOW_BYTES / 4 + each);
        taken += script.got(3).len() as u64;
    }
    assert_eq!(taken, bound);
}

#[test]
fn a_message_larger_than_the_window_comes_alone() {
    let mut script = Script::ready(2);
    let large = RECEIVE_WINDOW_BYTES + 1;
    sends_large(&mut script, 2, 3, large);
    script.sends(2, Recipient::Worker(w(3)), "small");
    let pieces = script.frames(3).len() as u64;
    assert_eq!(pieces, large.div_ceil(MAX_CHUNK_BYTES as u64));
    script
        .relay
        .note_taken(w(3), large + MESSAGE_OVERHEAD_BYTES);
    assert_eq!(script.got(3), ["small"]);
}

/// A program may well ask before it takes what it has subscribed to.
#[test]
fn a_reply_comes_whatever_its_receiver_has_not_taken() {
    let mut script = Script::ready(3);
    let payload = "x".repeat(30_000);
    for _ in 0..60 {
        script.sends(2, Recipient::Worker(w(3)), &payload);
    }
    script.got(3);
    let (waiting, _) = script.relay.backlog(w(3));
    assert!(waiting > 0);
    let question = script.sends_as(Kind::Request, 3, Recipient::Worker(w(4)), "?");
    assert_eq!(script.got(4), ["?"]);
    let reply = Kind::Reply { to: question };
    script.sends_as(reply, 4, Recipient::Worker(w(3)), "!");
    script.sends(4, Recipient::Worker(w(3)), "after the reply");
    assert_eq!(script.got(3), ["!"]);
    // That, and what was sent after the reply.
    assert_eq!(script.relay.backlog(w(3)).0, waiting + 1);
}

#[test]
fn a_reply_comes_after_what_its_sender_has_sent_before() {
    let mut script = Script::ready(2);
    sends_large(&mut script, 2, 3, 1_000_000);
    sends_large(&mut script, 2, 3, 1_000_000);
    script.frames(3);
    let question = script.sends_as(Kind::Request, 3, Recipient::Worker(w(2)), "?");
    script.got(2);
    let reply = Kind::Reply { to: question };
    script.sends_as(reply, 2, Recipient::Worker(w(3)), "!");
    assert_eq!(script.got(3), Vec::<String>::new());
    script.relay.note_taken(w(3), 2_000_000);
    let replies = script.frames(3).into_iter().map(|frame| match frame {
        FromMaster::Deliver(deliver) => deliver.kind == reply,
        _ => false,
    });
    assert_eq!(replies.collect::<Vec<_>>().last(), Some(&true));
}

/// What is counted of a message is what it costs, however it was cut.
#[test]
fn small_pieces_are_put_together() {
    let mut script = Script::ready(2);
    let len = 3 * MAX_CHUNK_BYTES;
    let first = Send {
        len_bytes: len as u64,
        ..message(1, Recipient::Worker(w(3)), "0")
    };
    script.relay.send(script.now, w(2), first).unwrap();
    for index in 1..u32::try_from(len).unwrap() {
        let chunk = index.to_string().into_bytes().pop().into_iter().collect();
        let more = More { index, chunk };
        script.relay.send_more(script.now, w(2), more).unwrap();
    }
    let pieces: Vec<Bytes> = script
        .frames(3)
        .into_iter()
        .map(|frame| match frame {
            FromMaster::Deliver(deliver) => deliver.chunk,
            FromMaster::DeliverMore(more) => more.chunk,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(pieces.len(), 3);
    let payload: Vec<u8> = (b'0'..=b'9').cycle().take(len).collect();
    assert!(pieces.concat() == payload);
}

#[test]
fn all_messages_together_have_a_bound() {
    let mut script = Script::ready(8);
    let mut most = 0;
    for round in 0..8 {
        for to in 2..10 {
            if to != 2 {
                sends_large(&mut script, 2, to, LIMITS.max_message / 2);
            }
            most = most.max(script.relay.memory());
        }
        assert!(most <= LIMITS.memory, "round {round}: {most}");
    }
    let receipts = script.receipts(2);
    assert!(receipts.iter().any(|it| it.1 == Receipt::Full));
    for worker in 2..10 {
        script.parts(worker);
    }
    assert_eq!(script.relay.memory(), 0);
}

#[test]
fn a_sender_that_dies_in_the_middle_of_a_message_has_sent_nothing() {
    let mut script = Script::ready(2);
    let send = Send {
        len_bytes: 2,
        ..message(1, Recipient::Worker(w(3)), "x")
    };
    script.relay.send(script.now, w(2), send).unwrap();
    assert!(script.relay.memory() > 0);
    script.parts(2);
    assert_eq!(script.relay.memory(), 0);
    assert_eq!(script.frames(3), []);
}

/// The last words of a process that is gone reach those who stay.
#[test]
fn what_was_sent_before_the_end_arrives_after_it() {
    let mut script = Script::ready(2);
    script.sends(2, Recipient::Worker(w(3)), "farewell");
    script.parts(2);
    assert_eq!(script.got(3), ["farewell"]);
    assert_eq!(script.relay.memory(), 0);
}

#[test]
fn a_sender_that_does_not_read_its_receipts_is_not_read() {
    let mut script = Script::ready(2);
    assert!(!script.relay.is_swamped(w(2)));
    for _ in 0..1024 {
        script.sends(2, Recipient::Worker(w(99)), "x");
    }
    assert!(script.relay.is_swamped(w(2)));
    script.frames(2);
    assert!(!script.relay.is_swamped(w(2)));
}

/// E19, E20.
#[test]
fn peers_are_told_as_they_come_and_go() {
    let mut script = Script::ready(1);
    script.relay.watch_peers(w(1));
    let news = |script: &mut Script| -> Vec<(u64, PeerState)> {
        let frames = script.frames(1).into_iter();
        let peers = frames.flat_map(|frame| match frame {
            FromMaster::Peers(peers) => peers,
            other => panic!("{other:?}"),
        });
        peers.map(|peer| (peer.worker.0, peer.state)).collect()
    };
    use PeerState::{Draining, Gone, Ready, Starting};
    assert_eq!(news(&mut script), [(1, Starting), (2, Ready)]);
    script.joins(3, 1);
    assert_eq!(news(&mut script), [(3, Starting)]);
    script.is(3, WorkerState::Standby);
    // Into the rotation: nothing that a peer has to know.
    script.is(3, WorkerState::Serving);
    assert_eq!(news(&mut script), [(3, Ready)]);
    script.is(2, WorkerState::Leaving);
    assert_eq!(news(&mut script), [(2, Draining)]);
    script.parts(2);
    script.joins(4, 0);
    assert_eq!(news(&mut script), [(2, Gone), (4, Starting)]);
}

/// However often the others are replaced meanwhile.
#[test]
fn who_reads_nothing_is_not_told_of_those_it_never_knew() {
    let mut script = Script::ready(2);
    script.relay.watch_peers(w(2));
    script.frames(2);
    for worker in 10..1000 {
        script.joins(worker, 1);
        script.is(worker, WorkerState::Serving);
        script.parts(worker);
    }
    assert_eq!(script.frames(2), []);
    script.parts(3);
    script.joins(1000, 1);
    let news = script.frames(2);
    let [FromMaster::Peers(peers)] = &news[..] else {
        panic!("{news:?}");
    };
    assert_eq!(peers.len(), 2);
    assert_eq!(peers[0].state, PeerState::Gone);
}

#[test]
fn many_peers_come_in_pages() {
    let mut script = Script::ready(600);
    script.relay.watch_peers(w(2));
    let pages: Vec<_> = script
        .frames(2)
        .into_iter()
        .map(|frame| match frame {
            FromMaster::Peers(peers) => peers.len(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(pages, [256, 256, 89]);
}

#[test]
fn the_master_hears_and_speaks() {
    let mut script = Script::ready(2);
    let message = script.sends(2, Recipient::Master, "for operators");
    let own = script.relay.poll_own().unwrap();
    assert_eq!(own.pieces, [Bytes::from_static(b"for operators")]);
    assert_eq!(own.from, sender(2, 0));
    assert_eq!(script.receipts(2), [(message, delivered(1))]);
    drop(own);
    assert_eq!(script.relay.memory(), 0);

    let hello = || {
        Envelope::of_the_master(
            Kind::Message,
            "hi".to_owned(),
            ContentType::TEXT,
            Bytes::from_static(b"hello"),
        )
    };
    assert_eq!(post(&mut script, Recipient::Workers, hello()), Ok(2));
    assert_eq!((script.got(2), script.got(3)), (s("hello"), s("hello")));
    let nobody = post(&mut script, Recipient::Worker(w(99)), hello());
    assert_eq!(nobody, Err(Receipt::NoSuchPeer));
    assert_eq!(script.relay.memory(), 0);
}

/// Who is asked by an operator answers the master, and the master learns when nobody will.
#[test]
fn the_master_asks() {
    let question = |number| Envelope {
        message: MessageId(number),
        ..Envelope::of_the_master(
            Kind::Request,
            "how".to_owned(),
            ContentType::TEXT,
            Bytes::new(),
        )
    };
    let mut script = Script::ready(2);
    let slot = Recipient::Worker(w(2));
    assert_eq!(post(&mut script, slot.clone(), question(1)), Ok(1));
    assert_eq!(script.got(2), [""]);
    let reply = Kind::Reply { to: MessageId(1) };
    script.sends_as(reply, 3, Recipient::Master, "forged");
    script.sends_as(reply, 2, Recipient::Master, "well");
    let own = script.relay.poll_own().unwrap();
    assert_eq!((own.kind, own.from), (reply, sender(2, 0)));
    assert!(script.relay.poll_own().is_none());

    assert_eq!(post(&mut script, slot.clone(), question(2)), Ok(1));
    assert_eq!(post(&mut script, Recipient::AnyWorker, question(3)), Ok(1));
    script.parts(2);
    script.passes(Duration::from_secs(61));
    let mut lost: Vec<_> = std::iter::from_fn(|| script.relay.poll_own_receipt()).collect();
    lost.sort_by_key(|lost| lost.0);
    assert_eq!(lost[0], (MessageId(2), Receipt::NoSuchPeer));
    assert_eq!(lost[1].0, MessageId(3));
    let many = post(&mut script, Recipient::Workers, question(4));
    assert_eq!(many, Err(Receipt::NoSuchPeer));
}

#[test]
fn a_question_that_the_master_asks_no_more_reaches_nobody() {
    let mut script = Script::ready(2);
    let large = RECEIVE_WINDOW_BYTES + 1;
    sends_large(&mut script, 2, 3, large);
    script.frames(3);
    let question = Envelope {
        message: MessageId(1),
        ..Envelope::of_the_master(
            Kind::Request,
            "how".to_owned(),
            ContentType::TEXT,
            Bytes::new(),
        )
    };
    assert_eq!(post(&mut script, Recipient::Worker(w(3)), question), Ok(1));
    script.passes(Duration::from_secs(61));
    let lost = script.relay.poll_own_receipt();
    assert_eq!(lost, Some((MessageId(1), Receipt::Expired)));
    script.relay.note_taken(w(3), 2 * large);
    assert_eq!(script.frames(3), []);
    assert_eq!(script.relay.memory(), 0);
}

fn post(script: &mut Script, recipient: Recipient, envelope: Envelope) -> Result<u32, Receipt> {
    let within = Duration::from_secs(60);
    script.relay.post(script.now, &recipient, envelope, within)
}

/// Sends a message of that length in pieces; its number.
fn sends_large(script: &mut Script, from: u64, to: u64, len_bytes: u64) -> MessageId {
    script.sent += 1;
    let mut missing = usize::try_from(len_bytes).unwrap();
    let mut piece = || {
        let len = missing.min(MAX_CHUNK_BYTES);
        missing -= len;
        Bytes::from(vec![7; len])
    };
    let first = Send {
        len_bytes,
        chunk: piece(),
        ..message(script.sent, Recipient::Worker(w(to)), "")
    };
    script.relay.send(script.now, w(from), first).unwrap();
    for index in 1.. {
        let chunk = piece();
        if chunk.is_empty() {
            break;
        }
        let more = More { index, chunk };
        script.relay.send_more(script.now, w(from), more).unwrap();
    }
    MessageId(script.sent)
}

fn message(number: u64, recipient: Recipient, payload: &str) -> Send {
    Send {
        message: MessageId(number),
        recipient,
        kind: Kind::Message,
        wants_receipt: true,
        within_ms: None,
        action: "test".to_owned(),
        content_type: ContentType::TEXT,
        len_bytes: payload.len() as u64,
        chunk: Bytes::copy_from_slice(payload.as_bytes()),
    }
}

fn identity(worker: u64, role: Role, slot: u32) -> Identity {
    Identity {
        worker: w(worker),
        slot: Slot(slot),
        generation: Generation(1),
        role,
        pid: u32::try_from(worker).unwrap() + 1000,
        name: None,
    }
}

fn sender(worker: u64, slot: u32) -> Sender {
    Sender::Process {
        worker: w(worker),
        slot: Slot(slot),
        generation: Generation(1),
        role: Role::Worker,
        pid: u32::try_from(worker).unwrap() + 1000,
    }
}

fn text(deliver: &Deliver) -> String {
    String::from_utf8(deliver.chunk.to_vec()).unwrap()
}

fn s(text: &str) -> Vec<String> {
    vec![text.to_owned()]
}

fn delivered(receivers: u32) -> Receipt {
    Receipt::Delivered {
        receivers,
        missed: 0,
    }
}

fn w(worker: u64) -> WorkerId {
    WorkerId(worker)
}
