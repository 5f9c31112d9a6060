//! One job: what it is, when it is due, and its runs.

use std::collections::VecDeque;
use std::sync::Arc;

use worker_proto::job::{JobSpec, Overlap};

use super::clock::Clock;
use super::event::Standing;
use super::notice::Skip;
use super::now::Now;
use super::offers::Offers;
use super::run::{Run, State};
use super::setback::Setback;
use super::timetable::Timetable;
use super::view::{Counts, JobView, Last, Origin};

#[derive(Debug)]
pub(super) struct Job {
    pub(super) spec: Arc<JobSpec>,
    pub(super) timetable: Timetable,
    pub(super) source: Source,
    /// `None` while it does not run by itself.
    pub(super) clock: Option<Clock>,
    /// Those that have not ended, in the order in which they were due.
    pub(super) runs: VecDeque<Run>,
    pub(super) setback: Setback,
    pub(super) counts: Counts,
    pub(super) last: Option<Last>,
    pub(super) failed_in_a_row: u32,
    pub(super) skipped_in_a_row: u64,
}

/// Who wants it.
#[derive(Debug)]
pub(super) enum Source {
    /// The configuration; processes may have registered it, too.
    Configured(Standing, Offers),
    Registered(Offers),
    /// Nobody any more: it stays until its runs have ended, so that one of the same name does not run
    /// beside them.
    Withdrawn,
}

impl Source {
    /// Who has registered it.
    pub(super) fn offers(&mut self) -> Option<&mut Offers> {
        match self {
            Source::Configured(_, offers) | Source::Registered(offers) => Some(offers),
            Source::Withdrawn => None,
        }
    }

    pub(super) fn take_offers(&mut self) -> Offers {
        self.offers().map(std::mem::take).unwrap_or_default()
    }
}

impl Job {
    pub(super) fn new(spec: Arc<JobSpec>, timetable: Timetable, source: Source) -> Self {
        Job {
            spec,
            timetable,
            source,
            clock: None,
            runs: VecDeque::new(),
            setback: Setback::default(),
            counts: Counts::default(),
            last: None,
            failed_in_a_row: 0,
            skipped_in_a_row: 0,
        }
    }

    /// Whether it runs by itself.
    pub(super) fn is_enabled(&self) -> bool {
        match &self.source {
            Source::Configured(Standing::Enabled, _) | Source::Registered(_) => true,
            Source::Configured(Standing::Disabled, _) | Source::Withdrawn => false,
        }
    }

    pub(super) fn is_withdrawn(&self) -> bool {
        matches!(self.source, Source::Withdrawn)
    }

    /// Whether there may be a run more.
    pub(super) fn admits(&self) -> Result<(), Skip> {
        let waits = self.runs.iter().any(|run| !run.has_begun());
        match self.spec.overlap {
            _ if waits => Err(Skip::Waits),
            Overlap::Skip if !self.runs.is_empty() => Err(Skip::Runs),
            Overlap::Allow if self.runs.len() >= MOST_SIDE_BY_SIDE => Err(Skip::Crowd),
            Overlap::Skip | Overlap::Queue | Overlap::Allow => Ok(()),
        }
    }

    /// How many of its runs may go on at a time.
    pub(super) fn width(&self) -> usize {
        match self.spec.overlap {
            Overlap::Skip | Overlap::Queue => 1,
            Overlap::Allow => MOST_SIDE_BY_SIDE,
        }
    }

    pub(super) fn view(&self, now: &Now) -> JobView<'_> {
        let errands = self.runs.iter().flat_map(|run| {
            let number = run.number;
            run.errands.iter().map(move |errand| (number, errand))
        });
        let is_overdue = |state: &State| matches!(state, State::Overdue { .. });
        JobView {
            spec: &self.spec,
            origin: match &self.source {
                Source::Configured(Standing::Enabled, _) => Origin::Configured,
                Source::Configured(Standing::Disabled, _) => Origin::Disabled,
                Source::Registered(offers) => Origin::Registered(offers.len()),
                Source::Withdrawn => Origin::Withdrawn,
            },
            running: errands
                .clone()
                .filter_map(|(run, errand)| Some((run, errand.worker()?)))
                .collect(),
            overdue: errands.filter(|(_, it)| is_overdue(&it.state)).count(),
            waiting: self.runs.iter().filter(|run| !run.has_begun()).count(),
            rests: self
                .setback
                .rest(now.monotonic)
                .map(|until| until.saturating_duration_since(now.monotonic)),
            next: self.clock.as_ref().and_then(|clock| clock.next(now)),
            last: self.last.as_ref(),
            counts: self.counts,
        }
    }
}

/// How many runs of a job may go on at a time where they may at all.
const MOST_SIDE_BY_SIDE: usize = 16;
