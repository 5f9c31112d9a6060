//! The codec: frames to bytes and back. The only file that names bincode.
//!
//! What arrives is never trusted: a length that the bytes do not bear out costs 1 MiB at most, and
//! bytes left over after a frame are an error, so that every byte sequence has at most one reading.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::address::Address;
use crate::frame::{MAX_BATCH, OneConnection};

/// The largest frame in bytes. A larger one is refused by both sides.
pub const MAX_FRAME_BYTES: usize = 64 * 1024;

/// A frame that cannot be written.
#[derive(Debug, Error)]
#[error("encode a frame: {0}")]
pub struct EncodeError(#[from] bincode::error::EncodeError);

/// Bytes that are not a frame.
#[derive(Debug, Error)]
pub enum DecodeError {
    /// Not the encoding of any frame that this version knows.
    #[error("decode a frame of {len} bytes: {source}")]
    Malformed {
        /// How many bytes there were.
        len: usize,
        /// What the decoder said.
        source: bincode::error::DecodeError,
    },
    /// More than [`MAX_FRAME_BYTES`].
    #[error("decode a frame of {len} bytes: at most {MAX_FRAME_BYTES} are read")]
    Oversized {
        /// How many bytes there were.
        len: usize,
    },
    /// A frame, and then more.
    #[error("decode a frame: {excess} bytes left over")]
    Trailing {
        /// How many bytes followed the frame.
        excess: usize,
    },
}

/// Appends the frame's bytes to `buffer`, which is cleared first.
///
/// # Errors
/// When the frame is larger than [`MAX_FRAME_BYTES`].
pub fn encode<F: Serialize>(frame: &F, buffer: &mut Vec<u8>) -> Result<(), EncodeError> {
    buffer.clear();
    bincode::serde::encode_into_std_write(frame, buffer, CONFIG)?;
    if buffer.len() > MAX_FRAME_BYTES {
        return Err(EncodeError(bincode::error::EncodeError::Other(
            "frame exceeds 64 KiB",
        )));
    }
    Ok(())
}

/// Writes the frame's bytes to the beginning of `buffer` and answers how many they are. Allocates
/// nothing, so that a signal handler may call it.
///
/// # Errors
/// When the frame is larger than the buffer.
pub fn encode_into_slice<F: Serialize>(frame: &F, buffer: &mut [u8]) -> Result<usize, EncodeError> {
    Ok(bincode::serde::encode_into_slice(frame, buffer, CONFIG)?)
}

/// Reads a [`Connections`](crate::frame::Connections) frame that carries one connection, from its
/// beginning: what follows the address of the peer may be cut off. Allocates nothing, so that a
/// signal handler may call it. `None`: the bytes are no such frame.
#[must_use]
pub fn decode_one_connection(bytes: &[u8]) -> Option<OneConnection<'_>> {
    // A list is its length, then its elements.
    let ((sequence, peers, peer), _) =
        bincode::serde::borrow_decode_from_slice::<(u64, u64, _), _>(bytes, CONFIG).ok()?;
    (peers == 1).then_some(OneConnection { sequence, peer })
}

/// Reads exactly one [`Connections`](crate::frame::Connections) frame, its peers into `peers`, which is
/// cleared first; answers with its number. Allocates nothing for Internet addresses that `peers` has
/// room for.
///
/// # Errors
/// When the bytes are not exactly one such frame.
pub fn decode_connections(bytes: &[u8], peers: &mut Vec<Address>) -> Result<u64, DecodeError> {
    peers.clear();
    let len = bytes.len();
    if len > MAX_FRAME_BYTES {
        return Err(DecodeError::Oversized { len });
    }
    let mut rest = bytes;
    let sequence: u64 = decode_next(&mut rest)?;
    // A list is its length, then its elements.
    let count: u64 = decode_next(&mut rest)?;
    if count > u64::from(MAX_BATCH) {
        return Err(DecodeError::Malformed {
            len,
            source: bincode::error::DecodeError::LimitExceeded,
        });
    }
    for _ in 0..count {
        peers.push(decode_next(&mut rest)?);
    }
    let _padding: &[u8] = decode_next(&mut rest)?;
    match rest.len() {
        0 => Ok(sequence),
        excess => Err(DecodeError::Trailing { excess }),
    }
}

/// Reads one value, and goes on behind it.
fn decode_next<'a, T: Deserialize<'a>>(bytes: &mut &'a [u8]) -> Result<T, DecodeError> {
    let (value, used) =
        bincode::serde::borrow_decode_from_slice(bytes, CONFIG).map_err(|source| {
            DecodeError::Malformed {
                len: bytes.len(),
                source,
            }
        })?;
    *bytes = &bytes[used..];
    Ok(value)
}

