//! Lending: listening sockets from which workers accept themselves.
//!
//! Of a shared listener every worker has a copy of the one socket. Of a group each has a socket of
//! its own, and those of workers that do not serve get nothing new. The master keeps all of them:
//! what waits in one that lost its worker is handed off, or is there for the worker that gets the
//! socket next. A socket outlives its worker, so nobody is reset when one dies.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Interest, Registry};
use worker_proto::frame::{DispatchMode, InheritedOption};
use worker_proto::ids::{Slot, WorkerId};

use super::{Admission, Serving, Trouble, Turn};
use crate::reactor::token::Source;
use crate::sys::listening::{AcceptError, ListeningSocket};
use crate::sys::steering::steer;

/// Who has which sockets of a listener.
#[derive(Debug, Default)]
pub(super) struct Lending {
    borrowers: BTreeMap<WorkerId, Borrower>,
    /// The sockets of a group, in the order in which the kernel has them; the first that there was
    /// is the listener's own and may stand anywhere.
    group: Vec<Member>,
    /// What later members get, too.
    options: Vec<InheritedOption>,
    /// When to look next at sockets that nobody speaks of.
    look_at: Option<Instant>,
    /// Whether the listener's own socket is watched for being shut down.
    is_watched: bool,
    end: End,
}

/// A worker that has a copy of a socket.
#[derive(Debug)]
struct Borrower {
    slot: Slot,
    post: Post,
    claim: Claim,
}

/// What shows that a borrower accepts from its socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Claim {
    /// It was started with it, and has never said anything: it knows no other way to listen.
    Silent,
    /// It was started with it, and speaks to the master: it will ask if it wants to listen.
    Speaks,
    /// It has asked.
    Asked,
}

impl Borrower {
    fn accepts(&self) -> bool {
        match self.claim {
            Claim::Silent | Claim::Asked => true,
            Claim::Speaks => false,
        }
    }
}

/// What a borrower does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Post {
    Starts,
    Serves,
    Leaves,
}

/// A socket of a group.
#[derive(Debug)]
struct Member {
    /// `None` for the listener's own.
    socket: Option<ListeningSocket>,
    holder: Holder,
}

/// Who accepts from a socket of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    Worker(WorkerId),
    /// Nobody; it is kept until then at least, since hand-shakes may be under way.
    Nobody {
        slot: Slot,
        until: Instant,
    },
    /// Nobody yet.
    New,
}

/// How far the end of a lent listener is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum End {
    #[default]
    Open,
    /// Nobody waits in it, and nobody can come. It is shut when its borrowers are gone: it would be
    /// readable for ever.
    Empty,
}

impl Serving {
    /// Whether workers accept themselves.
    pub(crate) fn lends(&self) -> bool {
        match self.mode {
            DispatchMode::HandOff => false,
            DispatchMode::Shared | DispatchMode::ReusePort => true,
        }
    }

    /// Whether the worker has asked for the listener and got it.
    pub(crate) fn is_taken_by(&self, worker: WorkerId) -> bool {
        let borrower = self.lending.borrowers.get(&worker);
        self.queues.contains_key(&worker) || borrower.is_some_and(|it| it.claim == Claim::Asked)
    }

    /// Whether it has an accept queue, beside a socket or without one.
    pub(crate) fn has_queue(&self, worker: WorkerId) -> bool {
        self.queues.contains_key(&worker)
    }

    /// Whether somebody waits in the worker's queue, or in the socket from which it alone accepts.
    pub(crate) fn is_waited_for(&self, worker: WorkerId) -> bool {
        let queue = self.queues.get(&worker);
        if queue.is_some_and(|queue| queue.unread() > 0) {
            return true;
        }
        let holder = Holder::Worker(worker);
        let mut places = 0..self.lending.group.len();
        places.any(|place| {
            let socket = self.member_socket(place);
            self.lending.group[place].holder == holder
                && socket.is_some_and(ListeningSocket::has_waiting)
        })
    }

    pub(super) fn has_borrowers(&self) -> bool {
        self.lending.borrowers.values().any(Borrower::accepts)
    }

