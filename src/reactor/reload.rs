//! Reloads: the configuration is read anew, what has changed of it is applied, and a new generation
//! begins.
//!
//! One reload is under way at a time. Whoever asks meanwhile waits for the one that follows, with
//! everybody else who did: what they want is in the files by now.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded};
use mio::Waker;
use worker_proto::ids::Generation;

use super::generations::Versions;
use super::serving::Rules;
use super::{Reactor, clock};
use crate::config::Config;
use crate::config::diff::{Change, Takes, diff};
use crate::config::own_process::DEFAULT_LOG_LEVEL;
use crate::config::strategy::followed;
use crate::control::denied::Denied;
use crate::control::event::Fact;
use crate::supervisor::{Notice, Refused, RollbackCause, Stage};

/// Where a reload gets its configuration from: everything is read anew, on a thread of its own.
#[derive(Clone)]
pub(crate) struct Source(Arc<dyn Fn() -> Result<Config, String> + Send + Sync>);

/// How a reload ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReloadOutcome {
    /// All workers are of the new generation.
    Done {
        /// That one.
        generation: Generation,
        /// What has changed besides, and takes a restart of the master.
        unapplied: Vec<String>,
    },
    /// All workers are of the generation before.
    RolledBack {
        /// The new generation, which is over.
        generation: Generation,
        /// The generation before.
        to: Generation,
        /// Why.
        cause: RollbackCause,
    },
    /// It did not begin, and nothing has changed.
    Refused {
        /// Why, for a person.
        reason: String,
    },
}

/// What a reload would change, or why it would be refused.
pub(super) type Checked = Result<Vec<String>, String>;

/// The reload under way, and the one that follows it.
#[derive(Debug)]
pub(super) struct Reloads {
    source: Option<Source>,
    waker: Arc<Waker>,
    state: State,
    /// What the latest one would have changed, had the master been started anew.
    pub(super) unapplied: Vec<String>,
    /// Who waits for the one under way.
    asked: Vec<Sender<ReloadOutcome>>,
    /// Who waits for the one that follows, if there is to be one.
    next: Option<Vec<Sender<ReloadOutcome>>>,
}

#[derive(Debug)]
enum State {
    Idle,
    Reading(Receiver<Result<Plan, String>>),
    /// The supervisor has it. What was in force before comes back if the rollout does.
    Rolling(Box<Before>),
}

/// What was in force.
#[derive(Debug)]
struct Before {
    config: Config,
    /// Also if that was not what the configuration said.
    workers: u32,
}

/// What was read.
#[derive(Debug)]
struct Plan {
    config: Config,
    versions: Versions,
}

impl Source {
    pub(crate) fn new(read: impl Fn() -> Result<Config, String> + Send + Sync + 'static) -> Self {
        Source(Arc::new(read))
    }
}

/// Wakes the loop at the end of a thread, however that comes: whoever waits for its answer waits no
/// longer.
struct WakeAfter(Arc<Waker>);

impl Drop for WakeAfter {
    fn drop(&mut self) {
        let _ = self.0.wake();
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Source")
    }
}

impl Reloads {
    pub(super) fn new(source: Option<Source>, waker: Arc<Waker>) -> Self {
        Reloads {
            source,
            waker,
            state: State::Idle,
            unapplied: Vec::new(),
            asked: Vec::new(),
            next: None,
        }
    }

    /// Reads everything on a thread of its own: files may take their time.
    fn read(&mut self, current: &Config) -> io::Result<()> {
        let source = self.source.clone();
        let current = current.clone();
        let waker = Arc::clone(&self.waker);
        let (tell, told) = bounded(1);
        thread::Builder::new()
            .name("rr-reload".to_owned())
            .spawn(move || {
                let (_wake, tell) = (WakeAfter(waker), tell);
                let config = match source {
                    Some(Source(read)) => read(),
                    None => Ok(current),
                };
                let plan = config.map(|config| Plan {
                    versions: Versions::of(&config),
                    config,
                });
                let _ = tell.send(plan);
            })?;
        self.state = State::Reading(told);
        Ok(())
    }

