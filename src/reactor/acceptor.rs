//! The acceptor: every listener of the master, and who may listen on what.
//!
//! Declared listeners are there from the start. Others are bound when a worker asks, if the policy
//! allows, and shared by every worker that asks for the same address.

mod choice;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use log::Level;
use mio::Registry;
use worker_proto::address::Address;
use worker_proto::frame::{Attach, DeclaredListener, DispatchMode, InheritedOption, Listen};
use worker_proto::ids::{ListenerId, Role, Slot, WorkerId};

use self::choice::Choice;
use super::counters::Counters;
use super::delay::HandoffDelay;
use super::queue::{AcceptQueue, Taker};
use super::serving::{QueueStatus, Rules, Serving, Tenure, Turn};
use super::token::LAST_LISTENER;
use crate::config::OnDemand;
use crate::config::dispatch::Dispatch;
use crate::config::listener::{ListenerSpec, Source};
use crate::config::strategy::StrategyName;
use crate::sys::applicant::Applicant;
use crate::sys::describe;
use crate::sys::listening::{BindError, Keeping, ListeningSocket};

/// Every listener of the master.
#[derive(Debug)]
pub(crate) struct Acceptor {
    /// In the order of their ids, so that no listener is preferred by chance.
    serving: BTreeMap<ListenerId, Serving>,
    on_demand: OnDemand,
    /// How connections of listeners come that are bound on demand.
    dispatch: Dispatch,
    /// How many connections one accept queue holds.
    window: u32,
    rules: Rules,
    choice: Choice,
    next: ListenerId,
    /// The ports that programs ask for where they get another listener.
    aliases: BTreeMap<ListenerId, u16>,
    /// How many queues were given to programs that take them for listening sockets.
    queues: u64,
    is_closing: bool,
    /// Clients of new listeners wait, too.
    is_paused: bool,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker {
    pub(crate) worker: WorkerId,
    pub(crate) slot: Slot,
    pub(crate) role: Role,
    pub(crate) is_in_rotation: bool,
}

/// What it asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    listen: &'a Listen,
    program: Program<'a>,
}

/// Who has the queue.
#[derive(Clone, Copy, Debug)]
enum Program<'a> {
    /// A program that knows what it is.
    Speaks,
    /// A program that takes it for a listening socket.
    Preloaded {
        attach: &'a Attach,
        /// Whose rights count, and whose the file of a Unix socket is to be.
        applicant: Option<Applicant>,
    },
}

/// The ends of a new queue that are not the master's own.
struct Ends {
    worker_end: OwnedFd,
    sender: Option<OwnedFd>,
}

impl Ends {
    fn add_to(self, grant: &mut Grant) {
        grant.descriptors.push(self.worker_end);
        grant.sender = self.sender;
    }
}

impl Program<'_> {
    /// Whether it takes an accept queue for what it is, also beside a listening socket.
    fn knows_queues(self) -> bool {
        match self {
            Program::Speaks => true,
            Program::Preloaded { .. } => false,
        }
    }
}

impl<'a> Wanted<'a> {
    pub(crate) fn question(self) -> &'a Listen {
        self.listen
    }

    pub(crate) fn by_sdk(listen: &'a Listen) -> Self {
        let program = Program::Speaks;
        Wanted { listen, program }
    }

    pub(crate) fn by_library(attach: &'a Attach) -> Self {
        let applicant = Applicant::of(attach.pid);
        Wanted {
            listen: &attach.listen,
            program: Program::Preloaded { attach, applicant },
        }
    }
}

/// What a worker gets for its `Listen`.
#[derive(Debug)]
pub(crate) struct Grant {
    pub(crate) listener: ListenerId,
    pub(crate) name: String,
    pub(crate) address: Address,
    pub(crate) mode: DispatchMode,
    /// The listening socket, if the worker accepts itself; then the queue, if it knows what to do
    /// with it.
    pub(crate) descriptors: Vec<OwnedFd>,
    /// The queue's other end, for a program that must not see its queue end.
    pub(crate) sender: Option<OwnedFd>,
}

