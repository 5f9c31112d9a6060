//! Programs that know nothing of their master: a preloaded library speaks for them.
//!
//! Such a program is told nothing but answers to its `Attach`: nobody in it reads the channel at
//! other times. Whichever of its processes listens may ask.

use std::time::Instant;

use worker_proto::frame::{Attach, FromMaster};
use worker_proto::ids::{Role, WorkerId};

use super::Reactor;
use super::acceptor::Wanted;
use crate::supervisor::Event;

impl Reactor {
    /// Answers a preloaded library's question for a listener.
    pub(super) fn attach(&mut self, worker: WorkerId, attach: &Attach, now: Instant) {
        self.execute_actions(now);
        let Some(process) = self.processes.get_mut(&worker) else {
            return;
        };
        if !process.is_attached() {
            log::debug!("{worker} speaks {}", attach.library);
            self.acceptor.note_speaks(worker);
            let (scoreboard, page) = process.create_scoreboard().unzip();
            process.note_attached(page);
            if process.role == Role::Worker {
                self.loads.join(worker, attach.pid, scoreboard);
            }
            self.supervisor.handle(now, Event::Online { worker });
        }
        let page = process.share_page();
        let wanted = Wanted::by_library(attach);
        if let Some((answer, mut descriptors)) = self.answer_listen(worker, wanted, now) {
            if let FromMaster::Listening(_) = answer {
                descriptors.extend(page);
            }
            self.answer_question(worker, answer, descriptors, now);
        }
    }
}
