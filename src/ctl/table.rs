//! The status as a person reads it: a line about the master, its processes, its listeners.
//!
//! Where the terminal is too narrow for them the columns go that tell least. Only when none is left that
//! could go are cells broken into lines.

use std::fmt::Write;

use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, Row, Table, presets};

use super::screen::{Palette, Tone};
use crate::control::status::{Cluster, Listener, Master, Worker};
use crate::printable::printable;

/// A column: its heading, how it is aligned, how soon it goes, and what is in it.
pub(super) struct Column<T> {
    heading: &'static str,
    alignment: CellAlignment,
    /// The largest goes first, and 0 never.
    rank: u8,
    cell: fn(&T) -> (String, Tone),
}

/// The whole status. Without a width every column is shown.
pub(super) fn status(cluster: &Cluster, width: Option<u16>, palette: Palette) -> String {
    let mut text = headline(cluster, palette);
    let columns = worker_columns();
    let _ = writeln!(
        text,
        "\n{}",
        table(columns, &cluster.workers, width, palette)
    );
    if !cluster.listeners.is_empty() {
        let columns = listener_columns();
        let listeners = table(columns, &cluster.listeners, width, palette);
        let _ = writeln!(text, "\n{listeners}");
    }
    text
}

fn headline(cluster: &Cluster, palette: Palette) -> String {
    let Master {
        pid,
        version,
        uptime_ms,
        stage,
        generation,
        wanted,
        rollout,
        program,
        problems,
        settled: _,
    } = &cluster.master;
    let serving = cluster.workers.iter();
    let serving = serving.filter(|it| it.role == "worker" && it.state == "serving");
    let serving = serving.count();
    let tone = match stage.as_str() {
        "serving" if serving >= *wanted as usize => Tone::Good,
        _ => Tone::Changing,
    };
    let name = palette.paint(Tone::Heading, &format!("rr-master {version}"));
    let stage = palette.paint(tone, stage);
    let mut text = format!(
        "{name}, pid {pid}, {stage}, up {}\n{serving} of {wanted} workers serve, generation {generation}",
        span(*uptime_ms)
    );
    if let Some(rollout) = rollout {
        let how = match rollout.rollback {
            true => format!("going back from generation {}", rollout.to),
            false => format!(
                "reload to generation {}: {} slots done",
                rollout.to, rollout.renewed
            ),
        };
        let _ = write!(text, ", {}", palette.paint(Tone::Changing, &how));
    }
    if cluster.listeners.iter().any(|listener| listener.paused) {
        let _ = write!(text, ", {}", palette.paint(Tone::Changing, "paused"));
    }
    if *problems > 0 {
        let plural = if *problems == 1 { "" } else { "s" };
        let how_many = format!("{problems} problem{plural} reported");
        let _ = write!(text, ", {}", palette.paint(Tone::Changing, &how_many));
    }
    let program = printable(&program.join(" "));
    let _ = writeln!(text, "\n{}", palette.paint(Tone::Faint, &program));
    text
}

fn worker_columns() -> Vec<Column<Worker>> {
    use CellAlignment::{Left, Right};
    vec![
        column("SLOT", Left, 0, |it: &Worker| match it.role.as_str() {
            "agent" => format!("agent:{}", it.slot).into_plain(),
            _ => it.slot.to_string().into_plain(),
        }),
        column("NAME", Left, 9, |it| {
            let name = it.name.as_deref().unwrap_or_default();
            printable(name).into_plain()
        }),
        column("WORKER", Left, 7, |it| {
            it.worker
                .map_or_else(|| "-".to_owned(), |id| format!("w{id}"))
                .into_plain()
        }),
        column("GEN", Right, 4, |it| it.generation.to_string().into_plain()),
        column("PID", Right, 0, |it| or_dash(it.pid.map(u64::from))),
        column("STATE", Left, 0, |it| {
            let tone = match it.state.as_str() {
                "serving" | "ready" => Tone::Good,
                "standby" => Tone::Plain,
                "parked" => Tone::Bad,
                _ => Tone::Changing,
            };
            (it.state.clone(), tone)
        }),
        column("FOR", Right, 10, |it| {
            it.state_ms
                .map_or_else(|| "-".to_owned(), span)
                .into_plain()
        }),
        column("UP", Right, 2, |it| {
            it.uptime_ms
                .map_or_else(|| "-".to_owned(), span)
                .into_plain()
        }),
        column("RESTARTS", Right, 5, |it| {
            let tone = if it.restarts > 0 {
                Tone::Changing
            } else {
                Tone::Plain
            };
            (it.restarts.to_string(), tone)
        }),
        column("ACTIVE", Right, 1, |it| {
            or_dash(it.load.as_ref().and_then(|it| it.active))
        }),
        column("RECEIVED", Right, 3, |it| {
            or_dash(it.load.as_ref().and_then(|it| it.received))
        }),
        column("GIVEN", Right, 12, |it| {
            or_dash(it.load.as_ref().and_then(|it| it.given))
        }),
        column("UNREAD", Right, 8, |it| {
            or_dash(it.load.as_ref().and_then(|it| it.unread))
        }),
        column("WEIGHT", Right, 11, |it| {
            let weight = it.load.as_ref().map(|it| it.weight).filter(|it| *it != 1);
            weight
                .map(|it| it.to_string())
                .unwrap_or_default()
                .into_plain()
        }),
        column("ASIDE", Left, 6, |it| {
            let aside = it.load.as_ref().map(|it| it.aside.join(" "));
            (aside.unwrap_or_default(), Tone::Bad)
        }),
    ]
}