/// Why a worker does not get it.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) errno: i32,
    pub(crate) reason: String,
}

/// One listener, as `Handle::status` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerStatus {
    /// What workers ask for.
    pub name: String,
    /// The address really bound.
    pub address: Address,
    /// How its connections come to the workers. Unless by hand-off the master sees only those that
    /// waited in a socket that had lost its worker.
    pub mode: DispatchMode,
    /// How the master chooses among its workers, if it is by hand-off.
    pub strategy: StrategyName,
    /// What happened to its connections.
    pub counters: Counters,
    /// Accepted, and waiting in the master for a worker with room.
    pub held: u64,
    /// How long the latest hand-offs took.
    pub handoff_delay: HandoffDelay,
    /// Whether clients wait in the backlog since somebody wants it so.
    pub is_paused: bool,
    /// Its accept queues, by worker.
    pub queues: Vec<QueueStatus>,
}

impl Acceptor {
    pub(crate) fn new(on_demand: OnDemand, dispatch: Dispatch, window: u32, rules: Rules) -> Self {
        Acceptor {
            serving: BTreeMap::new(),
            on_demand,
            dispatch,
            window,
            rules,
            choice: Choice::default(),
            next: ListenerId(0),
            aliases: BTreeMap::new(),
            queues: 0,
            is_closing: false,
            is_paused: false,
        }
    }

    /// From now on these rules hold, for every listener.
    pub(crate) fn adopt(&mut self, rules: Rules) {
        self.rules = rules;
        for serving in self.serving.values_mut() {
            serving.adopt(rules);
        }
    }

    /// Serves a listener that was declared.
    pub(crate) fn declare(
        &mut self,
        spec: &ListenerSpec,
        mode: DispatchMode,
        socket: ListeningSocket,
    ) {
        let id = self.add(spec.name(), mode, Tenure::Declared, socket);
        let deferral = spec.deferring(self.dispatch.defer_accept).defer_accept;
        self.defer_accept(id, deferral.unwrap_or_default());
        if let (Some(strategy), Some(serving)) = (spec.strategy, self.serving.get_mut(&id)) {
            serving.choose_by(strategy);
        }
        if let Some(port) = spec.stands_for {
            self.aliases.insert(id, port);
        }
    }

    /// What a process is told of at its welcome.
    pub(crate) fn declared(&self) -> Vec<DeclaredListener> {
        let declared = self
            .serving
            .values()
            .filter(|serving| serving.is_declared());
        declared
            .filter_map(|serving| {
                serving.socket()?;
                Some(DeclaredListener {
                    name: serving.name().to_owned(),
                    address: serving.address().clone(),
                })
            })
            .collect()
    }

    /// What a worker is started with, in the order of the declarations: the sockets from which it is
    /// to accept itself, each with the name of its listener.
    pub(crate) fn lend_at_start(
        &mut self,
        worker: WorkerId,
        slot: Slot,
        turn: &mut Turn<'_>,
    ) -> Vec<(String, OwnedFd)> {
        let declared = self.serving.values_mut();
        let lent = declared.filter(|it| it.is_declared() && it.lends() && it.socket().is_some());
        let lent = lent.map(|serving| {
            let socket = serving.lend_at_start(worker, slot, turn)?;
            Ok((serving.name().to_owned(), socket))
        });
        lent.collect::<io::Result<_>>().unwrap_or_else(|err| {
            log::error!(
                "{worker}: starts without listening sockets: {}",
                describe(&err)
            );
            Vec::new()
        })
    }

    /// The worker speaks to the master, and asks for what it wants.
    pub(crate) fn note_speaks(&mut self, worker: WorkerId) {
        for serving in self.serving.values_mut() {
            serving.note_speaks(worker);
        }
    }

