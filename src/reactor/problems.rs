//! Problems: what processes say went wrong in them. All of it is counted, and as much of it logged
//! as a log can bear.
//!
//! The words are a worker's: one line of them, and no more than anybody reads.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use worker_proto::frame::MAX_REASON_BYTES;
use worker_proto::ids::WorkerId;

use crate::supervisor::Who;

/// What the processes have reported.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    total: u64,
    spells: HashMap<WorkerId, Spell>,
}

/// What one process reports within a while.
#[derive(Debug)]
struct Spell {
    who: Who,
    began: Instant,
    logged: u32,
    silenced: u64,
}

impl Problems {
    /// A process survived this.
    pub(crate) fn note(&mut self, who: Who, problem: &str, now: Instant) {
        self.total += 1;
        let fresh = Spell {
            who,
            began: now,
            logged: 0,
            silenced: 0,
        };
        let spell = self.spells.entry(who.worker).or_insert(fresh);
        if now.saturating_duration_since(spell.began) >= SPELL {
            spell.end();
            (spell.began, spell.logged) = (now, 0);
        }
        if spell.logged < LINES_PER_SPELL {
            spell.logged += 1;
            log::warn!("{who} reports: {}", one_line(problem));
        } else {
            spell.silenced += 1;
        }
    }

    /// How many there were in all.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// The process is gone.
    pub(crate) fn forget(&mut self, worker: WorkerId) {
        if let Some(mut spell) = self.spells.remove(&worker) {
            spell.end();
        }
    }
}

impl Spell {
    /// Tells of what was not logged.
    fn end(&mut self) {
        let (who, silenced) = (self.who, std::mem::take(&mut self.silenced));
        if silenced > 0 {
            log::warn!("{who} has reported {silenced} more problems");
        }
    }
}

/// The text with everything between its words as one space, and not too long: who writes it may
/// want it to look like something else.
pub(super) fn one_line(text: &str) -> String {
    let mut line = String::new();
    let is_gap = |c: char| c.is_whitespace() || c.is_control();
    for word in text.split(is_gap).filter(|word| !word.is_empty()) {
        let gap = if line.is_empty() { "" } else { " " };
        let room = MAX_REASON_BYTES.saturating_sub(line.len() + gap.len());
        let end = word.char_indices().map(|(at, c)| at + c.len_utf8());
        let end = end.take_while(|&end| end <= room).last();
        line.push_str(gap);
        line.push_str(&word[..end.unwrap_or(0)]);
        if end != Some(word.len()) {
            line.push('…');
            break;
        }
    }
    line
}

/// How long a process that reports much is given a few lines for.
const SPELL: Duration = Duration::from_secs(10);

/// How many.
const LINES_PER_SPELL: u32 = 10;

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "any moment will do as the beginning"
)]
mod tests {
    use worker_proto::ids::{Generation, Role, Slot};

    use super::*;

    #[test]
    fn a_text_is_one_line_that_ends() {
        assert_eq!(
            one_line("left: 1\n  right:\t2\x1b[31m"),
            "left: 1 right: 2 [31m"
        );
        assert_eq!(one_line(" \n "), "");
        assert_eq!(one_line("ä"), "ä");
        let long = one_line(&"ä ".repeat(MAX_REASON_BYTES));
        assert!(long.len() <= MAX_REASON_BYTES + "…".len(), "{}", long.len());
        assert!(long.ends_with('…'));
        let word = one_line(&"ä".repeat(MAX_REASON_BYTES));
        assert_eq!(word.chars().count(), MAX_REASON_BYTES / 2 + 1);
    }

    /// G08.
    #[test]
    fn all_are_counted_and_a_few_logged() {
        let mut problems = Problems::default();
        let beginning = Instant::now();
        let who = Who {
            worker: WorkerId(1),
            slot: Slot(0),
            generation: Generation(1),
            role: Role::Worker,
            pid: Some(101),
        };
        let mut report = |seconds| {
            problems.note(who, "odd", beginning + Duration::from_secs(seconds));
            let spell = &problems.spells[&who.worker];
            (problems.total, spell.logged, spell.silenced)
        };
        let all: Vec<_> = (0..12).map(|_| report(0)).collect();
        assert_eq!(all[9], (10, 10, 0));
        assert_eq!(all[11], (12, 10, 2));
        assert_eq!(report(10), (13, 1, 0));
        problems.forget(who.worker);
        assert_eq!(problems.spells.len(), 0);
    }
}