fn listener_columns() -> Vec<Column<Listener>> {
    use CellAlignment::{Left, Right};
    vec![
        column("LISTENER", Left, 0, |it: &Listener| {
            printable(&it.name).into_plain()
        }),
        column("ADDRESS", Left, 2, |it| printable(&it.address).into_plain()),
        column("MODE", Left, 7, |it| printable(&it.mode).into_plain()),
        column("STRATEGY", Left, 4, |it| {
            printable(it.strategy.as_deref().unwrap_or_default()).into_plain()
        }),
        column("STATE", Left, 0, |it| match it.paused {
            true => ("paused".to_owned(), Tone::Changing),
            false => ("open".to_owned(), Tone::Good),
        }),
        column("ACCEPTED", Right, 0, |it| or_dash(it.accepted)),
        column("HELD", Right, 3, |it| it.held.to_string().into_plain()),
        column("RECLAIMED", Right, 4, |it| {
            it.reclaimed.to_string().into_plain()
        }),
        column("REFUSED", Right, 1, |it| {
            let tone = if it.refused > 0 {
                Tone::Bad
            } else {
                Tone::Plain
            };
            (it.refused.to_string(), tone)
        }),
        column("MOVED", Right, 5, |it| it.moved.to_string().into_plain()),
        column("SKIPPED", Right, 6, |it| {
            it.skipped.to_string().into_plain()
        }),
    ]
}

pub(super) fn column<T>(
    heading: &'static str,
    alignment: CellAlignment,
    rank: u8,
    cell: fn(&T) -> (String, Tone),
) -> Column<T> {
    Column {
        heading,
        alignment,
        rank,
        cell,
    }
}

/// With as many columns as fit.
pub(super) fn table<T>(
    mut columns: Vec<Column<T>>,
    rows: &[T],
    width: Option<u16>,
    palette: Palette,
) -> String {
    columns.retain(|it| it.rank == 0 || rows.iter().any(|row| !(it.cell)(row).0.is_empty()));
    loop {
        let mut table = layout(&columns, rows, palette);
        let Some(width) = width else {
            return joined(&table);
        };
        // Without what colours it.
        let plain = layout(&columns, rows, Palette::Plain);
        let is_narrow = |line: String| line.trim_end().chars().count() <= usize::from(width);
        if plain.lines().all(is_narrow) {
            return joined(&table);
        }
        let first_to_go = columns
            .iter()
            .enumerate()
            .max_by_key(|(_, column)| column.rank);
        match first_to_go {
            Some((index, column)) if column.rank > 0 => drop(columns.remove(index)),
            Some(_) | None => {
                table.set_content_arrangement(ContentArrangement::Dynamic);
                return joined(table.set_width(width));
            }
        }
    }
}

fn layout<T>(columns: &[Column<T>], rows: &[T], palette: Palette) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Disabled);
    match palette {
        Palette::Colours => table.enforce_styling(),
        Palette::Plain => table.force_no_tty(),
    };
    table.set_header(columns.iter().map(|column| {
        let cell = Cell::new(column.heading).set_alignment(column.alignment);
        match palette {
            Palette::Colours => cell.add_attribute(Attribute::Bold),
            Palette::Plain => cell,
        }
    }));
    for row in rows {
        let cells = columns.iter().map(|column| {
            let (text, tone) = (column.cell)(row);
            let cell = Cell::new(text).set_alignment(column.alignment);
            match colour(tone) {
                Some(colour) if palette == Palette::Colours => cell.fg(colour),
                Some(_) | None => cell,
            }
        });
        table.add_row(Row::from(cells.collect::<Vec<_>>()));
    }
    table
}