    /// Answers a worker's `Listen`.
    pub(crate) fn listen(
        &mut self,
        asker: Asker,
        wanted: Wanted<'_>,
        turn: &mut Turn<'_>,
    ) -> Result<Grant, Refusal> {
        if asker.role == Role::Agent {
            return Err(Refusal::new(
                libc::EACCES,
                "an agent receives no connections",
            ));
        }
        if self.is_closing {
            return Err(Refusal::new(libc::ESHUTDOWN, "the master is stopping"));
        }
        let holds = self
            .serving
            .values()
            .filter(|serving| serving.is_taken_by(asker.worker))
            .count();
        if holds >= LISTENERS_PER_WORKER {
            let reason = format!("a worker holds at most {LISTENERS_PER_WORKER} listeners");
            return Err(Refusal::new(libc::EMFILE, reason));
        }
        let found = match wanted.program {
            Program::Speaks => self.find(&wanted.listen.target),
            Program::Preloaded { .. } => self.find_for_preloaded(asker, &wanted.listen.target),
        };
        let id = match found {
            Some(id) => id,
            None => self.bind(asker, wanted)?,
        };
        self.restore_file(id, asker, wanted, turn.registry);
        let serving = self.serving.get_mut(&id).expect("just found");
        if serving.is_taken_by(asker.worker) {
            let reason = format!("this worker listens on {} already", serving.name());
            return Err(Refusal::new(libc::EADDRINUSE, reason));
        }
        let granted = Self::grant(serving, asker, wanted, turn).and_then(|mut grant| {
            if grant.descriptors.is_empty() || wanted.program.knows_queues() {
                Self::add_queue(serving, asker, wanted, (self.window, &mut self.queues))?
                    .add_to(&mut grant);
            }
            Ok(grant)
        });
        if asker.is_in_rotation {
            self.enter(asker.worker, asker.slot, turn.now);
        }
        if granted.is_err() {
            self.drop_unclaimed(turn);
        }
        granted
    }

    /// Connections of the listener are to have these options from now on, if the worker has it: of
    /// what others have it decides nothing.
    pub(crate) fn inherit(
        &mut self,
        worker: WorkerId,
        listener: ListenerId,
        options: &[InheritedOption],
    ) {
        let serving = self.serving.get_mut(&listener);
        if let Some(serving) = serving.filter(|it| it.is_taken_by(worker)) {
            serving.pass_on(options);
        }
    }

    /// The worker wants no more of this listener, if it has it.
    pub(crate) fn unlisten(&mut self, worker: WorkerId, listener: ListenerId, turn: &mut Turn<'_>) {
        if let Some(serving) = self.serving.get_mut(&listener) {
            serving.retire(worker, turn);
            self.drop_unclaimed(turn);
        }
    }

    /// The worker may receive from now on.
    pub(crate) fn enter(&mut self, worker: WorkerId, slot: Slot, now: Instant) {
        for serving in self.serving.values_mut() {
            serving.enter(worker, slot, now);
            serving.weigh(worker, self.choice.weight(worker, slot));
        }
    }

    /// The worker gets nothing new.
    pub(crate) fn leave(&mut self, worker: WorkerId, turn: &mut Turn<'_>) {
        for serving in self.serving.values_mut() {
            serving.leave(worker, turn);
        }
    }

    /// The worker's queues end after what is in them.
    pub(crate) fn end(&mut self, worker: WorkerId, turn: &mut Turn<'_>) {
        for serving in self.serving.values_mut() {
            serving.end(worker, turn);
        }
    }

    /// The worker is gone: takes its queues away; what is in them is dispatched again.
    pub(crate) fn retire(&mut self, worker: WorkerId, slot: Slot, turn: &mut Turn<'_>) {
        self.choice.forget(worker);
        for serving in self.serving.values_mut() {
            if serving.retire(worker, turn) {
                serving.await_claim(slot);
            }
        }
    }

