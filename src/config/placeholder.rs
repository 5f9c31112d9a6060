//! Placeholders: what differs between the processes of one program. Pure.
//!
//! Only the exact patterns are placeholders. Every other brace is text and stays as it is, so that
//! JSON in an argument needs no escaping: `{slot}`, `{id}`, `{generation}`, `{role}`, and for a
//! number that goes up with the slot `{9230+slot}` or `{slot+9230}`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use thiserror::Error;
use worker_proto::ids::{Generation, Role, Slot, WorkerId};

use super::surroundings::{Stream, Surroundings};

/// Whom a text with placeholders is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Incumbent {
    pub(crate) worker: WorkerId,
    pub(crate) slot: Slot,
    pub(crate) generation: Generation,
    pub(crate) role: Role,
}

/// A number that cannot be added to every slot.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{{{pattern}}}: the number is too large, write one below 2^63")]
pub(crate) struct Overflow {
    pattern: String,
}

impl Incumbent {
    /// The text with every placeholder replaced. One that [`check`] refuses stays as it is.
    pub(crate) fn expand(&self, text: &OsStr) -> OsString {
        let mut rest = text.as_bytes();
        let mut expanded = Vec::with_capacity(rest.len());
        while let Some((before, inside)) = split_at_brace(rest) {
            expanded.extend_from_slice(before);
            rest = match parse(inside) {
                Some((Ok(placeholder), after)) => {
                    expanded.extend_from_slice(self.value(placeholder).as_bytes());
                    after
                }
                Some((Err(Overflow { .. }), _)) | None => {
                    expanded.push(b'{');
                    inside
                }
            };
        }
        expanded.extend_from_slice(rest);
        OsString::from_vec(expanded)
    }

    /// The surroundings with every placeholder replaced.
    pub(crate) fn surroundings(&self, surroundings: &Surroundings) -> Surroundings {
        let stream = |stream: &Stream| match stream {
            Stream::File(path) => Stream::File(self.expand(path.as_os_str()).into()),
            Stream::Inherit | Stream::Null | Stream::Lines => stream.clone(),
        };
        Surroundings {
            title: surroundings.title.as_ref().map(|title| self.expand(title)),
            stdout: stream(&surroundings.stdout),
            stderr: stream(&surroundings.stderr),
            ..surroundings.clone()
        }
    }

    fn value(&self, placeholder: Placeholder) -> String {
        match placeholder {
            Placeholder::Slot => self.slot.to_string(),
            Placeholder::Id => self.worker.0.to_string(),
            Placeholder::Generation => self.generation.to_string(),
            Placeholder::Role => self.role.to_string(),
            Placeholder::Sum(number) => (number + u64::from(self.slot.0)).to_string(),
        }
    }
}

