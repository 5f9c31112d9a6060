//! The report: what became of the connections, of the workers, and of the master.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::common::evidence::fate::{Deed, State};
use crate::common::evidence::verdict::{Broken, Verdict};
use crate::curve::Point;
use crate::run::Finished;

pub(crate) struct Report {
    verdict: Verdict,
    kills_by_state: BTreeMap<State, u64>,
    kills_at_random: u64,
    other_deeds: BTreeMap<Deed, u64>,
    reclaimed: u64,
    longest: Duration,
    took: Duration,
    curve: [Point; 3],
    /// What is wrong with the master itself.
    complaints: Vec<String>,
}

impl Report {
    pub(crate) fn on(run: Finished) -> Self {
        let verdict = Verdict::weigh(&run.accounts, &run.testimonies, &run.killed);
        let mut kills_by_state = BTreeMap::new();
        let mut other_deeds = BTreeMap::new();
        let mut kills_at_random = 0;
        for testimony in &run.testimonies {
            match testimony.fate {
                Some(fate) if fate.deed == Deed::Kill => {
                    *kills_by_state.entry(fate.state).or_default() += 1;
                    continue;
                }
                Some(fate) => *other_deeds.entry(fate.deed).or_default() += 1,
                None => {}
            }
            kills_at_random += u64::from(run.killed.contains(&testimony.worker));
        }
        let curve = [run.curve.first(), run.curve.middle(), run.curve.last()];
        Report {
            verdict,
            kills_by_state,
            kills_at_random,
            other_deeds,
            reclaimed: run.reclaimed,
            longest: run
                .accounts
                .iter()
                .map(|account| account.took)
                .max()
                .unwrap_or_default(),
            took: run.took,
            complaints: complaints(&run, curve),
            curve,
        }
    }

    /// Whether every promise was kept.
    pub(crate) fn is_clean(&self) -> bool {
        self.verdict.broken.is_empty() && self.complaints.is_empty()
    }

    fn kills(&self) -> u64 {
        self.kills_at_random + self.kills_by_state.values().sum::<u64>()
    }

    fn section(f: &mut fmt::Formatter<'_>, title: &str, total: impl fmt::Display) -> fmt::Result {
        writeln!(f, "{title:<44}{total:>10}")
    }

    fn row(
        f: &mut fmt::Formatter<'_>,
        what: impl fmt::Display,
        count: impl fmt::Display,
    ) -> fmt::Result {
        writeln!(f, "  {:<42}{count:>10}", what.to_string())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = &self.verdict;
        let took = self.took.as_secs_f64();
        Self::section(f, "duration", format!("{took:.1} s"))?;
        Self::section(f, "connections", verdict.connections())?;
        for (name, count) in &verdict.endings {
            Self::row(f, name, count)?;
        }
        Self::row(
            f,
            "longest answer",
            format!("{} ms", self.longest.as_millis()),
        )?;
        Self::section(f, "kills", self.kills())?;
        for (state, count) in &self.kills_by_state {
            Self::row(f, state, count)?;
        }
        Self::row(f, "at random", self.kills_at_random)?;
        Self::section(f, "other faults", self.other_deeds.values().sum::<u64>())?;
        for (deed, count) in &self.other_deeds {
            Self::row(f, deed, count)?;
        }
        Self::section(f, "taken back unread, and handed to others", self.reclaimed)?;

        let lost = |broken: &Broken| matches!(broken, Broken::Lost(..));
        let twice = |broken: &Broken| matches!(broken, Broken::Twice(..));
        let unmatched = |broken: &Broken| {
            matches!(
                broken,
                Broken::Unexplained(..) | Broken::Unheard(..) | Broken::TooMany(..)
            )
        };
        Self::section(f, "lost", "")?;
        Self::row(f, "not received by any worker", verdict.count(lost))?;
        Self::row(f, "received, matched to a kill", verdict.lost_when_received)?;
        Self::row(
            f,
            "possibly received, matched to a kill",
            verdict.lost_when_possibly_received,
        )?;
        Self::row(f, "received, not matched", verdict.count(unmatched))?;
        Self::section(f, "served twice", verdict.count(twice))?;

        writeln!(
            f,
            "{:<22}{:>10}{:>12}{:>10}",
            "master", "start", "middle", "end"
        )?;
        let [start, middle, end] = self.curve;
        let row = |f: &mut fmt::Formatter<'_>, what: &str, value: fn(Point) -> String| {
            let (start, middle, end) = (value(start), value(middle), value(end));
            writeln!(f, "  {what:<20}{start:>10}{middle:>12}{end:>10}")
        };
        row(f, "after", |point| {
            format!("{:.0} s", point.at.as_secs_f64())
        })?;
        row(f, "descriptors", |point| point.descriptors.to_string())?;
        row(f, "resident", |point| format!("{} KiB", point.resident_kib))?;

        for broken in verdict.broken.iter().take(MOST_SHOWN) {
            writeln!(f, "BROKEN: {broken}")?;
        }
        for complaint in &self.complaints {
            writeln!(f, "BROKEN: {complaint}")?;
        }
        let hidden = verdict.broken.len().saturating_sub(MOST_SHOWN);
        if hidden > 0 {
            writeln!(f, "BROKEN: {hidden} more")?;
        }
        Ok(())
    }
}

/// What the master did wrong, whatever became of the connections.
fn complaints(run: &Finished, [start, _, end]: [Point; 3]) -> Vec<String> {
    let mut complaints: Vec<_> = run
        .ended
        .log
        .lines()
        .filter(|line| line.contains(" ERROR ") || line.contains("panicked"))
        .map(|line| format!("in the log: {line}"))
        .take(MOST_SHOWN)
        .collect();
    // Code 7: the fate of somebody came with the end.
    if !matches!(run.ended.status.code(), Some(0 | 7)) {
        complaints.push(format!("the master ended with {}", run.ended.status));
    }
    if start.descriptors != end.descriptors {
        let (before, after) = (start.descriptors, end.descriptors);
        complaints.push(format!("{before} descriptors became {after}"));
    }
    complaints
}

/// How many of the broken are told one by one.
const MOST_SHOWN: usize = 20;
