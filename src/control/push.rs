//! A value on its way in: a piece of it in each request, since a line has an end.
//!
//! `{"id":1,"command":"push","key":"flags","text":"on"}` is a whole value. A longer one comes in pieces,
//! one after the other: `"size"` says how long it is, `"at"` where the piece begins, and `"data"` is the
//! piece in base64. `"type"` says how to read it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use worker_proto::message::ContentType;
use worker_proto::name;

use super::protocol::When;
use crate::values::content::{parse_type, type_name};

/// A piece of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// What it is for.
    pub key: String,
    /// How to read the whole.
    pub content_type: ContentType,
    /// How long the whole is.
    pub size: u64,
    /// How much of it came before.
    pub at: u64,
    /// At most [`LONGEST_PIECE`], if it is base64.
    pub bytes: Bytes,
    /// When the last piece is answered.
    pub answer: When,
}

/// A piece as it is written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wire {
    key: String,
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data: Option<String>,
    #[serde(default)]
    at: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(default)]
    wait: bool,
}

impl TryFrom<Wire> for Piece {
    type Error = String;

    fn try_from(wire: Wire) -> Result<Piece, String> {
        name::check(&wire.key).map_err(|problem| format!("key: {problem}"))?;
        let (bytes, usual) = match (wire.text, wire.data) {
            (Some(text), None) => (Bytes::from(text), ContentType::TEXT),
            (None, Some(data)) => match BASE64.decode(data) {
                Ok(bytes) => (Bytes::from(bytes), ContentType::BYTES),
                Err(err) => return Err(format!("data: no base64: {err}")),
            },
            (None, None) | (Some(_), Some(_)) => {
                return Err("push: write either \"text\" or \"data\"".to_owned());
            }
        };
        let content_type = match wire.content_type {
            Some(name) => parse_type(&name).map_err(|wrong| format!("type: {wrong}"))?,
            None => usual,
        };
        let len = bytes.len() as u64;
        let end = wire.at.checked_add(len).ok_or("at: out of all bounds")?;
        let size = wire.size.unwrap_or(end);
        if end > size {
            return Err(format!(
                "at: the piece ends at {end}, and the whole has {size} bytes"
            ));
        }
        if len == 0 && size > 0 {
            return Err("data: a piece of nothing leads nowhere".to_owned());
        }
        Ok(Piece {
            key: wire.key,
            content_type,
            size,
            at: wire.at,
            bytes,
            answer: if wire.wait { When::Done } else { When::Begun },
        })
    }
}

impl From<&Piece> for Wire {
    fn from(piece: &Piece) -> Wire {
        Wire {
            key: piece.key.clone(),
            content_type: Some(type_name(piece.content_type).to_owned()),
            text: None,
            data: Some(BASE64.encode(&piece.bytes)),
            at: piece.at,
            size: Some(piece.size),
            wait: matches!(piece.answer, When::Done),
        }
    }
}

/// What fits into a line in base64, with everything else that is in it.
pub const LONGEST_PIECE: usize = 45 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::protocol::{self, Command, LONGEST_LINE, Request};

    fn piece(line: &str) -> Result<Piece, String> {
        match protocol::decode(line.as_bytes()) {
            Ok(Request {
                command: Command::Push(piece),
                ..
            }) => Ok(piece),
            Ok(other) => panic!("{other:?}"),
            Err(bad) => Err(bad.message),
        }
    }

    #[test]
    fn the_longest_piece_fits_into_a_line() {
        let longest = Piece {
            key: "\"".repeat(128),
            content_type: ContentType::BINCODE,
            size: u64::MAX,
            at: u64::MAX - LONGEST_PIECE as u64,
            bytes: Bytes::from(vec![0xff; LONGEST_PIECE]),
            answer: When::Done,
        };
        let request = Request {
            id: u64::MAX,
            command: Command::Push(longest),
        };
        let line = protocol::encode(&request);
        assert!(line.len() <= LONGEST_LINE, "{}", line.len());
        assert_eq!(protocol::decode(line.trim_ascii_end()), Ok(request));
    }

    #[test]
    fn a_short_value_can_be_written_by_hand() {
        let whole = piece(r#"{"id":1,"command":"push","key":"k","text":"on"}"#).unwrap();
        assert_eq!((whole.size, whole.at), (2, 0));
        assert_eq!(whole.content_type, ContentType::TEXT);
        assert_eq!(whole.answer, When::Begun);
        let empty =
            piece(r#"{"id":1,"command":"push","key":"k","data":"","type":"json"}"#).unwrap();
        assert_eq!(empty.size, 0);
        assert_eq!(empty.content_type, ContentType::JSON);
    }

    #[test]
    fn what_is_no_piece_is_refused() {
        for (fields, says) in [
            (r#""key":"","text":"x""#, "key: it is empty"),
            (
                r#""key":"a\nb","text":"x""#,
                "key: it has control characters",
            ),
            (r#""key":"k""#, "either \"text\" or \"data\""),
            (r#""key":"k","text":"x","data":"""#, "either"),
            (r#""key":"k","data":"§""#, "data: no base64"),
            (
                r#""key":"k","text":"x","type":"xml""#,
                "\"xml\" is no content type",
            ),
            (
                r#""key":"k","text":"x","at":18446744073709551615"#,
                "at: out of",
            ),
            (
                r#""key":"k","text":"xyz","at":1,"size":3"#,
                "the piece ends at 4",
            ),
            (r#""key":"k","text":"","size":3"#, "leads nowhere"),
            (r#""key":"k","file":"/etc/passwd""#, "unknown field `file`"),
            (r#""text":"x""#, "missing field `key`"),
        ] {
            let line = format!(r#"{{"id":1,"command":"push",{fields}}}"#);
            let message = piece(&line).unwrap_err();
            assert!(message.contains(says), "{fields}: {message}");
        }
        let long = format!(
            r#"{{"id":1,"command":"push","key":"{}","text":"x"}}"#,
            "x".repeat(129)
        );
        assert!(piece(&long).unwrap_err().contains("128 are the most"));
    }
}
