//! The worker's side of the control channel: questions, their answers, and the thread that reads.
//!
//! Every answer is either delivered to the one who asked or undone: an answer that comes after its
//! question was given up must not leave a listener behind that nobody serves.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use nix::sys::signal::{SigSet, SigmaskHow};
use socket2::SockRef;

use super::draining::Draining;
use super::event::Event;
use super::inherit;
use super::job::Jobs;
use super::listener::ListenError;
use super::messenger::{Assembly, Nonsense};
use super::scorekeeper::Scorekeeper;
use super::sinks::Sinks;
use super::teller::Teller;
use super::uplink::Uplink;
use crate::frame::{DispatchMode, FromMaster, Listen, ListenOptions, Listening, ToMaster};
use crate::ids::{ListenerId, RequestId};
use crate::scm::Wait;
use crate::socket::{Inbox, QueueReceiver, ReceiveError, SendError, Violation, WorkerChannel};

/// Shared by the worker and its listeners; the channel ends with the last of them.
#[derive(Debug)]
pub(crate) struct Control {
    uplink: Uplink,
    scorekeeper: Scorekeeper,
    /// Whether listeners end after what they have received.
    sated: AtomicBool,
    shared: Arc<Mutex<Shared>>,
}

/// Who gets what the reading thread reads.
#[derive(Debug)]
pub(crate) struct Reception {
    pub(crate) sinks: Sinks,
    pub(crate) max_message_bytes: u64,
    pub(crate) events: Sender<Event>,
    pub(crate) draining: Draining,
    pub(crate) jobs: Jobs,
    pub(crate) orphan: Orphan,
}

/// What becomes of a process whose master is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Orphan {
    /// It ends itself after the grace, whatever its own threads do.
    Exits { grace: Duration, code: u8 },
    /// It lives on: the master was a fake.
    #[cfg_attr(not(any(test, feature = "testing")), expect(dead_code))]
    Remains,
}

/// How a `Goodbye` was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Farewell {
    Said,
    MasterGone,
    TimedOut,
}

type Answer = Result<(Listening, Sockets), ListenError>;

/// What came with `Listening`.
#[derive(Debug)]
pub(crate) struct Sockets {
    /// The accept queue.
    pub(crate) queue: OwnedFd,
    /// The listening socket, if this process is to accept itself.
    pub(crate) lent: Option<OwnedFd>,
}

impl Sockets {
    /// The descriptors that belong to this answer.
    fn take(mode: DispatchMode, inbox: &mut Inbox) -> Result<Self, Violation> {
        let expected = match mode {
            DispatchMode::HandOff => 1,
            DispatchMode::Shared | DispatchMode::ReusePort => 2,
        };
        let mut descriptors = inbox.take_descriptors(expected)?;
        let queue = descriptors.pop().expect("one at least");
        let lent = descriptors.pop();
        Ok(Sockets { queue, lent })
    }
}

#[derive(Debug)]
struct Shared {
    bond: Bond,
    next_request: u32,
    listens: HashMap<RequestId, Sender<Answer>>,
    parting: Vec<Parting>,
}

/// What the process is to its master.
#[derive(Debug)]
enum Bond {
    Attached,
    /// `Goodbye` is sent; the sender is dropped when there is no answer to hope for.
    Leaving(Sender<()>),
    /// Parted in peace: the end of the channel means nothing any more.
    Released,
    /// The master is gone.
    Orphaned,
}

/// An accept queue on its way out: open until the master has closed its copy of it.
#[derive(Debug)]
struct Parting {
    listener: ListenerId,
    _queue: Arc<QueueReceiver>,
    _released: Sender<()>,
}

