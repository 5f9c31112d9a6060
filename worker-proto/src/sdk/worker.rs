//! The worker: this process as a member of the cluster, or on its own.
//!
//! A process that has a master never outlives it: [`Worker::connect`] trades the parent-death
//! signal, with which it was started, for the watch of the control thread.

use std::fmt;
use std::io;
use std::num::NonZeroU32;
use std::os::fd::AsFd;
use std::panic::PanicHookInfo;
use std::process::{self, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::alarm::Alarm;
use super::config::{Config, ConfigError, Shelf};
use super::control::{self, Control, Farewell, Orphan, Reception};
use super::draining::Draining;
use super::elections::Elections;
use super::event::{EVENTS, Event};
use super::hook::{self, Hook, HookResult};
use super::inherit;
use super::job::{JobRun, Jobs, RegisterError};
use super::listener::{ListenError, Listener};
use super::messenger::{Loopback, Messenger, Peers, Post};
use super::on_panic::{self, OnPanic};
use super::request_counter::RequestCounter;
use super::scorekeeper::Scorekeeper;
use super::sinks::Sinks;
use super::standalone::OwnSocket;
use super::termination::{self, Progress};
use super::uplink::Uplink;
use super::wait;
use super::work::{Work, Workload};
use crate::address::Address;
use crate::frame::{DeclaredListener, FromMaster, ListenOptions, MAX_BATCH, ToMaster, Welcome};
use crate::handshake::{self, PROTOCOL};
use crate::ids::{Generation, Role, Slot, WorkerId};
use crate::job::JobSpec;
use crate::scm::Wait;
use crate::socket::{Inbox, ReceiveError, SendError, Violation, WorkerChannel};

/// This process as a member of a cluster, or on its own when no master started it.
///
/// The control channel stays open as long as the worker or one of its listeners lives. When the
/// last is dropped the master takes the process for one that is leaving, and nothing watches for
/// the master's death any more; [`leave`](Self::leave) does it properly.
#[derive(Debug)]
pub struct Worker {
    identity: Identity,
    declared: Vec<DeclaredListener>,
    draining: Draining,
    events: Receiver<Event>,
    progress: Progress,
    alarm: Alarm,
    catches_panics: AtomicBool,
    workload: Workload,
    jobs: Jobs,
    stop_hooks: Mutex<Vec<Hook>>,
    messenger: Messenger,
    shelf: Arc<Shelf>,
    elections: Arc<Elections>,
    membership: Membership,
}

/// Who this process is in its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Identity {
    /// This incarnation; 0 without a master, which counts from 1.
    pub worker: WorkerId,
    /// The position, `0..count`; 0 without a master.
    pub slot: Slot,
    /// The generation; 0 without a master, which counts from 1.
    pub generation: Generation,
    /// What the process is for; a worker without a master.
    pub role: Role,
    /// How many slots the role has; 1 without a master.
    pub count: u32,
    /// The process id.
    pub pid: u32,
}

#[derive(Debug)]
enum Membership {
    Cluster(Arc<Control>),
    /// Holds the sender so that the events never end.
    Alone(Sender<Event>),
}