    /// A copy of the socket from which the worker is to accept. It gets one of a group when it
    /// serves, and before that what waits in a socket that lost its worker.
    pub(crate) fn lend(
        &mut self,
        worker: WorkerId,
        slot: Slot,
        turn: &mut Turn<'_>,
    ) -> io::Result<OwnedFd> {
        let socket = match self.mode {
            DispatchMode::HandOff | DispatchMode::Shared => self.own_socket()?.lend()?,
            DispatchMode::ReusePort => self.lend_member(worker, slot)?,
        };
        let borrower = Borrower {
            slot,
            post: Post::Starts,
            claim: Claim::Silent,
        };
        self.lending.borrowers.entry(worker).or_insert(borrower);
        turn.loads.let_accept(worker);
        self.watch_sockets(turn.registry);
        self.steer(turn.now);
        Ok(socket)
    }

    /// A copy for a worker that is about to be started. It may know nothing of its master, and then
    /// expects that `accept(2)` waits; those who have asked for the socket have it as they want it.
    pub(crate) fn lend_at_start(
        &mut self,
        worker: WorkerId,
        slot: Slot,
        turn: &mut Turn<'_>,
    ) -> io::Result<OwnedFd> {
        let socket = self.lend(worker, slot, turn)?;
        let mut borrowers = self.lending.borrowers.values();
        let is_alone = self.mode == DispatchMode::ReusePort;
        if is_alone || borrowers.all(|it| it.claim != Claim::Asked) {
            self.set_blocking(worker, true)?;
        }
        Ok(socket)
    }

    /// The worker speaks to the master.
    pub(crate) fn note_speaks(&mut self, worker: WorkerId) {
        if let Some(borrower) = self.lending.borrowers.get_mut(&worker)
            && borrower.claim == Claim::Silent
        {
            borrower.claim = Claim::Speaks;
        }
    }

    /// The worker has asked for it.
    pub(crate) fn note_asked(&mut self, worker: WorkerId, now: Instant) {
        if let Some(borrower) = self.lending.borrowers.get_mut(&worker) {
            borrower.claim = Claim::Asked;
            self.steer(now);
        }
    }

    /// Whether `accept(2)` waits at the worker's socket.
    pub(crate) fn set_blocking(&self, worker: WorkerId, blocking: bool) -> io::Result<()> {
        let holder = Holder::Worker(worker);
        let member = self.lending.group.iter().find(|it| it.holder == holder);
        match member.and_then(|it| it.socket.as_ref()) {
            Some(socket) => socket.set_blocking(blocking),
            None => self.own_socket()?.set_blocking(blocking),
        }
    }

    /// Connections are to have these options from now on.
    pub(crate) fn pass_on(&mut self, options: &[InheritedOption]) {
        for socket in self.sockets() {
            socket.pass_on(options);
        }
        if self.mode == DispatchMode::ReusePort {
            self.lending.options.extend_from_slice(options);
            let excess = self.lending.options.len().saturating_sub(MOST_OPTIONS);
            self.lending.options.drain(..excess);
        }
    }

    pub(super) fn let_serve(&mut self, worker: WorkerId, now: Instant) {
        self.set_post(worker, Post::Serves, now);
    }

    pub(super) fn let_leave(&mut self, worker: WorkerId, now: Instant) {
        self.set_post(worker, Post::Leaves, now);
    }

    fn set_post(&mut self, worker: WorkerId, post: Post, now: Instant) {
        if let Some(borrower) = self.lending.borrowers.get_mut(&worker) {
            borrower.post = post;
            self.steer(now);
        }
    }

    /// The worker accepts no more; answers whether it could.
    pub(super) fn take_back_socket(&mut self, worker: WorkerId, now: Instant) -> bool {
        let Some(Borrower { slot, claim, .. }) = self.lending.borrowers.remove(&worker) else {
            return false;
        };
        let until = now + LINGER;
        for member in &mut self.lending.group {
            if member.holder == Holder::Worker(worker) {
                member.holder = Holder::Nobody { slot, until };
                self.lending.look_at = Some(now);
            }
        }
        self.steer(now);
        claim == Claim::Asked
    }

