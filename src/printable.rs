//! Text that somebody else wrote, as it may be shown in one line: control characters are escaped.

/// The text with its control characters escaped.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        push(&mut shown, c);
    }
    shown
}

/// Adds one character of such a text, as it may be shown.
pub(crate) fn push(shown: &mut String, c: char) {
    if c.is_control() {
        shown.extend(c.escape_default());
    } else {
        shown.push(c);
    }
}