impl Control {
    /// Starts the thread that reads `channel` after the hand-shake.
    pub(crate) fn start(
        channel: Arc<WorkerChannel>,
        reception: Reception,
        scorekeeper: Scorekeeper,
    ) -> io::Result<Self> {
        // A master that is stopped must not block us for ever in sendmsg.
        SockRef::from(&*channel).set_write_timeout(Some(SEND_WITHIN))?;
        let control = Control {
            uplink: Uplink::over(Arc::clone(&channel)),
            scorekeeper,
            sated: AtomicBool::new(false),
            shared: Arc::new(Mutex::new(Shared {
                bond: Bond::Attached,
                next_request: 0,
                listens: HashMap::new(),
                parting: Vec::new(),
            })),
        };
        let Reception {
            sinks,
            max_message_bytes,
            events,
            draining,
            jobs,
            orphan,
        } = reception;
        let reader = Reader {
            channel,
            sinks,
            assembly: Assembly::within(max_message_bytes),
            shared: Arc::clone(&control.shared),
            events: Teller::new(events),
            draining,
            jobs,
            orphan,
        };
        start_thread("rr-control", move || reader.run())?;
        Ok(control)
    }

    pub(crate) fn send(&self, frame: &ToMaster) -> Result<(), SendError> {
        self.uplink.send(frame)
    }

    /// Sends a frame if that is possible at once.
    pub(crate) fn try_send(&self, frame: &ToMaster) -> Result<(), SendError> {
        self.uplink.try_send(frame)
    }

    pub(crate) fn scorekeeper(&self) -> &Scorekeeper {
        &self.scorekeeper
    }

    /// From now on listeners end, without what they have not received.
    pub(crate) fn stop_receiving(&self) {
        self.sated.store(true, Ordering::Release);
    }

    pub(crate) fn is_sated(&self) -> bool {
        self.sated.load(Ordering::Acquire)
    }

    /// Asks for a listener and waits for the answer.
    pub(crate) fn listen(
        &self,
        target: &str,
        options: ListenOptions,
        within: Duration,
    ) -> Result<(Listening, Sockets), ListenError> {
        let (answer, answered) = bounded(1);
        let request = {
            let mut shared = lock(&self.shared);
            if !shared.is_attached() {
                return Err(ListenError::MasterGone);
            }
            let request = RequestId(shared.next_request);
            shared.next_request = shared.next_request.wrapping_add(1);
            shared.listens.insert(request, answer);
            request
        };
        let question = ToMaster::Listen(Listen {
            request,
            target: target.to_owned(),
            options,
        });
        if let Err(err) = self.send(&question) {
            lock(&self.shared).listens.remove(&request);
            return Err(ListenError::Send(err));
        }
        match answered.recv_timeout(within) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Disconnected) => Err(ListenError::MasterGone),
            Err(RecvTimeoutError::Timeout) => {
                // Answers are delivered under the lock: from here on there is either one in
                // `answered` or none will ever be.
                lock(&self.shared).listens.remove(&request);
                answered
                    .try_recv()
                    .unwrap_or(Err(ListenError::NoAnswer { within }))
            }
        }
    }

    /// Gives a listener back. `queue` stays open, and `released` alive, until the master has
    /// closed its copy.
    pub(crate) fn unlisten(
        &self,
        listener: ListenerId,
        queue: Arc<QueueReceiver>,
        released: Sender<()>,
    ) {
        if !self.uplink.is_owner() {
            return;
        }
        {
            let mut shared = lock(&self.shared);
            if !shared.is_attached() {
                return;
            }
            shared.parting.push(Parting {
                listener,
                _queue: queue,
                _released: released,
            });
        }
        if let Err(err) = self.send(&ToMaster::Unlisten { listener }) {
            log::debug!("failed to give listener {} back: {err}", listener.0);
            lock(&self.shared).parted(listener);
        }
    }

    /// Says `Goodbye` and waits for the answer.
    pub(crate) fn leave(&self, within: Duration) -> Farewell {
        let (farewell, said) = bounded(1);
        {
            let mut shared = lock(&self.shared);
            if !shared.is_attached() {
                return Farewell::MasterGone;
            }
            shared.bond = Bond::Leaving(farewell);
        }
        match self.send(&ToMaster::Goodbye) {
            Ok(()) => {}
            Err(SendError::Gone) => return Farewell::MasterGone,
            Err(_) => return Farewell::TimedOut,
        }
        match said.recv_timeout(within) {
            Ok(()) => Farewell::Said,
            Err(RecvTimeoutError::Disconnected) => Farewell::MasterGone,
            Err(RecvTimeoutError::Timeout) => Farewell::TimedOut,
        }
    }
}