/// Reads exactly one frame.
///
/// # Errors
/// When the bytes are not exactly one frame.
pub fn decode<F: DeserializeOwned>(bytes: &[u8]) -> Result<F, DecodeError> {
    let len = bytes.len();
    if len > MAX_FRAME_BYTES {
        return Err(DecodeError::Oversized { len });
    }
    decode_within(bytes, CONFIG)
}

fn decode_within<F: DeserializeOwned>(
    bytes: &[u8],
    config: impl bincode::config::Config,
) -> Result<F, DecodeError> {
    let len = bytes.len();
    let (frame, used) = bincode::serde::decode_from_slice(bytes, config)
        .map_err(|source| DecodeError::Malformed { len, source })?;
    match len - used {
        0 => Ok(frame),
        excess => Err(DecodeError::Trailing { excess }),
    }
}

/// The bytes of a message's payload; see [`ContentType::BINCODE`](crate::message::ContentType).
///
/// # Errors
/// When `value` is of a type that bincode cannot write.
pub(crate) fn encode_payload<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, EncodeError> {
    Ok(bincode::serde::encode_to_vec(
        value,
        bincode::config::standard(),
    )?)
}

/// Reads exactly one value.
///
/// # Errors
/// When the bytes are not exactly one `T`.
pub(crate) fn decode_payload<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    use bincode::config::standard;
    // The limit is a type: what a payload may claim to be grows with its length in three steps.
    let len = bytes.len();
    if len <= SMALL_PAYLOAD_BYTES {
        decode_within(
            bytes,
            standard().with_limit::<{ 16 * SMALL_PAYLOAD_BYTES }>(),
        )
    } else if len <= MEDIUM_PAYLOAD_BYTES {
        decode_within(
            bytes,
            standard().with_limit::<{ 16 * MEDIUM_PAYLOAD_BYTES }>(),
        )
    } else {
        decode_within(
            bytes,
            standard().with_limit::<{ 16 * LARGE_PAYLOAD_BYTES }>(),
        )
    }
}

const CONFIG: bincode::config::Configuration<
    bincode::config::LittleEndian,
    bincode::config::Varint,
    bincode::config::Limit<MAX_DECODED_BYTES>,
> = bincode::config::standard().with_limit::<MAX_DECODED_BYTES>();

/// The decoder's own limit counts a number with its size in memory, which is up to eight times
/// what it takes in a frame: no frame within [`MAX_FRAME_BYTES`] exceeds this. It bounds what a
/// text may claim.
const MAX_DECODED_BYTES: usize = 8 * MAX_FRAME_BYTES;

/// A number may take sixteen times in memory, which is what the decoder counts, of what it takes in
/// a payload.
const SMALL_PAYLOAD_BYTES: usize = 64 << 10;
const MEDIUM_PAYLOAD_BYTES: usize = 4 << 20;
const LARGE_PAYLOAD_BYTES: usize = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::{Address, AddressRef};
    use crate::frame::Connections;

    #[test]
    fn one_connection_is_read_without_its_padding() {
        let peers = [
            Address::V4 {
                ip: [127, 0, 0, 1],
                port: 54321,
            },
            Address::V6 {
                ip: [7; 16],
                port: 1,
                flowinfo: 1 << 19,
                scope_id: 3,
            },
            Address::Path(b"/run/client.sock".to_vec()),
            Address::Abstract(vec![0; 107]),
            Address::Unnamed,
        ];
        for (sequence, peer) in [0, 250, 251, 1 << 20, u64::MAX].into_iter().zip(peers) {
            let frame = Connections {
                sequence,
                peers: vec![peer.clone()],
                padding: vec![0; 1000],
            };
            let mut bytes = Vec::new();
            encode(&frame, &mut bytes).unwrap();
            let one = decode_one_connection(&bytes[..256]).unwrap();
            assert_eq!(one.sequence, sequence);
            assert_eq!(one.peer, AddressRef::from(&peer));
        }
    }

    #[test]
    fn what_is_not_one_connection_is_refused() {
        let two = Connections {
            sequence: 0,
            peers: vec![Address::Unnamed; 2],
            padding: Vec::new(),
        };
        let mut bytes = Vec::new();
        encode(&two, &mut bytes).unwrap();
        assert_eq!(decode_one_connection(&bytes), None);
        assert_eq!(decode_one_connection(&[0, 1]), None, "no peer");
        assert_eq!(
            decode_one_connection(&[0, 1, 2, 9, 1]),
            None,
            "a short path"
        );
        assert_eq!(decode_one_connection(&[0, 1, 9]), None, "no such address");
    }

    #[test]
    fn a_frame_larger_than_the_buffer_is_refused() {
        let mut buffer = [0; 2];
        assert_eq!(encode_into_slice(&(1u8, 2u8), &mut buffer).unwrap(), 2);
        assert!(encode_into_slice(&[0u8; 3], &mut buffer).is_err());
    }
}
