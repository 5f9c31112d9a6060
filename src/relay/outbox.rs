//! An outbox: what waits for one process, in the order in which it is for it.
//!
//! It has a bound in bytes, and lets out no more than the process has room for: what its program has
//! not taken counts against a window. So who does not read costs nobody else anything. What has waited as
//! long as its sender wants leaves it.
//!
//! Replies and values are taken as they come, for the program waits for them: no window keeps them,
//! or a program that asks before it takes its messages would never hear the answer. A reply overtakes
//! what others have sent, and nothing of its own sender's.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use worker_proto::frame::FromMaster;
use worker_proto::ids::WorkerId;
use worker_proto::message::{Kind, RECEIVE_WINDOW_BYTES};

use super::envelope::Envelope;

/// What waits for one process.
#[derive(Debug)]
pub(super) struct Outbox {
    /// What is kept while the program has not taken enough.
    patient: Lane,
    /// What it waits for.
    awaited: Lane,
    /// The message of which a part is sent.
    begun: Option<Begun>,
    /// How many in the patient lane are of each sender.
    patient_of: BTreeMap<Option<WorkerId>, usize>,
    /// What may wait in each lane.
    bound: u64,
    /// What is sent and not taken yet.
    on_its_way: u64,
    /// None of them has waited long enough before that.
    earliest: Option<Instant>,
    /// They are not looked through before that.
    rests_until: Option<Instant>,
}

/// What waits, in its order.
#[derive(Debug, Default)]
struct Lane {
    waiting: VecDeque<Waiting>,
    /// What all of it counts for.
    charge: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Patient,
    Awaited,
}

/// The first of a lane, of which that many frames are sent.
#[derive(Clone, Copy, Debug)]
struct Begun {
    lane: Which,
    sent: usize,
}

#[derive(Debug)]
struct Waiting {
    envelope: Arc<Envelope>,
    /// No longer than this.
    until: Option<Instant>,
}

impl Outbox {
    /// One in which that much may wait, and as much of what is awaited; a single message may be as
    /// large.
    pub(super) fn new(bound: u64) -> Self {
        Outbox {
            patient: Lane::default(),
            awaited: Lane::default(),
            begun: None,
            patient_of: BTreeMap::new(),
            bound,
            on_its_way: 0,
            earliest: None,
            rests_until: None,
        }
    }

    /// Puts a message at the end, if there is room.
    pub(super) fn push(
        &mut self,
        envelope: Arc<Envelope>,
        until: Option<Instant>,
    ) -> Result<(), Arc<Envelope>> {
        let which = self.lane_for(&envelope);
        let bound = self.bound;
        let charge = envelope.charge();
        let lane = self.lane_mut(which);
        if !lane.waiting.is_empty() && lane.charge + charge > bound {
            return Err(envelope);
        }
        let sender = envelope.sender();
        lane.charge += charge;
        lane.waiting.push_back(Waiting { envelope, until });
        if which == Which::Patient {
            *self.patient_of.entry(sender).or_default() += 1;
        }
        self.earliest = [self.earliest, until].into_iter().flatten().min();
        Ok(())
    }

    fn lane_for(&self, envelope: &Envelope) -> Which {
        match envelope.kind {
            Kind::Value { .. } => Which::Awaited,
            Kind::Reply { .. } if !self.patient_of.contains_key(&envelope.sender()) => {
                Which::Awaited
            }
            Kind::Reply { .. } | Kind::Message | Kind::Request => Which::Patient,
        }
    }

    /// Whether a frame may be sent now.
    pub(super) fn is_sendable(&self) -> bool {
        self.next().is_some()
    }

    /// The message of which the next frame is, if one may be sent, and how far it is.
    fn next(&self) -> Option<(Begun, &Envelope)> {
        if let Some(begun) = self.begun {
            return Some((begun, self.lane(begun.lane).first()?));
        }
        let next = |lane| Begun { lane, sent: 0 };
        if let Some(first) = self.awaited.first() {
            return Some((next(Which::Awaited), first));
        }
        let first = self.patient.first()?;
        let has_room = self.on_its_way <= RECEIVE_WINDOW_BYTES / 4
            || self.on_its_way + first.charge() <= RECEIVE_WINDOW_BYTES;
        has_room.then(|| (next(Which::Patient), first))
    }

