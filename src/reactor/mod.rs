//! The reactor: the master's loop. It turns readiness into events for the supervisor, and the
//! supervisor's actions into system calls.
//!
//! It blocks only in `poll`. It decides nothing about processes: that is the supervisor's.

pub(crate) mod acceptor;
mod attachment;
mod change;
mod choice;
mod clock;
mod closer;
pub(crate) mod command;
mod contents;
pub(crate) mod counters;
mod data_files;
pub(crate) mod delay;
mod execute;
mod face;
mod farewell;
mod generations;
mod host;
mod jobs;
mod leadership;
mod lines;
mod link;
pub(crate) mod load;
mod messages;
mod operators;
mod orphans;
mod own_messages;
mod problems;
mod process;
mod queue;
mod ration;
mod readiness;
pub(crate) mod reload;
mod reopening;
mod report;
pub(crate) mod service;
pub(crate) mod serving;
mod signals;
mod spawner;
mod standing;
mod talk;
mod token;
mod undertaker;
mod uploads;
mod values;
mod waiting;
mod watch;
mod wear;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use log::LevelFilter;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Waker};
use worker_proto::ids::{Role, WorkerId};
use worker_proto::socket::Inbox;

use self::acceptor::{Acceptor, ListenerStatus};
use self::closer::Closer;
use self::command::{Command, Origin, Status};
use self::data_files::DataFiles;
use self::delay::Wakeup;
use self::face::Face;
use self::farewell::Farewells;
use self::generations::{Generations, Versions};
pub(crate) use self::host::Host;
use self::lines::{Lines, Pipes};
use self::load::Loads;
use self::messages::Mail;
use self::orphans::Orphans;
use self::problems::Problems;
use self::process::Process;
use self::ration::Ration;
use self::readiness::Readiness;
use self::reload::{ReloadOutcome, Reloads};
use self::reopening::Reopening;
use self::serving::{Finding, Rules};
use self::spawner::Spawner;
use self::token::Source;
use self::undertaker::Undertaker;
use self::uploads::Uploads;
use self::waiting::Waiting;
use self::watch::Watcher;
use self::wear::{Sight, WearWatch};
use crate::config::Config;
use crate::control::change::Change;
use crate::control::chronicle::Chronicle;
use crate::control::outcome::Outcome;
use crate::control::protocol::When;
use crate::control::server::Server;
use crate::exit_code::ExitCode;
use crate::jobs::{Event as JobEvent, Jobs};
use crate::leadership::Leadership;
use crate::relay::Relay;
use crate::supervisor::Signal::Kill;
use crate::supervisor::{Disconnect, Event, Stage, Supervisor, Symptom, WorkerState};
use crate::sys::brief;
use crate::sys::cgroup::Cgroup;
use crate::sys::closing::Closing;
use crate::sys::describe;
use crate::sys::limits::NofileLimit;
use crate::sys::listening::ListeningSocket;
use crate::sys::oom::OomKills;
use crate::sys::signals::Signals;
use crate::values::{Bounds, Values};

/// What a call into the acceptor may use. A macro, so that it borrows fields and not `self`.
macro_rules! turn {
    ($reactor:ident, $now:expr) => {
        $crate::reactor::serving::Turn {
            now: $now,
            registry: $reactor.poll.registry(),
            scratch: &mut $reactor.scratch,
            closing: &mut $reactor.closing,
            inbox: &mut $reactor.inbox,
            loads: &mut $reactor.loads,
            findings: &mut $reactor.findings,
        }
    };
}
use turn;