    /// When lent sockets want to be looked at.
    pub(super) fn lending_deadline(&self) -> Option<Instant> {
        self.lending.look_at
    }

    /// Whether nobody waits in a lent listener any more, and nobody can come.
    pub(super) fn is_empty_for_good(&self) -> bool {
        self.lending.end == End::Empty
    }

    /// Looks at sockets that lost their worker, and while closing at all.
    pub(super) fn look_at_sockets(&mut self, budget: &mut usize, turn: &mut Turn<'_>) {
        if self.lending.look_at.is_none_or(|at| turn.now < at) {
            return;
        }
        self.lending.look_at = None;
        self.rescue_backlogs(budget, turn);
        self.close_abandoned(turn);
        self.look_for_end(turn);
    }

    /// A socket was shut down, perhaps: listens again. The copies of everybody do.
    pub(super) fn mend(&mut self, now: Instant) {
        if self.is_closing() {
            return;
        }
        let shut: Vec<usize> = (0..self.lending.group.len())
            .filter(|&place| {
                self.member_socket(place)
                    .is_some_and(ListeningSocket::is_shut)
            })
            .collect();
        for &place in shut.iter().rev() {
            // The kernel takes it out of the group, and puts it to the end when it listens again.
            let member = self.lending.group.swap_remove(place);
            let socket = member.socket.as_ref().or(self.socket.as_ref());
            let mended = socket.map_or(Ok(()), ListeningSocket::listen_again);
            self.lending.group.push(member);
            self.tell_of_mending(mended, now);
        }
        if self.mode == DispatchMode::Shared
            && let Some(socket) = &self.socket
            && socket.is_shut()
        {
            let mended = socket.listen_again();
            self.tell_of_mending(mended, now);
        }
        self.steer(now);
    }

    fn tell_of_mending(&mut self, mended: io::Result<()>, now: Instant) {
        match mended {
            Ok(()) => {
                self.counters.mended += 1;
                if self.may_warn(Trouble::Shut, now) {
                    log::warn!(
                        "{}: a worker has shut the listening socket down (shutdown(2)) for everybody; listening again, who waited in its backlog was reset",
                        self.name
                    );
                }
            }
            Err(err) if self.may_warn(Trouble::Shut, now) => log::error!(
                "{}: a worker has shut the listening socket down (shutdown(2)) for everybody, and it cannot listen again: {err}: restart the master, or use --dispatch hand-off",
                self.name
            ),
            Err(_) => {}
        }
    }

    /// Ends every lent socket, also where a process still has a copy.
    pub(super) fn shut_sockets(&mut self, registry: &Registry) {
        if !self.lends() {
            return;
        }
        for socket in self.sockets() {
            let _ = registry.deregister(&mut SourceFd(&socket.as_raw_fd()));
            socket.shut();
        }
        self.lending.group.clear();
        self.lending.look_at = None;
    }

    /// Lets nobody new in at the sockets of the group that are not the listener's own.
    pub(super) fn stop_admitting_to_group(&mut self, now: Instant) {
        if !self.lends() {
            return;
        }
        for member in &mut self.lending.group {
            if let Some(Err(err)) = member.socket.as_mut().map(ListeningSocket::stop_admitting) {
                log::warn!("{}: clients may be reset while it closes: {err}", self.name);
            }
        }
        self.lending.look_at = Some(now);
    }

    /// Closes what waits in sockets that no worker is left to accept from; answers how many.
    pub(super) fn refuse_backlogs(&mut self) -> u64 {
        if !self.lends() {
            return 0;
        }
        let mut refused = 0;
        for socket in self.sockets() {
            if socket.set_blocking(false).is_err() {
                continue;
            }
            while let Ok(connection) = socket.accept(true) {
                connection.close();
                refused += 1;
            }
        }
        self.counters.accepted += refused;
        refused
    }

    fn own_socket(&self) -> io::Result<&ListeningSocket> {
        let closed = || io::Error::from_raw_os_error(libc::ESHUTDOWN);
        self.socket.as_ref().ok_or_else(closed)
    }

