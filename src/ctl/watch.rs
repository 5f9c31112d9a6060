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

/// Over what is there, line by line, so that nothing flickers; no more than there is room for, since a
/// terminal that scrolls has no first line any more.
fn frame(status: &str, size: Option<(u16, u16)>) -> String {
    let Some((width, height)) = size else {
        return format!("{status}\n");
    };
    let room = usize::from(height).saturating_sub(2);
    let lines: Vec<_> = status.trim_end().lines().collect();
    let mut text = HOME.to_owned();
    for line in lines.iter().take(room) {
        text += &clipped(line, usize::from(width));
        text += "\x1b[K\n";
    }
    if lines.len() > room {
        text += &format!("({} more lines)\x1b[K\n", lines.len() - room);
    }
    text + "\x1b[J"
}

/// The beginning of a line, with every colour in it and its end.
fn clipped(line: &str, width: usize) -> String {
    let (mut room, mut in_colour) = (width, false);
    let mut shown = String::with_capacity(line.len());
    for c in line.chars() {
        if c == '\x1b' || in_colour {
            in_colour = c != 'm';
        } else if room > 0 {
            room -= 1;
        } else {
            continue;
        }
        shown.push(c);
    }
    shown
}

const INTERVAL: Duration = Duration::from_secs(1);
const CLEAR: &str = "\x1b[2J";
const HOME: &str = "\x1b[H";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_takes_no_more_than_the_terminal_has() {
        let status = "rr-master\n\x1b[2m/bin/server --a-long-flag\x1b[0m\n\n SLOT\n 0\n 1\n";
        assert_eq!(
            frame(status, Some((11, 5))),
            "\x1b[Hrr-master\x1b[K\n\x1b[2m/bin/server\x1b[0m\x1b[K\n\x1b[K\n(3 more lines)\x1b[K\n\x1b[J"
        );
        assert_eq!(frame(status, None), format!("{status}\n"));
    }
}