/// The master's loop and everything it owns.
pub(crate) struct Reactor {
    poll: Poll,
    config: Config,
    supervisor: Supervisor,
    acceptor: Acceptor,
    loads: Loads,
    generations: Generations,
    reloads: Reloads,
    wear: WearWatch,
    jobs: Jobs,
    oom_kills: OomKills,
    /// What showed about workers in this turn.
    findings: Vec<Finding>,
    processes: HashMap<WorkerId, Process>,
    /// Whose control channel may have more: readiness is reported once per change (`epoll(7)`),
    /// and the budget of a turn may end before the channel does.
    talkative: BTreeSet<WorkerId>,
    /// Whom something could not be told for want of resources, and when to try again.
    starved: BTreeMap<WorkerId, Instant>,
    /// Stalled workers that have not answered a ping yet.
    pinged: BTreeSet<WorkerId>,
    relay: Relay,
    mail: Mail,
    /// How many messages the master has sent itself.
    messages_sent: u64,
    /// What processes have reported of themselves.
    problems: Problems,
    /// What is pushed to processes, and who has it.
    values: Values,
    /// Values that operators have not sent whole.
    uploads: Uploads,
    data_files: DataFiles,
    watcher: Watcher,
    readiness: Readiness,
    leadership: Leadership,
    /// Who is to get its stop signal.
    farewells: Farewells,
    elections: Ration,
    registrations: Ration,
    spawner: Spawner,
    closer: Closer,
    /// What processes say, where the master is to read it.
    lines: Lines,
    signals: Option<Signals>,
    /// When it has shown whether a shell that sent SIGHUP meant a reload.
    doubt: Option<Instant>,
    /// Has the log file opened again.
    log_file: Option<Sender<()>>,
    reopening: Reopening,
    undertaker: Undertaker,
    /// Removed when the undertaker has done its work.
    cgroup: Option<Arc<Cgroup>>,
    orphans: Option<Orphans>,
    commands: Receiver<Command>,
    /// Those who wait for the cluster to be ready.
    expectant: Vec<Sender<()>>,
    /// Given back to every process, if the master's own was raised.
    nofile: Option<NofileLimit>,
    face: Face,
    wakeup: Wakeup,
    inbox: Inbox,
    scratch: Vec<u8>,
    closing: Closing,
    progress: Progress,
    started: Instant,
    chronicle: Chronicle,
    /// The control socket, if there is one.
    server: Option<Server>,
    /// Those who wait for a change to be done.
    waiting: Vec<Waiting>,
    /// The number of workers was changed, and the cluster has not come to rest since.
    is_scaling: bool,
    set_log_level: Option<fn(LevelFilter)>,
}

/// How far the master's life is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Running,
    /// The supervisor waits to hear that the listeners are closed.
    Closing,
    Finished(ExitCode),
}

