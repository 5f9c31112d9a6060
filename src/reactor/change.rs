//! Changes, done: one arm for each, whichever door it came through.

use std::time::Instant;

use crossbeam_channel::bounded;
use serde_json::json;
use worker_proto::ids::{Generation, Role, Slot, WorkerId};

use super::reload::ReloadOutcome;
use super::waiting::{Goal, Waiting};
use super::{Reactor, clock};
use crate::config::dispatch::DispatchMode;
use crate::config::program::Program;
use crate::control::change::{Change, Recipients, ScaleTo, SignalNumber, Target};
use crate::control::denied::Denied;
use crate::control::event::Fact;
use crate::control::outcome::Outcome;
use crate::control::protocol::When;
use crate::preflight;
use crate::printable::printable;
use crate::reactor::command::{Answer, Origin};
use crate::supervisor::{Event, Refused, Signal, Stage, Stop, WorkerState, WorkerView};
use crate::sys::describe;

impl Reactor {
    /// Does it, logs who wanted it and what came of it, and answers now or when it is done.
    pub(super) fn change(
        &mut self,
        now: Instant,
        change: &Change,
        (origin, when): (Origin, When),
        answer: Answer,
    ) {
        let done = self.make(now, change, (origin, when));
        let said = |what: &str| printable(&format!("{origin}: {change}: {what}"));
        match &done {
            Ok((outcome, _)) => log::info!("{}", said(&outcome.to_string())),
            Err(denied) => {
                let line = said(&format!("denied: {denied}"));
                match answer {
                    // Who sent a signal is told nothing else.
                    Answer::Nobody => log::error!("{line}"),
                    Answer::Handle(_) | Answer::Operator(..) => log::info!("{line}"),
                }
            }
        }
        match (done, when) {
            (Ok((_, Some(goal))), _) if when == When::Done || goal.is_soon_reached() => {
                self.await_goal(Waiting {
                    goal,
                    answer,
                    what: printable(&format!("{origin}: {change}")),
                });
            }
            (Ok((outcome, _)), _) => self.answer(answer, Ok(outcome)),
            (Err(denied), _) => self.answer(answer, Err(denied)),
        }
    }

    /// What is under way now, and how it shows that it is done, if it is not yet.
    fn make(
        &mut self,
        now: Instant,
        change: &Change,
        (origin, when): (Origin, When),
    ) -> Result<(Outcome, Option<Goal>), Denied> {
        match change {
            Change::Stop(how) => {
                self.stop(now, *how, origin);
                Ok((Outcome::Stopping, Some(Goal::Stopped)))
            }
            Change::Reload => {
                let (tell, told) = bounded(1);
                let goal = match when {
                    When::Done => Some(Goal::Reloaded(told.clone())),
                    // Whether the configuration is right is known soon, unless it is not read yet.
                    When::Begun if self.begins_reload_at_once() => {
                        Some(Goal::ReloadRead(told.clone()))
                    }
                    When::Begun => None,
                };
                // Who is to hear of the end: nobody else takes a place among those.
                self.reload(now, goal.is_some().then_some(tell))?;
                match told.try_recv() {
                    Ok(outcome) => Ok(at_once(reloaded(outcome)?)),
                    Err(_) => Ok((Outcome::Reloading, goal)),
                }
            }
            Change::AbortReload => {
                self.supervisor.abort_reload(now)?;
                Ok((Outcome::RollingBack, Some(Goal::RolledBack)))
            }
            Change::Scale(to) => self.scale(now, *to),
            Change::Restart(target) => {
                let (role, slot) = self.locate(target)?;
                let before = self.incumbent(role, slot).map(|view| view.worker);
                self.supervisor.restart_slot(now, role, slot)?;
                let name = target.to_string();
                let goal = Goal::Renewed { role, slot, before };
                Ok((Outcome::Restarting { slot: name }, Some(goal)))
            }
            Change::Drain(target) => {
                let (role, slot) = self.locate(target)?;
                self.supervisor.drain_slot(now, role, slot)?;
                let name = target.to_string();
                Ok((
                    Outcome::Draining { slot: name },
                    Some(Goal::Emptied { role, slot }),
                ))
            }
            Change::Kill(target) => self.kill(now, target).map(at_once),
            Change::Signal { to, signal } => self.signal(to, *signal).map(at_once),
            Change::Pause(name) => {
                self.expect_own_accept(name.as_deref())?;
                let listeners = self.acceptor.pause(name.as_deref());
                self.expect_listeners(name.as_deref(), &listeners)?;
                self.announce_listeners("paused", &listeners);
                Ok(at_once(Outcome::Paused { listeners }))
            }
            Change::Resume(name) => {
                self.expect_own_accept(name.as_deref())?;
                let listeners = self.acceptor.resume(name.as_deref());
                self.expect_listeners(name.as_deref(), &listeners)?;
                self.announce_listeners("resumed", &listeners);
                Ok(at_once(Outcome::Resumed { listeners }))
            }
            Change::Choose { strategy, listener } => {
                self.choose_by(*strategy, listener.as_deref()).map(at_once)
            }
            Change::Send(message) => self.send_for_operator(now, message, when),
            Change::RunJob(name) => self.run_job(now, name),
            Change::LogLevel(level) => {
                let set_level = self.set_log_level.ok_or(Denied::Unsupported(
                    "the log belongs to the program that this master is part of",
                ))?;
                set_level(*level);
                let level = level.as_str().to_lowercase();
                Ok(at_once(Outcome::Levelled { level }))
            }
            Change::ReopenLogs => Ok(at_once(self.reopen_logs(now))),
        }
    }

