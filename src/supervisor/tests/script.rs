//! The language of the stories. Time is advanced, not waited for.

use std::time::{Duration, Instant};
use std::{mem, thread};

use nix::libc;

use crate::ExitCode;
use crate::supervisor::*;

/// A supervisor, a clock that stands still until advanced, and what was done but not yet expected.
pub(super) struct Script {
    pub(super) supervisor: Supervisor,
    now: Instant,
    actions: Vec<Action>,
    notices: Vec<Notice>,
}

/// Ten seconds to be ready, thirty to stop, five from SIGTERM to SIGKILL; the first restart after
/// one second, 60 restarts in 60 seconds.
pub(super) fn plan(agents: u32, workers: u32) -> Plan {
    Plan {
        workers,
        agents,
        ready_timeout: secs(10),
        stop_timeout: secs(30),
        kill_timeout: secs(5),
        hang_timeout: None,
        restart: always(60, OnCrashLoop::Hold),
        spare: 0,
        stop_exit_codes: Vec::new(),
        max_age: None,
        jitter: Jitter { percent: 0 },
        min_workers: 0,
        unhealthy_exit: None,
    }
}

/// One at a time, and the first has to serve for 5 seconds before the others follow.
pub(super) const GENTLY: RolloutPlan = RolloutPlan {
    surge: 1,
    unavailable: 0,
    canary: secs(5),
};

/// One at a time, and nobody has to prove anything.
pub(super) const AT_ONCE: RolloutPlan = RolloutPlan {
    surge: 1,
    unavailable: 0,
    canary: Duration::ZERO,
};

/// So many restarts in 60 seconds.
pub(super) fn always(count: u32, on_crash_loop: OnCrashLoop) -> Restart {
    Restart::Always {
        backoff: BackoffPlan {
            first: secs(1),
            max: secs(4),
            healthy_after: secs(20),
        },
        limit: RestartLimit {
            count,
            window: secs(60),
        },
        on_crash_loop,
    }
}

