//! Programs that know nothing of their master: a preloaded library speaks for them.
//!
//! Such a program is told nothing but answers to its `Attach`: nobody in it reads the channel at
//! other times. Whichever of its processes listens may ask.

use std::os::fd::OwnedFd;
use std::time::Instant;

use worker_proto::frame::{Attach, FromMaster, Listening};
use worker_proto::ids::WorkerId;

use super::acceptor::{Asker, Wanted};
use super::{Reactor, turn};
use crate::control::event::Fact;
use crate::reactor::clock;
use crate::supervisor::Event;

impl Reactor {
    /// Answers a preloaded library's question for a listener.
    pub(super) fn attach(&mut self, worker: WorkerId, attach: &Attach, now: Instant) {
        self.execute_actions(now);
        let Some(process) = self.processes.get_mut(&worker) else {
            return;
        };
        let asker = Asker {
            worker,
            slot: process.slot,
            role: process.role,
            is_in_rotation: self.supervisor.is_in_rotation(worker),
        };
        if !process.is_attached() {
            log::debug!("{worker} speaks {}", attach.library);
            process.note_attached(attach.pid);
            self.acceptor.note_speaks(worker);
            let (scoreboard, page) = process.create_scoreboard().unzip();
            self.loads.join(worker, attach.pid, scoreboard);
            process.keep_page(page);
            self.supervisor.handle(now, Event::Online { worker });
        }
        let request = attach.listen.request;
        let mut turn = turn!(self, now);
        match self
            .acceptor
            .listen(asker, Wanted::by_library(attach), &mut turn)
        {
            Ok(grant) => {
                let page = process.take_page();
                if let Some(sender) = grant.sender {
                    process.keep_silent(grant.listener, sender);
                }
                let fact = Fact::listening(process.who(), &grant.name, &grant.address);
                self.announce(clock::wall(), fact);
                let listening = Listening {
                    request,
                    listener: grant.listener,
                    name: grant.name,
                    address: grant.address,
                    mode: grant.mode,
                };
                let descriptors = grant.descriptors.into_iter().chain(page).collect();
                self.answer_attach(worker, FromMaster::Listening(listening), descriptors, now);
            }
            Err(refusal) => {
                let target = &attach.listen.target;
                process.complain(&format!("may not listen on {target:?}: {}", refusal.reason));
                let refused = FromMaster::NotListening {
                    request,
                    errno: refusal.errno,
                    reason: refusal.reason,
                };
                self.answer_attach(worker, refused, Vec::new(), now);
            }
        }
    }

    fn answer_attach(
        &mut self,
        worker: WorkerId,
        frame: FromMaster,
        descriptors: Vec<OwnedFd>,
        now: Instant,
    ) {
        let Some(link) = self.link(worker) else {
            return;
        };
        let flushed = link.send(frame, descriptors);
        self.settle_flush(worker, flushed, now);
    }
}
