//! The supervisor's actions, done: one arm per action.

use std::ffi::OsString;
use std::time::{Duration, Instant};

use worker_proto::env;
use worker_proto::frame::FromMaster;
use worker_proto::ids::{Generation, Role, Slot, WorkerId};

use super::generations::Version;
use super::messages::COST_BEFORE_DRAIN;
use super::process::Process;
use super::spawner::Order;
use super::{Progress, Reactor, turn};
use crate::config::dispatch::Waking;
use crate::config::placeholder::Incumbent;
use crate::config::readiness::ReadyOn;
use crate::control::event::{Circumstances, During};
use crate::jobs::Event as JobEvent;
use crate::supervisor::{Action, Disconnect, Event, ExitStatus, Notice, Signal, Who};
use crate::sys::channel::control_pair;
use crate::sys::spawn::Launch;

impl Reactor {
    pub(super) fn execute_actions(&mut self, now: Instant) {
        let mut any = false;
        while let Some(action) = self.supervisor.poll_action() {
            self.execute(action, now);
            any = true;
        }
        if any {
            self.muster(now);
        }
    }

    fn execute(&mut self, action: Action, now: Instant) {
        let mut turn = turn!(self, now);
        match action {
            Action::Spawn {
                worker,
                slot,
                generation,
                role,
            } => {
                self.spawn(worker, slot, generation, role, now);
            }
            Action::Enter { worker } => {
                if let Some(process) = self.processes.get(&worker) {
                    self.acceptor.enter(worker, process.slot, now);
                    self.acceptor.settle(process.slot, &mut turn);
                }
                self.note_peer(worker);
            }
            Action::Leave { worker } => {
                self.acceptor.leave(worker, &mut turn);
                self.note_peer(worker);
            }
            Action::AnnounceReady { worker } => {
                self.tell(worker, FromMaster::ClusterReady, None, now);
            }
            Action::Ping { worker, token } => self.ping_for_pulse(worker, token, now),
            Action::CloseListeners => {
                self.acceptor.close(now);
                self.loads.lift_limits();
                self.progress = Progress::Closing;
            }
            Action::AbandonListeners => {
                self.acceptor.abandon(self.poll.registry());
                self.progress = Progress::Running;
            }
            Action::Drain { worker, within } => self.drain(worker, within, now),
            Action::Signal { worker, signal } => {
                // It has been given time enough for what it has not even received.
                if let Some(process) = self.processes.get(&worker) {
                    self.acceptor.dismiss(worker, process.slot, &mut turn);
                }
                let stop = self.config.stop_signal;
                let sent = self.processes.get_mut(&worker).map(|process| match signal {
                    Signal::Ask => process.ask(stop),
                    Signal::Terminate | Signal::Abort | Signal::Kill => process.signal(signal, now),
                });
                if let Some(Err(err)) = sent {
                    log::error!("{worker}: send {signal:?}: {err}");
                }
                self.note_peer(worker);
            }
            Action::Forget { worker } => {
                self.spawner.give_up(worker);
                self.problems.forget(worker);
                self.farewells.forget(worker);
                self.readiness.forget(worker);
                if let Some(mut process) = self.processes.remove(&worker) {
                    let (role, slot) = (process.role, process.slot);
                    self.acceptor.retire(worker, slot, &mut turn);
                    if role == Role::Worker && !self.supervisor.is_awaited(role, slot) {
                        self.acceptor.settle(slot, &mut turn);
                    }
                    turn.loads.part(worker);
                    process.disconnect(turn.registry);
                    self.lines.forget(worker);
                    self.tell_jobs(now, JobEvent::Gone { worker });
                    if !self.supervisor.is_awaited(role, slot) {
                        self.tell_jobs(now, JobEvent::Vacant { role, slot });
                    }
                }
            }
            Action::Notify(notice) => {
                let circumstances = self.circumstances(&notice);
                self.log(&notice, &circumstances);
                self.face.note(&notice);
                self.chronicle_notice(&notice, &circumstances);
                if let Notice::Parked { role, slot, .. } = notice {
                    if role == Role::Worker {
                        self.acceptor.settle(slot, &mut turn!(self, now));
                    }
                    self.tell_jobs(now, JobEvent::Vacant { role, slot });
                }
                if let Notice::Ready { who, .. } = notice {
                    self.note_peer(who.worker);
                }
                self.note_rollout(now, &notice);
                if matches!(notice, Notice::Stopping { .. }) {
                    self.leadership.close();
                    self.drop_reloads();
                    self.tell_jobs(now, JobEvent::Stopping);
                }
                if matches!(notice, Notice::ClusterReady { .. }) {
                    self.tell_jobs(now, JobEvent::ClusterReady);
                    self.begin_reload(now);
                    self.relay.note_cluster_ready(now);
                    for waiting in self.expectant.drain(..) {
                        let _ = waiting.try_send(());
                    }
                }
            }
            Action::Finish { code } => {
                self.acceptor.refuse_held(&mut turn);
                self.acceptor.abandon(self.poll.registry());
                self.progress = Progress::Finished(code);
                self.announce_end(code);
            }
        }
    }

