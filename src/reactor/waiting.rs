//! Those who wait for what they asked for to be done, and are told what happens on the way.

use std::collections::BTreeMap;

use crossbeam_channel::Receiver;
use worker_proto::ids::{Role, Slot, WorkerId};
use worker_proto::message::MessageId;

use super::Reactor;
use super::change::reloaded;
use super::command::{Answer, Origin};
use super::problems::one_line;
use super::reload::{Checked, ReloadOutcome};
use crate::control::denied::Denied;
use crate::control::event::ClusterEvent;
use crate::control::outcome::Outcome;
use crate::control::protocol::Said;
use crate::control::server::fault;
use crate::exit_code::ExitCode;
use crate::supervisor::{Notice, Refused, RollbackCause, WorkerState};
use crate::sys::describe;

/// Somebody who waits.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) goal: Goal,
    pub(super) answer: Answer,
    /// Who wants what, for the log.
    pub(super) what: String,
}

/// What has to happen.
#[derive(Clone, Debug)]
pub(super) enum Goal {
    /// The cluster ends.
    Stopped,
    /// Its reload has ended, as it is told here.
    Reloaded(Receiver<ReloadOutcome>),
    /// What its reload is to make of the cluster is known, and right.
    ReloadRead(Receiver<ReloadOutcome>),
    /// It is all at the generation before.
    RolledBack,
    /// It has come to rest with so many workers.
    Scaled { workers: u32 },
    /// Somebody else is in the slot.
    Renewed {
        role: Role,
        slot: Slot,
        before: Option<WorkerId>,
    },
    /// Nobody is in the slot.
    Emptied { role: Role, slot: Slot },
    /// Every process that watches the key has its newest version.
    Adopted { key: String },
    /// This run of a job is over.
    JobEnded { run: u64 },
    /// The configuration was read anew; no change.
    Checked(Receiver<Checked>),
    /// The message with this number was answered.
    Answered(MessageId),
}

impl Goal {
    /// Whether even those wait for it who do not wait for the end.
    pub(super) fn is_soon_reached(&self) -> bool {
        matches!(self, Goal::ReloadRead(_))
    }

    /// The one that it is about.
    fn slot(&self) -> Option<(Role, Slot)> {
        match self {
            Goal::Renewed { role, slot, .. } | Goal::Emptied { role, slot } => Some((*role, *slot)),
            Goal::Stopped
            | Goal::Reloaded(_)
            | Goal::ReloadRead(_)
            | Goal::RolledBack
            | Goal::Scaled { .. }
            | Goal::Adopted { .. }
            | Goal::JobEnded { .. }
            | Goal::Checked(_)
            | Goal::Answered(_) => None,
        }
    }
}

impl Reactor {
    pub(super) fn await_goal(&mut self, waiting: Waiting) {
        if matches!(waiting.answer, Answer::Nobody) {
            return;
        }
        if self.waiting.len() >= MOST_WAITING {
            return self.answer(waiting.answer, Err(Denied::Busy));
        }
        self.waiting.push(waiting);
    }

    /// Reads the configuration anew, and tells whether a reload would accept it.
    pub(super) fn check_config(&mut self, origin: Origin, answer: Answer) {
        let is_check = |waiting: &Waiting| matches!(waiting.goal, Goal::Checked(_));
        if self.waiting.iter().any(is_check) {
            return self.answer(answer, Err(Denied::Busy));
        }
        match self.reloads.check(&self.config) {
            Ok(Some(told)) => self.await_goal(Waiting {
                goal: Goal::Checked(told),
                answer,
                what: format!("{origin}: config check"),
            }),
            Ok(None) => {
                let why = "this master has no configuration that could be read anew";
                self.answer(answer, Err(Denied::Unsupported(why)));
            }
            Err(err) => {
                let reason = format!("start a thread: {}", describe(&err));
                self.answer(answer, Err(Denied::Failed(reason)));
            }
        }
    }

    /// Tells whoever asked.
    pub(super) fn answer(&mut self, answer: Answer, outcome: Result<Outcome, Denied>) {
        match answer {
            Answer::Nobody => {}
            Answer::Handle(reply) => {
                let _ = reply.try_send(outcome);
            }
            Answer::Operator(client, id) => {
                let said = match outcome {
                    Ok(outcome) => {
                        let message = outcome.to_string();
                        let mut value = serde_json::to_value(outcome).unwrap_or_default();
                        value["message"] = message.into();
                        Said::Ok(value)
                    }
                    Err(denied) => fault(denied.kind(), denied.to_string()),
                };
                if let Some(server) = &mut self.server {
                    server.tell(client, Some(id), said);
                }
            }
        }
    }