fn joined(table: &Table) -> String {
    let lines = table.lines().map(|line| line.trim_end().to_owned());
    lines.collect::<Vec<_>>().join("\n")
}

fn colour(tone: Tone) -> Option<Color> {
    match tone {
        Tone::Good => Some(Color::DarkGreen),
        Tone::Changing => Some(Color::DarkYellow),
        Tone::Bad => Some(Color::DarkRed),
        Tone::Plain | Tone::Heading | Tone::Faint => None,
    }
}

fn or_dash(number: Option<u64>) -> (String, Tone) {
    let text = number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    (text, Tone::Plain)
}

/// The two largest units, as short as can be: `850ms`, `12s`, `3m12s`, `5h03m`, `2d04h`.
pub(super) fn span(millis: u64) -> String {
    let seconds = millis / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match (days, hours, minutes, seconds) {
        (1.., ..) => format!("{days}d{:02}h", hours % 24),
        (0, 1.., ..) => format!("{hours}h{:02}m", minutes % 60),
        (0, 0, 1.., _) => format!("{minutes}m{:02}s", seconds % 60),
        (0, 0, 0, 1..) => format!("{seconds}s"),
        (0, 0, 0, 0) => format!("{millis}ms"),
    }
}

/// In no colour.
pub(super) trait IntoPlain {
    fn into_plain(self) -> (String, Tone);
}

impl IntoPlain for String {
    fn into_plain(self) -> (String, Tone) {
        (self, Tone::Plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::status::Load;

    fn cluster() -> Cluster {
        let worker = |slot: u32, state: &str| Worker {
            worker: Some(u64::from(slot) + 1),
            slot,
            generation: 1,
            role: "worker".to_owned(),
            name: None,
            pid: Some(4711 + slot),
            state: state.to_owned(),
            state_ms: Some(61_000),
            uptime_ms: Some(62_000),
            restarts: u64::from(slot),
            load: Some(Load {
                given: Some(12),
                unread: Some(1),
                received: Some(11),
                active: Some(2),
                requests: Some(0),
                weight: 1,
                aside: Vec::new(),
            }),
        };
        Cluster {
            master: Master {
                pid: 4242,
                version: "0.1.0".to_owned(),
                uptime_ms: 63_000,
                stage: "serving".to_owned(),
                generation: 1,
                wanted: 2,
                settled: true,
                problems: 0,
                rollout: None,
                program: vec!["/bin/server".to_owned()],
            },
            workers: vec![worker(0, "serving"), worker(1, "starting")],
            listeners: vec![],
        }
    }

    #[test]
    fn a_terminal_of_eighty_columns_is_wide_enough() {
        let text = status(&cluster(), Some(80), Palette::Plain);
        assert!(
            text.lines().all(|line| line.chars().count() <= 80),
            "{text}"
        );
        assert!(text.contains("1 of 2 workers serve"), "{text}");
        assert!(text.contains("RECEIVED"), "{text}");
        assert_eq!(text.lines().count(), 7, "no row is broken:\n{text}");
    }

    #[test]
    fn what_tells_least_goes_first_on_a_narrow_terminal() {
        let columns = |width| {
            let text = status(&cluster(), Some(width), Palette::Plain);
            let heading = text.lines().find(|line| line.contains("SLOT")).unwrap();
            assert!(heading.chars().count() <= usize::from(width), "{text}");
            heading.split_whitespace().count()
        };
        let counts = [200, 70, 50, 30].map(columns);
        assert!(counts.is_sorted_by(|more, less| more > less), "{counts:?}");
    }

    #[test]
    fn there_are_colours_only_if_they_are_wanted() {
        assert!(!status(&cluster(), None, Palette::Plain).contains('\x1b'));
        assert!(status(&cluster(), None, Palette::Colours).contains("\x1b["));
    }

    #[test]
    fn spans_are_short() {
        let spans = [850, 12_000, 192_000, 18_180_000, 187_200_000].map(span);
        assert_eq!(spans, ["850ms", "12s", "3m12s", "5h03m", "2d04h"]);
    }
}
