//! What the master and its processes say to each other: frames in and out of every link.
//!
//! No process can keep the loop: each is read within a budget, and told without waiting.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use worker_proto::frame::{FromMaster, Listen, Listening, ToMaster};
use worker_proto::ids::{Role, WorkerId};

use super::acceptor::{Asker, Wanted};
use super::link::{Broken, Flushed, Heard, Link};
use super::messages::{COST_PER_PROCESS, COST_PER_TURN, cost_of};
use super::problems::one_line;
use super::process::Process;
use super::{Reactor, clock, turn};
use crate::control::event::Fact;
use crate::jobs::Event as JobEvent;
use crate::supervisor::{Disconnect, Event, Stage, WorkerState};

impl Reactor {
    /// Reads every control channel that has something, each within its budget.
    pub(super) fn read_links(&mut self, now: Instant) {
        let mut left = COST_PER_TURN;
        for worker in self.speakers() {
            if left == 0 {
                break;
            }
            self.mail.heard = Some(worker);
            let spent = self.read_link(worker, left.min(COST_PER_PROCESS), now);
            left = left.saturating_sub(spent);
        }
    }

    /// Reads one channel; answers with what that has cost.
    pub(super) fn read_link(&mut self, worker: WorkerId, budget: usize, now: Instant) -> usize {
        let mut spent = 0;
        while spent < budget {
            let Some(link) = self.processes.get_mut(&worker).and_then(Process::link_mut) else {
                // Its end was dealt with before this readiness, which came with it.
                self.talkative.remove(&worker);
                break;
            };
            spent += 1;
            match link.receive(&mut self.inbox) {
                Ok(Heard::Frame(frame)) => {
                    spent += cost_of(&frame) - 1;
                    self.obey(worker, frame, now);
                }
                Ok(Heard::Stranger { pid }) => {
                    let what = format!("ignores a frame from pid {pid}, which is not the worker");
                    if let Some(process) = self.processes.get_mut(&worker) {
                        process.complain(&what);
                    }
                }
                Ok(Heard::Silence) => {
                    self.talkative.remove(&worker);
                    break;
                }
                Ok(Heard::Closed) => {
                    self.disconnect(worker, Disconnect::Closed, now);
                    break;
                }
                Err(broken) => {
                    self.break_link(worker, &broken, now);
                    break;
                }
            }
        }
        spent
    }

    /// Does what a process asks for.
    fn obey(&mut self, worker: WorkerId, frame: ToMaster, now: Instant) {
        match frame {
            ToMaster::Hello(hello) => {
                log::debug!("{worker} speaks {}", hello.sdk);
                self.welcome(worker, hello.pid, now);
            }
            ToMaster::Listen(listen) => self.listen(worker, &listen, now),
            ToMaster::Unlisten { listener } => {
                // Nothing more will come, whether it was taken away before or not.
                self.acceptor
                    .unlisten(worker, listener, &mut turn!(self, now));
                if let Some(process) = self.processes.get_mut(&worker) {
                    process.give_back(listener);
                }
                self.tell(worker, FromMaster::Unlistened { listener }, None, now);
            }
            // What it says itself is not what was asked for.
            ToMaster::Ready if self.readiness.is_shown_otherwise(worker) => {}
            ToMaster::Ready => {
                self.supervisor.handle(now, Event::Ready { worker });
                self.leadership.ready(worker);
            }
            ToMaster::Pong { token } => {
                self.pinged.remove(&worker);
                self.acceptor.note_alive(worker);
                self.supervisor.handle(now, Event::Pong { worker, token });
            }
            ToMaster::Goodbye => {
                self.retire(worker, now);
                self.release(worker);
                self.supervisor.handle(now, Event::Goodbye { worker });
                self.tell(worker, FromMaster::Farewell, None, now);
            }
            ToMaster::NoRoom { listener } => self.acceptor.no_room(worker, listener, now),
            // Every turn looks at those who are at their limit; this is what the turn is for.
            ToMaster::Relieved => {}
            ToMaster::Retiring { reason } => self.let_retire(worker, &reason, now),
            ToMaster::Report { problem } => self.note_problem(worker, &problem, now),
            ToMaster::Send(send) => {
                let understood = self.relay.send(now, worker, send);
                self.obey_message(worker, understood, now);
            }
            ToMaster::SendMore(more) => {
                let understood = self.relay.send_more(now, worker, more);
                self.obey_message(worker, understood, now);
            }
            ToMaster::Taken { bytes } => self.relay.note_taken(worker, bytes),
            ToMaster::WatchPeers => self.relay.watch_peers(worker),
            ToMaster::Lead { name } => self.offer_to_lead(worker, &name),
            ToMaster::Resign { name } => self.leadership.resign(worker, &name),
            ToMaster::Follow { name } => self.follow(worker, &name),
            ToMaster::Watch { key } => self.watch_value(worker, key, now),
            ToMaster::Adopted { key, version } => self.note_adopted(worker, &key, version),
            ToMaster::RegisterJob(spec) => self.register_job(worker, spec, now),
            ToMaster::UnregisterJob { name } => {
                self.tell_jobs(now, JobEvent::Unregister { worker, name });
            }
            ToMaster::JobDone { run, outcome } => {
                let done = JobEvent::Done {
                    worker,
                    run,
                    outcome,
                };
                self.tell_jobs(now, done);
            }
            ToMaster::ReopenLogs => self.note_wish_to_reopen_logs(worker),
            ToMaster::Attach(attach) => self.attach(worker, &attach, now),
            ToMaster::Weight { weight } => self.weigh(worker, weight),
            ToMaster::Inherit { listener, options } => {
                self.acceptor.inherit(worker, listener, &options);
            }
        }
    }

