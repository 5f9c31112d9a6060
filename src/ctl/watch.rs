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
    let Some((_, height)) = size else {
        return format!("{status}\n");
    };
    let room = usize::from(height).saturating_sub(2);
    let lines: Vec<_> = status.trim_end().lines().collect();
    let mut text = HOME.to_owned();
    for line in lines.iter().take(room) {
        text += line;
        text += "\x1b[K\n";
    }
    if lines.len() > room {
        text += &format!("({} more lines)\x1b[K\n", lines.len() - room);
    }
    text + "\x1b[J"
}

const INTERVAL: Duration = Duration::from_secs(1);
const CLEAR: &str = "\x1b[2J";
const HOME: &str = "\x1b[H";