    /// The worker is still there and gets nothing new; what it has not received is for others. One
    /// that accepts itself goes on until it is gone: it would see its socket end for ever.
    pub(crate) fn dismiss(&mut self, worker: WorkerId, slot: Slot, turn: &mut Turn<'_>) {
        for serving in self.serving.values_mut() {
            if serving.lends() && !serving.has_queue(worker) {
                serving.leave(worker, turn);
            } else if serving.retire(worker, turn) {
                serving.await_claim(slot);
            }
        }
    }

    /// Whether somebody waits in a queue of the worker, or in a socket from which it alone accepts.
    pub(crate) fn is_waited_for(&self, worker: WorkerId) -> bool {
        let mut serving = self.serving.values();
        serving.any(|serving| serving.is_waited_for(worker))
    }

    /// The slot has a ready worker again, or will have none: what its last worker had bound, and
    /// nobody claims, goes.
    pub(crate) fn settle(&mut self, slot: Slot, turn: &mut Turn<'_>) {
        for serving in self.serving.values_mut() {
            serving.settle(slot);
        }
        self.drop_unclaimed(turn);
    }

    /// The worker cannot open the descriptors of what waits for it.
    pub(crate) fn no_room(&mut self, worker: WorkerId, listener: ListenerId, now: Instant) {
        if let Some(serving) = self.serving.get_mut(&listener) {
            serving.no_room(worker, now);
        }
    }

    /// The worker has answered a `Ping`.
    pub(crate) fn note_alive(&mut self, worker: WorkerId) {
        for serving in self.serving.values_mut() {
            serving.note_alive(worker);
        }
    }

    /// A client is waiting, since then at the earliest.
    pub(crate) fn note_readable(&mut self, listener: ListenerId, since: Instant) {
        if let Some(serving) = self.serving.get_mut(&listener) {
            serving.note_readable(since);
        }
    }

    /// A saturated accept queue has room again.
    pub(crate) fn relieve(&mut self, worker: WorkerId, listener: ListenerId, registry: &Registry) {
        if let Some(serving) = self.serving.get_mut(&listener) {
            serving.relieve(worker, registry);
        }
    }

    /// Accepts and hands off, every listener within its budget.
    pub(crate) fn turn(&mut self, turn: &mut Turn<'_>) {
        for serving in self.serving.values_mut() {
            serving.turn(turn);
        }
        // What was handed off for other reasons than a client who came.
        turn.closing.close();
    }

    /// Lets clients of this listener wait in the backlog, or of all of them; answers whose names they
    /// are. A pause of all holds for listeners to come as well.
    pub(crate) fn pause(&mut self, name: Option<&str>) -> Vec<String> {
        self.is_paused |= name.is_none();
        self.each_named(name, Serving::pause_admission)
    }

    /// Accepts again what [`pause`](Self::pause) lets wait.
    pub(crate) fn resume(&mut self, name: Option<&str>) -> Vec<String> {
        self.is_paused &= name.is_some();
        self.each_named(name, Serving::resume_admission)
    }

    fn each_named(&mut self, name: Option<&str>, act: fn(&mut Serving)) -> Vec<String> {
        let serving = self.serving.values_mut();
        // Nobody but the workers themselves could stop accepting.
        let named = serving
            .filter(|serving| !serving.lends() && name.is_none_or(|name| serving.name() == name));
        named
            .map(|serving| {
                act(serving);
                serving.name().to_owned()
            })
            .collect()
    }

    /// Lets nobody new in; the following turns serve those who are already on the way.
    pub(crate) fn close(&mut self, now: Instant) {
        self.is_closing = true;
        for serving in self.serving.values_mut() {
            serving.close(now);
        }
    }

    /// Closes every listener as it is.
    pub(crate) fn abandon(&mut self, registry: &Registry) {
        self.is_closing = true;
        for serving in self.serving.values_mut() {
            serving.abandon(registry);
        }
    }

