//! Leadership: of each name that processes want led, who leads, and who has to be told.
//!
//! Pure. A leader leads until it leaves, resigns or is gone: nobody is deposed for a better one. While
//! it does, the term stays; every change of it is a new term.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use worker_proto::frame::FromMaster;
use worker_proto::ids::{Generation, Role, WorkerId};
use worker_proto::name;

/// Every name, and who is concerned.
#[derive(Debug)]
pub struct Leadership {
    electorate: Electorate,
    names: BTreeMap<String, Seat>,
    processes: BTreeMap<WorkerId, Standing>,
    news: VecDeque<(WorkerId, FromMaster)>,
    changes: VecDeque<Change>,
    /// The highest term of all names that nobody has to do with any more. The next ones begin after
    /// it, so that no name ever has a term twice.
    spent: u64,
    /// The cluster stops: who leads does so to its end, and nobody comes after it.
    is_closing: bool,
}

/// Who may lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Electorate {
    /// A cluster has agents for what is to be done once.
    Agents,
    /// There are none.
    Workers,
}

/// Who leads, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What is led.
    pub name: String,
    /// Higher than each before it of this name.
    pub term: u64,
    /// By whom, if by anybody.
    pub leader: Option<WorkerId>,
}

/// Somebody who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    /// Which incarnation.
    pub worker: WorkerId,
    /// What it is for.
    pub role: Role,
    /// Of which version of the program.
    pub generation: Generation,
    /// How far it is.
    pub stage: Stage,
}

/// How far a process is; it never goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// It may not have all that it needs.
    Starting,
    /// It can serve.
    Ready,
    /// It finishes what it has.
    Leaving,
}

/// The seat of a name's leader.
#[derive(Debug, Default)]
struct Seat {
    term: u64,
    leader: Option<WorkerId>,
    candidates: BTreeSet<WorkerId>,
    followers: BTreeSet<WorkerId>,
}

/// How far a process is that has asked for something.
#[derive(Debug)]
struct Standing {
    generation: Generation,
    stage: Stage,
    /// How many names it leads, wants to lead or follows.
    names: usize,
}

impl Leadership {
    /// Nothing is led yet.
    #[must_use]
    pub fn new(electorate: Electorate) -> Self {
        Leadership {
            electorate,
            names: BTreeMap::new(),
            processes: BTreeMap::new(),
            news: VecDeque::new(),
            changes: VecDeque::new(),
            spent: 0,
            is_closing: false,
        }
    }

    /// The cluster stops. All leave at once: a leader that has to finish, too, is better than a new one
    /// for each that goes.
    pub fn close(&mut self) {
        self.is_closing = true;
    }

    /// The process offers to lead.
    pub fn offer(&mut self, asker: Asker, name: &str) {
        let reason = match (self.electorate, asker.role) {
            (Electorate::Agents, Role::Worker) => Some(
                "this cluster has agents, and only they lead: call it in the agent's program"
                    .to_owned(),
            ),
            (Electorate::Agents, Role::Agent) | (Electorate::Workers, _) => None,
        };
        let reason = reason.or_else(|| self.objection(asker.worker, name));
        if let Some(reason) = reason {
            return self.refuse(asker.worker, name, reason);
        }
        self.register(asker, name);
        self.seat(name).candidates.insert(asker.worker);
        if self.seat(name).leader.is_some() {
            self.tell(asker.worker, name);
        } else {
            self.elect(name);
        }
    }

    /// The process wants to know who leads, now and from now on.
    pub fn follow(&mut self, asker: Asker, name: &str) {
        if let Some(reason) = self.objection(asker.worker, name) {
            return self.refuse(asker.worker, name, reason);
        }
        self.register(asker, name);
        self.seat(name).followers.insert(asker.worker);
        self.tell(asker.worker, name);
    }

    /// The process does not want to lead any more.
    pub fn resign(&mut self, worker: WorkerId, name: &str) {
        let Some(seat) = self.names.get_mut(name) else {
            return;
        };
        if !seat.candidates.remove(&worker) {
            return;
        }
        if seat.leader == Some(worker) {
            self.vacate(name);
        }
        self.release(worker, name);
        self.drop_idle_names();
    }

    /// The process can serve.
    pub fn ready(&mut self, worker: WorkerId) {
        if let Some(process) = self.processes.get_mut(&worker) {
            process.stage = process.stage.max(Stage::Ready);
        }
    }

    /// The process will be gone: it leads nothing from now on. It is told who does.
    pub fn leave(&mut self, worker: WorkerId) {
        let Some(process) = self.processes.get_mut(&worker) else {
            return;
        };
        process.stage = Stage::Leaving;
        if self.is_closing {
            return;
        }
        for name in self.led_by(worker) {
            self.vacate(&name);
        }
    }

