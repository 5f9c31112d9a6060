//! Names that programs and operators give: of a value, of what somebody leads. They end up in logs
//! and on terminals, so there is a rule for them, the same on both sides.

use crate::message::MAX_NAME_BYTES;

/// Why something is no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadName {
    /// There is nothing.
    #[error("it is empty")]
    Empty,
    /// Longer than [`MAX_NAME_BYTES`].
    #[error("it has {len} bytes, {MAX_NAME_BYTES} are the most")]
    TooLong {
        /// How long it is.
        len: usize,
    },
    /// It would do more on a terminal than be shown.
    #[error("it has control characters")]
    Control,
}

/// Whether it may be a name: 1 to [`MAX_NAME_BYTES`] bytes without control characters.
///
/// # Errors
/// What is wrong with it.
pub fn check(name: &str) -> Result<(), BadName> {
    match name.len() {
        0 => Err(BadName::Empty),
        len if len > MAX_NAME_BYTES => Err(BadName::TooLong { len }),
        _ if name.chars().any(char::is_control) => Err(BadName::Control),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_can_be_shown_and_ends() {
        assert_eq!(check("feature flags/ä"), Ok(()));
        assert_eq!(check(&"x".repeat(MAX_NAME_BYTES)), Ok(()));
        assert_eq!(check(""), Err(BadName::Empty));
        let len = MAX_NAME_BYTES + 1;
        assert_eq!(check(&"x".repeat(len)), Err(BadName::TooLong { len }));
        for wrong in ["a\nb", "\x1b[31m", "\0", "\u{85}"] {
            assert_eq!(check(wrong), Err(BadName::Control), "{wrong:?}");
        }
    }
}
