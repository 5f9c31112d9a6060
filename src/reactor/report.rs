//! The report: the cluster now, as the control socket shows it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use worker_proto::ids::{Role, Slot, WorkerId};

use super::Reactor;
use super::acceptor::ListenerStatus;
use super::load::WorkerLoad;
use super::operators::VERSION;
use super::serving::QueueStatus;
use crate::config::dispatch::{self, DispatchMode};
use crate::config::program::Program;
use crate::control::event::millis;
use crate::control::status::{Cluster, HandoffDelay, Listener, Load, Master, Rollout, Worker};
use crate::dispatch::{Reason, Reasons};
use crate::supervisor::{Stage, WorkerState, WorkerView};

impl Reactor {
    pub(super) fn report(&mut self, now: Instant) -> Cluster {
        let listeners = self.acceptor.status(now);
        let queues = by_worker(&listeners);
        let loads = self.loads.status().into_iter();
        let loads: BTreeMap<_, _> = loads.map(|load| (load.worker, load)).collect();
        let mut workers: Vec<_> = self.supervisor.workers().collect();
        workers.sort_by_key(|view| (view.slot, view.worker));
        let report = |view: &WorkerView| {
            let load = loads.get(&view.worker);
            let load = load.map(|load| report_load(load, queues.get(&view.worker)));
            self.report_worker(now, view, load)
        };
        let mut reports = Vec::new();
        for role in [Role::Agent, Role::Worker] {
            let mut views = workers.iter().filter(|it| it.role == role).peekable();
            for slot in (0..self.supervisor.slots(role)).map(Slot) {
                let before = reports.len();
                while let Some(view) = views.next_if(|view| view.slot <= slot) {
                    reports.push(report(view));
                }
                if reports.len() == before {
                    reports.push(self.report_empty(role, slot));
                }
            }
            // Those whose slots are no more, and who leave.
            reports.extend(views.map(report));
        }
        Cluster {
            master: self.report_master(now),
            workers: reports,
            listeners: listeners.iter().map(report_listener).collect(),
        }
    }

    fn report_master(&self, now: Instant) -> Master {
        let since = |at: Instant| millis(now.saturating_duration_since(at));
        let rollout = self.supervisor.rollout();
        Master {
            pid: std::process::id(),
            version: VERSION.to_owned(),
            uptime_ms: since(self.started),
            stage: name_of_stage(self.supervisor.stage()).to_owned(),
            generation: self.supervisor.generation().0,
            wanted: self.supervisor.wanted(),
            settled: self.supervisor.is_settled(),
            problems: self.problems.total(),
            rollout: rollout.map(|rollout| Rollout {
                from: rollout.from.0,
                to: rollout.to.0,
                rollback: rollout.is_rollback,
                renewed: rollout.renewed,
                since_ms: since(rollout.since),
            }),
            program: command_line(&self.config.program),
        }
    }

    fn report_worker(&self, now: Instant, view: &WorkerView, load: Option<Load>) -> Worker {
        let since = |at: Instant| millis(now.saturating_duration_since(at));
        Worker {
            worker: Some(view.worker.0),
            slot: view.slot.0,
            generation: view.generation.0,
            role: view.role.to_string(),
            name: self.name_of(view.role, view.slot),
            pid: view.pid,
            state: name_of_state(view.role, view.state).to_owned(),
            state_ms: Some(since(view.since)),
            uptime_ms: Some(since(view.born)),
            restarts: self.chronicle.restarts(view.role, view.slot),
            load,
        }
    }

    fn report_empty(&self, role: Role, slot: Slot) -> Worker {
        let state = match self.supervisor.is_awaited(role, slot) {
            true => "vacant",
            false => "parked",
        };
        Worker {
            worker: None,
            slot: slot.0,
            generation: self.supervisor.generation().0,
            role: role.to_string(),
            name: self.name_of(role, slot),
            pid: None,
            state: state.to_owned(),
            state_ms: None,
            uptime_ms: None,
            restarts: self.chronicle.restarts(role, slot),
            load: None,
        }
    }

    fn name_of(&self, role: Role, slot: Slot) -> Option<String> {
        match role {
            Role::Worker => None,
            Role::Agent => self.config.agents.get(slot.0 as usize).map(Program::name),
        }
    }

