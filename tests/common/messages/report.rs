//! The report: what became of the messages.

use std::fmt;
use std::time::Duration;

use crate::run::Finished;

pub(crate) struct Report {
    run: Finished,
    /// What is wrong with the master itself.
    complaints: Vec<String>,
}

impl Report {
    pub(crate) fn on(run: Finished) -> Self {
        let wrong = |line: &&str| {
            let signs = [" ERROR ", "panicked", "FAILED", "broke the protocol"];
            signs.iter().any(|sign| line.contains(sign))
        };
        let lines = run.ended.log.lines().filter(wrong);
        let mut complaints: Vec<_> = lines
            .map(|line| format!("in the log: {line}"))
            .take(MOST_SHOWN)
            .collect();
        if run.ended.status.code() != Some(0) {
            complaints.push(format!("the master ended with {}", run.ended.status));
        }
        Report { run, complaints }
    }

    /// Whether every promise was kept.
    pub(crate) fn is_clean(&self) -> bool {
        self.run.account.broken.is_empty() && self.complaints.is_empty()
    }

    fn delay(&self, share: f64) -> Duration {
        let delays = &self.run.account.delays;
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an index"
        )]
        let index = (delays.len() as f64 * share) as usize;
        let last = delays.len().saturating_sub(1);
        let micros = delays.get(index.min(last)).copied().unwrap_or(0);
        Duration::from_micros(micros)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Finished {
            account,
            kills,
            took,
            most_resident,
            ended: _,
        } = &self.run;
        let mut row = |what: &str, value: &dyn fmt::Display| writeln!(f, "{what:<52}{value:>12}");
        row("duration", &format!("{:.1} s", took.as_secs_f64()))?;
        row("SIGKILLs of workers", kills)?;
        row("messages received", &account.received)?;
        let rate = account.received as f64 / took.as_secs_f64();
        row("  of them each second", &format!("{rate:.0}"))?;
        row("pairs of a sending thread and a receiver", &account.pairs)?;
        row("messages sent, as senders noted", &account.sent)?;
        for (outcome, count) in &account.reported {
            row(&format!("  reported: {outcome:?}"), count)?;
        }
        row(
            "  without a receipt, before one reported",
            &account.before_reported,
        )?;
        row("  taken along by who was killed", &account.taken_along)?;
        row("received, of senders killed at once", &account.unnoted)?;
        for (name, share) in [("half", 0.5), ("99 in 100", 0.99), ("999 in 1000", 0.999)] {
            let micros = self.delay(share).as_micros();
            row(&format!("receipts: {name} within"), &format!("{micros} µs"))?;
        }
        row(
            "the master's resident memory, at most",
            &format!("{most_resident} KiB"),
        )?;
        row(
            "lost, twice, out of order or not explained",
            &account.broken.len(),
        )?;
        for broken in account.broken.iter().take(MOST_SHOWN) {
            writeln!(f, "BROKEN: {broken}")?;
        }
        for complaint in &self.complaints {
            writeln!(f, "BROKEN: {complaint}")?;
        }
        Ok(())
    }
}

/// How many of the broken are told one by one.
const MOST_SHOWN: usize = 20;