    fn sockets(&self) -> impl Iterator<Item = &ListeningSocket> {
        let members = self.lending.group.iter();
        let others = members.filter_map(|member| member.socket.as_ref());
        self.socket.iter().chain(others)
    }

    fn member_socket(&self, place: usize) -> Option<&ListeningSocket> {
        let member = &self.lending.group[place];
        member.socket.as_ref().or(self.socket.as_ref())
    }

    /// The worker's socket of the group: the one it has, one that lost its worker, or a new one.
    fn lend_member(&mut self, worker: WorkerId, slot: Slot) -> io::Result<OwnedFd> {
        if self.lending.group.is_empty() {
            self.lending.group.push(Member {
                socket: None,
                holder: Holder::New,
            });
        }
        let holder = Holder::Worker(worker);
        let places = || 0..self.lending.group.len();
        let held_by = |wanted: fn(Holder, WorkerId, Slot) -> bool| {
            places().find(|&place| wanted(self.lending.group[place].holder, worker, slot))
        };
        let found = held_by(|holder, worker, _| holder == Holder::Worker(worker))
            .or_else(|| {
                held_by(|holder, _, slot| {
                    matches!(holder, Holder::Nobody { slot: its, .. } if its == slot)
                })
            })
            .or_else(|| held_by(|holder, _, _| !matches!(holder, Holder::Worker(_))));
        let place = match found {
            Some(place) => place,
            None => {
                let socket = self.own_socket()?.join()?;
                socket.pass_on(&self.lending.options);
                self.lending.group.push(Member {
                    socket: Some(socket),
                    holder,
                });
                self.lending.group.len() - 1
            }
        };
        self.lending.group[place].holder = holder;
        let socket = self.member_socket(place).ok_or(io::ErrorKind::NotFound)?;
        socket.lend()
    }

    /// Only sockets of workers that serve get new connections; all of them while nobody serves.
    fn steer(&mut self, now: Instant) {
        if self.lending.group.is_empty() || self.is_closing() {
            return;
        }
        let serves = |member: &Member| match member.holder {
            Holder::Worker(worker) => {
                let borrower = self.lending.borrowers.get(&worker);
                borrower.is_some_and(|it| it.post == Post::Serves && it.accepts())
            }
            Holder::Nobody { .. } | Holder::New => false,
        };
        let members = (0..).zip(&self.lending.group);
        let places = members.filter(|(_, member)| serves(member));
        let places: Vec<u32> = places.map(|(place, _)| place).collect();
        let Some(socket) = &self.socket else { return };
        if let Err(err) = steer(socket.as_fd(), &places, self.lending.group.len())
            && self.may_warn(Trouble::Steering, now)
        {
            log::warn!(
                "{}: the sockets of workers that do not serve get their share of the clients: {err}",
                self.name
            );
        }
        if self.has_abandoned() {
            self.lending.look_at.get_or_insert(now);
        }
    }

    fn has_abandoned(&self) -> bool {
        let mut members = self.lending.group.iter();
        members.any(|member| matches!(member.holder, Holder::Nobody { .. }))
    }

    fn somebody_serves(&self) -> bool {
        let mut borrowers = self.lending.borrowers.values();
        borrowers.any(|it| it.post == Post::Serves && it.accepts())
    }

    /// Whether nobody accepts from the socket at this place of the group: its worker is gone, or was
    /// told to take nothing more, which who has a queue obeys at once.
    fn is_left(&self, place: usize) -> bool {
        match self.lending.group[place].holder {
            Holder::Nobody { .. } => true,
            Holder::Worker(worker) => {
                let borrower = self.lending.borrowers.get(&worker);
                let Some(Borrower { post, claim, .. }) = borrower else {
                    return true;
                };
                let has_queue = self.queues.contains_key(&worker);
                *claim == Claim::Speaks || *post == Post::Leaves && has_queue
            }
            Holder::New => false,
        }
    }

