//! Text that a terminal may be shown, from bytes that may be anything. Pure.

use std::fmt::Write;

/// The bytes as text in which nothing moves the cursor: control characters but the tab, and bytes
/// that are not UTF-8, are written out. A carriage return before the end of the line is dropped.
pub(super) fn escaped(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut text = String::with_capacity(line.len());
    for chunk in line.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() && c != '\t' {
                text.extend(c.escape_default());
            } else {
                text.push(c);
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_what_moves_the_cursor_is_written_out() {
        for (line, shown) in [
            (&b"plain"[..], "plain"),
            ("grüße\t日本".as_bytes(), "grüße\t日本"),
            (b"a\rb\r", "a\\rb"),
            (b"\x1b[31mred", "\\u{1b}[31mred"),
            ("\u{9b}2J".as_bytes(), "\\u{9b}2J"),
            (b"\xff\xc3(", "\\xff\\xc3("),
            (b"\x00\x07\x08\x7f", "\\u{0}\\u{7}\\u{8}\\u{7f}"),
        ] {
            assert_eq!(escaped(line), shown);
        }
    }

    proptest! {
        #[test]
        fn nothing_that_a_process_says_moves_the_cursor(line: Vec<u8>) {
            let text = escaped(&line);
            prop_assert!(!text.chars().any(|c| c.is_control() && c != '\t'));
        }
    }
}