    /// The process is gone.
    pub fn forget(&mut self, worker: WorkerId) {
        if self.processes.remove(&worker).is_none() {
            return;
        }
        self.news.retain(|(recipient, _)| *recipient != worker);
        for seat in self.names.values_mut() {
            seat.candidates.remove(&worker);
            seat.followers.remove(&worker);
        }
        for name in self.led_by(worker) {
            self.vacate(&name);
        }
        self.drop_idle_names();
    }

    /// The next one to be told something.
    pub fn poll_news(&mut self) -> Option<(WorkerId, FromMaster)> {
        self.news.pop_front()
    }

    /// The next change of a leader, for those who watch the cluster.
    pub fn poll_change(&mut self) -> Option<Change> {
        self.changes.pop_front()
    }

    fn led_by(&self, worker: WorkerId) -> Vec<String> {
        let seats = self.names.iter();
        let led = seats.filter(|(_, seat)| seat.leader == Some(worker));
        led.map(|(name, _)| name.clone()).collect()
    }

    /// Why the process cannot have to do with the name.
    fn objection(&self, worker: WorkerId, given: &str) -> Option<String> {
        if let Err(problem) = name::check(given) {
            let shown: String = given.chars().take(LONGEST_QUOTE).collect();
            return Some(format!("name {shown:?}: {problem}"));
        }
        let known = self.names.get(given);
        if known.is_none() && self.names.len() >= MOST_NAMES {
            return Some(format!(
                "name {given:?}: {MOST_NAMES} names are led already, and no more may be"
            ));
        }
        let is_concerned = known.is_some_and(|seat| seat.concerns(worker));
        let names = self.processes.get(&worker).map_or(0, |it| it.names);
        (!is_concerned && names >= MOST_OF_ONE).then(|| {
            format!("name {given:?}: a process leads and follows {MOST_OF_ONE} names at most")
        })
    }

    fn register(&mut self, asker: Asker, name: &str) {
        let is_new = !self.seat(name).concerns(asker.worker);
        let process = self.processes.entry(asker.worker).or_insert(Standing {
            generation: asker.generation,
            stage: asker.stage,
            names: 0,
        });
        process.names += usize::from(is_new);
        process.stage = process.stage.max(asker.stage);
    }

    fn release(&mut self, worker: WorkerId, name: &str) {
        let is_left = self
            .names
            .get(name)
            .is_some_and(|seat| !seat.concerns(worker));
        if is_left && let Some(process) = self.processes.get_mut(&worker) {
            process.names -= 1;
        }
    }

    /// Forgets the names that nobody has to do with any more, but for the terms that they had.
    fn drop_idle_names(&mut self) {
        self.names.retain(|_, seat| {
            let stays = seat.is_of_interest();
            if !stays {
                self.spent = self.spent.max(seat.term);
            }
            stays
        });
    }

    fn seat(&mut self, name: &str) -> &mut Seat {
        if !self.names.contains_key(name) {
            let seat = Seat {
                term: self.spent,
                ..Seat::default()
            };
            self.names.insert(name.to_owned(), seat);
        }
        self.names.get_mut(name).expect("it was just put there")
    }

    /// The leader's seat is empty: the next one takes it, if there is one.
    fn vacate(&mut self, name: &str) {
        let seat = self.seat(name);
        if seat.leader.take().is_some() && self.successor(name).is_none() {
            let seat = self.seat(name);
            seat.term += 1;
            self.proclaim(name);
        }
        self.elect(name);
    }

    /// If nobody leads and somebody can, he does.
    fn elect(&mut self, name: &str) {
        let successor = self.successor(name);
        let seat = self.seat(name);
        if seat.leader.is_none() && successor.is_some() {
            seat.leader = successor;
            seat.term += 1;
            self.proclaim(name);
        }
    }

    /// Of those who do not leave: one that is ready before one that starts, of the newest generation
    /// since the others will be replaced, and of those the one that was started first.
    fn successor(&self, name: &str) -> Option<WorkerId> {
        if self.is_closing {
            return None;
        }
        let candidates = self.names.get(name)?.candidates.iter();
        let eligible = candidates.filter_map(|worker| {
            let process = self.processes.get(worker)?;
            let rank = match process.stage {
                Stage::Ready => 0,
                Stage::Starting => 1,
                Stage::Leaving => return None,
            };
            let newest_first = std::cmp::Reverse(process.generation);
            Some((rank, newest_first, *worker))
        });
        eligible.min().map(|(_, _, worker)| worker)
    }

