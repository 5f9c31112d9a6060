//! Standard output: a terminal, with its width and perhaps colours, or a reader that wants neither.

use std::env;
use std::io::{self, IsTerminal, Stdout, Write};

use serde::Serialize;
use terminal_size::{Height, Width, terminal_size_of};

use super::{ExitCode, Failure, Quiet};
use crate::control::event::ClusterEvent;
use crate::printable::printable;

/// Where results go.
pub(super) struct Screen {
    out: Stdout,
    is_terminal: bool,
    palette: Palette,
}

/// Whether there are colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Palette {
    Plain,
    Colours,
}

/// What a colour means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Heading,
    Good,
    Changing,
    Bad,
    Faint,
}

impl Screen {
    pub(super) fn of_stdout() -> Self {
        let out = io::stdout();
        let is_terminal = out.is_terminal();
        let wanted = env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let is_dumb = env::var_os("TERM").is_none_or(|term| term == "dumb");
        let palette = if is_terminal && wanted && !is_dumb {
            Palette::Colours
        } else {
            Palette::Plain
        };
        Screen {
            out,
            is_terminal,
            palette,
        }
    }

    pub(super) fn palette(&self) -> Palette {
        self.palette
    }

    pub(super) fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// How many columns there are; `None` for any number.
    pub(super) fn width(&self) -> Option<u16> {
        self.size().map(|(columns, _)| columns)
    }

    /// How many columns and lines there are, on a terminal.
    pub(super) fn size(&self) -> Option<(u16, u16)> {
        if !self.is_terminal {
            return None;
        }
        // A terminal that does not know its size says 0.
        match terminal_size_of(&self.out) {
            Some((Width(columns @ 1..), Height(lines @ 1..))) => Some((columns, lines)),
            Some(_) | None => Some((80, 24)),
        }
    }

    pub(super) fn line(&mut self, text: &str) -> Result<(), Quiet> {
        self.write(&format!("{text}\n"))
    }

    pub(super) fn json(&mut self, value: &impl Serialize) -> Result<(), Quiet> {
        let text = serde_json::to_string(value).unwrap_or_default();
        self.line(&text)
    }

    pub(super) fn write(&mut self, text: &str) -> Result<(), Quiet> {
        let written = self.out.write_all(text.as_bytes());
        match written.and_then(|()| self.out.flush()) {
            Ok(()) => Ok(()),
            Err(err) if err.kind() == io::ErrorKind::BrokenPipe => Err(Quiet::NobodyReads),
            Err(err) => Err(Quiet::Failure(Failure {
                code: ExitCode::Refused,
                reason: format!("write to standard output: {err}"),
            })),
        }
    }

    /// An event in one line.
    pub(super) fn event(&self, event: &ClusterEvent) -> String {
        let at = event.at.to_string();
        let time = at.split_once('T').map_or(at.as_str(), |(_, time)| time);
        let name = &event.fact.name;
        let time = self.palette.paint(Tone::Faint, time);
        let name = self.palette.paint(tone(name), &format!("{name:<16}"));
        format!("{time} {name} {}", printable(&event.fact.text))
    }
}

impl Palette {
    /// The text in a colour, if there are colours.
    pub(super) fn paint(self, tone: Tone, text: &str) -> String {
        let code = match (self, tone) {
            (Palette::Plain, _) | (_, Tone::Plain) => return text.to_owned(),
            (Palette::Colours, Tone::Heading) => 1,
            (Palette::Colours, Tone::Good) => 32,
            (Palette::Colours, Tone::Changing) => 33,
            (Palette::Colours, Tone::Bad) => 31,
            (Palette::Colours, Tone::Faint) => 2,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

fn tone(name: &str) -> Tone {
    match name.strip_prefix("agent-").unwrap_or(name) {
        "ready" | "cluster-ready" | "reload-done" | "scale-done" => Tone::Good,
        "fork-failed" | "ready-timeout" | "hung" | "killing" | "refork-limit" | "parked"
        | "unhealthy" | "reload-rollback" | "reload-failed" | "reload-refused" => Tone::Bad,
        "refork" | "retiring" | "terminating" | "stopping" | "paused" | "lost" => Tone::Changing,
        _ => Tone::Plain,
    }
}