    /// A reload that somebody wanted back is back.
    pub(super) fn note_reload(&mut self, notice: &Notice) {
        self.resolve(|goal| match (goal, notice) {
            (Goal::RolledBack, Notice::RolledBack { to, .. }) => {
                let generation = to.0;
                Some(Ok(Outcome::RolledBack { generation }))
            }
            (
                Goal::RolledBack,
                Notice::RollingBack {
                    cause: RollbackCause::Stopping,
                    ..
                },
            ) => Some(Err(Refused::Stopping.into())),
            _ => None,
        });
    }

    /// Answers those whose goal is reached, or cannot be any more.
    pub(super) fn note_rest(&mut self) {
        if self.waiting.is_empty() && !self.is_scaling {
            return;
        }
        let is_reading = self.is_reading();
        self.resolve(|goal| match goal {
            Goal::Reloaded(told) => told.try_recv().ok().map(reloaded),
            Goal::ReloadRead(told) => match told.try_recv() {
                Ok(outcome) => Some(reloaded(outcome)),
                Err(_) => (!is_reading).then_some(Ok(Outcome::Reloading)),
            },
            Goal::Checked(told) => told.try_recv().ok().map(checked),
            Goal::Stopped
            | Goal::RolledBack
            | Goal::Scaled { .. }
            | Goal::Renewed { .. }
            | Goal::Emptied { .. }
            | Goal::JobEnded { .. }
            | Goal::Adopted { .. }
            | Goal::Answered(_) => None,
        });
        let is_over = self.is_ending();
        let is_settled = is_over || self.supervisor.is_settled();
        if is_settled {
            self.note_scaled(is_over);
        }
        let serving = self.supervisor.serving(Role::Worker);
        let wanted = self.supervisor.wanted();
        // What goes on in other slots is of no interest to those who wait for one.
        let slots = self.waiting.iter().filter_map(|it| it.goal.slot());
        let at_rest =
            slots.filter(|&(role, slot)| is_settled || self.supervisor.is_slot_settled(role, slot));
        let holders: BTreeMap<(Role, Slot), Option<WorkerId>> = at_rest
            .map(|(role, slot)| ((role, slot), self.holder(role, slot)))
            .collect();
        let adopted = self.adopted_goals();
        self.resolve(|goal| match *goal {
            Goal::Stopped
            | Goal::Reloaded(_)
            | Goal::ReloadRead(_)
            | Goal::Checked(_)
            | Goal::Answered(_)
            | Goal::JobEnded { .. }
            | Goal::RolledBack => None,
            Goal::Scaled { .. }
            | Goal::Renewed { .. }
            | Goal::Emptied { .. }
            | Goal::Adopted { .. }
                if is_over =>
            {
                Some(Err(Refused::Stopping.into()))
            }
            Goal::Adopted { ref key } => adopted.get(key).cloned().map(Ok),
            Goal::Scaled { .. } if !is_settled => None,
            Goal::Scaled { workers } if workers != wanted => {
                let reason = format!("scaled to {wanted} meanwhile");
                Some(Err(Denied::Failed(reason)))
            }
            Goal::Scaled { workers } if serving < workers as usize => {
                let reason = format!("{serving} of {workers} serve: the other slots are parked");
                Some(Err(Denied::Failed(reason)))
            }
            Goal::Scaled { workers } => Some(Ok(Outcome::Scaled { workers })),
            Goal::Renewed { role, slot, before } => Some(match holders.get(&(role, slot))? {
                Some(now) if Some(*now) != before => {
                    let slot = format!("{role}:{slot}");
                    Ok(Outcome::Restarted { slot })
                }
                Some(_) => Err(Denied::Failed(format!(
                    "{role}:{slot}: its successor failed, and the one before stays; the log says why"
                ))),
                None => Err(Denied::Failed(format!("{role}:{slot} is empty"))),
            }),
            Goal::Emptied { role, slot } => Some(match holders.get(&(role, slot))? {
                None => {
                    let slot = format!("{role}:{slot}");
                    Ok(Outcome::Drained { slot })
                }
                Some(_) => Err(Denied::Failed(format!("{role}:{slot} is filled again"))),
            }),
        });
    }