    /// Tells all who are concerned.
    fn proclaim(&mut self, name: &str) {
        let seat = self.seat(name);
        let concerned: Vec<WorkerId> = seat.candidates.union(&seat.followers).copied().collect();
        let change = Change {
            name: name.to_owned(),
            term: seat.term,
            leader: seat.leader,
        };
        self.changes.push_back(change);
        for worker in concerned {
            self.tell(worker, name);
        }
    }

    fn tell(&mut self, worker: WorkerId, name: &str) {
        let seat = self.seat(name);
        let frame = FromMaster::Leader {
            name: name.to_owned(),
            term: seat.term,
            leader: seat.leader,
        };
        self.news.push_back((worker, frame));
    }

    fn refuse(&mut self, worker: WorkerId, name: &str, reason: String) {
        let name = name.to_owned();
        let frame = FromMaster::NotLeading { name, reason };
        self.news.push_back((worker, frame));
    }
}

impl Seat {
    fn concerns(&self, worker: WorkerId) -> bool {
        self.candidates.contains(&worker) || self.followers.contains(&worker)
    }

    fn is_of_interest(&self) -> bool {
        !self.candidates.is_empty() || !self.followers.is_empty()
    }
}

/// How many names may be led.
pub const MOST_NAMES: usize = 1024;

/// How many names a process may have to do with.
pub const MOST_OF_ONE: usize = 64;

