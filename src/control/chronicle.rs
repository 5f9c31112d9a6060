//! The chronicle: what happened last, who is told, and how often each slot was filled again.
//!
//! Pure. A process that was forked has exactly one `disconnect`, and then exactly one `exit`.

use std::collections::{BTreeMap, VecDeque};

use crossbeam_channel::{Sender, TrySendError};
use serde_json::json;
use worker_proto::ids::{Role, Slot, WorkerId};

use super::event::{Circumstances, ClusterEvent, During, Fact, aftermath, facts};
use super::time::UnixTime;
use crate::supervisor::{Next, Notice, Who};

/// What happened.
#[derive(Debug, Default)]
pub(crate) struct Chronicle {
    /// The latest [`REMEMBERED`].
    recent: VecDeque<ClusterEvent>,
    latest: u64,
    /// Every process that exists.
    lives: BTreeMap<WorkerId, Life>,
    restarts: BTreeMap<(Role, Slot), u64>,
    listeners: Vec<Subscription>,
}

/// How far a process has come.
#[derive(Clone, Copy, Debug)]
struct Life {
    was_ready: bool,
    is_disconnected: bool,
    /// It said so, and nobody had asked it to.
    leaves: bool,
}

/// The other end of `Handle::events`.
#[derive(Debug)]
struct Subscription {
    events: Sender<ClusterEvent>,
    /// How many did not fit since the last one that did.
    lost: u64,
}

impl Chronicle {
    /// What happened last, the oldest first.
    pub(crate) fn recent(&self) -> impl Iterator<Item = &ClusterEvent> {
        self.recent.iter()
    }

    /// What happened after that number.
    pub(crate) fn since(&self, number: u64) -> impl Iterator<Item = &ClusterEvent> {
        self.recent
            .iter()
            .filter(move |event| event.number > number)
    }

    /// The number of the latest event.
    pub(crate) fn latest(&self) -> u64 {
        self.latest
    }

    /// How often the slot was filled again after a failure.
    pub(crate) fn restarts(&self, role: Role, slot: Slot) -> u64 {
        self.restarts.get(&(role, slot)).copied().unwrap_or(0)
    }

    /// From now on these are told, too.
    pub(crate) fn subscribe(&mut self, events: Sender<ClusterEvent>) {
        if self.listeners.len() >= SUBSCRIPTIONS {
            self.listeners.remove(0);
        }
        self.listeners.push(Subscription { events, lost: 0 });
    }

    /// Takes down what the supervisor tells.
    pub(crate) fn note(&mut self, at: UnixTime, notice: &Notice, circumstances: &Circumstances) {
        if let Notice::Spawned { who } = notice {
            let life = Life {
                was_ready: false,
                is_disconnected: false,
                leaves: false,
            };
            self.lives.insert(who.worker, life);
        }
        if let Notice::Ready { who, .. } = notice
            && let Some(life) = self.lives.get_mut(&who.worker)
        {
            life.was_ready = true;
        }
        if let Notice::Disconnected { who, .. } = notice
            && let Some(life) = self.lives.get_mut(&who.worker)
        {
            life.is_disconnected = true;
        }
        if let Notice::Goodbye { who, .. } | Notice::Retiring { who, .. } = notice
            && let Some(life) = self.lives.get_mut(&who.worker)
        {
            life.leaves = true;
        }
        let mut during = None;
        if let Notice::Exited { who, expected, .. } = notice {
            during = Some(self.during(who.worker, *expected));
            let life = self.lives.remove(&who.worker);
            if life.is_some_and(|life| !life.is_disconnected) {
                self.record(at, never_heard(*who));
            }
        }
        if let Some((who, Next::RestartIn(_))) = aftermath(notice) {
            *self.restarts.entry((who.role, who.slot)).or_default() += 1;
        }
        for fact in facts(notice) {
            // The first one is the exit itself.
            let fact = match during.take() {
                Some(during) => fact.amid(during, circumstances),
                None => fact,
            };
            self.record(at, fact);
        }
    }

