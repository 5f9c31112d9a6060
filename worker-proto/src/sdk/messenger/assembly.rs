//! The assembly: the pieces of a message put together again. Pure.
//!
//! Memory is taken for what a message may have, never for what it claims: a length beyond the
//! limit is refused before anything is kept.

use bytes::{Bytes, BytesMut};
use thiserror::Error;

use super::letter::Letter;
use super::payload::Payload;
use crate::message::{Deliver, More};

/// The message that is arriving on a channel.
#[derive(Debug)]
pub(crate) struct Assembly {
    max_bytes: u64,
    begun: Option<Begun>,
}

#[derive(Debug)]
struct Begun {
    letter: Letter,
    len: usize,
    next: u32,
    bytes: BytesMut,
}

/// Pieces that are not those of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum Nonsense {
    #[error("a message of {len} bytes, at most {max} are allowed")]
    TooLong { len: u64, max: u64 },
    #[error("more bytes than the message has")]
    TooMany,
    #[error("an empty piece of a message")]
    Empty,
    #[error("piece {found} of a message instead of {expected}")]
    OutOfOrder { expected: u32, found: u32 },
    #[error("a message before the last one is complete")]
    Interrupted,
    #[error("a piece of no message")]
    Stray,
}

impl Assembly {
    /// For messages of at most `max_bytes`.
    pub(crate) fn within(max_bytes: u64) -> Self {
        Assembly {
            max_bytes,
            begun: None,
        }
    }

    /// A message, if this is the whole of it.
    pub(crate) fn begin(&mut self, deliver: Deliver) -> Result<Option<Letter>, Nonsense> {
        if self.begun.is_some() {
            return Err(Nonsense::Interrupted);
        }
        let Deliver {
            from,
            message,
            kind,
            action,
            content_type,
            len_bytes,
            chunk,
        } = deliver;
        let too_long = Nonsense::TooLong {
            len: len_bytes,
            max: self.max_bytes,
        };
        if len_bytes > self.max_bytes {
            return Err(too_long);
        }
        let len = usize::try_from(len_bytes).map_err(|_| too_long)?;
        let whole = |bytes| Payload::new(content_type, bytes);
        let mut letter = Letter::new(from, message, kind, action, whole(Bytes::new()));
        if chunk.len() > len {
            return Err(Nonsense::TooMany);
        }
        if chunk.len() == len {
            letter.payload = whole(chunk);
            return Ok(Some(letter));
        }
        let mut bytes = BytesMut::with_capacity(len);
        bytes.extend_from_slice(&chunk);
        self.begun = Some(Begun {
            letter,
            len,
            next: 1,
            bytes,
        });
        Ok(None)
    }

    /// The message, if this was the last piece of it.
    pub(crate) fn add(&mut self, more: &More) -> Result<Option<Letter>, Nonsense> {
        let begun = self.begun.as_mut().ok_or(Nonsense::Stray)?;
        if more.index != begun.next {
            return Err(Nonsense::OutOfOrder {
                expected: begun.next,
                found: more.index,
            });
        }
        if more.chunk.is_empty() {
            return Err(Nonsense::Empty);
        }
        if more.chunk.len() > begun.len - begun.bytes.len() {
            return Err(Nonsense::TooMany);
        }
        begun.next += 1;
        begun.bytes.extend_from_slice(&more.chunk);
        if begun.bytes.len() < begun.len {
            return Ok(None);
        }
        Ok(self.begun.take().map(|begun| {
            let mut letter = begun.letter;
            letter.payload.bytes = begun.bytes.freeze();
            letter
        }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::message::{ContentType, Kind, MessageId, Sender};

    proptest! {
        #[test]
        fn pieces_make_the_message_again(
            payload in prop::collection::vec(any::<u8>(), 0..200),
            sizes in prop::collection::vec(1_usize..40, 200),
        ) {
            let mut assembly = Assembly::within(200);
            for _ in 0..2 {
                let mut rest = Bytes::from(payload.clone());
                let mut sizes = sizes.iter().copied();
                let mut next = || {
                    let size = sizes.next().unwrap();
                    rest.split_to(size.min(rest.len()))
                };
                let mut letter = assembly.begin(deliver(payload.len(), next())).unwrap();
                for index in 1.. {
                    let chunk = next();
                    if chunk.is_empty() {
                        break;
                    }
                    prop_assert!(letter.is_none(), "complete before its end");
                    letter = assembly.add(&More { index, chunk }).unwrap();
                }
                prop_assert_eq!(letter.unwrap().payload.bytes, payload.clone());
            }
        }

        /// Whatever comes, no message is longer than it says, nor than is allowed.
        #[test]
        fn no_pieces_make_more_than_they_may(
            frames in prop::collection::vec((any::<bool>(), 0_usize..40, 0_u32..5, 0_usize..20), 0..30),
        ) {
            let mut assembly = Assembly::within(30);
            for (begins, len, index, size) in frames {
                let chunk = Bytes::from(vec![0; size]);
                let letter = match begins {
                    true => assembly.begin(deliver(len, chunk)),
                    false => assembly.add(&More { index, chunk }),
                };
                if let Ok(Some(letter)) = letter {
                    prop_assert!(letter.payload.len() <= 30);
                }
            }
        }
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let begun = || {
            let mut assembly = Assembly::within(10);
            assert!(assembly.begin(deliver(10, piece(4))).unwrap().is_none());
            assembly
        };
        let more = |index, len| More {
            index,
            chunk: piece(len),
        };
        let mut none = Assembly::within(10);
        for (answer, nonsense) in [
            (
                none.begin(deliver(11, piece(1))),
                Nonsense::TooLong { len: 11, max: 10 },
            ),
            (none.begin(deliver(2, piece(3))), Nonsense::TooMany),
            (none.add(&more(1, 1)), Nonsense::Stray),
            (begun().begin(deliver(1, piece(1))), Nonsense::Interrupted),
            (
                begun().add(&more(2, 1)),
                Nonsense::OutOfOrder {
                    expected: 1,
                    found: 2,
                },
            ),
            (begun().add(&more(1, 0)), Nonsense::Empty),
            (begun().add(&more(1, 7)), Nonsense::TooMany),
        ] {
            assert_eq!(answer.unwrap_err(), nonsense);
        }
    }

    fn deliver(len: usize, chunk: Bytes) -> Deliver {
        Deliver {
            from: Sender::Master,
            message: MessageId(1),
            kind: Kind::Message,
            action: "a".to_owned(),
            content_type: ContentType::BYTES,
            len_bytes: len as u64,
            chunk,
        }
    }

    fn piece(len: usize) -> Bytes {
        vec![0; len].into()
    }
}