    /// The next frame, if one may be sent.
    pub(super) fn frame(&self) -> Option<FromMaster> {
        let (Begun { sent, .. }, first) = self.next()?;
        Some(match sent {
            0 => FromMaster::Deliver(first.first()),
            index => FromMaster::DeliverMore(first.further(index)),
        })
    }

    /// The next frame is sent; answers with the message if it was its last.
    pub(super) fn note_sent(&mut self) -> Option<Arc<Envelope>> {
        let (Begun { lane, sent }, first) = self.next()?;
        let (charge, frames) = (first.charge(), first.frames());
        if sent == 0 {
            self.on_its_way += charge;
        }
        let sent = sent + 1;
        if sent < frames {
            self.begun = Some(Begun { lane, sent });
            return None;
        }
        self.begun = None;
        let first = self.lane_mut(lane).waiting.pop_front()?.envelope;
        self.note_left(lane, &first);
        Some(first)
    }

    /// The program has taken that much. What is too much is only of harm to itself.
    pub(super) fn note_taken(&mut self, bytes: u64) {
        self.on_its_way = self.on_its_way.saturating_sub(bytes);
    }

    /// Gives away everything that is not sent whole.
    pub(super) fn empty(&mut self) -> Vec<Arc<Envelope>> {
        self.begun = None;
        self.patient_of.clear();
        let awaited = std::mem::take(&mut self.awaited).waiting;
        let patient = std::mem::take(&mut self.patient).waiting;
        let waiting = awaited.into_iter().chain(patient);
        waiting.map(|waiting| waiting.envelope).collect()
    }

    /// Gives away what has waited long enough. What is sent in part is sent whole.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Arc<Envelope>> {
        let mut over = Vec::new();
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return over;
        }
        self.earliest = None;
        for which in [Which::Awaited, Which::Patient] {
            let begun = self.begun.filter(|begun| begun.lane == which);
            let (lost, earliest) = self.lane_mut(which).expire(now, begun.is_some());
            for envelope in &lost {
                self.note_left(which, envelope);
            }
            self.earliest = [self.earliest, earliest].into_iter().flatten().min();
            over.extend(lost);
        }
        self.rests_until = Some(now + REST);
        over
    }

    /// When [`expire`](Self::expire) may have something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let earliest = self.earliest?;
        let rests_until = self.rests_until.unwrap_or(earliest);
        Some(earliest.max(rests_until))
    }

    /// A message has left its lane.
    fn note_left(&mut self, which: Which, envelope: &Envelope) {
        self.lane_mut(which).charge -= envelope.charge();
        let sender = envelope.sender();
        if which == Which::Patient
            && let Some(count) = self.patient_of.get_mut(&sender)
        {
            *count -= 1;
            if *count == 0 {
                self.patient_of.remove(&sender);
            }
        }
    }

    fn lane(&self, which: Which) -> &Lane {
        match which {
            Which::Patient => &self.patient,
            Which::Awaited => &self.awaited,
        }
    }

    fn lane_mut(&mut self, which: Which) -> &mut Lane {
        match which {
            Which::Patient => &mut self.patient,
            Which::Awaited => &mut self.awaited,
        }
    }

    /// How many messages wait, and what they count for.
    #[cfg(test)]
    pub(super) fn backlog(&self) -> (usize, u64) {
        let Outbox {
            patient, awaited, ..
        } = self;
        (
            patient.waiting.len() + awaited.waiting.len(),
            patient.charge + awaited.charge,
        )
    }

    /// What those count for that the program waits for.
    pub(super) fn awaited_bytes(&self) -> u64 {
        self.awaited.charge
    }
}

impl Lane {
    fn first(&self) -> Option<&Envelope> {
        Some(&self.waiting.front()?.envelope)
    }

    /// Gives away what has waited long enough, and says when the next of the others has.
    fn expire(&mut self, now: Instant, is_begun: bool) -> (Vec<Arc<Envelope>>, Option<Instant>) {
        let mut over = Vec::new();
        let mut earliest = None;
        let mut stays = is_begun;
        self.waiting.retain(|Waiting { envelope, until }| {
            if std::mem::take(&mut stays) {
                return true;
            }
            let is_over = until.is_some_and(|until| until <= now);
            if is_over {
                over.push(Arc::clone(envelope));
            } else {
                earliest = [earliest, *until].into_iter().flatten().min();
            }
            !is_over
        });
        (over, earliest)
    }
}

/// How long at least between two looks at all that waits: it may be very much, and each of it may
/// have a time of its own.
const REST: Duration = Duration::from_millis(50);