    /// How far a process has come that ends now.
    pub(crate) fn during(&self, worker: WorkerId, expected: bool) -> During {
        match (expected, self.lives.get(&worker)) {
            (true, _) => During::Leaving,
            (false, Some(life)) if life.leaves => During::Leaving,
            (false, Some(life)) if life.was_ready => During::Serving,
            (false, _) => During::Start,
        }
    }

    /// Takes down one fact.
    pub(crate) fn record(&mut self, at: UnixTime, fact: Fact) {
        self.latest += 1;
        let event = ClusterEvent {
            number: self.latest,
            at,
            fact,
        };
        self.listeners.retain_mut(|listener| listener.tell(&event));
        self.make_room();
        self.recent.push_back(event);
    }
}

impl Chronicle {
    /// Forgets one event if as many are remembered as may be. The jobs' daily round and what
    /// processes say do not drive out everything else, so of half of them that goes first.
    fn make_room(&mut self) {
        if self.recent.len() < REMEMBERED {
            return;
        }
        let routine = self.recent.iter().filter(|event| is_routine(event));
        if routine.count() > REMEMBERED / 2 {
            let oldest = self.recent.iter().position(is_routine);
            oldest.and_then(|index| self.recent.remove(index));
        } else {
            self.recent.pop_front();
        }
    }
}

/// Whether there will be many more of the same kind, and nothing is wrong.
fn is_routine(event: &ClusterEvent) -> bool {
    matches!(
        &*event.fact.name,
        "job-started" | "job-done" | "job-skipped" | "message" | "agent-message"
    )
}

impl Subscription {
    /// Answers whether anybody listens.
    fn tell(&mut self, event: &ClusterEvent) -> bool {
        if self.lost > 0 {
            let notice = ClusterEvent {
                number: event.number,
                at: event.at,
                fact: Fact::lost(self.lost),
            };
            match self.events.try_send(notice) {
                Ok(()) => self.lost = 0,
                Err(TrySendError::Full(_)) => {}
                Err(TrySendError::Disconnected(_)) => return false,
            }
        }
        match self.events.try_send(event.clone()) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                self.lost += 1;
                true
            }
            Err(TrySendError::Disconnected(_)) => false,
        }
    }
}

fn never_heard(who: Who) -> Fact {
    let text = format!("{who} had no control channel");
    let more = json!({ "cause": "closed", "what": null });
    Fact::of_process("disconnect", who, text, more)
}

/// How many events are kept for those who ask what happened.
pub(crate) const REMEMBERED: usize = 256;