impl Script {
    /// Not even started.
    #[expect(
        clippy::disallowed_methods,
        reason = "any moment will do as the beginning"
    )]
    pub(super) fn of(plan: Plan) -> Script {
        Script {
            supervisor: Supervisor::new(plan),
            now: Instant::now(),
            actions: Vec::new(),
            notices: Vec::new(),
        }
    }

    /// Started, everybody serving: agents are the first ids, workers the next.
    pub(super) fn serving(plan: Plan) -> Script {
        let (agents, all) = (plan.agents, plan.agents + plan.slots());
        let mut s = Script::of(plan);
        s.happens(Event::Start);
        for id in 1..=u64::from(agents) {
            s.spawned(id);
            s.ready(id);
        }
        for id in u64::from(agents) + 1..=u64::from(all) {
            s.spawned(id);
            s.ready(id);
        }
        assert_eq!(s.supervisor.stage(), Stage::Serving);
        s.forget_the_past()
    }

    /// No agent, so many workers, all of them serving.
    pub(super) fn with_workers(workers: u32) -> Script {
        Script::serving(plan(0, workers))
    }

    pub(super) fn happens(&mut self, event: Event) -> &mut Script {
        self.supervisor.handle(self.now, event);
        self.collect();
        // Time that does not pass changes nothing.
        let done = (self.actions.len(), self.notices.len());
        self.supervisor.handle(self.now, Event::Tick);
        self.collect();
        assert_eq!((self.actions.len(), self.notices.len()), done);
        self
    }

    /// Lets time pass in which the reactor does not run: one `Tick` at its end.
    pub(super) fn jump(&mut self, time: Duration) -> &mut Script {
        self.now += time;
        self.happens(Event::Tick)
    }

    /// Lets time pass as the reactor does: a `Tick` at each deadline on the way.
    pub(super) fn advance(&mut self, time: Duration) -> &mut Script {
        let end = self.now + time;
        while let Some(deadline) = self.supervisor.next_deadline()
            && deadline <= end
        {
            self.now = self.now.max(deadline);
            self.happens(Event::Tick);
        }
        self.now = end;
        self.happens(Event::Tick)
    }

    pub(super) fn starts(&mut self) -> &mut Script {
        self.happens(Event::Start)
    }

    /// It exists; its pid is its id plus 100.
    pub(super) fn spawned(&mut self, id: u64) -> &mut Script {
        let pid = 100 + u32::try_from(id).unwrap();
        let worker = w(id);
        self.happens(Event::Spawned { worker, pid })
    }

    pub(super) fn spawn_fails(&mut self, id: u64) -> &mut Script {
        self.happens(Event::SpawnFailed {
            worker: w(id),
            reason: "no such file".to_owned(),
        })
    }

    pub(super) fn online(&mut self, id: u64) -> &mut Script {
        self.happens(Event::Online { worker: w(id) })
    }

    pub(super) fn ready(&mut self, id: u64) -> &mut Script {
        self.happens(Event::Ready { worker: w(id) })
    }

    pub(super) fn pong(&mut self, id: u64, token: u64) -> &mut Script {
        let worker = w(id);
        self.happens(Event::Pong { worker, token })
    }

    pub(super) fn untold(&mut self, id: u64) -> &mut Script {
        self.happens(Event::Untold { worker: w(id) })
    }

    /// Its accept queue has not moved for a second.
    pub(super) fn hangs(&mut self, id: u64) -> &mut Script {
        let (worker, lasted) = (w(id), secs(1));
        let symptom = Symptom::Unmoved { lasted };
        self.happens(Event::Hung { worker, symptom })
    }

    pub(super) fn goodbye(&mut self, id: u64) -> &mut Script {
        self.happens(Event::Goodbye { worker: w(id) })
    }

    pub(super) fn retires(&mut self, id: u64) -> &mut Script {
        let (worker, reason) = (w(id), "heap corrupt".to_owned());
        self.happens(Event::Retiring { worker, reason })
    }

    pub(super) fn closes_its_channel(&mut self, id: u64) -> &mut Script {
        self.happens(Event::Disconnected {
            worker: w(id),
            cause: Disconnect::Closed,
        })
    }

    pub(super) fn breaks_the_protocol(&mut self, id: u64) -> &mut Script {
        self.happens(Event::Disconnected {
            worker: w(id),
            cause: Disconnect::Violation {
                what: "unknown frame".to_owned(),
            },
        })
    }

    pub(super) fn exits(&mut self, id: u64, status: ExitStatus) -> &mut Script {
        let worker = w(id);
        self.happens(Event::Exited { worker, status })
    }

    /// It has received a thousand connections.
    pub(super) fn wears_out(&mut self, id: u64) -> &mut Script {
        let (worker, received) = (w(id), 1_000);
        let why = Wear::Connections { received };
        self.happens(Event::Worn { worker, why })
    }

    pub(super) fn reload(&mut self, plan: RolloutPlan) -> &mut Script {
        self.asks(|s, now| s.reload(now, plan).map(drop))
    }

    pub(super) fn abort_reload(&mut self) -> &mut Script {
        self.asks(Supervisor::abort_reload)
    }

    pub(super) fn scale(&mut self, workers: u32) -> &mut Script {
        self.asks(|s, now| s.scale(now, workers))
    }

    pub(super) fn drain_slot(&mut self, role: Role, slot: u32) -> &mut Script {
        self.asks(|s, now| s.drain_slot(now, role, Slot(slot)))
    }

    pub(super) fn restart_slot(&mut self, role: Role, slot: u32) -> &mut Script {
        self.asks(|s, now| s.restart_slot(now, role, Slot(slot)))
    }

    pub(super) fn adopt(&mut self, plan: Plan) -> &mut Script {
        self.asks(|s, now| {
            s.adopt(now, plan);
            Ok(())
        })
    }

    /// An operator wants something, and gets it.
    fn asks(
        &mut self,
        order: impl FnOnce(&mut Supervisor, Instant) -> Result<(), Refused>,
    ) -> &mut Script {
        assert_eq!(order(&mut self.supervisor, self.now), Ok(()));
        self.happens(Event::Tick)
    }

    /// An operator wants something, and is told why not.
    pub(super) fn refuses<T>(
        &mut self,
        why: Refused,
        order: impl FnOnce(&mut Supervisor, Instant) -> Result<T, Refused>,
    ) -> &mut Script {
        assert_eq!(order(&mut self.supervisor, self.now).err(), Some(why));
        self.happens(Event::Tick)
    }

    pub(super) fn listeners_closed(&mut self) -> &mut Script {
        self.happens(Event::ListenersClosed)
    }

    pub(super) fn stop(&mut self, how: Stop) -> &mut Script {
        self.happens(Event::Stop(how))
    }

    /// Exactly this was done since the last expectation, apart from notices.
    #[track_caller]
    pub(super) fn expect<const N: usize>(&mut self, expected: [Action; N]) -> &mut Script {
        assert_eq!(mem::take(&mut self.actions), expected);
        self
    }

    #[track_caller]
    pub(super) fn expect_nothing(&mut self) -> &mut Script {
        self.expect([])
    }

    /// Exactly this was told since the last time somebody listened.
    #[track_caller]
    pub(super) fn tells<const N: usize>(&mut self, expected: [&str; N]) -> &mut Script {
        let lines: Vec<String> = mem::take(&mut self.notices)
            .iter()
            .map(Notice::to_string)
            .collect();
        assert_eq!(lines, expected);
        self
    }

    /// The story begins here.
    pub(super) fn forget_the_past(mut self) -> Script {
        self.actions.clear();
        self.notices.clear();
        self
    }

    /// When the supervisor wants to be woken, from now.
    pub(super) fn alarm(&self) -> Option<Duration> {
        let deadline = self.supervisor.next_deadline()?;
        Some(deadline.saturating_duration_since(self.now))
    }

    pub(super) fn now(&self) -> Instant {
        self.now
    }

    /// What was told and not yet heard.
    pub(super) fn notices(&self) -> impl Iterator<Item = &Notice> {
        self.notices.iter()
    }

    fn collect(&mut self) {
        while let Some(action) = self.supervisor.poll_action() {
            if let Action::Notify(notice) = action {
                self.notices.push(notice);
            } else {
                self.actions.push(action);
            }
        }
    }
}