impl Reactor {
    pub(crate) fn new(
        config: Config,
        sockets: Vec<ListeningSocket>,
        host: Host,
        commands: Receiver<Command>,
    ) -> io::Result<(Self, Arc<Waker>)> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), Source::Waker.into())?);
        if let Some(signals) = &host.signals {
            let token = Source::Signals.into();
            poll.registry().register(
                &mut SourceFd(&signals.as_raw_fd()),
                token,
                Interest::READABLE,
            )?;
        }
        let rules = Rules::of(&config);
        if let Some(orphans) = &host.orphans {
            poll.registry().register(
                &mut SourceFd(&orphans.as_raw_fd()),
                Source::Orphans.into(),
                Interest::READABLE,
            )?;
        }
        let mut acceptor = Acceptor::new(
            config.on_demand.clone(),
            config.dispatch,
            config.window,
            rules,
        )
        .choosing_as(&config);
        for (spec, socket) in config.listeners.iter().zip(sockets) {
            acceptor.declare(spec, config.mode_of(spec), socket);
        }
        let cgroup = host.cgroup.map(Arc::new);
        let bounds = Bounds {
            longest: config.messages.max_message,
            together: config.messages.memory,
        };
        let data_files = DataFiles::start(&config.data_files, bounds.longest, Arc::clone(&waker))?;
        let watcher = Watcher::start(&config.watch, Arc::clone(&waker))?;
        let reactor = Reactor {
            supervisor: Supervisor::new(config.plan()),
            spawner: Spawner::start(Arc::clone(&waker), clock::now())?,
            closer: Closer::start()?,
            lines: Lines::default(),
            undertaker: Undertaker::start(config.kill_timeout, cgroup.clone())?,
            cgroup,
            loads: Loads::new(config.connection_limits),
            generations: Generations::starting_with(Versions::of(&config)),
            reloads: Reloads::new(host.source, Arc::clone(&waker)),
            wear: WearWatch::new(config.recycling),
            jobs: Self::jobs_of(&config),
            oom_kills: OomKills::watch(),
            findings: Vec::new(),
            signals: host.signals,
            doubt: None,
            log_file: host.log_file,
            reopening: Reopening::default(),
            orphans: host.orphans.map(Orphans::from),
            nofile: host.nofile,
            poll,
            leadership: Leadership::new(leadership::electorate(config.agents.len())),
            acceptor,
            processes: HashMap::new(),
            talkative: BTreeSet::new(),
            starved: BTreeMap::new(),
            pinged: BTreeSet::new(),
            relay: messages::relay(&config),
            mail: Mail::default(),
            messages_sent: 0,
            problems: Problems::default(),
            values: Values::new(bounds),
            uploads: Uploads::new(bounds.together),
            data_files,
            watcher,
            readiness: Readiness::default(),
            farewells: Farewells::default(),
            elections: Ration::default(),
            registrations: Ration::default(),
            commands,
            expectant: Vec::new(),
            face: Face::new(host.service, host.title),
            wakeup: Wakeup::new(clock::now()),
            inbox: Inbox::new(),
            scratch: Vec::new(),
            closing: Closing::default(),
            progress: Progress::Running,
            started: clock::now(),
            chronicle: Chronicle::default(),
            server: None,
            waiting: Vec::new(),
            is_scaling: false,
            set_log_level: host.set_log_level,
            config,
        };
        Ok((reactor, waker))
    }

    /// The listeners, with the addresses really bound.
    pub(crate) fn listeners(&self) -> Vec<ListenerStatus> {
        self.acceptor.status(clock::now())
    }

    /// Runs the cluster from its start to its end.
    ///
    /// The order within a turn is precedence: what processes and operators say comes before new
    /// connections.
    pub(crate) fn run(mut self) -> io::Result<ExitCode> {
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        self.announce_setup();
        self.await_data_files();
        self.supervisor.handle(clock::now(), Event::Start);
        loop {
            let now = clock::now();
            self.supervisor.handle(now, Event::Tick);
            self.resolve_doubt(now);
            self.flush_starved(now);
            self.look_for_signs(now);
            self.reopen_logs_as_wished(now);
            self.execute_actions(now);
            self.spawner.turn(now);
            self.loads.tick(now);
            self.watch_wear(now);
            self.say_farewell(now);
            self.tell_jobs(now, JobEvent::Tick);
            self.acceptor.turn(&mut turn!(self, now));
            if self.act_on_findings(now) {
                self.acceptor.turn(&mut turn!(self, now));
            }
            self.report_closed_listeners(now);
            self.tell_news(now);
            self.note_rest();
            self.face.turn(now, &self.supervisor);
            self.flush_operators(now);
            if let Progress::Finished(code) = self.progress {
                return Ok(code);
            }
            let timeout = self.timeout();
            let asked = clock::now();
            match self.wait(&mut events, timeout) {
                Err(err) if err.kind() != io::ErrorKind::Interrupted => return Err(err),
                Ok(()) | Err(_) => {}
            }
            let now = clock::now();
            self.wakeup.note(asked, now);
            for event in &events {
                if let Some(source) = Source::from_token(event.token()) {
                    self.note(source, now);
                }
            }
            self.read_links(now);
            self.relay.tick(now);
            self.hear_own_messages();
            self.write_messages(now);
            self.serve_operators(now);
            self.reap_orphans();
        }
    }

    /// Waits for something to happen. A very short time is waited for exactly: `epoll_wait(2)` counts in
    /// milliseconds.
    fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        let brief = timeout.filter(|it| !it.is_zero() && *it < BRIEF);
        // Those of the turn before are done with, also if this is interrupted.
        events.clear();
        let timeout = match brief {
            None => timeout,
            Some(brief) if brief::happens_within(&self.poll, brief)? => Some(Duration::ZERO),
            Some(_) => return Ok(()),
        };
        self.poll.poll(events, timeout)
    }

    fn timeout(&self) -> Option<Duration> {
        let has_operators_to_hear = self.server.as_ref().is_some_and(Server::is_unfinished);
        if self.acceptor.is_unfinished()
            || self.has_frames()
            || self.has_messages()
            || self.has_orphans()
            || has_operators_to_hear
        {
            return Some(Duration::ZERO);
        }
        let deadline = [
            self.supervisor.next_deadline(),
            self.acceptor.deadline(),
            self.loads.deadline(),
            self.wear.deadline(),
            self.farewells.deadline(),
            self.readiness.deadline(),
            self.jobs.next_deadline(),
            self.spawner.deadline(),
            self.starved.values().min().copied(),
            self.relay.next_deadline(),
            self.server.as_ref().and_then(Server::deadline),
            self.face.deadline(),
            self.doubt,
            self.reopening.deadline(),
        ];
        let now = clock::now();
        deadline
            .into_iter()
            .flatten()
            .min()
            .map(|at| at.saturating_duration_since(now).min(LONGEST_WAIT))
    }

    /// Deals with one readiness event.
    fn note(&mut self, source: Source, now: Instant) {
        match source {
            Source::Waker => {
                self.read_outcomes(now);
                self.go_on_with_reload(now);
                self.read_commands(now);
                self.read_data_files();
                self.read_watch(now);
            }
            Source::Signals => self.read_signals(now),
            Source::Listener(listener) => {
                self.acceptor.note_readable(listener, self.wakeup.since());
            }
            Source::Queue(worker, listener) => {
                self.acceptor
                    .relieve(worker, listener, self.poll.registry());
            }
            Source::Control(worker) => {
                self.talkative.insert(worker);
                // A packet that is given up for want of resources makes the channel writable
                // again: trying at once would go on for ever.
                if !self.starved.contains_key(&worker) {
                    self.mail.unblock(worker);
                    self.flush_link(worker, now);
                }
            }
            Source::Exit(worker) => self.note_exit(worker, now),
            Source::Door => self.let_operators_in(now),
            Source::Operator(client) => {
                if let Some(server) = &mut self.server {
                    server.note_ready(client);
                }
            }
            Source::Orphans => {
                if let Some(orphans) = &mut self.orphans {
                    orphans.note();
                }
            }
        }
    }

    fn read_outcomes(&mut self, now: Instant) {
        while let Some(outcome) = self.spawner.poll_outcome() {
            let worker = outcome.worker;
            let Some(process) = self.processes.get_mut(&worker) else {
                // It was given up, and is late.
                if let Ok(started) = outcome.process {
                    self.undertaker.put_down(worker, started.pidfd, now);
                }
                continue;
            };
            let started = outcome.process.and_then(|started| {
                let pid = started.pidfd.pid();
                let name = format!("{} pid={pid}", process.name());
                let pipes = Pipes {
                    stdout: started.stdout,
                    stderr: started.stderr,
                };
                process.start(started.pidfd, self.poll.registry())?;
                if let Err(err) = self.lines.adopt(worker, &name, pipes) {
                    // Nobody would read what it says: the next one may have better luck.
                    log::error!("{worker}: read its output: {}: SIGKILL", describe(&err));
                    process.signal(Kill, now)?;
                }
                Ok(pid)
            });
            match started {
                Ok(pid) => {
                    self.supervisor.handle(now, Event::Spawned { worker, pid });
                    self.await_sign(worker, now);
                }
                Err(err) => {
                    // It may exist and be impossible to watch.
                    if let Some((pidfd, _)) = process.take_remains(self.poll.registry()) {
                        self.undertaker.put_down(worker, pidfd, now);
                    }
                    let (role, slot, generation) = (process.role, process.slot, process.generation);
                    let program = &self.generations.version(role, slot, generation).program;
                    let reason = format!("start {}: {}", program.path.display(), explain(&err));
                    self.supervisor
                        .handle(now, Event::SpawnFailed { worker, reason });
                }
            }
        }
    }

    fn read_commands(&mut self, now: Instant) {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Reload(answer) => {
                    let (origin, change) = (Origin::Handle, Change::Reload);
                    log::info!("{origin}: {change}: {}", Outcome::Reloading);
                    if let Err(denied) = self.reload(now, Some(answer.clone())) {
                        let reason = denied.to_string();
                        let _ = answer.try_send(ReloadOutcome::Refused { reason });
                    }
                }
                Command::Change(change, answer) => {
                    let by = (Origin::Handle, When::Begun);
                    self.change(now, &change, by, answer);
                }
                Command::Push(key, content, answer) => {
                    let by = (Origin::Handle, When::Begun);
                    self.push(&key, content, by, answer);
                }
                Command::Events(events) => self.chronicle.subscribe(events),
                Command::Status(reply) => {
                    let status = Status {
                        workers: self.supervisor.workers().collect(),
                        listeners: self.acceptor.status(now),
                        loads: self.loads.status(),
                        problems: self.problems.total(),
                    };
                    let _ = reply.try_send(status);
                }
                Command::AwaitReady(reply) if self.supervisor.stage() == Stage::Serving => {
                    let _ = reply.try_send(());
                }
                Command::AwaitReady(reply) => {
                    // Who gave up waiting is still among them: the oldest goes.
                    if self.expectant.len() >= EXPECTANT {
                        self.expectant.remove(0);
                    }
                    self.expectant.push(reply);
                }
            }
        }
    }

    /// Does what follows from what the turn has shown; answers whether there was anything.
    fn act_on_findings(&mut self, now: Instant) -> bool {
        let mut any = !self.findings.is_empty();
        for finding in std::mem::take(&mut self.findings) {
            match finding {
                Finding::Stalled(worker) => self.ping(worker, now),
                Finding::Hung(worker, lasted) => {
                    let symptom = Symptom::Unmoved { lasted };
                    self.supervisor.handle(now, Event::Hung { worker, symptom });
                }
            }
        }
        while let Some((worker, nonsense)) = self.loads.poll_nonsense() {
            any = true;
            if self.link(worker).is_some() {
                let what = format!("scoreboard: {nonsense}");
                self.disconnect(worker, Disconnect::Violation { what }, now);
            }
        }
        self.execute_actions(now);
        any
    }

    /// Tells processes what is new, and does what follows from that.
    fn tell_news(&mut self, now: Instant) {
        while self.tell_leaders(now) || self.tell_values(now) {
            self.execute_actions(now);
        }
    }

    /// Reports a process that ended, after its last words, and has it buried.
    fn note_exit(&mut self, worker: WorkerId, now: Instant) {
        let Some(process) = self.processes.get_mut(&worker) else {
            return;
        };
        match process.exit_status() {
            Ok(Some(status)) => {
                if let Some((pidfd, told)) = process.take_remains(self.poll.registry()) {
                    self.undertaker.bury(worker, pidfd, told, now);
                }
                self.read_link(worker, LAST_WORDS, now);
                if self
                    .processes
                    .get(&worker)
                    .is_some_and(|process| process.link().is_some())
                {
                    self.disconnect(worker, Disconnect::Closed, now);
                }
                self.lines.hear_out(worker);
                self.supervisor
                    .handle(now, Event::Exited { worker, status });
            }
            Ok(None) => {}
            Err(err) => log::error!("{worker}: collect its exit status: {err}"),
        }
    }

    /// Replaces workers that have done or taken enough.
    fn watch_wear(&mut self, now: Instant) {
        if !self.wear.is_due(now) {
            return;
        }
        let sights: Vec<Sight> = self
            .loads
            .given()
            .filter(|(worker, _)| self.supervisor.is_serving(*worker))
            .filter_map(|(worker, given)| {
                let pid = self.supervisor.worker(worker)?.pid?;
                Some(Sight { worker, pid, given })
            })
            .collect();
        for (worker, why) in self.wear.look(&sights) {
            self.supervisor.handle(now, Event::Worn { worker, why });
        }
        self.execute_actions(now);
    }

    fn report_closed_listeners(&mut self, now: Instant) {
        if self.progress == Progress::Closing && !self.expects_workers() {
            self.acceptor.give_up_unserved(&mut turn!(self, now));
        }
        if self.progress == Progress::Closing && self.acceptor.is_closed() {
            self.progress = Progress::Running;
            self.supervisor.handle(now, Event::ListenersClosed);
            self.execute_actions(now);
        }
    }
}