    fn ping_for_pulse(&mut self, worker: WorkerId, token: u64, now: Instant) {
        if self.is_heard(worker) {
            self.tell(worker, FromMaster::Ping { token }, None, now);
        } else {
            // Whether such a program lives shows in its queues alone.
            self.supervisor.handle(now, Event::Pong { worker, token });
        }
    }

    fn drain(&mut self, worker: WorkerId, within: Duration, now: Instant) {
        if !self.is_heard(worker) {
            return self.part_from(worker, within, now);
        }
        self.acceptor.end(worker, &mut turn!(self, now));
        self.release(worker);
        // What it was asked before that it hears before that, and still answers.
        self.write_to(worker, COST_BEFORE_DRAIN, now);
        self.tell(worker, FromMaster::Drain { within }, None, now);
        self.note_peer(worker);
    }

    fn spawn(
        &mut self,
        worker: WorkerId,
        slot: Slot,
        generation: Generation,
        role: Role,
        now: Instant,
    ) {
        let (master, control) = match control_pair() {
            Ok(pair) => pair,
            Err(err) => {
                let reason = format!("make its control channel: {err}");
                return self
                    .supervisor
                    .handle(now, Event::SpawnFailed { worker, reason });
            }
        };
        let launch = self.launch(worker, slot, generation, role);
        self.processes.insert(
            worker,
            Process::prepare(worker, slot, generation, role, master),
        );
        let sockets = match role {
            Role::Worker => self
                .acceptor
                .lend_at_start(worker, slot, &mut turn!(self, now)),
            Role::Agent => Vec::new(),
        };
        let order = Order {
            worker,
            launch,
            control: control.into(),
            sockets,
        };
        self.spawner.order(order, now);
    }

    fn launch(&self, worker: WorkerId, slot: Slot, generation: Generation, role: Role) -> Launch {
        let Version {
            program,
            pinned,
            directory,
        } = self.generations.version(role, slot, generation);
        let incumbent = Incumbent {
            worker,
            slot,
            generation,
            role,
        };
        let value = |(name, value): &(OsString, OsString)| (name.clone(), incumbent.expand(value));
        let launch = Launch {
            name: program.path.clone(),
            program: pinned.clone(),
            args: program.args.iter().map(|it| incumbent.expand(it)).collect(),
            directory: Some(directory.clone()),
            env: program.env.iter().map(value).collect(),
            private: self.config.own_process.variables.clone(),
            nofile: self.nofile,
            surroundings: incumbent.surroundings(&program.surroundings),
            slot,
            cell: self.cgroup.as_ref().map(|cgroup| cgroup.cell(worker.0)),
        };
        let launch = match self.config.dispatch.waking {
            Waking::One => launch,
            Waking::All => launch.with_env(env::WAKING, "all"),
        };
        launch
            .preload(program.preload.as_deref())
            .with_env(env::ROLE, role.to_string())
            .with_env(env::SLOT, slot.to_string())
            .with_env(env::COUNT, self.supervisor.slots(role).to_string())
            .with_env(env::WORKER_ID, worker.0.to_string())
            .with_env(env::GENERATION, generation.to_string())
    }

