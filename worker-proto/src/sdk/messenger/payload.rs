//! The payload: what a message carries, and how it is to be read.
//!
//! It travels as bytes with a tag. Nobody between the two ends looks inside.

use std::str::Utf8Error;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::{self, DecodeError, EncodeError};
use crate::message::ContentType;

/// What a message carries. Cheap to clone: clones share the bytes.
///
/// ```
/// use worker_proto::Payload;
///
/// assert_eq!(Payload::from("red"), Payload::text("red"));
/// assert_eq!(Payload::from(vec![1, 2, 3]), Payload::bytes(vec![1, 2, 3]));
/// let point = Payload::bincode(&(3, 4))?;
/// # #[cfg(feature = "json")]
/// let list = Payload::json(&["red", "green"])?;
/// # Ok::<(), worker_proto::ContentError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    pub(super) content_type: ContentType,
    pub(super) bytes: Bytes,
}

/// A payload that cannot be made of something, or something that cannot be made of a payload.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContentError {
    /// It is not UTF-8.
    #[error("read a message as text")]
    NotText(#[from] Utf8Error),
    /// It is not JSON, or the JSON of something else; or what is no JSON, such as a map with keys
    /// that are no strings.
    #[cfg(feature = "json")]
    #[error("JSON of a message: {0}")]
    Json(#[from] serde_json::Error),
    /// bincode has no way to write it.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// It is the bincode of something else.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Its sender does not say that it is bincode. Unlike text and JSON, bincode does not show what
    /// it is: anything may look like it.
    #[error("read {found} as bincode")]
    NotBincode {
        /// What it is.
        found: ContentType,
    },
}

impl Payload {
    /// Text.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::new(ContentType::TEXT, text.into().into_bytes())
    }

    /// Whatever sender and receiver have agreed upon.
    #[must_use]
    pub fn bytes(bytes: impl Into<Bytes>) -> Self {
        Self::new(ContentType::BYTES, bytes)
    }

    /// The JSON of `value`.
    ///
    /// # Errors
    /// When `value` has no JSON.
    #[cfg(feature = "json")]
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self, ContentError> {
        Ok(Self::new(ContentType::JSON, serde_json::to_vec(value)?))
    }

    /// The bincode of `value`: smaller and faster than JSON, for those who share the type.
    ///
    /// # Errors
    /// When `value` has no bincode.
    pub fn bincode<T: Serialize + ?Sized>(value: &T) -> Result<Self, ContentError> {
        Ok(Self::new(
            ContentType::BINCODE,
            codec::encode_payload(value)?,
        ))
    }

    /// How many bytes it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it has none. An empty message is a message as any other.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// How it is to be read.
    #[must_use]
    pub fn content_type(&self) -> ContentType {
        self.content_type
    }

    /// The bytes themselves.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// The bytes, not taken out.
    #[must_use]
    pub fn as_bytes(&self) -> &Bytes {
        &self.bytes
    }

    pub(crate) fn new(content_type: ContentType, bytes: impl Into<Bytes>) -> Self {
        Payload {
            content_type,
            bytes: bytes.into(),
        }
    }

    /// The payload as text, whatever its content type.
    ///
    /// # Errors
    /// When it is not UTF-8.
    pub fn read_text(&self) -> Result<&str, ContentError> {
        Ok(std::str::from_utf8(&self.bytes)?)
    }

    /// What the payload is the JSON of, whatever its content type.
    ///
    /// # Errors
    /// When it is no JSON, or that of something else.
    #[cfg(feature = "json")]
    pub fn read_json<T: DeserializeOwned>(&self) -> Result<T, ContentError> {
        Ok(serde_json::from_slice(&self.bytes)?)
    }

    /// What the payload is the bincode of.
    ///
    /// # Errors
    /// When its content type is another, or it is the bincode of something else.
    pub fn read_bincode<T: DeserializeOwned>(&self) -> Result<T, ContentError> {
        match self.content_type {
            ContentType::BINCODE => Ok(codec::decode_payload(&self.bytes)?),
            found => Err(ContentError::NotBincode { found }),
        }
    }
}

impl From<&str> for Payload {
    fn from(text: &str) -> Self {
        Payload::text(text)
    }
}

impl From<String> for Payload {
    fn from(text: String) -> Self {
        Payload::text(text)
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Payload::bytes(bytes)
    }
}

impl From<&[u8]> for Payload {
    fn from(bytes: &[u8]) -> Self {
        Payload::bytes(Bytes::copy_from_slice(bytes))
    }
}

impl<const N: usize> From<&[u8; N]> for Payload {
    fn from(bytes: &[u8; N]) -> Self {
        Payload::from(&bytes[..])
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Payload::bytes(bytes)
    }
}