    /// What those wait for who wait for a value, as far as it is reached.
    fn adopted_goals(&self) -> BTreeMap<String, Outcome> {
        let keys = self.waiting.iter().filter_map(|it| match &it.goal {
            Goal::Adopted { key } => Some(key),
            Goal::Stopped
            | Goal::Reloaded(_)
            | Goal::ReloadRead(_)
            | Goal::RolledBack
            | Goal::Scaled { .. }
            | Goal::Renewed { .. }
            | Goal::Emptied { .. }
            | Goal::JobEnded { .. }
            | Goal::Answered(_)
            | Goal::Checked(_) => None,
        });
        let reached = keys.filter_map(|key| {
            let (spread, value) = (self.values.spread(key), self.values.get(key)?);
            let outcome = Outcome::Adopted {
                key: key.clone(),
                version: value.version,
                processes: spread.watchers,
            };
            spread.is_everybody().then(|| (key.clone(), outcome))
        });
        reached.collect()
    }

    /// Who is in the slot, and stays.
    fn holder(&self, role: Role, slot: Slot) -> Option<WorkerId> {
        let views = self.supervisor.workers();
        let mut inside = views.filter(|view| (view.role, view.slot) == (role, slot));
        let found = inside.find(|view| view.state != WorkerState::Leaving);
        found.map(|view| view.worker)
    }

    /// The master's last words.
    pub(super) fn note_end(&mut self, code: ExitCode) {
        self.resolve(|goal| match goal {
            Goal::Stopped => Some(Ok(Outcome::Stopped { code: code as u8 })),
            Goal::Reloaded(_)
            | Goal::ReloadRead(_)
            | Goal::Checked(_)
            | Goal::Answered(_)
            | Goal::RolledBack
            | Goal::Scaled { .. }
            | Goal::Renewed { .. }
            | Goal::Emptied { .. }
            | Goal::JobEnded { .. }
            | Goal::Adopted { .. } => Some(Err(Denied::Ended)),
        });
    }

    /// Tells those who wait at the door what happens meanwhile.
    pub(super) fn tell_progress(&mut self, event: &ClusterEvent) {
        let Some(server) = &mut self.server else {
            return;
        };
        if !is_progress(&event.fact.name) {
            return;
        }
        let patient = self.waiting.iter().filter(|it| !it.goal.is_soon_reached());
        for waiting in patient {
            if let Answer::Operator(client, id) = waiting.answer {
                server.tell_progress(client, id, event);
            }
        }
    }

    /// Nobody waits any more who has hung up.
    pub(super) fn forget_absent(&mut self) {
        if let Some(server) = &self.server {
            self.waiting.retain(|waiting| match waiting.answer {
                Answer::Operator(client, _) => server.has(client),
                Answer::Nobody | Answer::Handle(_) => true,
            });
            self.uploads.retain(|client| server.has(client));
        }
    }

    pub(super) fn resolve(&mut self, verdict: impl Fn(&Goal) -> Option<Result<Outcome, Denied>>) {
        for waiting in std::mem::take(&mut self.waiting) {
            match verdict(&waiting.goal) {
                None => self.waiting.push(waiting),
                Some(outcome) => {
                    match &outcome {
                        // That much was said when it was asked for.
                        Ok(Outcome::Reloading) => {}
                        // What they say to each other is no concern of the log.
                        Ok(Outcome::Answered { .. }) => log::info!("{}: answered", waiting.what),
                        // What a job's handler says may be part of it.
                        Ok(outcome) => {
                            log::info!("{}: {}", waiting.what, one_line(&outcome.to_string()));
                        }
                        Err(denied) => {
                            let why = one_line(&denied.to_string());
                            log::info!("{}: failed: {why}", waiting.what);
                        }
                    }
                    self.answer(waiting.answer, outcome);
                }
            }
        }
    }
}

fn checked(checked: Checked) -> Result<Outcome, Denied> {
    match checked {
        Ok(changes) => Ok(Outcome::Checked { changes }),
        Err(reason) => Err(Denied::Misconfigured(reason)),
    }
}

/// What is worth a line to somebody who waits, and is not his answer.
fn is_progress(name: &str) -> bool {
    let name = name.strip_prefix("agent-").unwrap_or(name);
    // Jobs go on whatever an operator waits for.
    !name.starts_with("job-")
        && !matches!(
            name,
            "fork"
                | "online"
                | "listening"
                | "disconnect"
                | "worn"
                | "paused"
                | "resumed"
                | "reload-refused"
                | "pushed"
                | "adopted"
                | "leader"
        )
}

/// How many may wait at a time, with several requests of one client.
const MOST_WAITING: usize = 64;