/// A story that ends with something unexpected is not told to its end.
impl Drop for Script {
    fn drop(&mut self) {
        if !thread::panicking() {
            assert_eq!(self.actions, []);
        }
    }
}

pub(super) const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub(super) const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(super) const fn w(id: u64) -> WorkerId {
    WorkerId(id)
}

pub(super) const fn code(code: i32) -> ExitStatus {
    ExitStatus::Code(code)
}

pub(super) const fn killed(signal: i32) -> ExitStatus {
    ExitStatus::Signal {
        signal,
        core_dumped: false,
    }
}

pub(super) const SIGTERM: i32 = libc::SIGTERM;
pub(super) const SIGABRT: i32 = libc::SIGABRT;
pub(super) const SIGKILL: i32 = libc::SIGKILL;
pub(super) const SIGSEGV: i32 = libc::SIGSEGV;

/// Into slot `slot` of the workers.
pub(super) fn spawn(id: u64, slot: u32) -> Action {
    spawn_as(Role::Worker, id, slot, 1)
}

/// The same, of that generation.
pub(super) fn spawn_of(generation: u64, id: u64, slot: u32) -> Action {
    spawn_as(Role::Worker, id, slot, generation)
}

/// Into slot `slot` of the agents.
pub(super) fn spawn_agent(id: u64, slot: u32) -> Action {
    spawn_as(Role::Agent, id, slot, 1)
}

fn spawn_as(role: Role, id: u64, slot: u32, generation: u64) -> Action {
    Action::Spawn {
        worker: w(id),
        slot: Slot(slot),
        generation: Generation(generation),
        role,
    }
}

pub(super) fn enter(id: u64) -> Action {
    Action::Enter { worker: w(id) }
}

pub(super) fn leave(id: u64) -> Action {
    Action::Leave { worker: w(id) }
}

pub(super) fn announce(id: u64) -> Action {
    Action::AnnounceReady { worker: w(id) }
}

pub(super) fn ping(id: u64, token: u64) -> Action {
    let worker = w(id);
    Action::Ping { worker, token }
}

pub(super) fn drain(id: u64, within: Duration) -> Action {
    let worker = w(id);
    Action::Drain { worker, within }
}

pub(super) fn terminate(id: u64) -> Action {
    let (worker, signal) = (w(id), Signal::Terminate);
    Action::Signal { worker, signal }
}

pub(super) fn abort(id: u64) -> Action {
    let (worker, signal) = (w(id), Signal::Abort);
    Action::Signal { worker, signal }
}

pub(super) fn kill(id: u64) -> Action {
    let (worker, signal) = (w(id), Signal::Kill);
    Action::Signal { worker, signal }
}

pub(super) fn forget(id: u64) -> Action {
    Action::Forget { worker: w(id) }
}

pub(super) fn finish(code: ExitCode) -> Action {
    Action::Finish { code }
}

pub(super) use Action::{AbandonListeners, CloseListeners};