impl Reactor {
    /// The last lines of a process's standard error, as far as the master reads it.
    pub(crate) fn tail(&self, worker: WorkerId) -> Vec<String> {
        self.lines.tail(worker)
    }

    /// Whether a worker may yet come that asks for a listener.
    fn expects_workers(&self) -> bool {
        self.supervisor.workers().any(|view| {
            view.role == Role::Worker
                && matches!(view.state, WorkerState::Spawning | WorkerState::Starting)
        })
    }
}

/// What a person should do about a process that could not be started.
fn explain(err: &io::Error) -> String {
    let remedy = match err.raw_os_error() {
        Some(libc::EAGAIN) => "; raise the limit on processes (ulimit -u, TasksMax=)",
        Some(libc::EMFILE) => "; raise the limit on descriptors (ulimit -n, LimitNOFILE=)",
        Some(libc::ENOMEM) => "; memory is short",
        Some(libc::EACCES) => "; its user may not execute it, or not enter a directory on the way",
        Some(libc::ENOENT) => "; the program, or the interpreter in its first line, is missing",
        _ => "",
    };
    format!("{}{remedy}", describe(err))
}

const EVENTS_PER_TURN: usize = 256;

/// How many may wait for the cluster to be ready.
const EXPECTANT: usize = 1024;

/// How many frames a dead process may have left: more than fit into a socket's buffer.
const LAST_WORDS: usize = 4096;

/// Less than that is waited for exactly.
const BRIEF: Duration = Duration::from_millis(5);

/// Keeps the arithmetic of the poll away from its limits.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
