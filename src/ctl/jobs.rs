//! The jobs as a person reads them: one in a line.

use comfy_table::CellAlignment::{Left, Right};

use super::screen::{Palette, Tone};
use super::table::{Column, IntoPlain, column, span, table};
use crate::control::job::Job;
use crate::printable::printable;

/// Every job. Without a width every column is shown.
pub(super) fn jobs(jobs: &[Job], width: Option<u16>, palette: Palette) -> String {
    match jobs {
        [] => "there are no jobs".to_owned(),
        jobs => table(columns(), jobs, width, palette),
    }
}

fn columns() -> Vec<Column<Job>> {
    vec![
        column("JOB", Left, 0, |it: &Job| printable(&it.name).into_plain()),
        column("SCHEDULE", Left, 3, |it| {
            printable(&it.schedule).into_plain()
        }),
        column("TARGET", Left, 5, |it| printable(&it.target).into_plain()),
        column("STATE", Left, 0, state),
        column("NEXT", Right, 1, |it| match it.next_in_ms {
            Some(millis) => format!("in {}", span(millis)).into_plain(),
            None => "-".to_owned().into_plain(),
        }),
        column("LAST", Right, 4, |it| match &it.last {
            Some(last) => format!("{} ago", span(last.ago_ms)).into_plain(),
            None => "-".to_owned().into_plain(),
        }),
        column("TOOK", Right, 7, |it| match &it.last {
            Some(last) => span(last.took_ms).into_plain(),
            None => "-".to_owned().into_plain(),
        }),
        column("DONE", Right, 0, |it| it.done.to_string().into_plain()),
        column("FAILED", Right, 0, |it| bad_if_any(it.failed)),
        column("LOST", Right, 2, |it| bad_if_any(it.lost)),
        column("RETRIED", Right, 9, |it| {
            it.retried.to_string().into_plain()
        }),
        column("SKIPPED", Right, 8, |it| {
            it.skipped.to_string().into_plain()
        }),
        column("BY", Left, 10, |it| it.origin.clone().into_plain()),
        column("RESULT", Left, 6, |it| {
            let Some(last) = &it.last else {
                return String::new().into_plain();
            };
            let tone = if last.how == "done" {
                Tone::Plain
            } else {
                Tone::Bad
            };
            (printable(&beginning(&last.text)), tone)
        }),
    ]
}

fn state(job: &Job) -> (String, Tone) {
    let running = job.running.len();
    if job.overdue > 0 {
        ("overdue".to_owned(), Tone::Bad)
    } else if job.rests_ms.is_some() && running == 0 {
        ("resting".to_owned(), Tone::Bad)
    } else if running > 0 {
        ("running".to_owned(), Tone::Good)
    } else if job.waiting > 0 {
        ("waiting".to_owned(), Tone::Changing)
    } else if job.origin == "disabled" {
        ("disabled".to_owned(), Tone::Faint)
    } else {
        ("idle".to_owned(), Tone::Plain)
    }
}

fn bad_if_any(count: u64) -> (String, Tone) {
    let tone = if count > 0 { Tone::Bad } else { Tone::Plain };
    (count.to_string(), tone)
}

/// Enough of a result to know it again: its first line, and not much of that.
fn beginning(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    match line.char_indices().nth(LONGEST_RESULT) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

const LONGEST_RESULT: usize = 40;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::control::job::Ended;
    use crate::control::time::UnixTime;

    #[test]
    fn a_job_is_a_line() {
        let at = UnixTime(Duration::ZERO);
        let job = Job {
            name: "sweep".to_owned(),
            schedule: "every 30s".to_owned(),
            target: "one".to_owned(),
            overlap: "skip".to_owned(),
            on_lost: "drop".to_owned(),
            timeout_ms: None,
            origin: "configuration".to_owned(),
            registrants: 0,
            running: Vec::new(),
            overdue: 0,
            waiting: 0,
            rests_ms: None,
            next: Some(at),
            next_in_ms: Some(12_000),
            last: Some(Ended {
                run: 7,
                at,
                ago_ms: 18_000,
                took_ms: 40,
                how: "failed".to_owned(),
                text: "no such file\nand more".to_owned(),
            }),
            started: 7,
            done: 6,
            failed: 1,
            lost: 0,
            retried: 0,
            skipped: 0,
        };
        let text = jobs(&[job], None, Palette::Plain);
        let line = text.lines().last().unwrap();
        for part in [
            "sweep",
            "every 30s",
            "idle",
            "in 12s",
            "18s ago",
            "40ms",
            "no such file",
        ] {
            assert!(line.contains(part), "{part}: {line}");
        }
        assert!(!line.contains("and more"));
    }
}