    /// The configuration in force, as far as it is known.
    pub(super) fn shown_config(&self) -> Value {
        let config = &self.config;
        let time = |time: std::time::Duration| humantime::format_duration(time).to_string();
        let listeners = self.listeners();
        let listeners: Vec<_> = listeners
            .iter()
            .map(|it| json!({ "name": it.name, "address": it.address.to_string() }))
            .collect();
        json!({
            "document": config.own_process.document.as_deref(),
            "takes-a-restart": self.reloads.unapplied,
            "workers": self.supervisor.wanted(),
            "spare": config.spare,
            "program": command_line(&config.program),
            "agents": config.agents.iter().map(command_line).collect::<Vec<_>>(),
            "listen": listeners,
            "dispatch": dispatch::name(config.dispatch.mode),
            "strategy": config.strategy.as_str(),
            "weights": config.weights.iter().collect::<Vec<_>>(),
            "window": config.window,
            "max-connections": config.connection_limits.total,
            "max-connections-per-worker": config.connection_limits.per_worker,
            "stall-timeout": config.stall_timeout.map(time),
            "ready-timeout": time(config.ready_timeout),
            "stop-timeout": time(config.stop_timeout),
            "hang-timeout": config.hang_timeout.map(time),
            "orphan-grace": time(config.orphan_grace),
            "min-workers": config.min_workers,
            "unhealthy-exit": config.unhealthy_exit.map(time),
            "surge": config.rollout.surge,
            "unavailable": config.rollout.unavailable,
            "canary": time(config.rollout.canary),
        })
    }
}

fn report_load(load: &WorkerLoad, queues: Option<&Vec<&QueueStatus>>) -> Load {
    let queues = || queues.into_iter().flatten();
    let aside: Reasons = queues().flat_map(|queue| queue.aside.clone()).collect();
    Load {
        given: load.given,
        unread: load.given.map(|_| queues().map(|queue| queue.unread).sum()),
        received: load.score.map(|score| score.received),
        active: load.score.map(|score| score.open()),
        requests: load.score.map(|score| score.requests),
        weight: queues().map(|queue| queue.weight.get()).max().unwrap_or(1),
        aside: aside
            .into_iter()
            .map(name_of_reason)
            .map(str::to_owned)
            .collect(),
    }
}

fn report_listener(listener: &ListenerStatus) -> Listener {
    let counters = &listener.counters;
    let delay = &listener.handoff_delay;
    Listener {
        name: listener.name.clone(),
        address: listener.address.to_string(),
        mode: dispatch::name(listener.mode).to_owned(),
        strategy: (listener.mode == DispatchMode::HandOff).then(|| listener.strategy.to_string()),
        paused: listener.is_paused,
        held: listener.held,
        accepted: (listener.mode == DispatchMode::HandOff).then_some(counters.accepted),
        handed_off: counters.handed_off,
        reclaimed: counters.reclaimed,
        moved: counters.moved,
        rescued: counters.rescued,
        mended: counters.mended,
        refused: counters.refused.total(),
        aborted: counters.aborted,
        skipped: counters.skipped.total(),
        handoff_delay: HandoffDelay {
            over_ms: millis(delay.over),
            count: delay.count,
            p50_us: micros(delay.p50),
            p99_us: micros(delay.p99),
            p999_us: micros(delay.p999),
            max_us: micros(delay.max),
            waited_for_room: delay.waited_for_room,
        },
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn by_worker(listeners: &[ListenerStatus]) -> BTreeMap<WorkerId, Vec<&QueueStatus>> {
    let mut queues: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for queue in listeners.iter().flat_map(|listener| &listener.queues) {
        queues.entry(queue.worker).or_default().push(queue);
    }
    queues
}

fn command_line(program: &Program) -> Vec<String> {
    let path = program.path.to_string_lossy().into_owned();
    let args = program
        .args
        .iter()
        .map(|arg| arg.to_string_lossy().into_owned());
    std::iter::once(path).chain(args).collect()
}

fn name_of_stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Idle => "idle",
        Stage::Booting { .. } => "booting",
        Stage::Serving => "serving",
        Stage::Closing { .. } => "closing",
        Stage::Stopping { .. } => "stopping",
        Stage::Finished => "finished",
    }
}

fn name_of_state(role: Role, state: WorkerState) -> &'static str {
    match state {
        // It stands by for nobody: that is what spare workers do.
        WorkerState::Standby if role == Role::Agent => "ready",
        WorkerState::Spawning => "spawning",
        WorkerState::Starting => "starting",
        WorkerState::Standby => "standby",
        WorkerState::Serving => "serving",
        WorkerState::Leaving => "leaving",
    }
}

fn name_of_reason(reason: Reason) -> &'static str {
    match reason {
        Reason::Stalled => "stalled",
        Reason::NoRoom => "no-room",
        Reason::AtLimit => "at-limit",
        Reason::Saturated => "saturated",
    }
}
