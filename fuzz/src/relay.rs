//! What processes say to each other: whatever frames they send, honest or not, the relay neither falls
//! over them nor keeps more than it may, and nothing is left of those who are gone.

use std::time::{Duration, Instant};

use bytes::Bytes;
use rr_master::relay::{Identity, Limits, Relay};
use rr_master::supervisor::WorkerState;
use worker_proto::ids::{Generation, Role, Slot, WorkerId};
use worker_proto::message::{
    ContentType, Kind, MESSAGE_OVERHEAD_BYTES, MessageId, More, Recipient, Send,
};

use super::input::Input;

/// A play of at most [`MOST_STEPS`] steps by four processes.
#[allow(clippy::disallowed_methods, reason = "any moment will do")]
pub fn relay(data: &[u8]) {
    let mut input = Input::new(data);
    let limits = Limits {
        max_message: 100_000,
        memory: 200_000,
        hold: Duration::from_secs(10),
    };
    let mut now = Instant::now();
    let mut relay = Relay::new(limits, vec!["a".to_owned()], 3, 7);
    for step in 0..MOST_STEPS {
        if input.is_empty() {
            break;
        }
        let worker = WorkerId(u64::from(input.byte() % 5));
        match input.byte() % 12 {
            0 => {
                // An id has one channel, and says Hello once.
                relay.part(worker);
                relay.join(now, identity(worker, &mut input));
            }
            1 => relay.part(worker),
            2 => relay.note_cluster_ready(now),
            3 => relay.note_state(
                worker,
                input.choice(&[
                    WorkerState::Serving,
                    WorkerState::Standby,
                    WorkerState::Leaving,
                ]),
            ),
            4 => relay.note_taken(worker, input.wide()),
            5 => relay.watch_peers(worker),
            6 => {
                now += Duration::from_millis(u64::from(input.byte()) * 100);
                relay.tick(now);
            }
            7 => {
                for _ in 0..input.byte() {
                    if relay.frame(worker).is_none() {
                        break;
                    }
                    relay.note_sent(worker);
                }
            }
            8 => {
                let more = More {
                    index: u32::from(input.byte()),
                    chunk: chunk(&mut input),
                };
                // Nonsense costs its sender the channel.
                if relay.send_more(now, worker, more).is_err() {
                    relay.part(worker);
                }
            }
            _ => {
                let send = send(&mut input, step);
                if relay.send(now, worker, send).is_err() {
                    relay.part(worker);
                }
            }
        }
        while relay.poll_own().is_some() || relay.poll_own_receipt().is_some() {}
        let memory = relay.memory();
        assert!(
            memory <= limits.memory + MESSAGE_OVERHEAD_BYTES * 5,
            "{memory} bytes held"
        );
    }
    for worker in 0..5 {
        relay.part(WorkerId(worker));
    }
    relay.note_cluster_ready(now);
    relay.tick(now + Duration::from_secs(1 << 23));
    assert_eq!(relay.memory(), 0, "held for nobody");
    assert!(relay.active().is_empty() && relay.next_deadline().is_none());
}

fn identity(worker: WorkerId, input: &mut Input<'_>) -> Identity {
    let is_agent = input.byte().is_multiple_of(4);
    Identity {
        worker,
        slot: Slot(u32::from(input.byte() % 3)),
        generation: Generation(1),
        role: if is_agent { Role::Agent } else { Role::Worker },
        pid: u32::from(input.byte()),
        name: is_agent.then(|| "a".to_owned()),
    }
}

fn send(input: &mut Input<'_>, step: u64) -> Send {
    let slot = Slot(u32::from(input.byte() % 4));
    let recipient = match input.byte() % 10 {
        0 => Recipient::Slot {
            role: Role::Worker,
            slot,
        },
        1 => Recipient::Slot {
            role: Role::Agent,
            slot,
        },
        2 => Recipient::Pid(u32::from(input.byte())),
        3 => Recipient::Agent(input.yes().then(|| "a".to_owned())),
        4 => Recipient::Workers,
        5 => Recipient::AnyWorker,
        6 => Recipient::Everyone,
        7 => Recipient::Others,
        8 => Recipient::Master,
        _ => Recipient::Worker(WorkerId(u64::from(input.byte() % 6))),
    };
    let kind = match input.byte() % 6 {
        0 => Kind::Request,
        1 => Kind::Reply {
            to: MessageId(u64::from(input.byte())),
        },
        2 => Kind::Value { version: 1 },
        _ => Kind::Message,
    };
    let chunk = chunk(input);
    let len_bytes = match input.byte() % 4 {
        0 => input.wide(),
        1 => input.number() as u64 * 2,
        _ => chunk.len() as u64,
    };
    let action = match input.byte() {
        255 => "x".repeat(1 << 10),
        254 => "rr.".to_owned(),
        253 => String::new(),
        _ => "a".to_owned(),
    };
    Send {
        message: MessageId(if input.byte() == 255 { 0 } else { step + 1 }),
        recipient,
        kind,
        wants_receipt: input.yes(),
        within_ms: input.yes().then(|| u32::from(input.byte()) * 1000),
        action,
        content_type: ContentType(input.byte() % 5),
        len_bytes,
        chunk,
    }
}

fn chunk(input: &mut Input<'_>) -> Bytes {
    let len = match input.byte() % 4 {
        0 => 0,
        1 => input.number(),
        2 => 32 * 1024,
        _ => usize::from(input.byte()),
    };
    Bytes::from(vec![7; len])
}

/// More of them find nothing that fewer do not.
const MOST_STEPS: u64 = 64;