/// How much of a bad name is shown.
const LONGEST_QUOTE: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    const CACHE: &str = "cache";

    fn worker(id: u64) -> Asker {
        Asker {
            worker: WorkerId(id),
            role: Role::Worker,
            generation: Generation(1),
            stage: Stage::Ready,
        }
    }

    fn starting(id: u64) -> Asker {
        Asker {
            stage: Stage::Starting,
            ..worker(id)
        }
    }

    fn of_generation(id: u64, generation: u64) -> Asker {
        Asker {
            generation: Generation(generation),
            ..worker(id)
        }
    }

    fn agent(id: u64) -> Asker {
        Asker {
            role: Role::Agent,
            ..worker(id)
        }
    }

    /// Who was told what: whom, the term, and who leads.
    fn told(leadership: &mut Leadership) -> Vec<(u64, u64, Option<u64>)> {
        let mut told = Vec::new();
        while let Some((whom, frame)) = leadership.poll_news() {
            if let FromMaster::Leader { name, term, leader } = frame {
                assert_eq!(name, CACHE);
                told.push((whom.0, term, leader.map(|it| it.0)));
            } else {
                panic!("{frame:?}");
            }
        }
        told
    }

    fn refusal(leadership: &mut Leadership) -> String {
        match leadership.poll_news() {
            Some((_, FromMaster::NotLeading { reason, .. })) => reason,
            other => panic!("{other:?}"),
        }
    }

    fn leader(leadership: &Leadership) -> Option<u64> {
        leadership.names.get(CACHE)?.leader.map(|it| it.0)
    }

    /// Ready workers that want to lead, the first of which does.
    fn ready(workers: &[Asker]) -> Leadership {
        let mut leadership = Leadership::new(Electorate::Workers);
        for &asker in workers {
            leadership.offer(asker, CACHE);
        }
        told(&mut leadership);
        leadership
    }

    #[test]
    fn the_first_to_offer_leads_until_it_is_gone() {
        let mut leadership = Leadership::new(Electorate::Workers);
        leadership.follow(worker(3), CACHE);
        assert_eq!(told(&mut leadership), [(3, 0, None)]);
        leadership.offer(starting(2), CACHE);
        assert_eq!(told(&mut leadership), [(2, 1, Some(2)), (3, 1, Some(2))]);
        leadership.offer(worker(1), CACHE);
        assert_eq!(told(&mut leadership), [(1, 1, Some(2))]);
        leadership.forget(WorkerId(2));
        assert_eq!(told(&mut leadership), [(1, 2, Some(1)), (3, 2, Some(1))]);
        leadership.forget(WorkerId(1));
        assert_eq!(told(&mut leadership), [(3, 3, None)]);
        leadership.offer(worker(4), CACHE);
        assert_eq!(told(&mut leadership), [(3, 4, Some(4)), (4, 4, Some(4))]);
        let changes = std::iter::from_fn(|| leadership.poll_change());
        let changes: Vec<_> = changes
            .map(|it| (it.term, it.leader.map(|it| it.0)))
            .collect();
        assert_eq!(
            changes,
            [(1, Some(2)), (2, Some(1)), (3, None), (4, Some(4))]
        );
    }

    /// A program that stamps what it writes with its term must not find a successor below itself.
    #[test]
    fn a_name_that_was_forgotten_goes_on_after_its_last_term() {
        let mut leadership = ready(&[worker(1)]);
        leadership.forget(WorkerId(1));
        leadership.offer(worker(2), CACHE);
        assert_eq!(told(&mut leadership), [(2, 3, Some(2))]);
        leadership.resign(WorkerId(2), CACHE);
        assert!(leadership.names.is_empty());
        leadership.offer(worker(2), CACHE);
        assert_eq!(told(&mut leadership), [(2, 5, Some(2))]);
    }

    #[test]
    fn who_serves_longest_comes_next_and_never_one_that_leaves() {
        let mut leadership = ready(&[worker(1), worker(4), worker(3), worker(2)]);
        leadership.leave(WorkerId(2));
        assert_eq!(leader(&leadership), Some(1));
        leadership.leave(WorkerId(1));
        assert_eq!(leader(&leadership), Some(3));
        leadership.resign(WorkerId(3), CACHE);
        assert_eq!(leader(&leadership), Some(4));
        leadership.leave(WorkerId(4));
        assert_eq!(leader(&leadership), None);
        leadership.offer(worker(2), CACHE);
        assert_eq!(leader(&leadership), None);
    }

    #[test]
    fn one_that_is_ready_comes_before_one_that_starts() {
        let mut leadership = ready(&[worker(1)]);
        leadership.offer(starting(2), CACHE);
        leadership.offer(starting(3), CACHE);
        leadership.ready(WorkerId(3));
        leadership.forget(WorkerId(1));
        assert_eq!(leader(&leadership), Some(3));
        leadership.forget(WorkerId(3));
        assert_eq!(leader(&leadership), Some(2));
    }

    /// Otherwise every reload would change the leader as often as there are workers.
    #[test]
    fn the_newest_generation_leads_after_a_reload() {
        let mut leadership = ready(&[worker(1), worker(2), of_generation(3, 2)]);
        leadership.leave(WorkerId(1));
        assert_eq!(leader(&leadership), Some(3));
        leadership.offer(of_generation(4, 2), CACHE);
        leadership.leave(WorkerId(2));
        assert_eq!(leader(&leadership), Some(3));
        assert_eq!(leadership.names[CACHE].term, 2);
    }

    #[test]
    fn with_agents_only_they_lead() {
        let mut leadership = Leadership::new(Electorate::Agents);
        leadership.offer(worker(2), CACHE);
        assert!(refusal(&mut leadership).contains("this cluster has agents"));
        leadership.follow(worker(2), CACHE);
        leadership.offer(agent(1), CACHE);
        assert_eq!(
            told(&mut leadership),
            [(2, 0, None), (1, 1, Some(1)), (2, 1, Some(1))]
        );
    }

    /// Its successor would be gone as soon.
    #[test]
    fn nobody_is_elected_while_the_cluster_stops() {
        let mut leadership = ready(&[worker(1), worker(2)]);
        leadership.close();
        for id in [1, 2] {
            leadership.leave(WorkerId(id));
        }
        assert_eq!(leader(&leadership), Some(1));
        assert_eq!(told(&mut leadership), []);
        leadership.forget(WorkerId(1));
        assert_eq!(told(&mut leadership), [(2, 2, None)]);
    }

    #[test]
    fn there_is_an_end_to_names() {
        let mut leadership = Leadership::new(Electorate::Workers);
        for (name, says) in [
            ("", "it is empty"),
            ("a\nb", "control characters"),
            (&"x".repeat(129), "129 bytes, 128 are the most"),
        ] {
            leadership.offer(worker(1), name);
            let reason = refusal(&mut leadership);
            assert!(reason.contains(says), "{reason}");
        }
        assert!(leadership.names.is_empty() && leadership.processes.is_empty());
        for id in 0..(MOST_NAMES / MOST_OF_ONE) {
            for number in 0..MOST_OF_ONE {
                let name = format!("{id} {number}");
                leadership.follow(worker(id as u64), &name);
                leadership.offer(worker(id as u64), &name);
            }
        }
        leadership.news.clear();
        leadership.offer(worker(1), "0 0");
        assert!(refusal(&mut leadership).contains("64 names at most"));
        leadership.offer(worker(100), "new");
        assert!(refusal(&mut leadership).contains("1024 names are led already"));
        leadership.offer(worker(100), "0 0");
        assert!(matches!(
            leadership.poll_news(),
            Some((WorkerId(100), FromMaster::Leader { .. }))
        ));
        for id in (0..16).chain([100]) {
            leadership.forget(WorkerId(id));
        }
        assert!(leadership.names.is_empty() && leadership.processes.is_empty());
    }
}