/// Whether every sum in the text can be formed, whatever the slot.
pub(crate) fn check(text: &OsStr) -> Result<(), Overflow> {
    let mut rest = text.as_bytes();
    while let Some((_, inside)) = split_at_brace(rest) {
        if let Some((Err(overflow), _)) = parse(inside) {
            return Err(overflow);
        }
        rest = inside;
    }
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Placeholder {
    Slot,
    Id,
    Generation,
    Role,
    /// At most [`LARGEST`].
    Sum(u64),
}

/// What is before the first opening brace, and what is after it.
fn split_at_brace(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let open = text.iter().position(|byte| *byte == b'{')?;
    Some((&text[..open], &text[open + 1..]))
}

/// The placeholder whose opening brace was before this text, and what is after its closing one.
fn parse(inside: &[u8]) -> Option<(Result<Placeholder, Overflow>, &[u8])> {
    let end = inside.iter().position(|byte| matches!(byte, b'{' | b'}'))?;
    let after = inside[end..].strip_prefix(b"}")?;
    let placeholder = match std::str::from_utf8(&inside[..end]).ok()? {
        "slot" => Ok(Placeholder::Slot),
        "id" => Ok(Placeholder::Id),
        "generation" => Ok(Placeholder::Generation),
        "role" => Ok(Placeholder::Role),
        pattern => parse_sum(pattern)?,
    };
    Some((placeholder, after))
}

fn parse_sum(pattern: &str) -> Option<Result<Placeholder, Overflow>> {
    let number = pattern
        .strip_suffix("+slot")
        .or_else(|| pattern.strip_prefix("slot+"))?;
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let overflow = || Overflow {
        pattern: pattern.to_owned(),
    };
    let number = number.parse().ok().filter(|number| *number <= LARGEST);
    Some(number.map(Placeholder::Sum).ok_or_else(overflow))
}

/// The largest number in a sum: any slot can be added to it.
const LARGEST: u64 = (1 << 63) - 1;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn incumbent(slot: u32) -> Incumbent {
        Incumbent {
            worker: WorkerId(12),
            slot: Slot(slot),
            generation: Generation(7),
            role: Role::Worker,
        }
    }

    fn expanded(text: &str) -> String {
        let expanded = incumbent(3).expand(OsStr::new(text));
        expanded.into_string().unwrap()
    }

    #[test]
    fn exact_patterns_are_replaced() {
        for (text, expected) in [
            ("{slot}", "3"),
            ("{id}", "12"),
            ("{generation}", "7"),
            ("{role}", "worker"),
            ("--inspect={9230+slot}", "--inspect=9233"),
            ("{slot+9230}:{slot}", "9233:3"),
            ("{65535+slot}", "65538"),
            ("{007+slot}", "10"),
            ("a{slot}b{id}c", "a3b12c"),
            ("{{slot}}", "{3}"),
            ("{\"a\":{slot}}", "{\"a\":3}"),
        ] {
            assert_eq!(expanded(text), expected, "{text}");
        }
    }

    #[test]
    fn every_other_brace_is_text() {
        for text in [
            "",
            "{",
            "}",
            "{}",
            "{ slot }",
            "{Slot}",
            "{slot",
            "{slot+}",
            "{+slot}",
            "{1+id}",
            "{-1+slot}",
            "{1.5+slot}",
            "{slot-1}",
            "{1+slot+1}",
            "{\"a\": {\"b\": [1, 2]}}",
            "${HOME}",
        ] {
            assert_eq!(expanded(text), text);
            assert_eq!(check(OsStr::new(text)), Ok(()));
        }
    }

    #[test]
    fn a_sum_that_could_overflow_is_refused_and_stays_as_it_is() {
        for text in [
            "{9223372036854775808+slot}",
            "{99999999999999999999999+slot}",
            "{{18446744073709551615+slot}",
        ] {
            let refused = check(OsStr::new(text)).unwrap_err().to_string();
            assert!(refused.contains("below 2^63"), "{refused}");
            assert_eq!(expanded(text), text);
        }
        let largest = format!("{{{LARGEST}+slot}}");
        assert_eq!(check(OsStr::new(&largest)), Ok(()));
        incumbent(u32::MAX).expand(OsStr::new(&largest));
    }

    /// A piece of a text, and what it is for slot 3.
    fn piece() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
        let same = |bytes: Vec<u8>| (bytes.clone(), bytes);
        prop_oneof![
            // Without a closing brace nothing that is before it can become a placeholder.
            prop::collection::vec(any::<u8>().prop_filter("a brace", |it| *it != b'}'), 0..8)
                .prop_map(move |mut bytes| {
                    bytes.push(b' ');
                    same(bytes)
                }),
            Just((b"{slot}".to_vec(), b"3".to_vec())),
            Just((b"{id}".to_vec(), b"12".to_vec())),
            (0..=LARGEST).prop_map(|number| {
                let sum = (number + 3).to_string().into_bytes();
                (format!("{{{number}+slot}}").into_bytes(), sum)
            }),
        ]
    }

    proptest! {
        /// Whatever is around them, placeholders are replaced and nothing else is touched.
        #[test]
        fn what_is_no_placeholder_stays(pieces in prop::collection::vec(piece(), 0..8)) {
            let text: Vec<u8> = pieces.iter().flat_map(|(text, _)| text.clone()).collect();
            let expected: Vec<u8> = pieces.iter().flat_map(|(_, value)| value.clone()).collect();
            let text = OsStr::from_bytes(&text);
            prop_assert_eq!(check(text), Ok(()));
            let expanded = incumbent(3).expand(text);
            prop_assert_eq!(expanded.as_bytes(), &expected[..]);
        }

        /// No text at all is too odd for it.
        #[test]
        fn any_bytes_are_a_text(bytes: Vec<u8>, slot: u32) {
            let text = OsStr::from_bytes(&bytes);
            let expanded = incumbent(slot).expand(text);
            if !bytes.contains(&b'{') {
                prop_assert_eq!(expanded, text);
            }
            let _ = check(text);
        }
    }
}