impl Worker {
    /// Joins the cluster of the master that started this process; on its own if none did.
    ///
    /// Call it first thing in `main`, from the main thread and before other threads start: it
    /// takes the `RR_*` variables (see [`crate::env`]) out of the environment, so that no
    /// grandchild takes them for its own, and that is safe only while there is one thread. With
    /// more it leaves them and logs a warning. Call it once: a second call is an error.
    ///
    /// # Errors
    /// See [`ConnectError`]. A program that was started by a master and cannot reach it should
    /// exit: on its own it would compete with the cluster.
    pub fn connect() -> Result<Self, ConnectError> {
        let Some(channel) = inherit::control_channel()? else {
            return Self::alone();
        };
        let channel = Arc::new(channel);
        let (welcome, scorekeeper) = introduce(&channel)?;
        let code = match welcome.role {
            Role::Worker => 0,
            Role::Agent => ORPHANED_AGENT,
        };
        let grace = welcome.limits.orphan_grace;
        let orphan = Orphan::Exits { grace, code };
        let worker = Self::welcomed(welcome, channel, scorekeeper, orphan)?;
        // The master's parent-death signal is SIGKILL, at once. From now on the control thread
        // guarantees the end, and after the grace only. A process that is stopped at that moment
        // has to go on to notice: it gets SIGCONT, which means nothing to any other.
        nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGCONT)
            .map_err(io::Error::from)?;
        Ok(worker)
    }

    /// Joins over a given channel; the process outlives the other end.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn over(channel: WorkerChannel) -> Result<Self, ConnectError> {
        let channel = Arc::new(channel);
        let (welcome, scorekeeper) = introduce(&channel)?;
        Self::welcomed(welcome, channel, scorekeeper, Orphan::Remains)
    }

    fn welcomed(
        welcome: Welcome,
        channel: Arc<WorkerChannel>,
        scorekeeper: Scorekeeper,
        orphan: Orphan,
    ) -> Result<Self, ConnectError> {
        let draining = Draining::new(scorekeeper.clone())?;
        let (tell, events) = bounded(EVENTS);
        let max_message_bytes = welcome.limits.max_message_bytes;
        let post = Post::by_master(Uplink::over(Arc::clone(&channel)), max_message_bytes);
        let shelf = Arc::new(Shelf::by_master(Uplink::over(Arc::clone(&channel))));
        let uplink = Uplink::over(Arc::clone(&channel));
        let workload = Workload::none();
        let gate = workload.gate();
        let elections = Arc::new(Elections::by_master(uplink, welcome.worker, gate));
        let jobs = Jobs::new(workload.gate());
        let reception = Reception {
            sinks: Sinks {
                post: Arc::clone(&post),
                shelf: Arc::clone(&shelf),
                elections: Arc::clone(&elections),
            },
            max_message_bytes,
            events: tell,
            draining: draining.clone(),
            jobs: jobs.clone(),
            orphan,
        };
        let control = Arc::new(Control::start(channel, reception, scorekeeper)?);
        let alarm = Alarm::for_master(&control, draining.clone());
        Ok(Worker {
            identity: Identity {
                worker: welcome.worker,
                slot: welcome.slot,
                generation: welcome.generation,
                role: welcome.role,
                count: welcome.count,
                pid: process::id(),
            },
            declared: welcome.listeners,
            messenger: Messenger::new(post, alarm.clone()),
            shelf,
            elections,
            alarm,
            draining,
            events,
            progress: Progress::default(),
            catches_panics: AtomicBool::new(false),
            workload,
            jobs,
            stop_hooks: Mutex::new(Vec::new()),
            membership: Membership::Cluster(control),
        })
    }

    fn alone() -> Result<Self, ConnectError> {
        let draining = Draining::new(Scorekeeper::default())?;
        let (tell, events) = bounded(EVENTS);
        let identity = Identity {
            worker: WorkerId(0),
            slot: Slot(0),
            generation: Generation(0),
            role: Role::Worker,
            count: 1,
            pid: process::id(),
        };
        let alarm = Alarm::for_nobody(tell.clone(), draining.clone());
        let post = Post::alone(Loopback::of(identity.clone()));
        let workload = Workload::none();
        Ok(Worker {
            shelf: Arc::new(Shelf::alone()),
            elections: Arc::new(Elections::alone(identity.worker, workload.gate())),
            identity,
            declared: Vec::new(),
            messenger: Messenger::new(post, alarm.clone()),
            alarm,
            draining,
            events,
            progress: Progress::default(),
            catches_panics: AtomicBool::new(false),
            jobs: Jobs::new(workload.gate()),
            workload,
            stop_hooks: Mutex::new(Vec::new()),
            membership: Membership::Alone(tell),
        })
    }

    /// Whether there is no master. The program then binds for itself.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        matches!(self.membership, Membership::Alone(_))
    }

    /// Who this process is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The listeners declared on the master's command line, in its order. Empty without a master.
    #[must_use]
    pub fn declared(&self) -> &[DeclaredListener] {
        &self.declared
    }

    /// Listens on a declared listener, by its name, or on an address such as `127.0.0.1:8000`,
    /// `[::1]:0` or `unix:/run/app.sock`.
    ///
    /// # Errors
    /// See [`ListenError`].
    pub fn listen(&self, target: &str) -> Result<Listener, ListenError> {
        self.listen_with(target, ListenOptions::default())
    }

    /// As [`listen`](Self::listen), with options.
    ///
    /// # Errors
    /// See [`ListenError`].
    pub fn listen_with(
        &self,
        target: &str,
        options: ListenOptions,
    ) -> Result<Listener, ListenError> {
        self.listen_within(target, options, LISTEN_WITHIN)
    }

    /// Every declared listener if the master has any, otherwise the given address: what a
    /// program wants that does not care where it is served.
    ///
    /// # Errors
    /// See [`ListenError`]; the listeners got before the error are given back.
    pub fn listen_declared_or(&self, address: &str) -> Result<Vec<Listener>, ListenError> {
        if self.declared.is_empty() {
            return Ok(vec![self.listen(address)?]);
        }
        let declared = self.declared.iter();
        declared
            .map(|declared| self.listen(&declared.name))
            .collect()
    }

    /// Says that this process can serve; call it after `listen`. Only the first call counts.
    ///
    /// # Errors
    /// `BrokenPipe` when the master is gone, `TimedOut` when it takes nothing.
    pub fn ready(&self) -> io::Result<()> {
        if !self.progress.serves() {
            return Ok(());
        }
        self.messenger.post().started();
        match &self.membership {
            Membership::Cluster(control) => control.send(&ToMaster::Ready).map_err(io_error),
            Membership::Alone(tell) => {
                // Room for it, see `reopen_logs`.
                _ = tell.try_send(Event::ClusterReady);
                Ok(())
            }
        }
    }

    /// What happens in the cluster. All receivers share one queue, so each event reaches one of
    /// them; the queue holds 16, far more than a life brings, and drops what comes beyond. It
    /// ends after [`Event::MasterGone`] and when the worker is dropped, and never without a
    /// master.
    #[must_use]
    pub fn events(&self) -> Receiver<Event> {
        self.events.clone()
    }

    /// Log files were moved away: has every process of the cluster, this one included, open its own
    /// again, and the master, too. Who is to gets [`Event::ReopenLogs`]; several calls that follow
    /// each other closely may be one to the others. SIGUSR1 at the master does the same, and so does
    /// `rr-ctl logs reopen`.
    ///
    /// # Errors
    /// `BrokenPipe` when the master is gone, `TimedOut` when it takes nothing.
    pub fn reopen_logs(&self) -> io::Result<()> {
        match &self.membership {
            Membership::Cluster(control) => control.send(&ToMaster::ReopenLogs).map_err(io_error),
            Membership::Alone(tell) => {
                // Of so many at most two are something else: an order waits already.
                if tell.len() < EVENTS / 2 {
                    _ = tell.try_send(Event::ReopenLogs);
                }
                Ok(())
            }
        }
    }

    /// From now on this worker is to get so large a share of the connections, where the master's
    /// strategy is one that weighs (`weighted`, `source-hash`): one of weight 3 gets three times what
    /// one of weight 1 gets. The master makes it at most 1000; it goes before what `--weights` says,
    /// until this process is gone. May be called before [`ready`](Self::ready), and again later.
    /// Without a master there is nobody to share with.
    ///
    /// # Errors
    /// `BrokenPipe` when the master is gone, `TimedOut` when it takes nothing.
    pub fn set_weight(&self, weight: NonZeroU32) -> io::Result<()> {
        let weight = weight.get();
        match &self.membership {
            Membership::Cluster(control) => {
                control.send(&ToMaster::Weight { weight }).map_err(io_error)
            }
            Membership::Alone(_) => Ok(()),
        }
    }

    /// The switch that says when to finish.
    #[must_use]
    pub fn draining(&self) -> Draining {
        self.draining.clone()
    }

    /// Counts requests on the scoreboard, if the program wants to tell how many it has answered.
    #[must_use]
    pub fn request_counter(&self) -> RequestCounter {
        RequestCounter::on(match &self.membership {
            Membership::Cluster(control) => control.scorekeeper().clone(),
            Membership::Alone(_) => Scorekeeper::default(),
        })
    }

    /// Sends messages to the other processes of the cluster, and receives theirs.
    #[must_use]
    pub fn messenger(&self) -> Messenger {
        self.messenger.clone()
    }

    /// What operators and files give the cluster under this key while it runs, as it changes. Waits
    /// until the master has said what it is now. Without a master there is nothing.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn config(&self, key: &str) -> Result<Config, ConfigError> {
        Config::of(&self.shelf, key, self.alarm.clone())
    }

    pub(crate) fn elections(&self) -> Arc<Elections> {
        Arc::clone(&self.elections)
    }

    /// Who is in the cluster; see [`Messenger::peers`].
    #[must_use]
    pub fn peers(&self) -> Peers {
        self.messenger.peers()
    }

    /// Something went wrong that may go wrong again: this process takes nothing new, finishes what
    /// it has, and is replaced at once. See [`Alarm::retire`].
    pub fn retire(&self, reason: &str) {
        self.alarm.retire(reason);
    }

    /// Something went wrong and was survived: the master writes it to its log and counts it. See
    /// [`Alarm::report`].
    pub fn report(&self, problem: &str) {
        self.alarm.report(problem);
    }

    /// The way to say that something went wrong, for those who do not have the worker at hand.
    #[must_use]
    pub fn alarm(&self) -> Alarm {
        self.alarm.clone()
    }

    /// From now on a panic, in whatever thread, is told the master before anything unwinds or
    /// aborts: a worker [`retire`](Self::retire)s because of it, an agent
    /// [`report`](Self::report)s it. What the panic itself does is as before.
    ///
    /// ```
    /// # let (master, worker) = worker_proto::FakeMaster::new();
    /// use worker_proto::Server;
    ///
    /// worker.catch_panics();
    /// let listener = worker.listen("127.0.0.1:8000")?;
    /// worker.ready()?;
    /// # let client = master.connect("127.0.0.1:8000");
    /// // Ends after a panic of the handler, when the other connections are served.
    /// let served = Server::new().serve([listener], |connection| {
    ///     panic!("the client's address is {}", connection.peer());
    /// })?;
    /// assert_eq!(served.panics, 1);
    /// worker.leave();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn catch_panics(&self) {
        let usual = OnPanic::usual_for(self.identity.role);
        self.catch_panics_with(move |_| usual);
    }

    /// As [`catch_panics`](Self::catch_panics), with your own judgement of each panic. It is asked
    /// inside the panic hook, so it must be quick, take no lock and not panic itself: that aborts
    /// the process.
    ///
    /// Only the first call counts. A hook that is set later with [`std::panic::set_hook`] takes the
    /// place of this one.
    pub fn catch_panics_with(
        &self,
        judge: impl Fn(&PanicHookInfo<'_>) -> OnPanic + Send + Sync + 'static,
    ) {
        if !self.catches_panics.swap(true, Ordering::AcqRel) {
            on_panic::catch(self.alarm(), judge);
        }
    }

    /// From now on SIGTERM asks this process to finish, as `kill -TERM PID` by an operator means it:
    /// it [`retire`](Self::retire)s. The second one ends it as SIGTERM ends any program, except that
    /// one that is running its last [hooks](Self::on_stop) is left to it. So is ended at once who is
    /// not ready yet, or was told to drain and has let its deadline pass.
    ///
    /// It is for you to ask for, since it has its price. SIGTERM is blocked in this thread and those
    /// that it starts, and in every process started from them (`sigprocmask(2)`): unblock it there.
    /// A master that has to stop fast sends SIGTERM, and SIGKILL a second later: that second is all
    /// you have to finish then.
    ///
    /// Call it in `main`, before other threads are started.
    ///
    /// # Errors
    /// When threads are running in which SIGTERM is not blocked, or none can be started.
    pub fn handle_termination(&self) -> io::Result<()> {
        termination::handle(self.alarm(), self.draining(), self.progress.clone())
    }

    /// Marks something as under way that is no connection, and that [`leave`](Self::leave) has to
    /// wait for.
    pub fn begin_work(&self) -> Work {
        self.workload.begin()
    }

    /// Runs of this job are done by this handler from now on, each on a thread of its own in which
    /// every signal is blocked. Call it before [`ready`](Self::ready): to a process that is ready the
    /// master may give a run at any time, and one that nobody does has failed.
    ///
    /// What it answers is told the master, for its log, its events and `rr-ctl job list`; a panic is an
    /// error like any other, and no reason to [`retire`](Self::retire). A run that is under way when
    /// draining begins is finished: [`leave`](Self::leave) waits for it.
    ///
    /// ```
    /// # let (master, worker) = worker_proto::FakeMaster::new();
    /// worker.on_job("sweep", |run| {
    ///     for file in ["a", "b"] {
    ///         if run.is_cancelled() {
    ///             return Err(format!("did not get to {file}"));
    ///         }
    ///     }
    ///     Ok("2 files".to_owned())
    /// });
    /// ```
    pub fn on_job<E: fmt::Display>(
        &self,
        name: &str,
        handler: impl Fn(JobRun) -> Result<String, E> + Send + Sync + 'static,
    ) {
        self.jobs.on(name, handler);
    }

    /// Has the master run a job from now on, here or in others, as one of its configuration would be.
    /// Several processes may register the same job: it is one job. It ends when each of them has
    /// [taken it back](Self::unregister_job) or is gone for good; the successor of one that dies may
    /// register it again before it is [ready](Self::ready), and the clock of the job goes on meanwhile.
    /// Where processes of a newer generation register it with something else, that counts.
    ///
    /// Without a master nothing is run, which is logged.
    ///
    /// # Errors
    /// See [`RegisterError`].
    pub fn register_job(&self, spec: JobSpec) -> Result<(), RegisterError> {
        match &self.membership {
            Membership::Cluster(control) => self.jobs.register(control, spec, REGISTER_WITHIN),
            Membership::Alone(_) => {
                log::warn!("job {:?} is not run: there is no master", spec.name);
                Ok(())
            }
        }
    }

    /// Takes back a job that this process has registered. What runs of it goes on.
    ///
    /// # Errors
    /// `BrokenPipe` when the master is gone, `TimedOut` when it takes nothing.
    pub fn unregister_job(&self, name: &str) -> io::Result<()> {
        match &self.membership {
            Membership::Cluster(control) => {
                let name = name.to_owned();
                let frame = ToMaster::UnregisterJob { name };
                control.send(&frame).map_err(io_error)
            }
            Membership::Alone(_) => Ok(()),
        }
    }

    /// Has this done when draining begins, at once if it has begun: take yourself off a list, wake
    /// who sleeps. It runs on a thread of its own, in which every signal is blocked, and
    /// [`leave`](Self::leave) waits for its end. A failure is logged and told the master.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn on_drain(&self, hook: impl FnOnce() -> HookResult + Send + 'static) -> io::Result<()> {
        let (draining, alarm, work) = (self.draining(), self.alarm(), self.begin_work());
        control::start_thread("rr-drain", move || {
            if draining.wait_at_most(None)
                && let Err(failure) = hook::attempt(hook)
            {
                complain(&alarm, &format!("the hook for draining {failure}"));
            }
            drop(work);
        })
    }

    /// Has this done by [`leave`](Self::leave), last of all, with 1 s to do it in: write what is to
    /// be kept, say goodbye to others. A failure is logged and told the master, and does not change
    /// the exit code. Several are done one after the other, in the order in which they came.
    pub fn on_stop(&self, hook: impl FnOnce() -> HookResult + Send + 'static) {
        self.on_stop_within(STOP_WITHIN, hook);
    }

    /// As [`on_stop`](Self::on_stop), with that much time. What is not done by then ends with the
    /// process.
    pub fn on_stop_within(
        &self,
        within: Duration,
        hook: impl FnOnce() -> HookResult + Send + 'static,
    ) {
        self.stop_hooks().push(Hook::new(within, hook));
    }

    fn stop_hooks(&self) -> MutexGuard<'_, Vec<Hook>> {
        let hooks = self.stop_hooks.lock();
        hooks.unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves the cluster in peace, after the last connection is served: begins draining if it has
    /// not begun, waits for [work](Self::begin_work) under way, runs the [last hooks](Self::on_stop),
    /// says goodbye, waits at most 5 s until the master has read everything sent before, and
    /// answers with what `main` is to return. A program may as well return a code of its own; at the
    /// end of the cluster one other than 0 is a failure, unless `--stop-exit-codes` names it.
    ///
    /// Work is waited for as long as it takes, which the master limits, or 30 s if nobody had asked
    /// this process to finish.
    #[must_use = "return the exit code from main"]
    pub fn leave(self) -> ExitCode {
        let patience = if self.draining.is_draining() {
            None
        } else {
            Some(UNASKED_WITHIN)
        };
        self.draining.begin();
        self.elections.draining();
        let hooks = std::mem::take(&mut *self.stop_hooks());
        if !self.workload.wait(patience) {
            complain(&self.alarm, "leaves before its work is finished");
        }
        self.progress.stops();
        for hook in hooks {
            if let Err(failure) = hook.run() {
                complain(&self.alarm, &format!("the hook for stopping {failure}"));
            }
        }
        // Last words go before Goodbye.
        self.messenger.post().leave();
        let Membership::Cluster(control) = &self.membership else {
            return ExitCode::SUCCESS;
        };
        match (control.leave(LEAVE_WITHIN), self.identity.role) {
            (Farewell::MasterGone, Role::Agent) => ExitCode::from(ORPHANED_AGENT),
            (Farewell::MasterGone, Role::Worker) | (Farewell::Said, _) => ExitCode::SUCCESS,
            (Farewell::TimedOut, _) => {
                log::warn!("the master has not answered goodbye within {LEAVE_WITHIN:?}");
                ExitCode::SUCCESS
            }
        }
    }

    pub(crate) fn listen_within(
        &self,
        target: &str,
        options: ListenOptions,
        within: Duration,
    ) -> Result<Listener, ListenError> {
        if !(1..=MAX_BATCH).contains(&options.max_batch) {
            return Err(ListenError::Refused {
                errno: libc::EINVAL,
                reason: format!(
                    "max_batch is {}, it must be from 1 to {MAX_BATCH}",
                    options.max_batch
                ),
            });
        }
        match &self.membership {
            Membership::Cluster(control) => {
                let (listening, sockets) = control.listen(target, options, within)?;
                let address = listening.address.clone();
                let granted = (listening, sockets);
                let control = Arc::clone(control);
                Listener::granted(granted, options.nonblocking, control, self.draining())
                    .map_err(|source| ListenError::Bind { address, source })
            }
            Membership::Alone(_) => {
                let address: Address = target.parse()?;
                OwnSocket::bind(&address, options, self.draining())
                    .and_then(|socket| Listener::over_socket(target, socket))
                    .map_err(|source| ListenError::Bind { address, source })
            }
        }
    }
}