    /// The process wants to be replaced. Its state may be corrupt, so what it has not received goes
    /// to others if there are any, or will be.
    fn let_retire(&mut self, worker: WorkerId, reason: &str, now: Instant) {
        let Some(view) = self.supervisor.worker(worker) else {
            return;
        };
        if view.state == WorkerState::Leaving {
            return self.note_problem(worker, reason, now);
        }
        let reason = one_line(reason);
        self.supervisor
            .handle(now, Event::Retiring { worker, reason });
        let others = self.supervisor.serving(view.role) > 0
            || self.supervisor.is_awaited(view.role, view.slot);
        if self.supervisor.stage() == Stage::Serving && others {
            self.retire(worker, now);
        }
    }

    pub(super) fn note_problem(&mut self, worker: WorkerId, problem: &str, now: Instant) {
        if let Some(view) = self.supervisor.worker(worker) {
            self.problems.note(view.who(), problem, now);
        }
    }

    fn welcome(&mut self, worker: WorkerId, pid: u32, now: Instant) {
        let Some(process) = self.processes.get_mut(&worker) else {
            return;
        };
        self.acceptor.note_speaks(worker);
        let count = self.supervisor.slots(process.role);
        let welcome = process.welcome(&self.config, count, self.acceptor.declared());
        let page = (process.role == Role::Worker).then(|| {
            let (scoreboard, page) = process.create_scoreboard().unzip();
            self.loads.join(worker, pid, scoreboard);
            page
        });
        self.supervisor.handle(now, Event::Online { worker });
        self.tell(worker, FromMaster::Welcome(welcome), page.flatten(), now);
        self.join_relay(worker, pid, now);
        self.reopen_logs_of_newcomer(worker, now);
    }

    fn listen(&mut self, worker: WorkerId, listen: &Listen, now: Instant) {
        // Its `Hello` may have come with the same turn: what follows from that is told first.
        self.execute_actions(now);
        let wanted = Wanted::by_sdk(listen);
        if let Some((answer, descriptors)) = self.answer_listen(worker, wanted, now) {
            self.answer_question(worker, answer, descriptors, now);
        }
    }

    /// What to tell a process that asks for a listener, with the descriptors that go along; `None` if
    /// the process is gone.
    pub(super) fn answer_listen(
        &mut self,
        worker: WorkerId,
        wanted: Wanted<'_>,
        now: Instant,
    ) -> Option<(FromMaster, Vec<OwnedFd>)> {
        let process = self.processes.get_mut(&worker)?;
        let asker = Asker {
            worker,
            slot: process.slot,
            role: process.role,
            is_in_rotation: self.supervisor.is_in_rotation(worker),
        };
        let Listen {
            request, target, ..
        } = wanted.question();
        let request = *request;
        match self.acceptor.listen(asker, wanted, &mut turn!(self, now)) {
            Ok(grant) => {
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
                Some((FromMaster::Listening(listening), grant.descriptors))
            }
            Err(refusal) => {
                process.complain(&format!("may not listen on {target:?}: {}", refusal.reason));
                let refused = FromMaster::NotListening {
                    request,
                    errno: refusal.errno,
                    reason: refusal.reason,
                };
                Some((refused, Vec::new()))
            }
        }
    }

    pub(super) fn tell(
        &mut self,
        worker: WorkerId,
        frame: FromMaster,
        descriptor: Option<OwnedFd>,
        now: Instant,
    ) {
        // It reads its channel only while it waits for an answer.
        if self.link(worker).is_some_and(|link| link.is_attached()) {
            return log::trace!("{worker} is not told {frame:?}");
        }
        self.answer_question(worker, frame, descriptor.into_iter().collect(), now);
    }

