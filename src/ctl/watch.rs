//! `status --watch`: the status again every second, on the same lines if it is a terminal.
//!
//! The terminal is left as it was at every moment: nothing has to be put back when Ctrl-C ends it.

use std::time::Duration;

use super::args::Args;
use super::screen::Screen;
use super::{Quiet, await_answer, cluster, table};
use crate::control::client::{Client, ClientError};
use crate::control::protocol::Command;

/// Goes on until the master or the reader has gone.
pub(super) fn run(client: &mut Client, args: &Args, screen: &mut Screen) -> Result<(), Quiet> {
    if screen.is_terminal() && !args.json {
        screen.write(CLEAR)?;
    }
    loop {
        let id = client.ask(Command::Status)?;
        let value = await_answer(client, id, args.patience(), |_| Ok(()))?;
        if args.json {
            screen.json(&value)?;
        } else {
            let status = table::status(&cluster(value)?, screen.width(), screen.palette());
            screen.write(&frame(&status, screen.size()))?;
        }
        // Nothing comes unasked but the end.
        match client.next_reply(Some(INTERVAL)) {
            Ok(_) | Err(ClientError::Timeout(_)) => {}
            Err(ClientError::Closed) => return screen.line("the master has ended"),
            Err(err) => return Err(err.into()),
        }
    }
}

/// Over what is there, line by line, so that nothing flickers; no more lines than there are.
fn frame(status: &str, size: Option<(u16, u16)>) -> String {
    let Some((width, height)) = size else {
        return format!("{status}\n");
    };
    let mut room = usize::from(height).saturating_sub(2);
    let lines: Vec<_> = status.trim_end().lines().collect();
    let mut text = HOME.to_owned();
    let mut shown = 0;
    for line in &lines {
        // A long one is continued in the next row: too many rows would scroll the first ones away.
        let Some(left) = room.checked_sub(rows(line, width)) else {
            break;
        };
        room = left;
        shown += 1;
        text += line;
        text += "\x1b[K\n";
    }
    if lines.len() > shown {
        text += &format!("({} more lines)\x1b[K\n", lines.len() - shown);
    }
    text + "\x1b[J"
}

/// How many rows of the terminal the line takes.
fn rows(line: &str, width: u16) -> usize {
    let mut is_colour = false;
    let visible = line.chars().filter(|&c| {
        let was_colour = is_colour;
        is_colour = c == '\x1b' || is_colour && c != 'm';
        !was_colour && !is_colour
    });
    visible.count().div_ceil(usize::from(width).max(1)).max(1)
}

const INTERVAL: Duration = Duration::from_secs(1);
const CLEAR: &str = "\x1b[2J";
const HOME: &str = "\x1b[H";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_has_no_more_rows_than_the_terminal() {
        let status = "\x1b[1mhead\x1b[0m\n0123456789\n01234567890\nlast\n";
        let shown = |width, height| {
            let text = frame(status, Some((width, height)));
            let lines = text.lines().filter(|line| *line != "\x1b[J");
            lines
                .map(|line| line.trim_start_matches(HOME).to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(shown(10, 7).len(), 4);
        assert_eq!(shown(10, 6)[3], "(1 more lines)\x1b[K");
        assert_eq!(shown(10, 5)[2], "(2 more lines)\x1b[K");
        assert_eq!(shown(11, 6).len(), 4);
        assert_eq!(rows("\x1b[1m0123456789\x1b[0m", 10), 1);
    }
}