/// Why there is no worker.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// What was inherited from the master is not usable, or was taken before.
    #[error("{0}")]
    Inherited(String),
    /// The master does not take this program.
    #[error("the master rejects this program: {reason}")]
    Rejected {
        /// What is wrong, for a person.
        reason: String,
    },
    /// The master speaks another version.
    #[error(
        "the master speaks protocol {theirs}, this program speaks {PROTOCOL}: build it with the matching worker-proto"
    )]
    Protocol {
        /// The master's version.
        theirs: u16,
    },
    /// The master did not answer.
    #[error("the master did not answer within {within:?}")]
    NoAnswer {
        /// How long it was waited for.
        within: Duration,
    },
    /// The master closed the channel without an answer.
    #[error("the master closed the control channel")]
    MasterGone,
    /// The master's answer is not one.
    #[error("the master's answer makes no sense: {0}")]
    Answer(String),
    /// The system refuses something.
    #[error("set up the worker: {0}")]
    Io(#[from] io::Error),
}

impl From<inherit::InheritError> for ConnectError {
    fn from(err: inherit::InheritError) -> Self {
        match err {
            inherit::InheritError::Io(err) => ConnectError::Io(err),
            inherit::InheritError::Taken | inherit::InheritError::Descriptor { .. } => {
                ConnectError::Inherited(err.to_string())
            }
        }
    }
}

