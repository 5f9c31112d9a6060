//! What the master and its processes say to each other: frames in and out of every link.
//!
//! No process can keep the loop: each is read within a budget, and told without waiting.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use worker_proto::frame::{DispatchMode, FromMaster, Listen, Listening, ToMaster};
use worker_proto::ids::{Role, WorkerId};

use super::acceptor::Asker;
use super::link::{Broken, Flushed, Heard, Link};
use super::problems::one_line;
use super::process::Process;
use super::{Reactor, clock, turn};
use crate::control::event::Fact;
use crate::jobs::Event as JobEvent;
use crate::supervisor::{Disconnect, Event, Stage, WorkerState};

impl Reactor {
    /// Reads every control channel that has something, each within its budget.
    pub(super) fn read_links(&mut self, now: Instant) {
        for worker in self.talkative.clone() {
            self.read_link(worker, FRAMES_PER_TURN, now);
        }
    }

    pub(super) fn read_link(&mut self, worker: WorkerId, budget: usize, now: Instant) {
        for _ in 0..budget {
            let Some(link) = self.processes.get_mut(&worker).and_then(Process::link_mut) else {
                // Its end was dealt with before this readiness, which came with it.
                self.talkative.remove(&worker);
                return;
            };
            match link.receive(&mut self.inbox) {
                Ok(Heard::Frame(frame)) => self.obey(worker, frame, now),
                Ok(Heard::Stranger { pid }) => {
                    let what = format!("ignores a frame from pid {pid}, which is not the worker");
                    if let Some(process) = self.processes.get_mut(&worker) {
                        process.complain(&what);
                    }
                }
                Ok(Heard::Silence) => {
                    self.talkative.remove(&worker);
                    return;
                }
                Ok(Heard::Closed) => return self.disconnect(worker, Disconnect::Closed, now),
                Err(broken) => return self.break_link(worker, &broken, now),
            }
        }
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
                self.tell(worker, FromMaster::Unlistened { listener }, None, now);
            }
            ToMaster::Ready => self.supervisor.handle(now, Event::Ready { worker }),
            ToMaster::Pong { token } => {
                self.pinged.remove(&worker);
                self.acceptor.note_alive(worker);
                self.supervisor.handle(now, Event::Pong { worker, token });
            }
            ToMaster::Goodbye => {
                self.retire(worker, now);
                self.supervisor.handle(now, Event::Goodbye { worker });
                self.tell(worker, FromMaster::Farewell, None, now);
            }
            ToMaster::NoRoom { listener } => self.acceptor.no_room(worker, listener, now),
            // Every turn looks at those who are at their limit; this is what the turn is for.
            ToMaster::Relieved => {}
            ToMaster::Retiring { reason } => self.let_retire(worker, &reason, now),
            ToMaster::Report { problem } => self.note_problem(worker, &problem, now),
            ToMaster::Send(_)
            | ToMaster::SendMore(_)
            | ToMaster::Taken { .. }
            | ToMaster::WatchPeers => {}
            ToMaster::Lead { .. } | ToMaster::Resign { .. } | ToMaster::Follow { .. } => {}
            ToMaster::Watch { .. } | ToMaster::Adopted { .. } => {}
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
            ToMaster::ReopenLogs => {}
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

    fn note_problem(&mut self, worker: WorkerId, problem: &str, now: Instant) {
        if let Some(view) = self.supervisor.worker(worker) {
            self.problems.note(view.who(), problem, now);
        }
    }

    fn welcome(&mut self, worker: WorkerId, pid: u32, now: Instant) {
        let Some(process) = self.processes.get_mut(&worker) else {
            return;
        };
        let count = self.supervisor.slots(process.role);
        let welcome = process.welcome(&self.config, count, self.acceptor.declared());
        let page = (process.role == Role::Worker).then(|| {
            let (scoreboard, page) = process.create_scoreboard().unzip();
            self.loads.join(worker, pid, scoreboard);
            page
        });
        self.supervisor.handle(now, Event::Online { worker });
        self.tell(worker, FromMaster::Welcome(welcome), page.flatten(), now);
    }

    fn listen(&mut self, worker: WorkerId, listen: &Listen, now: Instant) {
        // Its `Hello` may have come with the same turn: what follows from that is told first.
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
        let request = listen.request;
        let mut turn = turn!(self, now);
        match self.acceptor.listen(asker, listen, &mut turn) {
            Ok(grant) => {
                let fact = Fact::listening(process.who(), &grant.name, &grant.address);
                self.announce(clock::wall(), fact);
                let listening = Listening {
                    request,
                    listener: grant.listener,
                    name: grant.name,
                    address: grant.address,
                    mode: DispatchMode::HandOff,
                };
                self.tell(
                    worker,
                    FromMaster::Listening(listening),
                    Some(grant.queue),
                    now,
                );
            }
            Err(refusal) => {
                let target = &listen.target;
                process.complain(&format!("may not listen on {target:?}: {}", refusal.reason));
                let refused = FromMaster::NotListening {
                    request,
                    errno: refusal.errno,
                    reason: refusal.reason,
                };
                self.tell(worker, refused, None, now);
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
        let Some(link) = self.link(worker) else {
            return;
        };
        let flushed = link.send(frame, descriptor);
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
            self.flush_link(worker, now);
        }
    }

    fn settle_flush(&mut self, worker: WorkerId, flushed: Result<Flushed, Broken>, now: Instant) {
        match flushed {
            Ok(Flushed::Heard) => {}
            Ok(Flushed::Starved) => {
                log::debug!("{worker}: out of resources, tells it again in {FLUSH_AGAIN_AFTER:?}");
                self.starved.insert(worker, now + FLUSH_AGAIN_AFTER);
                self.supervisor.handle(now, Event::Untold { worker });
            }
            Err(broken) => self.break_link(worker, &broken, now),
        }
    }

    /// Ends a link that cannot go on. Whatever came with its last packet is closed elsewhere.
    fn break_link(&mut self, worker: WorkerId, broken: &Broken, now: Instant) {
        self.closer
            .close(std::mem::take(&mut self.inbox.descriptors));
        let what = broken.to_string();
        let cause = match broken {
            Broken::Mismatch(_) => {
                // The worker's own log is where its author looks.
                let reason = what.clone();
                if let Some(link) = self.link(worker) {
                    let _ = link.send(FromMaster::Rejected { reason }, None);
                }
                Disconnect::Rejected { what }
            }
            Broken::Violation(_)
            | Broken::NoHello
            | Broken::SecondHello
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
        self.retire(worker, now);
        self.supervisor
            .handle(now, Event::Disconnected { worker, cause });
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

/// How many frames of one process are read before the loop looks at anything else.
const FRAMES_PER_TURN: usize = 64;
