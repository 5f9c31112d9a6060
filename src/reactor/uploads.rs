//! Uploads: values that come from operators in pieces, and are not whole yet.
//!
//! One of each operator at most, and all of them together are not more than all values may be. Those that
//! do not go on make room for others.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use worker_proto::message::ContentType;

use crate::control::denied::Denied;
use crate::control::push::Piece;
use crate::control::server::ClientId;
use crate::values::Content;

/// All of them.
#[derive(Debug)]
pub(super) struct Uploads {
    under_way: BTreeMap<ClientId, Upload>,
    /// How many bytes all of them may have when they are whole.
    together: u64,
}

#[derive(Debug)]
struct Upload {
    key: String,
    content_type: ContentType,
    size: u64,
    received: BytesMut,
    /// When its last piece came.
    heard_at: Instant,
}

/// What became of a piece.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// More is to come.
    Part { received: u64 },
    /// It was the last one.
    Whole(Content),
}

impl Uploads {
    pub(super) fn new(together: u64) -> Self {
        let under_way = BTreeMap::new();
        Uploads {
            under_way,
            together,
        }
    }

    /// Takes the next piece. One that does not follow the one before ends the upload; one from the
    /// beginning begins anew.
    pub(super) fn take(
        &mut self,
        client: ClientId,
        piece: &Piece,
        now: Instant,
    ) -> Result<Taken, Denied> {
        let before = self.under_way.remove(&client);
        let mut upload = match before {
            _ if piece.at == 0 => Upload::beginning(piece, now),
            Some(before) if before.goes_on_with(piece) => before,
            Some(before) => {
                let (key, at) = (&before.key, before.received.len());
                return Err(Denied::OutOfOrder(format!(
                    "not the piece of {key:?} that begins at {at}: begin again"
                )));
            }
            None => {
                return Err(Denied::OutOfOrder(
                    "the piece before this one is not there: begin with \"at\" 0".to_owned(),
                ));
            }
        };
        if self.others().saturating_add(piece.size) > self.together {
            self.under_way.retain(|_, upload| !upload.is_silent(now));
        }
        let others = self.others();
        if others.saturating_add(piece.size) > self.together {
            let (key, together) = (&piece.key, self.together);
            return Err(Denied::TooMany(format!(
                "value {key:?}: {others} bytes of others are on their way, {together} are the most: try again later"
            )));
        }
        upload.received.extend_from_slice(&piece.bytes);
        upload.heard_at = now;
        let received = upload.received.len() as u64;
        if received < upload.size {
            self.under_way.insert(client, upload);
            return Ok(Taken::Part { received });
        }
        Ok(Taken::Whole(Content {
            content_type: upload.content_type,
            bytes: whole(upload.received),
        }))
    }

    fn others(&self) -> u64 {
        self.under_way.values().map(|upload| upload.size).sum()
    }

    /// Keeps those of operators that are still there.
    pub(super) fn retain(&mut self, is_there: impl Fn(ClientId) -> bool) {
        self.under_way.retain(|client, _| is_there(*client));
    }
}

impl Upload {
    fn beginning(piece: &Piece, now: Instant) -> Self {
        Upload {
            key: piece.key.clone(),
            content_type: piece.content_type,
            size: piece.size,
            received: BytesMut::new(),
            heard_at: now,
        }
    }

    fn is_silent(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.heard_at) >= SILENT_AFTER
    }

    fn goes_on_with(&self, piece: &Piece) -> bool {
        self.key == piece.key
            && self.content_type == piece.content_type
            && self.size == piece.size
            && self.received.len() as u64 == piece.at
    }
}

/// Without the room that was left for more.
fn whole(received: BytesMut) -> Bytes {
    match received.capacity() > received.len() + received.len() / 4 {
        true => Bytes::copy_from_slice(&received),
        false => received.freeze(),
    }
}

/// How long an operator that is about to push may say nothing before others go first.
const SILENT_AFTER: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::protocol::When;
    use crate::reactor::clock;

    const A: ClientId = ClientId(0);
    const B: ClientId = ClientId(1);

    fn piece(at: u64, text: &'static str, size: u64) -> Piece {
        Piece {
            key: "k".to_owned(),
            content_type: ContentType::TEXT,
            size,
            at,
            bytes: Bytes::from_static(text.as_bytes()),
            answer: When::Begun,
        }
    }

    fn whole(text: &'static str) -> Taken {
        Taken::Whole(Content {
            content_type: ContentType::TEXT,
            bytes: Bytes::from_static(text.as_bytes()),
        })
    }

    #[test]
    fn pieces_are_put_together_in_their_order() {
        let now = clock::now();
        let mut uploads = Uploads::new(100);
        let part = |received| Ok(Taken::Part { received });
        assert_eq!(uploads.take(A, &piece(0, "ab", 5), now), part(2));
        assert_eq!(uploads.take(B, &piece(0, "xy", 3), now), part(2));
        assert_eq!(uploads.take(A, &piece(2, "cd", 5), now), part(4));
        assert_eq!(uploads.take(A, &piece(4, "e", 5), now), Ok(whole("abcde")));
        assert_eq!(uploads.take(B, &piece(2, "z", 3), now), Ok(whole("xyz")));
        assert_eq!(uploads.take(A, &piece(0, "all", 3), now), Ok(whole("all")));
        assert_eq!(uploads.take(A, &piece(0, "", 0), now), Ok(whole("")));
        assert!(uploads.under_way.is_empty());
    }

    #[test]
    fn a_piece_that_does_not_follow_ends_the_upload() {
        let other_key = Piece {
            key: "other".to_owned(),
            ..piece(2, "cd", 5)
        };
        for wrong in [
            piece(1, "cd", 5),
            piece(3, "cd", 5),
            piece(2, "cd", 6),
            other_key,
        ] {
            let now = clock::now();
            let mut uploads = Uploads::new(100);
            uploads.take(A, &piece(0, "ab", 5), now).unwrap();
            assert!(uploads.take(A, &wrong, now).is_err(), "{wrong:?}");
            let err = uploads.take(A, &piece(2, "cd", 5), now).unwrap_err();
            assert!(err.to_string().contains("begin with \"at\" 0"), "{err}");
            assert!(uploads.take(A, &piece(0, "ab", 5), now).is_ok());
        }
    }

    #[test]
    fn all_of_them_together_have_an_end() {
        let now = clock::now();
        let mut uploads = Uploads::new(10);
        uploads.take(A, &piece(0, "ab", 6), now).unwrap();
        let err = uploads.take(B, &piece(0, "ab", 5), now).unwrap_err();
        assert!(err.to_string().contains("try again later"), "{err}");
        uploads.retain(|client| client == B);
        assert!(uploads.take(B, &piece(0, "ab", 5), now).is_ok());
    }

    #[test]
    fn one_that_does_not_go_on_makes_room() {
        let (mut uploads, now) = (Uploads::new(10), clock::now());
        uploads.take(A, &piece(0, "ab", 6), now).unwrap();
        let later = now + SILENT_AFTER;
        uploads.take(A, &piece(2, "cd", 6), later).unwrap();
        assert!(uploads.take(B, &piece(0, "ab", 5), later).is_err());
        let at_last = later + SILENT_AFTER;
        assert!(uploads.take(B, &piece(0, "ab", 5), at_last).is_ok());
        let err = uploads.take(A, &piece(4, "ef", 6), at_last).unwrap_err();
        assert!(err.to_string().contains("begin with \"at\" 0"), "{err}");
    }
}