impl From<Violation> for ConnectError {
    fn from(violation: Violation) -> Self {
        ConnectError::Answer(violation.to_string())
    }
}

/// The hand-shake: `Hello`, and the answer to it, which may bring a page of the scoreboard.
fn introduce(channel: &Arc<WorkerChannel>) -> Result<(Welcome, Scorekeeper), ConnectError> {
    match channel.send(&ToMaster::Hello(handshake::hello()), &[], Wait::Never) {
        Ok(()) => {}
        Err(SendError::Gone) => return Err(ConnectError::MasterGone),
        Err(err) => return Err(io_error(err).into()),
    }
    if wait::readable([channel.as_fd()], Some(WELCOME_WITHIN))? == [false] {
        return Err(ConnectError::NoAnswer {
            within: WELCOME_WITHIN,
        });
    }
    let mut inbox = Inbox::new();
    let answer = match channel.receive(&mut inbox, Wait::Never) {
        Ok(received) => received.frame,
        Err(ReceiveError::Closed) => return Err(ConnectError::MasterGone),
        Err(ReceiveError::Io(err)) => return Err(err.into()),
        Err(err @ ReceiveError::Empty) => return Err(ConnectError::Answer(err.to_string())),
        Err(ReceiveError::Violation(violation)) => return Err(violation.into()),
    };
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "there are two answers to Hello, whatever else is to come"
    )]
    match answer {
        FromMaster::Welcome(welcome) if welcome.protocol == PROTOCOL => {
            let scorekeeper = match inbox.descriptors.len() {
                0 => Scorekeeper::default(),
                _ => Scorekeeper::on(inbox.take_descriptors(1)?.remove(0), channel),
            };
            Ok((welcome, scorekeeper))
        }
        FromMaster::Welcome(Welcome { protocol, .. }) => {
            Err(ConnectError::Protocol { theirs: protocol })
        }
        FromMaster::Rejected { reason } => Err(ConnectError::Rejected { reason }),
        _ => Err(ConnectError::Answer(
            "another frame than Welcome came first".to_owned(),
        )),
    }
}

