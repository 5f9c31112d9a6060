//! From bytes in whatever pieces to whole lines with a name before each. Pure.

use super::escape::escaped;

/// What was said of a line that has not ended, and how lines are written.
#[derive(Debug)]
pub(super) struct Splitter {
    /// `w12 slot=3 pid=4711 | `
    prefix: Vec<u8>,
    surface: Surface,
    /// At most [`LONGEST_LINE`].
    line: Vec<u8>,
}

/// What the lines are written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Surface {
    /// Which obeys control characters.
    Terminal,
    /// A file, a pipe: every byte is kept.
    Other,
}

impl Splitter {
    pub(super) fn new(name: &str, surface: Surface) -> Self {
        Splitter {
            prefix: format!("{name} | ").into_bytes(),
            surface,
            line: Vec::new(),
        }
    }

    /// Adds to `out` every line that ends in these bytes.
    pub(super) fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let mut pieces = bytes.split(|byte| *byte == b'\n');
        if let Some(first) = pieces.next() {
            self.add(first, out);
        }
        for piece in pieces {
            self.end_line(out);
            self.add(piece, out);
        }
    }

    /// Adds what has no newline at its end, with one.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        if !self.line.is_empty() {
            self.end_line(out);
        }
    }

    /// Adds a line of the master's own about this process.
    pub(super) fn remark(&mut self, remark: &str, out: &mut Vec<u8>) {
        self.finish(out);
        out.extend_from_slice(&self.prefix);
        out.extend_from_slice(remark.as_bytes());
        out.push(b'\n');
    }

    fn add(&mut self, mut piece: &[u8], out: &mut Vec<u8>) {
        while self.line.len() + piece.len() > LONGEST_LINE {
            let (fits, rest) = piece.split_at(LONGEST_LINE - self.line.len());
            self.line.extend_from_slice(fits);
            piece = rest;
            let kept = self.line.split_off(last_boundary(&self.line));
            self.write(CUT, out);
            self.line = kept;
        }
        self.line.extend_from_slice(piece);
    }

    fn end_line(&mut self, out: &mut Vec<u8>) {
        self.write(b"", out);
        self.line.clear();
    }

    fn write(&self, mark: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(&self.prefix);
        match self.surface {
            Surface::Terminal => out.extend_from_slice(escaped(&self.line).as_bytes()),
            Surface::Other => out.extend_from_slice(&self.line),
        }
        out.extend_from_slice(mark);
        out.push(b'\n');
    }
}

/// Where a character ends that is not the beginning of another one; never 0.
fn last_boundary(line: &[u8]) -> usize {
    match std::str::from_utf8(line) {
        Err(err) if err.error_len().is_none() && err.valid_up_to() > 0 => err.valid_up_to(),
        Ok(_) | Err(_) => line.len(),
    }
}

/// How long a line may be; what is longer goes on in the next one.
pub(super) const LONGEST_LINE: usize = 16 * 1024;

/// At the end of a line that goes on in the next one.
const CUT: &[u8] = b" [continued]";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(surface: Surface, pieces: &[&[u8]]) -> Vec<u8> {
        let mut splitter = Splitter::new("w1", surface);
        let mut out = Vec::new();
        for piece in pieces {
            splitter.feed(piece, &mut out);
        }
        splitter.finish(&mut out);
        out
    }

    fn text(pieces: &[&[u8]]) -> String {
        String::from_utf8(split(Surface::Other, pieces)).unwrap()
    }

    #[test]
    fn every_line_gets_the_name_and_the_last_one_its_newline() {
        assert_eq!(text(&[]), "");
        assert_eq!(text(&[b"a\n", b"b\nc"]), "w1 | a\nw1 | b\nw1 | c\n");
        assert_eq!(text(&[b"a", b"b", b"\n"]), "w1 | ab\n");
        assert_eq!(text(&[b"\n\n"]), "w1 | \nw1 | \n");
    }

    #[test]
    fn a_line_that_is_too_long_goes_on_in_the_next_one() {
        let fits = "x".repeat(LONGEST_LINE);
        assert_eq!(text(&[fits.as_bytes(), b"\n"]), format!("w1 | {fits}\n"));
        assert_eq!(
            text(&[fits.as_bytes(), b"y", b"z\n"]),
            format!("w1 | {fits} [continued]\nw1 | yz\n")
        );
        // No character is cut in two.
        let long = format!("{}ü!", &fits[1..]);
        assert_eq!(
            text(&[long.as_bytes()]),
            format!("w1 | {} [continued]\nw1 | ü!\n", &fits[1..])
        );
    }

    #[test]
    fn only_a_terminal_is_protected() {
        let line = b"\x1b[2J\xff\r\n";
        assert_eq!(split(Surface::Other, &[line]), b"w1 | \x1b[2J\xff\r\n");
        assert_eq!(split(Surface::Terminal, &[line]), b"w1 | \\u{1b}[2J\\xff\n");
    }

    #[test]
    fn a_remark_stands_on_a_line_of_its_own() {
        let mut splitter = Splitter::new("w1", Surface::Other);
        let mut out = Vec::new();
        splitter.feed(b"half", &mut out);
        splitter.remark("[gap]", &mut out);
        assert_eq!(out, b"w1 | half\nw1 | [gap]\n");
    }

    proptest! {
        /// However the bytes arrive, and whatever they are, nothing is lost or added but names,
        /// marks and the last newline.
        #[test]
        fn the_pieces_do_not_matter(
            bytes in prop::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..200),
            cut in 0..200_usize,
        ) {
            let (one, other) = bytes.split_at(cut.min(bytes.len()));
            let whole = split(Surface::Other, &[&bytes]);
            prop_assert_eq!(&split(Surface::Other, &[one, other]), &whole);
            let mut expected = Vec::new();
            let ended = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
            if !bytes.is_empty() {
                for line in ended.split(|byte| *byte == b'\n') {
                    expected.extend_from_slice(b"w1 | ");
                    expected.extend_from_slice(line);
                    expected.push(b'\n');
                }
            }
            prop_assert_eq!(whole, expected);
        }
    }
}