/// Parts in peace; the reading thread sees the end of the channel and ends, too.
impl Drop for Control {
    fn drop(&mut self) {
        // shutdown(2) is for every copy of the socket: a forked child would part us.
        if !self.uplink.is_owner() {
            return;
        }
        {
            let mut shared = lock(&self.shared);
            if !matches!(shared.bond, Bond::Orphaned) {
                shared.bond = Bond::Released;
            }
        }
        self.uplink.end();
    }
}

impl Shared {
    fn is_attached(&self) -> bool {
        matches!(self.bond, Bond::Attached)
    }

    fn parted(&mut self, listener: ListenerId) {
        let found = self
            .parting
            .iter()
            .position(|parting| parting.listener == listener);
        if let Some(index) = found {
            self.parting.remove(index);
        }
    }
}

/// The thread that reads the channel.
struct Reader {
    channel: Arc<WorkerChannel>,
    sinks: Sinks,
    assembly: Assembly,
    shared: Arc<Mutex<Shared>>,
    events: Teller,
    draining: Draining,
    jobs: Jobs,
    orphan: Orphan,
}

impl Reader {
    fn run(mut self) {
        let mut inbox = Inbox::new();
        loop {
            match self.channel.receive(&mut inbox, Wait::AsSet) {
                Ok(received) => {
                    if let Err(nonsense) = self.handle(received.frame, &mut inbox) {
                        self.part(&nonsense);
                        break;
                    }
                    self.sinks.post.settle();
                }
                Err(ReceiveError::Closed) => break,
                Err(ReceiveError::Violation(Violation::DescriptorsLost)) => self.lost_a_listener(),
                Err(err) => {
                    self.part(&err);
                    break;
                }
            }
            // What a frame had no use for is closed now, not when the next one comes.
            inbox.descriptors.clear();
        }
        self.ended();
    }

    /// Nothing that follows could be trusted to mean what it says.
    fn part(&self, because: &dyn fmt::Display) {
        log::error!("failed to understand the master, leaving it: {because}");
        _ = self.channel.shutdown(Shutdown::Both);
    }

    fn handle(&mut self, frame: FromMaster, inbox: &mut Inbox) -> Result<(), Nonsense> {
        match frame {
            FromMaster::Listening(listening) => {
                let request = listening.request;
                let answer = match Sockets::take(listening.mode, inbox) {
                    Ok(sockets) => Ok((listening, sockets)),
                    Err(violation) => Err(ListenError::Answer(violation)),
                };
                self.answer(request, answer);
            }
            FromMaster::NotListening {
                request,
                errno,
                reason,
            } => self.answer(request, Err(ListenError::Refused { errno, reason })),
            FromMaster::Unlistened { listener } => lock(&self.shared).parted(listener),
            FromMaster::ClusterReady => self.tell(Event::ClusterReady),
            FromMaster::Drain { within } => {
                self.draining.begin();
                self.sinks.draining();
                self.tell(Event::Drain { within });
            }
            FromMaster::Ping { token } => {
                if let Err(err) = self
                    .channel
                    .send(&ToMaster::Pong { token }, &[], Wait::AsSet)
                {
                    log::debug!("failed to answer a ping: {err}");
                }
            }
            FromMaster::Farewell => {
                let mut shared = lock(&self.shared);
                if let Bond::Leaving(farewell) = &shared.bond {
                    _ = farewell.try_send(());
                    shared.bond = Bond::Released;
                }
            }
            FromMaster::Deliver(deliver) => {
                if let Some(letter) = self.assembly.begin(deliver)? {
                    self.sinks.arrived(letter);
                }
            }
            FromMaster::DeliverMore(more) => {
                if let Some(letter) = self.assembly.add(&more)? {
                    self.sinks.arrived(letter);
                }
            }
            FromMaster::Receipt { message, receipt } => self.sinks.receipt(message, receipt),
            FromMaster::Peers(changed) => self.sinks.peers(changed),
            FromMaster::Leader { name, term, leader } => self.sinks.leader(&name, term, leader),
            FromMaster::NotLeading { name, reason } => self.sinks.not_leading(&name, &reason),
            FromMaster::NoValue { key } => self.sinks.no_value(&key),
            FromMaster::JobRegistered { name, problem } => self.jobs.registered(&name, problem),
            FromMaster::Job(run) => self.jobs.run(run, &self.channel),
            FromMaster::JobCancelled { run } => self.jobs.cancel(run),
            FromMaster::ReopenLogs => self.tell(Event::ReopenLogs),
            FromMaster::Welcome(_) | FromMaster::Rejected { .. } => {
                log::warn!("ignored a second answer to Hello");
            }
        }
        Ok(())
    }