/// How many may listen through handles; who listens longest goes first.
const SUBSCRIPTIONS: usize = 64;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crossbeam_channel::bounded;
    use worker_proto::ids::Generation;
    use worker_proto::message::ContentType;

    use super::*;
    use crate::supervisor::{Disconnect, ExitStatus};

    const AT: UnixTime = UnixTime(Duration::ZERO);

    fn who(id: u64) -> Who {
        Who {
            worker: WorkerId(id),
            slot: Slot(0),
            generation: Generation(1),
            role: Role::Worker,
            pid: Some(1),
        }
    }

    fn note(chronicle: &mut Chronicle, notice: &Notice) {
        chronicle.note(AT, notice, &Circumstances::default());
    }

    fn exited(id: u64) -> Notice {
        Notice::Exited {
            who: who(id),
            status: ExitStatus::Code(1),
            uptime: Duration::ZERO,
            expected: false,
            next: Some(Next::RestartIn(Duration::ZERO)),
        }
    }

    fn names(chronicle: &Chronicle) -> Vec<String> {
        let recent = chronicle.recent();
        recent.map(|event| event.fact.name.to_string()).collect()
    }

    #[test]
    fn every_life_has_one_disconnect_and_then_one_exit() {
        let mut chronicle = Chronicle::default();
        note(&mut chronicle, &Notice::Spawned { who: who(1) });
        note(&mut chronicle, &exited(1));
        assert_eq!(names(&chronicle), ["fork", "disconnect", "exit", "refork"]);

        chronicle = Chronicle::default();
        note(&mut chronicle, &Notice::Spawned { who: who(2) });
        let cause = Disconnect::Closed;
        note(
            &mut chronicle,
            &Notice::Disconnected {
                who: who(2),
                cause,
                was_heard: true,
                next: None,
            },
        );
        note(&mut chronicle, &exited(2));
        assert_eq!(names(&chronicle), ["fork", "disconnect", "exit", "refork"]);
        assert_eq!(chronicle.restarts(Role::Worker, Slot(0)), 1);
    }

    #[test]
    fn an_exit_tells_how_far_the_process_had_come() {
        let mut chronicle = Chronicle::default();
        for id in [1, 2] {
            note(&mut chronicle, &Notice::Spawned { who: who(id) });
        }
        let took = Duration::ZERO;
        note(&mut chronicle, &Notice::Ready { who: who(1), took });
        note(&mut chronicle, &exited(1));
        note(&mut chronicle, &exited(2));
        let during: Vec<_> = chronicle
            .recent()
            .filter_map(|event| event.fact.fields.get("during"))
            .collect();
        assert_eq!(during, ["serving", "start"]);
    }

    #[test]
    fn messages_do_not_make_anybody_forget_what_happened() {
        let mut chronicle = Chronicle::default();
        note(&mut chronicle, &Notice::Online { who: who(1) });
        let content = (ContentType::TEXT, 2);
        for _ in 0..1000 {
            let message = Fact::message(who(1), "news", content, Some("hi"));
            chronicle.record(AT, message);
        }
        let names = names(&chronicle);
        assert_eq!(names[0], "online");
        assert_eq!(names.len(), REMEMBERED);
        assert_eq!(chronicle.latest(), 1001);
        assert_eq!(chronicle.since(1000).count(), 1);
    }

    #[test]
    fn who_reads_too_slowly_is_told_how_much_it_lost() {
        let mut chronicle = Chronicle::default();
        let (sender, events) = bounded(2);
        chronicle.subscribe(sender);
        for id in 1..=5 {
            note(&mut chronicle, &Notice::Online { who: who(id) });
        }
        let read = || {
            events
                .try_iter()
                .map(|event| event.number)
                .collect::<Vec<_>>()
        };
        assert_eq!(read(), [1, 2]);
        note(&mut chronicle, &Notice::Online { who: who(6) });
        let told: Vec<_> = events.try_iter().collect();
        assert_eq!(told[0].fact, Fact::lost(3));
        assert_eq!(told[1].number, 6);
        drop(events);
        note(&mut chronicle, &Notice::Online { who: who(7) });
        assert!(chronicle.listeners.is_empty());
    }

    #[test]
    fn jobs_do_not_drive_out_everything_else() {
        let mut chronicle = Chronicle::default();
        note(&mut chronicle, &Notice::Online { who: who(1) });
        for _ in 0..1000 {
            let done = Fact::of_cluster("job-done", "", json!({}));
            chronicle.record(AT, done);
        }
        let recent: Vec<_> = chronicle.recent().map(|event| event.number).collect();
        assert_eq!(recent.len(), REMEMBERED);
        assert_eq!((recent[0], recent[1], recent[255]), (1, 747, 1001));
        for id in 0..1000 {
            note(&mut chronicle, &Notice::Online { who: who(id) });
        }
        let routine = chronicle.recent().filter(|event| is_routine(event)).count();
        assert_eq!(routine, 0, "nor are they kept before everything else");
    }

    #[test]
    fn only_so_much_is_remembered() {
        let mut chronicle = Chronicle::default();
        for id in 0..1000 {
            note(&mut chronicle, &Notice::Online { who: who(id) });
        }
        assert_eq!(chronicle.recent().count(), REMEMBERED);
        assert_eq!(chronicle.since(998).count(), 2);
    }
}