/// To our own log, and to the master's.
fn complain(alarm: &Alarm, problem: &str) {
    log::error!("{problem}");
    alarm.report(problem);
}

fn io_error(err: SendError) -> io::Error {
    match err {
        SendError::Exhausted(err) | SendError::Io(err) => err,
        SendError::Gone => io::ErrorKind::BrokenPipe.into(),
        SendError::Full => io::ErrorKind::TimedOut.into(),
        SendError::TooLarge(err) => io::Error::new(io::ErrorKind::InvalidInput, err),
    }
}

/// The exit code of an agent whose master is gone: nobody asked it to leave.
const ORPHANED_AGENT: u8 = 110;

const WELCOME_WITHIN: Duration = Duration::from_secs(10);
const LISTEN_WITHIN: Duration = Duration::from_secs(30);
const REGISTER_WITHIN: Duration = Duration::from_secs(30);
const LEAVE_WITHIN: Duration = Duration::from_secs(5);

/// How long the last hooks may take, each, if they do not say.
const STOP_WITHIN: Duration = Duration::from_secs(1);

/// How long work is waited for by who leaves although nobody asked it to: it serves no more, and
/// the master does not know.
const UNASKED_WITHIN: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::os::fd::BorrowedFd;
    use std::os::unix::fs::FileTypeExt;
    use std::os::unix::net::UnixStream;
    use std::path::Path;
    use std::{fs, thread};

    use nix::sys::signal::{SigSet, Signal};

    use super::*;
    use crate::page::Page;
    use crate::scoreboard::{ScoreState, Scoreboard};
    use crate::sdk::FakeMaster;
    use crate::socket::{self, MasterChannel};

    #[test]
    fn a_worker_knows_who_it_is_and_what_is_declared() {
        let welcome = Welcome {
            worker: WorkerId(7),
            slot: Slot(2),
            generation: Generation(3),
            count: 4,
            listeners: vec![declared("web", "127.0.0.1:8000")],
            ..FakeMaster::welcome()
        };
        let (_master, worker) = FakeMaster::with(welcome);
        assert!(!worker.is_alone());
        assert_eq!(
            *worker.identity(),
            Identity {
                worker: WorkerId(7),
                slot: Slot(2),
                generation: Generation(3),
                role: Role::Worker,
                count: 4,
                pid: process::id(),
            }
        );
        assert_eq!(worker.declared(), [declared("web", "127.0.0.1:8000")]);
    }

    #[test]
    fn every_declared_listener_is_preferred_to_the_given_address() {
        let names = |listeners: Vec<Listener>| -> Vec<String> {
            let pairs = listeners.iter();
            pairs
                .map(|one| format!("{}={}", one.name(), one.address()))
                .collect()
        };
        let welcome = Welcome {
            listeners: vec![
                declared("web", "127.0.0.1:8000"),
                declared("admin", "unix:/run/admin.sock"),
            ],
            ..FakeMaster::welcome()
        };
        let (_master, worker) = FakeMaster::with(welcome);
        assert_eq!(
            names(worker.listen_declared_or("127.0.0.1:1").unwrap()),
            ["web=127.0.0.1:8000", "admin=unix:/run/admin.sock"]
        );
        let (_master, worker) = FakeMaster::new();
        assert_eq!(
            names(worker.listen_declared_or("127.0.0.1:1").unwrap()),
            ["127.0.0.1:1=127.0.0.1:1"]
        );
    }

    #[test]
    fn a_refusal_carries_its_error_number() {
        let (_master, worker) = FakeMaster::new();
        let _held = worker.listen("127.0.0.1:8000").unwrap();
        let err = worker.listen("127.0.0.1:8000").unwrap_err();
        assert!(
            matches!(&err, ListenError::Refused { errno, .. } if *errno == libc::EADDRINUSE),
            "{err}"
        );
        assert_eq!(io::Error::from(err).raw_os_error(), Some(libc::EADDRINUSE));
        let batch = ListenOptions {
            max_batch: 0,
            ..ListenOptions::default()
        };
        let err = worker.listen_with("127.0.0.1:8000", batch).unwrap_err();
        assert_eq!(io::Error::from(err).raw_os_error(), Some(libc::EINVAL));
    }

    #[test]
    fn ready_is_said_once() {
        let (master, worker) = FakeMaster::new();
        worker.ready().unwrap();
        worker.ready().unwrap();
        assert_eq!(worker.leave(), ExitCode::SUCCESS);
        assert_eq!(master.next_frame(), ToMaster::Ready);
        assert_eq!(master.next_frame(), ToMaster::Goodbye);
    }

    #[test]
    fn a_ping_is_answered_whatever_the_program_does() {
        let (master, _worker) = FakeMaster::new();
        master.send(FromMaster::Ping { token: 42 });
        assert_eq!(master.next_frame(), ToMaster::Pong { token: 42 });
    }

    #[test]
    fn events_arrive_in_order_and_draining_is_switched() {
        let (master, worker) = FakeMaster::new();
        let (events, draining) = (worker.events(), worker.draining());
        assert!(!draining.is_draining());
        assert!(!draining.wait(Duration::from_millis(1)));
        master.cluster_ready();
        master.drain(Duration::from_secs(3));
        assert_eq!(next(&events), Event::ClusterReady);
        assert_eq!(
            next(&events),
            Event::Drain {
                within: Duration::from_secs(3)
            }
        );
        assert!(draining.wait(PATIENCE));
        assert_eq!(
            wait::readable([draining.as_fd()], Some(Duration::ZERO)).unwrap(),
            [true]
        );
    }

    #[test]
    fn events_that_nobody_takes_are_dropped_and_draining_is_not() {
        let (master, worker) = FakeMaster::new();
        for _ in 0..=EVENTS {
            master.cluster_ready();
        }
        master.drain(Duration::ZERO);
        assert!(worker.draining().wait(PATIENCE));
        assert_eq!(worker.events().len(), EVENTS);
    }

    #[test]
    fn who_has_logs_reopened_is_told_as_well() {
        let (master, worker) = FakeMaster::new();
        worker.reopen_logs().unwrap();
        assert_eq!(master.next_frame(), ToMaster::ReopenLogs);
        assert_eq!(next(&worker.events()), Event::ReopenLogs);
        master.die();
        assert_eq!(next(&worker.events()), Event::MasterGone);
        let err = worker.reopen_logs().unwrap_err();
        assert_eq!(err.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn logs_reopened_again_and_again_leave_room_for_the_drain() {
        let (master, worker) = FakeMaster::new();
        for _ in 0..=EVENTS {
            master.send(FromMaster::ReopenLogs);
        }
        master.drain(Duration::ZERO);
        assert!(worker.draining().wait(PATIENCE));
        let events = worker.events();
        assert_eq!(next(&events), Event::ReopenLogs);
        let within = Duration::ZERO;
        assert_eq!(next(&events), Event::Drain { within });
    }

    #[test]
    fn alone_logs_reopened_again_and_again_leave_room_for_the_drain() {
        let worker = Worker::alone().unwrap();
        for _ in 0..=EVENTS {
            worker.reopen_logs().unwrap();
        }
        worker.ready().unwrap();
        worker.retire("no reason");
        let events: Vec<_> = worker.events().try_iter().collect();
        assert_eq!(events.first(), Some(&Event::ReopenLogs));
        assert!(events.contains(&Event::ClusterReady), "{events:?}");
        let drain = events.last();
        assert!(matches!(drain, Some(Event::Drain { .. })), "{events:?}");
    }

    #[test]
    fn the_death_of_the_master_ends_everything() {
        let (master, worker) = FakeMaster::new();
        let listener = worker.listen("127.0.0.1:8000").unwrap();
        let (events, draining) = (worker.events(), worker.draining());
        let _client = master.connect("127.0.0.1:8000");
        master.die();
        assert_eq!(next(&events), Event::MasterGone);
        assert!(events.recv_timeout(PATIENCE).is_err(), "no more events");
        assert!(draining.is_draining());
        // What was handed over before is still served.
        assert!(listener.accept().unwrap().is_some());
        assert!(listener.accept().unwrap().is_none());
        assert!(matches!(
            worker.listen("127.0.0.1:8001"),
            Err(ListenError::MasterGone)
        ));
        assert!(worker.ready().is_err());
        assert!(listener.close().is_empty());
        assert_eq!(worker.leave(), ExitCode::SUCCESS);
    }

    #[test]
    fn an_agent_without_a_master_leaves_with_its_own_code() {
        let agent = Welcome {
            role: Role::Agent,
            ..FakeMaster::welcome()
        };
        let (master, worker) = FakeMaster::with(agent.clone());
        master.die();
        assert_eq!(worker.leave(), ExitCode::from(110));
        let (master, worker) = FakeMaster::with(agent);
        assert_eq!(master.score(), None, "it gets no connection to count");
        assert_eq!(worker.leave(), ExitCode::SUCCESS);
    }

    #[test]
    fn leaving_in_peace_is_no_loss_of_the_master() {
        let (master, worker) = FakeMaster::new();
        let events = worker.events();
        assert_eq!(worker.leave(), ExitCode::SUCCESS);
        assert_eq!(master.next_frame(), ToMaster::Goodbye);
        assert!(events.recv_timeout(PATIENCE).is_err(), "no event, the end");
    }

    #[test]
    fn a_question_that_is_waiting_when_the_master_dies_is_answered() {
        let (master, worker) = FakeMaster::new();
        master.answer_by_hand();
        thread::scope(|scope| {
            let asking = scope.spawn(|| worker.listen("127.0.0.1:8000"));
            assert!(matches!(master.next_frame(), ToMaster::Listen(_)));
            master.die();
            assert!(matches!(
                asking.join().unwrap(),
                Err(ListenError::MasterGone)
            ));
        });
    }

    #[test]
    fn a_late_answer_to_a_question_given_up_is_undone() {
        let (master, worker) = FakeMaster::new();
        master.answer_by_hand();
        let err = worker
            .listen_within("web:", ListenOptions::default(), Duration::ZERO)
            .unwrap_err();
        assert!(matches!(err, ListenError::NoAnswer { .. }), "{err}");
        let question = master.next_frame();
        let ToMaster::Listen(mut listen) = question else {
            panic!("{question:?}");
        };
        // The error, late: ignored.
        master.answer(&ToMaster::Listen(listen.clone()));
        // The listener, late: given back.
        listen.target = "127.0.0.1:8000".to_owned();
        master.answer(&ToMaster::Listen(listen));
        let unlisten = master.next_frame();
        assert!(matches!(unlisten, ToMaster::Unlisten { .. }));
        master.answer(&unlisten);
        // All is as if nothing had happened.
        thread::scope(|scope| {
            let asking = scope.spawn(|| worker.listen("127.0.0.1:8000"));
            master.answer(&master.next_frame());
            asking.join().unwrap().unwrap();
        });
    }

    #[test]
    fn frames_that_make_no_sense_are_survived() {
        let (master, worker) = FakeMaster::new();
        master.send(FromMaster::Farewell);
        master.send(FromMaster::Unlistened {
            listener: crate::ids::ListenerId(99),
        });
        master.send(FromMaster::Rejected {
            reason: "late".to_owned(),
        });
        master.send(FromMaster::NotListening {
            request: crate::ids::RequestId(99),
            errno: 0,
            reason: String::new(),
        });
        master.send(FromMaster::Ping { token: 1 });
        assert_eq!(master.next_frame(), ToMaster::Pong { token: 1 });
        assert!(!worker.draining().is_draining());
    }

    #[test]
    fn a_listening_without_its_descriptor_is_an_error_of_that_question() {
        let (master, worker) = FakeMaster::new();
        master.answer_by_hand();
        thread::scope(|scope| {
            let asking = scope.spawn(|| worker.listen("127.0.0.1:8000"));
            let ToMaster::Listen(listen) = master.next_frame() else {
                panic!("the question");
            };
            master.send(FromMaster::Listening(crate::frame::Listening {
                request: listen.request,
                listener: crate::ids::ListenerId(0),
                name: "web".to_owned(),
                address: Address::Unnamed,
                mode: crate::frame::DispatchMode::HandOff,
            }));
            let err = asking.join().unwrap().unwrap_err();
            assert!(matches!(err, ListenError::Answer(_)), "{err}");
        });
    }

    #[test]
    fn garbage_from_the_master_is_as_good_as_its_death() {
        let (master, worker) = over_a_pair();
        crate::scm::send(master.as_fd(), b"\xff\xff", &[], Wait::Never).unwrap();
        assert_eq!(next(&worker.events()), Event::MasterGone);
    }

    #[test]
    fn the_control_thread_takes_no_signal_from_the_program() {
        let (master, _worker) = FakeMaster::new();
        // Once it answers it has its name.
        master.send(FromMaster::Ping { token: 1 });
        assert_eq!(master.next_frame(), ToMaster::Pong { token: 1 });
        // A thread of another test may end meanwhile.
        let blocked: Vec<u64> = fs::read_dir("/proc/self/task")
            .unwrap()
            .filter_map(|thread| fs::read_to_string(thread.unwrap().path().join("status")).ok())
            .filter(|status| status.starts_with("Name:\trr-control\n"))
            .map(|status| {
                let line = status
                    .lines()
                    .find_map(|line| line.strip_prefix("SigBlk:\t"));
                u64::from_str_radix(line.unwrap(), 16).unwrap()
            })
            .collect();
        assert!(!blocked.is_empty());
        for signal in [
            Signal::SIGTERM,
            Signal::SIGINT,
            Signal::SIGHUP,
            Signal::SIGCHLD,
        ] {
            let bit = 1 << (signal as i32 - 1);
            assert!(blocked.iter().all(|mask| mask & bit != 0), "{signal}");
        }
        assert!(!SigSet::thread_get_mask().unwrap().contains(Signal::SIGTERM));
    }

    #[test]
    fn workers_and_listeners_may_be_shared_by_threads() {
        fn shared<T: Send + Sync>() {}
        shared::<Worker>();
        shared::<Listener>();
        shared::<Draining>();
        shared::<FakeMaster>();
    }

    #[test]
    fn the_channel_ends_with_the_last_that_needs_it() {
        let (master, worker) = over_a_pair();
        drop(worker);
        let mut inbox = Inbox::new();
        let ToMaster::Hello(_) = master.receive(&mut inbox, Wait::AsSet).unwrap().frame else {
            panic!("Hello");
        };
        assert!(matches!(
            master.receive(&mut inbox, Wait::AsSet),
            Err(ReceiveError::Closed)
        ));
    }

    #[test]
    fn a_hand_shake_that_fails_says_why() {
        let failure = |answer: Option<FromMaster>| {
            let (master, channel): (MasterChannel, WorkerChannel) = socket::pair().unwrap();
            if let Some(answer) = answer {
                master.send(&answer, &[], Wait::Never).unwrap();
            }
            drop(master);
            Worker::over(channel).unwrap_err().to_string()
        };
        // With nobody at the other end not even Hello can be sent.
        assert_eq!(failure(None), "the master closed the control channel");
        let (master, channel): (MasterChannel, WorkerChannel) = socket::pair().unwrap();
        for (answer, message) in [
            (
                FromMaster::Rejected {
                    reason: "too old".to_owned(),
                },
                "the master rejects this program: too old",
            ),
            (
                FromMaster::Welcome(Welcome {
                    protocol: PROTOCOL + 1,
                    ..FakeMaster::welcome()
                }),
                "the master speaks protocol 4, this program speaks 3: build it with the matching worker-proto",
            ),
            (
                FromMaster::ClusterReady,
                "the master's answer makes no sense: another frame than Welcome came first",
            ),
        ] {
            master.send(&answer, &[], Wait::Never).unwrap();
            let err = Worker::over(channel.try_clone().unwrap()).unwrap_err();
            assert_eq!(err.to_string(), message);
        }
    }

    #[test]
    fn a_worker_attaches_to_its_page_and_says_when_it_drains() {
        let (mut scoreboard, page) = Scoreboard::create().unwrap();
        let (master, worker) = welcomed_with(&[page.as_fd()]);
        let mut state = || scoreboard.read(0).score.unwrap().state;
        assert_eq!(state(), ScoreState::Serving);
        let within = Duration::from_secs(3);
        master
            .send(&FromMaster::Drain { within }, &[], Wait::Never)
            .unwrap();
        assert!(worker.unwrap().draining().wait(PATIENCE));
        assert_eq!(state(), ScoreState::Draining);
    }

    #[test]
    fn a_worker_does_without_a_page_that_it_cannot_use() {
        let (_page, foreign) = Page::create().unwrap();
        let (socket, _peer) = UnixStream::pair().unwrap();
        for page in [foreign.as_fd(), socket.as_fd()] {
            let (_master, worker) = welcomed_with(&[page]);
            worker.unwrap().ready().unwrap();
        }
        let (_master, worker) = welcomed_with(&[foreign.as_fd(), socket.as_fd()]);
        assert_eq!(
            worker.unwrap_err().to_string(),
            "the master's answer makes no sense: a frame with 2 descriptors instead of 1"
        );
    }

    #[test]
    fn a_worker_on_its_own_binds_for_itself() {
        let worker = Worker::alone().unwrap();
        assert!(worker.is_alone());
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = worker.listen(address).unwrap();
            let at = listener.address().inet().unwrap();
            assert_ne!(at.port(), 0);
            let mut client = TcpStream::connect(at).unwrap();
            let mut connection = listener.accept().unwrap().unwrap();
            assert_eq!(connection.peer().inet(), Some(client.local_addr().unwrap()));
            connection.write_all(b"hello").unwrap();
            drop(connection);
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap();
            assert_eq!(answer, "hello");
        }
        worker.ready().unwrap();
        assert_eq!(next(&worker.events()), Event::ClusterReady);
        assert_eq!(worker.leave(), ExitCode::SUCCESS);
    }

    #[test]
    fn alone_a_name_is_an_error_with_a_remedy_and_a_busy_port_is_named() {
        let worker = Worker::alone().unwrap();
        assert_eq!(
            worker.listen("web").unwrap_err().to_string(),
            "without a master there are no named listeners, and address \"web\": the port is missing: write HOST:PORT, for instance 127.0.0.1:8000 or [::1]:8000"
        );
        let held = worker.listen("127.0.0.1:0").unwrap();
        let err = worker.listen(&held.address().to_string()).unwrap_err();
        assert_eq!(
            err.to_string(),
            format!(
                "bind {}: Address already in use (os error 98)",
                held.address()
            )
        );
        assert_eq!(io::Error::from(err).raw_os_error(), Some(libc::EADDRINUSE));
    }

    #[test]
    fn alone_a_unix_path_is_taken_over_only_from_the_dead() {
        let worker = Worker::alone().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.sock");
        let target = format!("unix:{}", path.display());
        let is_socket =
            |path: &Path| fs::metadata(path).is_ok_and(|file| file.file_type().is_socket());

        let listener = worker.listen(&target).unwrap();
        assert!(worker.listen(&target).is_err(), "somebody answers there");
        let _client = UnixStream::connect(&path).unwrap();
        assert!(listener.accept().unwrap().unwrap().into_unix().is_ok());
        drop(listener);
        assert!(!path.exists(), "removed with its listener");

        // Left behind by a process that was killed.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(is_socket(&path));
        let listener = worker.listen(&target).unwrap();
        // Somebody else's by now.
        fs::remove_file(&path).unwrap();
        fs::write(&path, "precious").unwrap();
        drop(listener);
        assert!(path.exists(), "not ours to remove");
        assert!(worker.listen(&target).is_err(), "not a socket");
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn alone_an_abstract_name_works_too() {
        let worker = Worker::alone().unwrap();
        let target = format!("unix:@worker-proto-{}", process::id());
        let listener = worker.listen(&target).unwrap();
        assert_eq!(listener.address().to_string(), target);
    }

    #[test]
    fn alone_a_non_blocking_listener_does_not_wait() {
        let worker = Worker::alone().unwrap();
        let options = ListenOptions {
            nonblocking: true,
            ..ListenOptions::default()
        };
        let listener = worker.listen_with("127.0.0.1:0", options).unwrap();
        let err = listener.accept().unwrap_err();
        assert_eq!(err.kind(), io::ErrorKind::WouldBlock);
        let _client = TcpStream::connect(listener.address().inet().unwrap()).unwrap();
        wait::readable([listener.as_fd()], Some(PATIENCE)).unwrap();
        let mut connection = listener.accept().unwrap().unwrap();
        let err = connection.read(&mut [0]).unwrap_err();
        assert_eq!(err.kind(), io::ErrorKind::WouldBlock);
    }

    fn declared(name: &str, address: &str) -> DeclaredListener {
        DeclaredListener {
            name: name.to_owned(),
            address: address.parse().unwrap(),
        }
    }

    fn over_a_pair() -> (MasterChannel, Worker) {
        let (master, worker) = welcomed_with(&[]);
        (master, worker.unwrap())
    }

    fn welcomed_with(
        descriptors: &[BorrowedFd<'_>],
    ) -> (MasterChannel, Result<Worker, ConnectError>) {
        let (master, channel): (MasterChannel, WorkerChannel) = socket::pair().unwrap();
        let welcome = FromMaster::Welcome(FakeMaster::welcome());
        master.send(&welcome, descriptors, Wait::Never).unwrap();
        (master, Worker::over(channel))
    }

    fn next(events: &Receiver<Event>) -> Event {
        events.recv_timeout(PATIENCE).expect("an event")
    }

    const PATIENCE: Duration = Duration::from_secs(5);
}
