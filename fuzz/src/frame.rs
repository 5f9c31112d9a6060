//! Frames: every byte sequence is exactly one frame or none, and reading one costs no more than it
//! may, whatever length it claims.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;
use worker_proto::address::Address;
use worker_proto::codec::{self, DecodeError, MAX_FRAME_BYTES};
use worker_proto::frame::{Connections, FromMaster, MAX_BATCH, ToMaster};

use super::allocation;

/// What a worker or an agent says: the master reads it.
pub fn to_master(data: &[u8]) {
    check::<ToMaster>(data);
}

/// What the master says: the SDK reads it.
pub fn from_master(data: &[u8]) {
    check::<FromMaster>(data);
}

/// A packet of an accept queue: the SDK reads it, and the master what it takes back.
pub fn connections(data: &[u8]) {
    check::<Connections>(data);
    // Whatever was in it before.
    let mut peers = vec![Address::Unnamed; 3];
    let (reused, peak) = allocation::peak_of(|| codec::decode_connections(data, &mut peers));
    let most = UNPROVED_BYTES + EXPANSION * data.len();
    assert!(peak <= most, "{peak} bytes held to read {}", data.len());
    match (reused, codec::decode::<Connections>(data)) {
        (Ok(sequence), Ok(frame)) => assert_eq!((sequence, peers), (frame.sequence, frame.peers)),
        (Err(err), Err(_)) => assert!(!err.to_string().is_empty()),
        // Nobody sends so many: there are no descriptors for them.
        (Err(_), Ok(frame)) => assert!(frame.peers.len() > usize::from(MAX_BATCH), "{frame:?}"),
        (Ok(sequence), Err(err)) => panic!("{sequence} is read from {data:?}: {err}"),
    }
}

fn check<F: Serialize + DeserializeOwned + PartialEq + Debug>(data: &[u8]) {
    let (decoded, peak) = allocation::peak_of(|| codec::decode::<F>(data));
    let most = UNPROVED_BYTES + EXPANSION * data.len();
    assert!(peak <= most, "{peak} bytes held to read {}", data.len());
    match decoded {
        Ok(frame) => is_the_only_reading(data, &frame),
        // It goes to a log.
        Err(err) => assert!(!err.to_string().is_empty()),
    }
}

fn is_the_only_reading<F: Serialize + DeserializeOwned + PartialEq + Debug>(
    data: &[u8],
    frame: &F,
) {
    assert!(data.len() <= MAX_FRAME_BYTES, "an oversized frame is read");
    let mut bytes = Vec::new();
    match codec::encode(frame, &mut bytes) {
        Ok(()) => assert_eq!(&codec::decode::<F>(&bytes).unwrap(), frame),
        // A duration with more than a second of nanoseconds is written with larger seconds.
        Err(err) => assert!(data.len() + 16 > MAX_FRAME_BYTES, "{err}"),
    }
    let (last, shorter) = data.split_last().expect("no frame is empty");
    let short = codec::decode::<F>(shorter);
    assert!(short.is_err(), "also without its last byte: {short:?}");
    let long = codec::decode::<F>(&[data, &[*last]].concat());
    assert!(
        matches!(long, Err(DecodeError::Trailing { excess: 1 }))
            || data.len() == MAX_FRAME_BYTES && long.is_err(),
        "and a byte: {long:?}"
    );
}

/// What claims of length may cost before the bytes prove them false: serde makes room of at most
/// 1 MiB for a sequence, and the bytes of a path are one inside another.
const UNPROVED_BYTES: usize = 2 << 20;

/// An unnamed peer is one byte in a packet and 40 in a `Vec`, and a `Vec` that grows holds its
/// former and its next self, of twice the size, at once.
const EXPANSION: usize = 40 * 3;