    /// Of a process that hangs it also tells what that process is doing, since the signal that comes
    /// next puts an end to it; of one that ended by itself how far it had come and what it said last.
    fn log(&mut self, notice: &Notice, circumstances: &Circumstances) {
        let level = notice.level();
        let mut line = notice.to_string();
        if let Notice::Hung { who, .. } = notice
            && let Some(process) = self.processes.get(&who.worker)
            && let Some(activity) = process.activity()
        {
            line += &format!("; {activity}");
        }
        if let Some(role) = unheard(notice) {
            let program = &self.config.program;
            line += match (role, &program.preload, &program.ready_on) {
                (Role::Agent, ..) => UNHEARD_AGENT,
                (Role::Worker, Some(_), _) if matches!(notice, Notice::ReadyTimeout { .. }) => {
                    UNHEARD_LIBRARY
                }
                (Role::Worker, None, ReadyOn::Message) => UNHEARD_WORKER,
                (Role::Worker, ..) => "",
            };
        }
        if let Notice::ReadyTimeout { who, .. } = notice
            && let Some(missing) = self.readiness.missing(who.worker)
        {
            line += &format!("; {missing}");
        }
        let Notice::Exited { who, expected, .. } = notice else {
            return log::log!(level, "{line}");
        };
        line += match self.chronicle.during(who.worker, *expected) {
            During::Start => "; it was starting",
            During::Serving => "; it was serving",
            During::Leaving => "",
        };
        if is_daemon(notice) && self.config.program.preload.is_some() {
            line += "; a program has to stay in the foreground, without a daemon mode";
        }
        if circumstances.out_of_memory {
            line += "; the kernel killed it for want of memory";
        }
        log::log!(level, "{line}");
        let name = match who.role {
            Role::Worker => who.worker.to_string(),
            Role::Agent => format!("agent slot={}", who.slot),
        };
        for line in &circumstances.stderr {
            log::log!(level, "{name} stderr: {line}");
        }
    }

    /// Whether a process that was killed was killed for want of memory; and of one that ended by itself
    /// what it said last.
    fn circumstances(&mut self, notice: &Notice) -> Circumstances {
        let Notice::Exited {
            who,
            status,
            expected,
            ..
        } = notice
        else {
            return Circumstances::default();
        };
        let is_killed = *status == KILLED && !self.was_killed(who.worker);
        Circumstances {
            out_of_memory: is_killed && self.oom_kills.look() > 0,
            stderr: match expected {
                true => Vec::new(),
                false => self.tail(who.worker),
            },
        }
    }

    fn was_killed(&self, worker: WorkerId) -> bool {
        self.processes.get(&worker).is_some_and(Process::was_killed)
    }
}

/// Whether a worker left unasked as the first process of a daemon does, which leaves it to another one.
fn is_daemon(notice: &Notice) -> bool {
    matches!(
        notice,
        Notice::Exited {
            who: Who {
                role: Role::Worker,
                ..
            },
            status: ExitStatus::Code(0),
            expected: false,
            ..
        }
    )
}

/// What a process is that failed and had never said anything.
fn unheard(notice: &Notice) -> Option<Role> {
    if let Notice::ReadyTimeout {
        who,
        was_heard: false,
        ..
    }
    | Notice::Disconnected {
        who,
        was_heard: false,
        cause: Disconnect::Closed | Disconnect::Ended { .. },
        next: Some(_),
    } = notice
    {
        return Some(who.role);
    }
    None
}

/// Why an agent may have nothing to say.
const UNHEARD_AGENT: &str = "; is it written with worker-proto?";

/// Why a worker may have nothing to say.
const UNHEARD_WORKER: &str = "; a program that is not written with worker-proto needs --preload before its name, or --ready-on";

/// Why a preloaded library may have nothing to say.
const UNHEARD_LIBRARY: &str = "; it did not listen on a TCP or Unix stream socket through the preloaded library: perhaps what it runs is linked statically (Go), has the set-user-ID bit or capabilities, uses another C library, or makes its system calls by itself: see docs/any-program.md";

const KILLED: ExitStatus = ExitStatus::Signal {
    signal: libc::SIGKILL,
    core_dumped: false,
};