    fn answer(&self, request: RequestId, answer: Answer) {
        let late = {
            let mut shared = lock(&self.shared);
            match shared.listens.remove(&request) {
                // Room for one, and this is the only one.
                Some(asker) => asker.try_send(answer).err().map(TrySendError::into_inner),
                None => Some(answer),
            }
        };
        // Nobody waits for it any more: give it back, or its connections would wait for ever.
        if let Some(Ok((listening, sockets))) = late {
            let queue = Arc::new(QueueReceiver::from(sockets.queue));
            let listener = listening.listener;
            lock(&self.shared).parting.push(Parting {
                listener,
                _queue: queue,
                _released: bounded(0).0,
            });
            if let Err(err) = self
                .channel
                .send(&ToMaster::Unlisten { listener }, &[], Wait::AsSet)
            {
                log::debug!("failed to give listener {} back: {err}", listener.0);
                lock(&self.shared).parted(listener);
            }
        }
    }

    /// An answer's descriptor did not fit, and with it the answer is lost: whose it was is
    /// unknown.
    fn lost_a_listener(&self) {
        log::error!(
            "a listener was lost: this process may not open more descriptors, raise RLIMIT_NOFILE (ulimit -n)"
        );
        for (_, asker) in lock(&self.shared).listens.drain() {
            _ = asker.try_send(Err(ListenError::Refused {
                errno: libc::EMFILE,
                reason:
                    "this process may not open more descriptors: raise RLIMIT_NOFILE (ulimit -n)"
                        .to_owned(),
            }));
        }
    }

    fn tell(&self, event: Event) {
        if let Err(err) = self.events.tell(event)
            && err.is_full()
        {
            log::warn!("dropped an event nobody waits for: {:?}", err.into_inner());
        }
    }

    /// The channel has ended.
    fn ended(self) {
        self.sinks.ended();
        self.jobs.orphaned();
        {
            let mut shared = lock(&self.shared);
            // Whoever waits for an answer sees that none will come.
            shared.listens.clear();
            shared.parting.clear();
            if matches!(shared.bond, Bond::Released) {
                return;
            }
            shared.bond = Bond::Orphaned;
        }
        self.draining.begin();
        // From here on nothing may wait, not even for a log line: a terminal that was stopped
        // with Ctrl-S would keep this process alive for ever.
        _ = self.events.tell(Event::MasterGone);
        drop(self.events);
        match self.orphan {
            Orphan::Exits { grace, code } => {
                _ = crossbeam_channel::after(grace).recv();
                inherit::exit_now(code);
            }
            Orphan::Remains => {}
        }
    }
}

/// Starts a thread with every signal blocked, as it starts before the program has said which it
/// wants: a program that blocks SIGTERM to wait for it with `sigwait(3)` or `signalfd(2)` would
/// die of it if one thread had it open, see `signal(7)`.
pub(crate) fn start_thread(name: &str, life: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
    let thread = thread::Builder::new().name(name.to_owned());
    let started = thread.spawn(life);
    mask.thread_set_mask()?;
    started.map(drop)
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    // Nothing that holds the lock can leave it half changed.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until the master has taken the listener back; a master that is gone has, too.
pub(crate) fn released(released: &Receiver<()>, within: Duration) -> bool {
    released.recv_timeout(within) != Err(RecvTimeoutError::Timeout)
}

/// How long a frame may wait for room in the channel.
const SEND_WITHIN: Duration = Duration::from_secs(5);
