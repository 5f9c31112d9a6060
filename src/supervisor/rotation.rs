//! Who is in the rotation: as many as there should be workers, of those that hold a seat and are
//! ready. The others stand by.

use super::*;

impl Supervisor {
    /// Calls up who stands by when somebody is missing, and sends back who is too many.
    pub(super) fn man_rotation(&mut self) {
        let wanted = self.plan.workers as usize;
        if self.is_manned(wanted) {
            return;
        }
        let mut members: Vec<WorkerId> = self.incumbents(Post::Rotation).collect();
        while members.len() > wanted
            && let Some(worker) = members.pop()
        {
            self.post(worker, Post::Standby);
            self.order(Action::Leave { worker });
        }
        let missing = wanted - members.len();
        let standby: Vec<WorkerId> = self.incumbents(Post::Standby).take(missing).collect();
        for worker in standby {
            self.enter(worker);
        }
    }

    /// Whether nobody is too many, and nobody could help: mostly so, and quickly seen.
    fn is_manned(&self, wanted: usize) -> bool {
        let processes = || self.processes.values();
        let members = processes().filter(|it| it.is_in_rotation()).count();
        // A canary is a member, but holds no seat yet.
        self.rollout.is_none()
            && (members == wanted || members < wanted && !processes().any(Process::is_on_standby))
    }

    /// It receives connections from now on, if it does not yet.
    pub(super) fn enter(&mut self, worker: WorkerId) {
        if self
            .processes
            .get(&worker)
            .is_some_and(Process::is_on_standby)
        {
            self.post(worker, Post::Rotation);
            self.order(Action::Enter { worker });
        }
    }

    fn post(&mut self, worker: WorkerId, post: Post) {
        if let Some(process) = self.processes.get_mut(&worker) {
            process.phase = Phase::Serving { post };
        }
    }

    /// Workers at that post that hold a seat, by slot.
    fn incumbents(&self, post: Post) -> impl Iterator<Item = WorkerId> {
        let seats = self.seats.iter().filter(|seat| seat.role == Role::Worker);
        seats.filter_map(Seat::incumbent).filter(move |worker| {
            let process = self.processes.get(worker);
            process.is_some_and(|it| it.phase == Phase::Serving { post })
        })
    }
}
