//! `raw letter-...`: messages below the SDK, most of them such as no SDK sends.

use std::iter::repeat_n;

use bytes::Bytes;
use worker_proto::frame::ToMaster;
use worker_proto::ids::WorkerId;
use worker_proto::message::{ContentType, Kind, MAX_CHUNK_BYTES, MessageId, More, Recipient, Send};
use worker_proto::scm::Wait;
use worker_proto::socket::WorkerChannel;

pub(crate) fn send(rule: &str, channel: &WorkerChannel) {
    match rule {
        "letter-piece" => {
            let begun = Send {
                len_bytes: 10,
                ..letter(1)
            };
            say(channel, &[ToMaster::Send(begun), more(2, 5)]);
        }
        "letter-piece-of-none" => say(channel, &[more(1, 5)]),
        "letter-empty-piece" => {
            let begun = Send {
                len_bytes: 10,
                ..letter(1)
            };
            say(channel, &[ToMaster::Send(begun), more(1, 0)]);
        }
        "letter-excess" => {
            let begun = Send {
                len_bytes: 10,
                ..letter(1)
            };
            say(channel, &[ToMaster::Send(begun), more(1, 6)]);
        }
        "letter-unfinished" => {
            let begun = Send {
                len_bytes: 10,
                ..letter(1)
            };
            say(channel, &[ToMaster::Send(begun), ToMaster::Send(letter(2))]);
        }
        "letter-back" => {
            let letters = [7, 6].map(|number| ToMaster::Send(letter(number)));
            say(channel, &letters);
        }
        "letter-value" => {
            let kind = Kind::Value { version: 1 };
            say(channel, &[ToMaster::Send(Send { kind, ..letter(1) })]);
        }
        "letter-long-action" => {
            let action = "x".repeat(60_000);
            let letter = Send {
                action,
                ..letter(7)
            };
            say(channel, &[ToMaster::Send(letter)]);
        }
        "letter-content-type" => {
            let content_type = ContentType(200);
            let letter = Send {
                content_type,
                ..letter(7)
            };
            say(channel, &[ToMaster::Send(letter)]);
        }
        "letter-too-large" => {
            let len = (1 << 20) + MAX_CHUNK_BYTES;
            let begun = Send {
                len_bytes: len as u64,
                chunk: vec![0; MAX_CHUNK_BYTES].into(),
                ..letter(7)
            };
            say(channel, &[ToMaster::Send(begun)]);
            let rest = repeat_n(MAX_CHUNK_BYTES, len / MAX_CHUNK_BYTES - 1);
            for (index, len) in (1..).zip(rest) {
                say(channel, &[more(index, len)]);
            }
        }
        // Allowed, and every one of them has a receipt.
        "letter-flood" => {
            let mut numbers = 1..;
            let mut next = || ToMaster::Send(letter(numbers.next().expect("endless")));
            while channel.send(&next(), &[], Wait::AsSet).is_ok() {}
        }
        _ => panic!("unknown rule {rule}"),
    }
}

fn say(channel: &WorkerChannel, frames: &[ToMaster]) {
    for frame in frames {
        channel.send(frame, &[], Wait::AsSet).expect("send");
    }
}

/// Five bytes for nobody, with a receipt.
fn letter(number: u64) -> Send {
    Send {
        message: MessageId(number),
        recipient: Recipient::Worker(WorkerId(9999)),
        kind: Kind::Message,
        wants_receipt: true,
        within_ms: None,
        action: "raw".to_owned(),
        content_type: ContentType::BYTES,
        len_bytes: 5,
        chunk: Bytes::from_static(b"bytes"),
    }
}

fn more(index: u32, len: usize) -> ToMaster {
    let chunk = vec![0; len].into();
    ToMaster::SendMore(More { index, chunk })
}
