//! The last of what a process said, for the log at its end. Pure.

use std::collections::VecDeque;

use super::escape::escaped;

/// The last [`MOST_BYTES`] of a stream.
#[derive(Debug, Default)]
pub(super) struct Tail {
    bytes: VecDeque<u8>,
    /// What came right before them, if they are not everything.
    before: Option<u8>,
}

impl Tail {
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        let fresh = &bytes[bytes.len().saturating_sub(MOST_BYTES)..];
        let is_gapless = fresh.len() == bytes.len();
        let excess = (self.bytes.len() + fresh.len()).saturating_sub(MOST_BYTES);
        if let Some(dropped) = self.bytes.drain(..excess).next_back() {
            self.before = Some(dropped);
        }
        if !is_gapless {
            self.before = Some(bytes[bytes.len() - fresh.len() - 1]);
        }
        self.bytes.extend(fresh);
    }

    /// The last lines, at most [`MOST_LINES`], fit for a log. The first one begins with `...` if
    /// its beginning is missing.
    pub(super) fn lines(&self) -> Vec<String> {
        let bytes: Vec<u8> = self.bytes.iter().copied().collect();
        let text = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        if text.is_empty() {
            return Vec::new();
        }
        let mut lines: Vec<String> = text.split(|byte| *byte == b'\n').map(escaped).collect();
        if self.before.is_some_and(|byte| byte != b'\n') {
            lines[0].insert_str(0, "...");
        }
        lines.split_off(lines.len().saturating_sub(MOST_LINES))
    }
}

const MOST_BYTES: usize = 4096;

const MOST_LINES: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(pieces: &[&[u8]]) -> Vec<String> {
        let mut tail = Tail::default();
        for piece in pieces {
            tail.feed(piece);
        }
        tail.lines()
    }

    #[test]
    fn it_has_the_last_lines_with_or_without_a_newline_at_the_end() {
        assert_eq!(tail(&[]), Vec::<String>::new());
        assert_eq!(tail(&[b"\n"]), Vec::<String>::new());
        assert_eq!(tail(&[b"a\nb"]), ["a", "b"]);
        assert_eq!(tail(&[b"a\n", b"b", b"c\n"]), ["a", "bc"]);
        let many: String = (0..100).map(|n| format!("{n}\n")).collect();
        let last: Vec<_> = (80..100).map(|n| n.to_string()).collect();
        assert_eq!(tail(&[many.as_bytes()]), last);
    }

    #[test]
    fn a_line_without_its_beginning_says_so() {
        let long = "x".repeat(MOST_BYTES - 1);
        let whole = format!("{long}\n");
        for pieces in [
            &[whole.as_bytes()][..],
            &[b"before\n", whole.as_bytes()],
            &[format!("before\n{whole}").as_bytes()],
        ] {
            assert_eq!(tail(pieces), [long.as_str()]);
        }
        let cut = format!("...{long}");
        for pieces in [
            &[b"y", whole.as_bytes()][..],
            &[format!("y{whole}").as_bytes()],
        ] {
            assert_eq!(tail(pieces), [cut.as_str()]);
        }
    }

    #[test]
    fn it_cannot_break_the_log() {
        assert_eq!(tail(&[b"\x1b[2Ja\xff\n"]), ["\\u{1b}[2Ja\\xff"]);
    }
}
