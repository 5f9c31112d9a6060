//! The codec: frames to bytes and back. The only file that names bincode.
//!
//! What arrives is never trusted: a length that the bytes do not bear out costs 1 MiB at most, and
//! bytes left over after a frame are an error, so that every byte sequence has at most one reading.

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

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