    /// Tells a process what it waits for, with descriptors.
    pub(super) fn answer_question(
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

    pub(super) fn flush_link(&mut self, worker: WorkerId, now: Instant) {
        if let Some(link) = self.link(worker) {
            let flushed = link.flush();
            self.settle_flush(worker, flushed, now);
        }
    }

    /// Tries again what could not be sent for want of resources.
    pub(super) fn flush_starved(&mut self, now: Instant) {
        while let Some((&worker, _)) = self.starved.iter().find(|(_, due)| **due <= now) {
            self.starved.remove(&worker);
            self.mail.unblock(worker);
            self.flush_link(worker, now);
        }
    }

    pub(super) fn settle_flush(
        &mut self,
        worker: WorkerId,
        flushed: Result<Flushed, Broken>,
        now: Instant,
    ) {
        match flushed {
            Ok(Flushed::Heard) => {}
            Ok(Flushed::Starved) => {
                self.rest(worker, now);
                self.supervisor.handle(now, Event::Untold { worker });
            }
            Err(broken) => self.break_link(worker, &broken, now),
        }
    }

    /// Tells a process nothing for a moment, for want of resources.
    pub(super) fn rest(&mut self, worker: WorkerId, now: Instant) {
        log::debug!("{worker}: out of resources, tells it again in {FLUSH_AGAIN_AFTER:?}");
        self.starved.insert(worker, now + FLUSH_AGAIN_AFTER);
    }

    /// Ends a link that cannot go on. Whatever came with its last packet is closed elsewhere.
    pub(super) fn break_link(&mut self, worker: WorkerId, broken: &Broken, now: Instant) {
        self.closer
            .close(std::mem::take(&mut self.inbox.descriptors));
        let what = broken.to_string();
        let cause = match broken {
            Broken::Mismatch(_) => {
                // The worker's own log is where its author looks.
                let reason = what.clone();
                if let Some(link) = self.link(worker) {
                    let _ = link.send(FromMaster::Rejected { reason }, Vec::new());
                }
                Disconnect::Rejected { what }
            }
            Broken::Violation(_)
            | Broken::Nonsense(_)
            | Broken::NoHello
            | Broken::SecondHello
            | Broken::Mixed
            | Broken::Deaf
            | Broken::Io(_) => Disconnect::Violation { what },
        };
        self.disconnect(worker, cause, now);
    }

    pub(super) fn link(&mut self, worker: WorkerId) -> Option<&mut Link> {
        self.processes.get_mut(&worker).and_then(Process::link_mut)
    }

    pub(super) fn disconnect(&mut self, worker: WorkerId, cause: Disconnect, now: Instant) {
        self.starved.remove(&worker);
        self.talkative.remove(&worker);
        self.pinged.remove(&worker);
        self.mail.unblock(worker);
        self.relay.part(worker);
        let was_heard = self.is_heard(worker);
        let mut cause = cause;
        if let Some(process) = self.processes.get_mut(&worker) {
            process.disconnect(self.poll.registry());
            // How a process ended says more than that its channel did.
            if cause == Disconnect::Closed
                && let Some(status) = process.end()
            {
                cause = Disconnect::Ended { status };
            }
        }
        // Who says nothing may as well have closed what it does not know.
        if cause == Disconnect::Closed && self.readiness.is_shown_otherwise(worker) && !was_heard {
            return;
        }
        self.retire(worker, now);
        self.leadership.forget(worker);
        self.forget_values(worker);
        self.supervisor
            .handle(now, Event::Disconnected { worker, cause });
    }

    /// The process is to finish: it leads nothing any more, and nobody waits for it.
    pub(super) fn release(&mut self, worker: WorkerId) {
        self.leadership.leave(worker);
        self.release_values(worker);
    }

    /// What the worker has not received is for others.
    pub(super) fn retire(&mut self, worker: WorkerId, now: Instant) {
        if let Some(process) = self.processes.get(&worker) {
            let slot = process.slot;
            self.acceptor.retire(worker, slot, &mut turn!(self, now));
        }
    }

    /// Asks a stalled worker for a sign of life, unless it has still to answer.
    pub(super) fn ping(&mut self, worker: WorkerId, now: Instant) {
        if self.pinged.insert(worker) {
            self.tell(worker, FromMaster::Ping { token: STALL_TOKEN }, None, now);
        }
    }
}

/// The token of pings that are not the supervisor's, which count from 1.
const STALL_TOKEN: u64 = 0;

/// How long a frame rests that could not be sent for want of resources.
const FLUSH_AGAIN_AFTER: Duration = Duration::from_millis(100);