    /// Reads everything on a thread of its own, and tells what a reload would change. `None` if there is
    /// nothing to read.
    pub(super) fn check(&self, current: &Config) -> io::Result<Option<Receiver<Checked>>> {
        let Some(Source(read)) = self.source.clone() else {
            return Ok(None);
        };
        let current = current.clone();
        let waker = Arc::clone(&self.waker);
        let (tell, told) = bounded(1);
        thread::Builder::new()
            .name("rr-check".to_owned())
            .spawn(move || {
                let (_wake, tell) = (WakeAfter(waker), tell);
                let changes = |config| diff(&current, &config).iter().map(show).collect();
                let _ = tell.send(read().map(changes));
            })?;
        Ok(Some(told))
    }

    fn answer(&mut self, outcome: &ReloadOutcome) {
        for asked in self.asked.drain(..) {
            let _ = asked.try_send(outcome.clone());
        }
    }
}

impl Reactor {
    /// Somebody wants a reload. If one is under way, or the cluster is not ready yet, it follows.
    ///
    /// # Errors
    /// When the cluster ends, or too many wait for that reload; it takes place nevertheless.
    pub(super) fn reload(
        &mut self,
        now: Instant,
        answer: Option<Sender<ReloadOutcome>>,
    ) -> Result<(), Denied> {
        if self.is_ending() {
            return Err(Refused::Stopping.into());
        }
        let next = self.reloads.next.get_or_insert_default();
        if answer.is_some() && next.len() >= MOST_ASKED {
            return Err(Denied::Busy);
        }
        next.extend(answer);
        self.begin_reload(now);
        Ok(())
    }

    /// Whether a reload that somebody wants now waits for nothing.
    pub(super) fn begins_reload_at_once(&self) -> bool {
        self.supervisor.stage() == Stage::Serving && matches!(self.reloads.state, State::Idle)
    }

    /// Whether the configuration is still being read.
    pub(super) fn is_reading(&self) -> bool {
        matches!(self.reloads.state, State::Reading(_))
    }

    /// Begins the reload that waits, if it is its turn.
    pub(super) fn begin_reload(&mut self, now: Instant) {
        if !self.begins_reload_at_once() {
            return;
        }
        let Some(next) = self.reloads.next.take() else {
            return;
        };
        self.reloads.asked = next;
        self.face.reload_begins();
        if let Err(err) = self.reloads.read(&self.config) {
            self.refuse_reload(now, format!("start a thread: {err}"));
        }
    }

    /// Goes on with a reload whose configuration has been read.
    pub(super) fn go_on_with_reload(&mut self, now: Instant) {
        let State::Reading(told) = &self.reloads.state else {
            return;
        };
        match told.try_recv() {
            Ok(Ok(plan)) => self.roll_out(now, plan),
            Ok(Err(reason)) => self.refuse_reload(now, reason),
            Err(err) if err.is_disconnected() => {
                self.refuse_reload(now, "reading the configuration failed".to_owned());
            }
            Err(_) => {}
        }
    }

    fn roll_out(&mut self, now: Instant, Plan { config, versions }: Plan) {
        let before = Before {
            config: self.config.clone(),
            workers: self.supervisor.wanted(),
        };
        let (rollout, workers) = (config.rollout, config.workers);
        if let Err(refused) = self.adopt(now, config, workers) {
            self.adopt_again(now, before);
            return self.refuse_reload(now, refused.to_string());
        }
        let from = self.supervisor.generation();
        match self.supervisor.reload(now, rollout) {
            Ok(generation) => {
                self.generations.begin(generation, from, versions);
                self.reloads.state = State::Rolling(Box::new(before));
            }
            Err(refused) => {
                self.adopt_again(now, before);
                self.refuse_reload(now, refused.to_string());
            }
        }
    }

    /// What the supervisor tells about a rollout.
    pub(super) fn note_rollout(&mut self, now: Instant, notice: &Notice) {
        let outcome = if let Notice::ReloadDone { generation, .. } = notice {
            ReloadOutcome::Done {
                generation: *generation,
                unapplied: self.reloads.unapplied.clone(),
            }
        } else if let Notice::RolledBack {
            generation,
            to,
            cause,
            ..
        }
        | Notice::RollingBack {
            generation,
            to,
            cause: cause @ RollbackCause::Stopping,
        } = notice
        {
            ReloadOutcome::RolledBack {
                generation: *generation,
                to: *to,
                cause: cause.clone(),
            }
        } else {
            return;
        };
        let state = std::mem::replace(&mut self.reloads.state, State::Idle);
        if let (State::Rolling(before), ReloadOutcome::RolledBack { .. }) = (state, &outcome)
            && !self.is_ending()
        {
            self.adopt_again(now, *before);
        }
        self.reloads.answer(&outcome);
        self.forget_generations();
        self.begin_reload(now);
    }