    /// A graceful stop that is asked for again becomes a fast one. An operator who asks again wants to
    /// wait for it, or has missed that it was under way: for the other there is `stop --fast`.
    fn stop(&mut self, now: Instant, how: Stop, origin: Origin) {
        let is_repeated = match (self.supervisor.stage(), how) {
            (Stage::Closing { .. } | Stage::Stopping { .. }, Stop::Graceful) => true,
            (_, Stop::Graceful | Stop::Fast) => false,
        };
        match origin {
            Origin::Operator(_) if is_repeated => {}
            Origin::Operator(_)
            | Origin::Handle
            | Origin::Signal(_)
            | Origin::Hangup
            | Origin::Process(_) => {
                self.supervisor.handle(now, Event::Stop(how));
            }
        }
    }

    fn scale(&mut self, now: Instant, to: ScaleTo) -> Result<(Outcome, Option<Goal>), Denied> {
        let from = self.supervisor.wanted();
        let workers = match to.from(from) {
            Some(workers) => workers,
            None if matches!(to, ScaleTo::Fewer(_)) => {
                let asked = to.to_string();
                return Err(Denied::BelowZero { asked, now: from });
            }
            None => u32::MAX,
        };
        if workers > from {
            preflight::check_workers(&self.config, workers)
                .map_err(|err| Denied::TooMany(err.to_string()))?;
        }
        self.supervisor.scale(now, workers)?;
        let goal = Goal::Scaled { workers };
        Ok((Outcome::Scaling { from, to: workers }, Some(goal)))
    }

    /// Whoever is in the slot: one who serves before one who starts, and one who leaves only if there is
    /// nobody else.
    fn incumbent(&self, role: Role, slot: Slot) -> Option<WorkerView> {
        let rank = |view: &WorkerView| match view.state {
            WorkerState::Serving | WorkerState::Standby => 0,
            WorkerState::Spawning | WorkerState::Starting => 1,
            WorkerState::Leaving => 2,
        };
        let views = self.supervisor.workers();
        views
            .filter(|view| view.role == role && view.slot == slot)
            .min_by_key(|view| (rank(view), view.worker))
    }

    fn kill(&mut self, now: Instant, target: &Target) -> Result<Outcome, Denied> {
        let (role, slot) = self.locate(target)?;
        let victim = self.incumbent(role, slot).map(|view| view.worker);
        let process = victim.and_then(|victim| self.processes.get_mut(&victim));
        let processes = usize::from(process.is_some());
        if let Some(process) = process {
            process
                .signal(Signal::Kill, now)
                .map_err(|err| Denied::Signal(format!("kill {target}: {}", describe(&err))))?;
        }
        let slot = target.to_string();
        Ok(Outcome::Killed { slot, processes })
    }