    /// Hands off what waits in sockets that nobody accepts from, if somebody takes it.
    fn rescue_backlogs(&mut self, budget: &mut usize, turn: &mut Turn<'_>) {
        for place in 0..self.lending.group.len() {
            if !self.is_left(place) {
                continue;
            }
            while *budget > 0 && self.held.is_empty() && self.can_dispatch(turn) {
                let Some(socket) = self.member_socket(place) else {
                    break;
                };
                if socket.set_blocking(false).is_err() {
                    break;
                }
                match socket.accept(self.nonblocking) {
                    Ok(connection) => {
                        *budget -= 1;
                        self.counters.accepted += 1;
                        self.counters.rescued += 1;
                        self.note_client(turn.now);
                        self.dispatch(connection, turn);
                    }
                    Err(AcceptError::Aborted(_)) => {
                        *budget -= 1;
                        self.counters.aborted += 1;
                    }
                    Err(AcceptError::Empty) => break,
                    Err(err @ (AcceptError::Exhausted(_) | AcceptError::Broken(_))) => {
                        self.pause(turn.now, &err);
                        break;
                    }
                }
            }
            self.lending.look_at = Some(turn.now + LOOK_AGAIN_AFTER);
        }
    }

    /// Closes the sockets that nobody needs: their workers are gone for a while, and others serve.
    fn close_abandoned(&mut self, turn: &mut Turn<'_>) {
        if self.is_closing() || !self.somebody_serves() {
            return;
        }
        let mut place = 0;
        let mut any = false;
        while let Some(member) = self.lending.group.get(place) {
            let is_over = match member.holder {
                Holder::Nobody { until, .. } => until <= turn.now,
                Holder::Worker(_) | Holder::New => false,
            };
            match &member.socket {
                Some(socket) if is_over && !socket.has_waiting() => {
                    let _ = turn.registry.deregister(&mut SourceFd(&socket.as_raw_fd()));
                    socket.shut();
                    self.lending.group.swap_remove(place);
                    any = true;
                }
                // The listener's own is kept for whoever comes next.
                None if is_over => {
                    self.lending.group[place].holder = Holder::New;
                    place += 1;
                }
                Some(_) | None => place += 1,
            }
        }
        if any {
            self.steer(turn.now);
        }
        if self.has_abandoned() {
            let again = turn.now + LOOK_AGAIN_AFTER;
            self.lending.look_at.get_or_insert(again);
        }
    }

    /// While closing: finds out when nobody waits any more.
    fn look_for_end(&mut self, turn: &mut Turn<'_>) {
        if !self.is_closing() || self.is_empty_for_good() {
            return;
        }
        if self.sockets().any(ListeningSocket::has_waiting) {
            self.note_client(turn.now);
        } else if let Admission::Closing(grace) = self.admission
            && grace.is_over(turn.now)
        {
            self.lending.end = End::Empty;
            return;
        }
        self.lending.look_at = Some(turn.now + LOOK_AGAIN_AFTER);
    }

    /// Has the poll say when somebody shuts a socket down, and nothing else.
    fn watch_sockets(&mut self, registry: &Registry) {
        let token = Source::Listener(self.id);
        if !self.lending.is_watched
            && let Some(socket) = &self.socket
        {
            self.lending.is_watched = watch(socket, token, registry);
        }
        for member in &self.lending.group {
            if let Some(socket) = &member.socket {
                watch(socket, token, registry);
            }
        }
    }
}

/// `EPOLLHUP` is always reported, see `epoll_ctl(2)`; writable a listening socket never is. Clients
/// wake those who want to hear of something readable or urgent, and so not the master.
fn watch(socket: &ListeningSocket, token: Source, registry: &Registry) -> bool {
    let mut source = SourceFd(&socket.as_raw_fd());
    match registry.register(&mut source, token.into(), Interest::WRITABLE) {
        Ok(()) => true,
        Err(err) if err.kind() == io::ErrorKind::AlreadyExists => true,
        Err(err) => {
            log::warn!("watch a listening socket: {err}");
            false
        }
    }
}

/// How long a socket that lost its worker is kept: hand-shakes under way end at it, and the next
/// worker may come.
const LINGER: Duration = Duration::from_secs(1);

/// How often it is looked at meanwhile.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(10);

/// More than there are kinds, several times: a program that sets them again and again is no reason
/// to remember more.
const MOST_OPTIONS: usize = 64;