    pub(super) fn is_ending(&self) -> bool {
        match self.supervisor.stage() {
            Stage::Idle | Stage::Booting { .. } | Stage::Serving => false,
            Stage::Closing { .. } | Stage::Stopping { .. } | Stage::Finished => true,
        }
    }

    /// Nobody is kept waiting by a cluster that stops.
    pub(super) fn drop_reloads(&mut self) {
        self.reloads.state = State::Idle;
        if let Some(next) = self.reloads.next.take() {
            self.reloads.asked.extend(next);
        }
        let reason = Refused::Stopping.to_string();
        self.reloads.answer(&ReloadOutcome::Refused { reason });
    }

    fn refuse_reload(&mut self, now: Instant, reason: String) {
        log::error!("reload: {reason}: everything stays as it is");
        self.face.reload_is_refused();
        self.announce(clock::wall(), Fact::reload_refused(&reason));
        self.reloads.state = State::Idle;
        self.reloads.answer(&ReloadOutcome::Refused { reason });
        self.begin_reload(now);
    }

    /// From now on this configuration is in force, but for what only a restart can change; if it
    /// changes how many workers there are, there are so many.
    fn adopt(&mut self, now: Instant, mut config: Config, workers: u32) -> Result<(), Refused> {
        let old = &self.config;
        self.reloads.unapplied.clear();
        for change in diff(old, &config) {
            match change.takes {
                Takes::Now | Takes::Generation => log::info!("reload: {change}"),
                Takes::Restart => {
                    log::warn!("reload: {change}: this takes a restart of the master");
                    self.reloads.unapplied.push(change.to_string());
                }
            }
        }
        let document = config.own_process.document.take();
        let log_level = config.own_process.log_level;
        // An operator may have chosen another one, which stays unless the configuration changes.
        if log_level != old.own_process.log_level
            && let Some(set_level) = self.set_log_level
        {
            set_level(log_level.unwrap_or(DEFAULT_LOG_LEVEL));
        }
        config.own_process.clone_from(&old.own_process);
        config.own_process.log_level = log_level;
        config.own_process.document = document;
        config.control.clone_from(&old.control);
        config.listeners = followed(&old.listeners, &config.listeners);
        config.on_demand.clone_from(&old.on_demand);
        config.window = old.window;
        config.spare = old.spare;
        if config.agents.len() != old.agents.len() {
            config.agents.clone_from(&old.agents);
        }
        let is_other_watch = config.watch != old.watch;
        let is_other_data = config.data_files != old.data_files;
        // Who was scaled by hand stays so, unless the configuration wants another number now.
        let workers = (config.workers != old.workers).then_some(workers);
        self.acceptor.choose_as(old, &config);
        self.config = config;
        self.loads.limit(self.config.connection_limits);
        self.acceptor.adopt(Rules::of(&self.config));
        self.wear.adopt(self.config.recycling);
        if is_other_data {
            self.adopt_data_files();
        }
        if is_other_watch {
            self.adopt_watch();
        }
        self.adopt_jobs(now);
        self.supervisor.adopt(now, self.config.plan());
        match workers {
            Some(workers) => self.supervisor.scale(now, workers),
            None => Ok(()),
        }
    }

    /// As it was before: nothing of it can be refused.
    fn adopt_again(&mut self, now: Instant, Before { config, workers }: Before) {
        if let Err(refused) = self.adopt(now, config, workers) {
            log::error!("reload: {refused}: not everything is as it was");
        }
    }

    fn forget_generations(&mut self) {
        let current = self.supervisor.generation();
        let processes = &self.processes;
        self.generations.keep(|generation| {
            generation == current
                || processes
                    .values()
                    .any(|process| process.generation == generation)
        });
    }
}

fn show(change: &Change) -> String {
    match change.takes {
        Takes::Now | Takes::Generation => change.to_string(),
        Takes::Restart => format!("{change} (takes a restart of the master)"),
    }
}

/// How many may wait for one reload.
const MOST_ASKED: usize = 1024;