    fn signal(&self, to: &Recipients, signal: SignalNumber) -> Result<Outcome, Denied> {
        let recipients: Vec<WorkerId> = match to {
            Recipients::All => self.supervisor.workers().map(|it| it.worker).collect(),
            Recipients::Role(role) => {
                let views = self.supervisor.workers();
                let of_role = views.filter(|view| view.role == *role);
                of_role.map(|view| view.worker).collect()
            }
            Recipients::One(target) => {
                let (role, slot) = self.locate(target)?;
                let incumbent = self.incumbent(role, slot);
                incumbent.map(|view| view.worker).into_iter().collect()
            }
        };
        let mut processes = 0;
        let mut failed = None;
        for worker in recipients {
            match self
                .processes
                .get(&worker)
                .map(|it| it.send(signal.number()))
            {
                Some(Ok(true)) => processes += 1,
                Some(Ok(false)) | None => {}
                Some(Err(err)) => {
                    failed = Some(format!("{worker}: send {signal}: {}", describe(&err)));
                }
            }
        }
        match failed {
            Some(failed) => Err(Denied::Signal(failed)),
            None => Ok(Outcome::Signalled { processes }),
        }
    }

    /// The slot that an operator means.
    fn locate(&self, target: &Target) -> Result<(Role, Slot), Denied> {
        let (role, slot) = match target {
            Target::Slot { role, slot } => (*role, *slot),
            Target::Agent { name } => (Role::Agent, self.agent(name)?),
        };
        if slot.0 >= self.supervisor.slots(role) {
            return Err(Refused::NoSuchSlot { role, slot }.into());
        }
        Ok((role, slot))
    }

    fn agent(&self, name: &str) -> Result<Slot, Denied> {
        let agents = &self.config.agents;
        let position = agents.iter().position(|agent| agent.name() == name);
        match position.and_then(|position| u32::try_from(position).ok()) {
            Some(slot) => Ok(Slot(slot)),
            None => Err(Denied::NoSuchAgent {
                name: name.to_owned(),
                there_are: listed(agents.iter().map(Program::name)),
            }),
        }
    }

    /// Of a listener from which workers accept themselves nobody can keep them.
    fn expect_own_accept(&self, name: Option<&str>) -> Result<(), Denied> {
        let listeners = self.listeners();
        let mut named = listeners
            .iter()
            .filter(|it| name.is_none_or(|name| it.name == name))
            .peekable();
        if named.peek().is_some() && named.all(|it| it.mode != DispatchMode::HandOff) {
            return Err(Denied::Unsupported(
                "workers accept themselves there, whatever the master does: only a listener with dispatch hand-off can be paused",
            ));
        }
        Ok(())
    }

    fn expect_listeners(&self, name: Option<&str>, found: &[String]) -> Result<(), Denied> {
        if self.supervisor.stage() == Stage::Finished {
            return Err(Refused::Stopping.into());
        }
        match (name, found) {
            (Some(name), []) => Err(Denied::NoSuchListener {
                name: name.to_owned(),
                there_are: listed(self.listeners().into_iter().map(|it| it.name)),
            }),
            _ => Ok(()),
        }
    }

    fn announce_listeners(&mut self, what: &'static str, listeners: &[String]) {
        for name in listeners {
            let text = format!("{name} {what}");
            let fact = Fact::of_cluster(what, text, json!({ "listener": name }));
            self.announce(clock::wall(), fact);
        }
    }
}

/// How a reload ended.
pub(super) fn reloaded(outcome: ReloadOutcome) -> Result<Outcome, Denied> {
    match outcome {
        ReloadOutcome::Done {
            generation: Generation(generation),
            unapplied,
        } => Ok(Outcome::Reloaded {
            generation,
            unapplied,
        }),
        ReloadOutcome::RolledBack {
            generation,
            to,
            cause,
        } => Err(Denied::RolledBack(format!(
            "generation {generation} was given up, all are at {to}: {cause}"
        ))),
        ReloadOutcome::Refused { reason } => Err(Denied::NotReloaded(reason)),
    }
}

fn at_once(outcome: Outcome) -> (Outcome, Option<Goal>) {
    (outcome, None)
}

pub(super) fn listed(names: impl Iterator<Item = String>) -> String {
    let names: Vec<_> = names.collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}