    /// Whether everything that waited at [`close`](Self::close) was handed off.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closing && self.serving.values().all(Serving::is_closed)
    }

    /// No worker can come to listen any more: closes what nobody listens on.
    pub(crate) fn give_up_unserved(&mut self, turn: &mut Turn<'_>) {
        for serving in self.serving.values_mut() {
            serving.give_up_unserved(turn);
        }
    }

    /// Gives up on what no worker is left to take.
    pub(crate) fn refuse_held(&mut self, turn: &mut Turn<'_>) {
        for serving in self.serving.values_mut() {
            serving.refuse_held(turn);
        }
    }

    /// When a listener wants to be looked at.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.serving.values().filter_map(Serving::deadline).min()
    }

    /// Whether a turn would do something at once.
    pub(crate) fn is_unfinished(&self) -> bool {
        self.serving.values().any(Serving::is_unfinished)
    }

    /// Every listener, until nothing of it is on its way any more.
    pub(crate) fn status(&self, now: Instant) -> Vec<ListenerStatus> {
        let serving = self.serving.values();
        serving
            .map(|serving| ListenerStatus {
                name: serving.name().to_owned(),
                address: serving.address().clone(),
                mode: serving.mode(),
                strategy: serving.strategy(),
                counters: serving.counters(),
                held: serving.held() as u64,
                handoff_delay: serving.handoff_delay(now),
                is_paused: serving.is_paused(),
                queues: serving.queues(),
            })
            .collect()
    }

    fn add(
        &mut self,
        name: String,
        mode: DispatchMode,
        tenure: Tenure,
        socket: ListeningSocket,
    ) -> ListenerId {
        if let Some((asked, limit)) = socket.clamped_backlog() {
            log::warn!(
                "{name}: backlog {asked} is cut to {limit} by the kernel: raise net.core.somaxconn"
            );
        }
        let id = self.next;
        self.next.0 += 1;
        let mut serving = Serving::new(id, name, mode, self.rules, tenure, socket);
        if self.is_paused {
            serving.pause_admission();
        }
        if !serving.lends() {
            serving.choose_by(self.choice.strategy);
        }
        self.serving.insert(id, serving);
        id
    }

    /// Has the kernel keep clients that say nothing for so long.
    fn defer_accept(&mut self, id: ListenerId, time: Duration) {
        let seconds = u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        let serving = self.serving.get_mut(&id);
        let takes_it = |it: &&mut Serving| seconds > 0 && it.address().inet().is_some();
        if let Some(serving) = serving.filter(takes_it) {
            serving.pass_on(&[InheritedOption::DeferAccept(seconds)]);
        }
    }

    /// By name, by the address as it was asked for, or by the address really bound.
    fn find(&self, target: &str) -> Option<ListenerId> {
        let by_name = self
            .serving
            .values()
            .find(|serving| serving.name() == target);
        let found = by_name.or_else(|| {
            let address: Address = target.parse().ok()?;
            let mut open = self.serving.values().filter(|it| it.socket().is_some());
            open.find(|serving| *serving.address() == address)
        });
        found.map(Serving::id)
    }

    /// A program that cannot be told names: what it asks for by address may be another one, which the
    /// operator has declared for it. Each of its sockets with port 0 is another listener, and the
    /// first of every worker is the same.
    fn find_for_preloaded(&self, asker: Asker, target: &str) -> Option<ListenerId> {
        let address: Address = target.parse().ok()?;
        let Some(inet) = address.inet() else {
            return self.find(target);
        };
        let open = || self.serving.values().filter(|it| it.socket().is_some());
        if inet.port() == 0 {
            let mut named = open().filter(|it| it.name() == target);
            let found = named.find(|it| !it.is_taken_by(asker.worker));
            return found.map(Serving::id);
        }
        let alias = |it: &Serving| self.aliases.get(&it.id()).copied();
        let port = |it: &Serving| it.address().inet().map(|address| address.port());
        let mapped = open().find(|it| alias(it) == Some(inet.port()));
        let declared = || {
            let mut plain = open().filter(|it| it.is_declared() && alias(it).is_none());
            plain.find(|it| port(it) == Some(inet.port()))
        };
        mapped
            .map(Serving::id)
            .or_else(|| self.find(target))
            .or_else(|| declared().map(Serving::id))
    }

    fn bind(&mut self, asker: Asker, wanted: Wanted<'_>) -> Result<ListenerId, Refusal> {
        let listen = wanted.listen;
        let target = &listen.target;
        let address: Address = target.parse().map_err(|err| {
            let declared: Vec<_> = self.serving.values().map(Serving::name).collect();
            let reason = format!(
                "no listener is called so (there are: {}), and {err}",
                declared.join(", ")
            );
            Refusal::new(libc::ENOENT, reason)
        })?;
        match &self.on_demand {
            OnDemand::Any => {
                if let Program::Preloaded { applicant, .. } = wanted.program
                    && !applicant.is_some_and(|it| it.may_bind(&address))
                {
                    let reason = "the program has given up the rights that this takes";
                    return Err(Refusal::new(libc::EACCES, reason));
                }
            }
            OnDemand::Only(allowed) if allowed.contains(&address) => {}
            OnDemand::Only(_) => {
                let reason = format!(
                    "{target} is not declared: add --listen {target} or --allow-listen {target}"
                );
                return Err(Refusal::new(libc::EACCES, reason));
            }
        }
        if self.next.0 > LAST_LISTENER {
            return Err(Refusal::new(
                libc::EMFILE,
                "this master has bound a million listeners: restart it",
            ));
        }
        let mode = match self.dispatch.mode {
            // One that cannot be had as a group is better handed off than not had.
            DispatchMode::ReusePort if address.inet().is_none() => DispatchMode::HandOff,
            mode @ (DispatchMode::HandOff | DispatchMode::Shared | DispatchMode::ReusePort) => mode,
        };
        let socket = Self::open(address, wanted, Keeping::of(mode)).map_err(|err| {
            let errno = match (wanted.program, err.errno()) {
                // What bind(2) says of a path that anything is in the way of.
                (Program::Preloaded { .. }, libc::EEXIST) => libc::EADDRINUSE,
                (Program::Speaks | Program::Preloaded { .. }, errno) => errno,
            };
            Refusal::new(errno, err.to_string())
        })?;
        log::log!(
            news(self.next),
            "listening on {} for {}",
            socket.address(),
            asker.worker
        );
        let id = self.add(
            target.clone(),
            mode,
            Tenure::OnDemand {
                awaited: BTreeSet::new(),
            },
            socket,
        );
        self.defer_accept(id, self.dispatch.defer_accept);
        Ok(id)
    }

    /// Programs remove the path that they are about to bind: the socket of others is bound to it once
    /// more, if nobody could come to it otherwise.
    fn restore_file(
        &mut self,
        id: ListenerId,
        asker: Asker,
        wanted: Wanted<'_>,
        registry: &Registry,
    ) {
        let Some(serving) = self.serving.get_mut(&id) else {
            return;
        };
        // Of a socket that was lent there are copies elsewhere.
        if serving.is_declared() || serving.lends() {
            return;
        }
        if !serving
            .socket()
            .is_some_and(ListeningSocket::has_lost_its_file)
        {
            return;
        }
        let address = serving.address().clone();
        match Self::open(address, wanted, Keeping::Own) {
            Ok(socket) => {
                let name = serving.name();
                log::info!("{name} had lost its file: bound again for {}", asker.worker);
                serving.move_to(socket, registry);
            }
            Err(err) => log::warn!("{err}"),
        }
    }

    fn open(
        address: Address,
        wanted: Wanted<'_>,
        keeping: Keeping,
    ) -> Result<ListeningSocket, BindError> {
        let listen = wanted.listen;
        let mut spec = ListenerSpec::bind(address);
        spec.backlog = listen.options.backlog;
        spec.v6only = listen
            .options
            .v6only
            .filter(|_| matches!(spec.source, Source::Bind(Address::V6 { .. })));
        if let (Program::Preloaded { attach, applicant }, Source::Bind(Address::Path(_))) =
            (wanted.program, &spec.source)
        {
            spec.mode = Some(attach.file_mode & 0o777);
            spec.owner = applicant.and_then(Applicant::owner);
        }
        let socket = ListeningSocket::open(&spec, keeping)?;
        if let Program::Preloaded { attach, .. } = wanted.program {
            socket.pass_on(&attach.options);
        }
        Ok(socket)
    }

    /// What the worker gets, without a queue.
    fn grant(
        serving: &mut Serving,
        asker: Asker,
        wanted: Wanted<'_>,
        turn: &mut Turn<'_>,
    ) -> Result<Grant, Refusal> {
        let mut descriptors = Vec::new();
        if serving.lends() {
            let failed = |err| Refusal::of("lend a listening socket", &err);
            let socket = serving.lend(asker.worker, asker.slot, turn);
            descriptors.push(socket.map_err(failed)?);
            // One that knows what it is waits with poll(2), the others as they always did.
            let blocks = !wanted.program.knows_queues() && !wanted.listen.options.nonblocking;
            serving.set_blocking(asker.worker, blocks).map_err(failed)?;
            serving.note_asked(asker.worker, turn.now);
        }
        Ok(Grant {
            listener: serving.id(),
            name: serving.name().to_owned(),
            address: serving.address().clone(),
            mode: serving.mode(),
            descriptors,
            sender: None,
        })
    }

    fn add_queue(
        serving: &mut Serving,
        asker: Asker,
        wanted: Wanted<'_>,
        (window, queues): (u32, &mut u64),
    ) -> Result<Ends, Refusal> {
        let options = wanted.listen.options;
        let failed = |err| Refusal::of("make an accept queue", &err);
        let address = serving.address().clone();
        let taker = match wanted.program {
            Program::Speaks => Taker::Worker,
            Program::Preloaded { .. } => Taker::Program,
        };
        let (queue, worker_end) =
            AcceptQueue::create(options, window, &address, taker).map_err(failed)?;
        let sender = match wanted.program {
            Program::Speaks => None,
            Program::Preloaded { .. } => {
                *queues += 1;
                let (worker, listener) = (asker.worker.0, serving.id().0);
                let unique = format!("{}-{worker}-{listener}-{queues}", std::process::id());
                queue.announce(&unique, &address).map_err(failed)?;
                Some(queue.clone_sender().map_err(failed)?)
            }
        };
        serving.add_queue(asker.worker, queue);
        Ok(Ends { worker_end, sender })
    }

    /// Closes on-demand listeners that nobody holds any more.
    fn drop_unclaimed(&mut self, turn: &mut Turn<'_>) {
        self.serving.retain(|&id, serving| {
            if !serving.is_unclaimed() {
                return true;
            }
            serving.refuse_held(turn);
            if serving.socket().is_some() {
                log::log!(news(id), "no longer listening on {}", serving.name());
            }
            serving.abandon(turn.registry);
            false
        });
    }
}

/// A worker that binds again and again is news a few times only.
fn news(listener: ListenerId) -> Level {
    if listener.0 < NEWSWORTHY_LISTENERS {
        Level::Info
    } else {
        Level::Debug
    }
}

impl Refusal {
    fn of(what: &str, err: &io::Error) -> Self {
        let errno = err.raw_os_error().unwrap_or(libc::EIO);
        Self::new(errno, format!("{what}: {err}"))
    }

    fn new(errno: i32, reason: impl Into<String>) -> Self {
        Refusal {
            errno,
            reason: reason.into(),
        }
    }
}

/// How many on-demand listeners the log tells of.
const NEWSWORTHY_LISTENERS: u32 = 100;

/// How many listeners one worker may hold.
const LISTENERS_PER_WORKER: usize = 64;
