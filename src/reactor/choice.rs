//! The choice of the next worker, changed while the master runs: by an operator or a handle for all
//! listeners or one, by a worker for itself.

use serde_json::json;
use worker_proto::frame::DispatchMode;
use worker_proto::ids::{Role, WorkerId};

use super::acceptor::ListenerStatus;
use super::change::listed;
use super::{Reactor, clock};
use crate::control::denied::Denied;
use crate::control::event::Fact;
use crate::control::outcome::{Outcome, Rechosen};
use crate::dispatch::StrategyName;
use crate::supervisor::{Refused, Stage};

impl Reactor {
    /// The workers of this listener, or of all that the master accepts for, are chosen so from now
    /// on, until somebody or a changed configuration wants it otherwise.
    pub(super) fn choose_by(
        &mut self,
        strategy: StrategyName,
        listener: Option<&str>,
    ) -> Result<Outcome, Denied> {
        if self.supervisor.stage() == Stage::Finished {
            return Err(Refused::Stopping.into());
        }
        self.expect_choice(listener)?;
        let changed = self.acceptor.choose_by(strategy, listener);
        for Rechosen { listener, from } in &changed {
            let text = format!("{listener}: strategy {from} -> {strategy}");
            let fields = json!({ "listener": listener, "from": from, "to": strategy.as_str() });
            self.announce(clock::wall(), Fact::of_cluster("strategy", text, fields));
        }
        let strategy = strategy.to_string();
        Ok(Outcome::StrategyChanged { strategy, changed })
    }

    /// What the worker wants to weigh, as far as it may.
    pub(super) fn weigh(&mut self, worker: WorkerId, weight: u32) {
        match self.processes.get(&worker).map(|process| process.role) {
            Some(Role::Worker) => {
                let weight = self.acceptor.wish(worker, weight);
                log::debug!("{worker} weighs {weight}, as it wants to");
            }
            // It receives nothing, whatever it weighs.
            Some(Role::Agent) | None => {}
        }
    }

    /// Where workers accept themselves nobody chooses.
    fn expect_choice(&self, name: Option<&str>) -> Result<(), Denied> {
        let listeners = self.listeners();
        let is_meant = |it: &&ListenerStatus| name.is_none_or(|name| it.name == name);
        let meant: Vec<_> = listeners.iter().filter(is_meant).collect();
        match name {
            Some(name) if meant.is_empty() => Err(Denied::NoSuchListener {
                name: name.to_owned(),
                there_are: listed(listeners.iter().map(|it| it.name.clone())),
            }),
            // Of no listener at all it is for those to come.
            None if meant.is_empty() => Ok(()),
            Some(_) | None if meant.iter().all(|it| it.mode != DispatchMode::HandOff) => {
                Err(Denied::Unsupported(
                    "workers accept themselves there, whatever the master does: only a listener with dispatch hand-off has a strategy",
                ))
            }
            Some(_) | None => Ok(()),
        }
    }
}
