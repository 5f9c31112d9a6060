//! A value's content, and how to read it: told from the name and the beginning of a file.

use std::path::Path;

use bytes::Bytes;
use serde::de::IgnoredAny;
use thiserror::Error;
use worker_proto::message::ContentType;

/// What is held under a key, without its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// How to read it.
    pub content_type: ContentType,
    /// What it says.
    pub bytes: Bytes,
}

/// A content that is not what it is said to be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Misread {
    /// It says that it is JSON.
    #[error("no JSON: {0}")]
    Json(String),
    /// It says that it is text.
    #[error("no UTF-8: the first bad byte is number {0}")]
    Text(usize),
}

impl Content {
    /// How long it is.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Whether it says nothing at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What a file says: JSON if it is called so, otherwise text if it is UTF-8.
    ///
    /// # Errors
    /// When a file is called JSON and is none.
    pub fn of_file(path: &Path, bytes: Bytes) -> Result<Self, Misread> {
        let is_called_json = path.extension().is_some_and(|it| it == "json");
        let content_type = match std::str::from_utf8(&bytes) {
            _ if is_called_json => ContentType::JSON,
            Ok(_) => ContentType::TEXT,
            Err(_) => ContentType::BYTES,
        };
        let content = Content {
            content_type,
            bytes,
        };
        content.check()?;
        Ok(content)
    }

    /// Whether it can be read as it says.
    ///
    /// # Errors
    /// See [`Misread`].
    pub fn check(&self) -> Result<(), Misread> {
        let is_text = [ContentType::JSON, ContentType::TEXT].contains(&self.content_type);
        if is_text && let Err(err) = std::str::from_utf8(&self.bytes) {
            return Err(Misread::Text(err.valid_up_to() + 1));
        }
        if self.content_type == ContentType::JSON
            && let Err(err) = serde_json::from_slice::<IgnoredAny>(&self.bytes)
        {
            return Err(Misread::Json(err.to_string()));
        }
        Ok(())
    }
}

/// The type that goes by this name: `bytes`, `text`, `json` or `bincode`.
///
/// # Errors
/// What to write.
pub fn parse_type(name: &str) -> Result<ContentType, String> {
    match name {
        "bytes" => Ok(ContentType::BYTES),
        "text" => Ok(ContentType::TEXT),
        "json" => Ok(ContentType::JSON),
        "bincode" => Ok(ContentType::BINCODE),
        other => Err(format!(
            "{other:?} is no content type: write bytes, text, json or bincode"
        )),
    }
}

/// The name of a type, as it is parsed.
#[must_use]
pub fn type_name(content_type: ContentType) -> &'static str {
    match content_type {
        ContentType::TEXT => "text",
        ContentType::JSON => "json",
        ContentType::BINCODE => "bincode",
        _ => "bytes",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_what_it_is_called_or_what_it_looks_like() {
        let read = |path: &str, bytes: &'static [u8]| {
            let content = Content::of_file(Path::new(path), Bytes::from_static(bytes));
            content.map(|content| content.content_type)
        };
        assert_eq!(read("flags.json", b"{}"), Ok(ContentType::JSON));
        assert_eq!(read("flags", b"{}"), Ok(ContentType::TEXT));
        assert_eq!(read("flags", b"\xff"), Ok(ContentType::BYTES));
        assert_eq!(read("-", b""), Ok(ContentType::TEXT));
        let half = read("flags.json", b"{\"a\":").unwrap_err().to_string();
        assert!(half.starts_with("no JSON: EOF"), "{half}");
        assert!(read("flags.json", b"").is_err());
        assert!(read("flags.json", b"\"\xff\"").is_err());
    }

    #[test]
    fn a_type_is_written_as_it_is_read() {
        for name in ["bytes", "text", "json", "bincode"] {
            assert_eq!(parse_type(name).map(type_name), Ok(name));
        }
        assert!(parse_type("JSON").unwrap_err().contains("write bytes"));
    }
}
