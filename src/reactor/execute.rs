//! The supervisor's actions, done: one arm per action.

use std::collections::HashMap;
use std::time::Instant;

use worker_proto::env;
use worker_proto::frame::FromMaster;
use worker_proto::ids::{Generation, Role, Slot, WorkerId};

use super::process::Process;
use super::spawner::Order;
use super::{Progress, Reactor, turn};
use crate::supervisor::{Action, Event, Notice};
use crate::sys::channel::control_pair;
use crate::sys::spawn::Launch;

impl Reactor {
    pub(super) fn execute_actions(&mut self, now: Instant) {
        while let Some(action) = self.supervisor.poll_action() {
            self.execute(action, now);
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
                    self.acceptor.enter(worker, process.slot);
                    self.acceptor.settle(process.slot, &mut turn);
                }
            }
            Action::Leave { worker } => self.acceptor.leave(worker, &mut turn),
            Action::AnnounceReady { worker } => {
                self.tell(worker, FromMaster::ClusterReady, None, now);
            }
            Action::Ping { worker, token } => {
                self.tell(worker, FromMaster::Ping { token }, None, now);
            }
            Action::CloseListeners => {
                self.acceptor.close();
                self.loads.lift_limits();
                self.progress = Progress::Closing;
            }
            Action::AbandonListeners => {
                self.acceptor.abandon(self.poll.registry());
                self.progress = Progress::Running;
            }
            Action::Drain { worker, within } => {
                self.acceptor.end(worker, &mut turn);
                self.tell(worker, FromMaster::Drain { within }, None, now);
            }
            Action::Signal { worker, signal } => {
                // It has been given time enough for what it has not even received.
                if let Some(process) = self.processes.get(&worker) {
                    self.acceptor.retire(worker, process.slot, &mut turn);
                }
                if let Some(process) = self.processes.get(&worker)
                    && let Err(err) = process.signal(signal)
                {
                    log::error!("{worker}: send {signal:?}: {err}");
                }
            }
            Action::Forget { worker } => {
                if let Some(mut process) = self.processes.remove(&worker) {
                    let (role, slot) = (process.role, process.slot);
                    self.acceptor.retire(worker, slot, &mut turn);
                    if role == Role::Worker && !self.supervisor.is_kept(role, slot) {
                        self.acceptor.settle(slot, &mut turn);
                    }
                    turn.loads.part(worker);
                    process.disconnect(turn.registry);
                }
            }
            Action::Notify(notice) => {
                log(&notice, &self.processes);
                self.chronicle_notice(&notice);
                let mut turn = turn!(self, now);
                if let Notice::Parked {
                    role: Role::Worker,
                    slot,
                } = notice
                {
                    self.acceptor.settle(slot, &mut turn);
                }
                if matches!(notice, Notice::ClusterReady { .. }) {
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
        self.spawner.order(Order {
            worker,
            launch,
            control: control.into(),
        });
    }

    fn launch(&self, worker: WorkerId, slot: Slot, generation: Generation, role: Role) -> Launch {
        let program = self.config.program(role, slot);
        let launch = Launch {
            program: program.path.clone(),
            args: program.args.clone(),
            cwd: program.cwd.clone(),
            env: program.env.clone(),
            nofile: self.nofile,
        };
        launch
            .with_env(env::ROLE, role.to_string())
            .with_env(env::SLOT, slot.to_string())
            .with_env(env::COUNT, self.config.count(role).to_string())
            .with_env(env::WORKER_ID, worker.0.to_string())
            .with_env(env::GENERATION, generation.to_string())
    }
}

/// Of a process that hangs it also tells what that process is doing: the signal that comes next puts
/// an end to it.
fn log(notice: &Notice, processes: &HashMap<WorkerId, Process>) {
    if let Notice::Hung { who, .. } = notice
        && let Some(activity) = processes.get(&who.worker).and_then(Process::activity)
    {
        log::log!(notice.level(), "{notice}; {activity}");
    } else {
        log::log!(notice.level(), "{notice}");
    }
}
