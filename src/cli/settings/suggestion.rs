//! Which of the known names somebody may have meant.

/// The known name that is most like this one, if one is.
pub(super) fn did_you_mean<'a>(
    name: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let alike = known
        .into_iter()
        .map(|known| (strsim::jaro_winkler(name, known), known));
    let (likeness, best) = alike.max_by(|(one, _), (other, _)| one.total_cmp(other))?;
    (likeness > LEAST_LIKENESS).then_some(best)
}

/// Takes two letters exchanged or one forgotten for a slip, and another word for another word.
const LEAST_LIKENESS: f64 = 0.85;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_understood_and_another_word_is_not() {
        let known = ["workers", "window", "stop-timeout", "stall-timeout"];
        for (name, expected) in [
            ("wrokers", Some("workers")),
            ("worker", Some("workers")),
            ("stop_timeout", Some("stop-timeout")),
            ("stoptimeout", Some("stop-timeout")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(did_you_mean(name, known), expected, "{name}");
        }
    }
}
