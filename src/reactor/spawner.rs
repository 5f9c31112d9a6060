//! The spawner: threads that start processes, because starting one waits for `exec`.
//!
//! One thread is enough until its `exec` hangs, as on a file system that does not answer. Then
//! another takes over what waits, and the first goes back to work if it ever returns. None ends
//! before the reactor: the kernel ends every process whose forking *thread* ended.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use mio::Waker;
use worker_proto::ids::WorkerId;

use crate::sys::describe;
use crate::sys::spawn::{Launch, Started, spawn};

/// The threads, and the way to them.
#[derive(Debug)]
pub(crate) struct Spawner {
    // One order per worker at a time, and those given up are taken back: both queues are bounded by
    // the number of slots.
    orders: Option<Sender<Order>>,
    outcomes: Receiver<Outcome>,
    /// `None` only within drop.
    tools: Option<Tools>,
    threads: usize,
    /// Disconnected when the last thread has ended.
    end: Receiver<()>,
    ordered: usize,
    taken: usize,
    /// When it last showed that a thread took an order, or found none.
    since: Instant,
}

/// What every thread has.
#[derive(Clone, Debug)]
struct Tools {
    orders: Receiver<Order>,
    outbox: Sender<Outcome>,
    waker: Arc<Waker>,
    #[expect(dead_code, reason = "it is dropped when the thread ends")]
    alive: Sender<()>,
}

/// A process to be started.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) worker: WorkerId,
    pub(crate) launch: Launch,
    /// The process's end of its control channel; closed here once the process has its copy.
    pub(crate) control: OwnedFd,
    /// Listening sockets that it is started with, by name.
    pub(crate) sockets: Vec<(String, OwnedFd)>,
}

/// What came of an order.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) worker: WorkerId,
    pub(crate) process: io::Result<Started>,
}

impl Spawner {
    pub(crate) fn start(waker: Arc<Waker>, now: Instant) -> io::Result<Self> {
        let (orders, inbox) = unbounded();
        let (outbox, outcomes) = unbounded();
        let (alive, end) = bounded(0);
        let tools = Tools {
            orders: inbox,
            outbox,
            waker,
            alive,
        };
        tools.clone().put_to_work()?;
        Ok(Spawner {
            orders: Some(orders),
            outcomes,
            tools: Some(tools),
            threads: 1,
            end,
            ordered: 0,
            taken: 0,
            since: now,
        })
    }

    /// Orders a process; its outcome comes later, with a wake-up of the loop.
    pub(crate) fn order(&mut self, order: Order, now: Instant) {
        if self.waiting() == 0 {
            self.since = now;
        }
        self.ordered += 1;
        let orders = self.orders.as_ref().expect("taken only by drop");
        // The spawner itself keeps the other end open.
        let _ = orders.send(order);
    }

    /// Takes back an order that nobody has begun. What was begun has an outcome, however late.
    pub(crate) fn give_up(&mut self, worker: WorkerId) {
        let waiting: Vec<Order> = self.queue().try_iter().collect();
        self.ordered -= waiting.len();
        for order in waiting {
            if order.worker != worker {
                self.order(order, self.since);
            }
        }
    }

    /// Sees to it that somebody takes what waits.
    pub(crate) fn turn(&mut self, now: Instant) {
        let taken = self.ordered - self.waiting();
        if taken != self.taken {
            self.taken = taken;
            self.since = now;
        }
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        self.since = now;
        let tools = self.tools.clone().expect("taken only by drop");
        match tools.put_to_work() {
            Ok(()) => {
                self.threads += 1;
                let waited = PATIENCE.as_secs();
                log::warn!("to start a process takes more than {waited} s: others go first");
            }
            Err(err) => log::error!("start another spawner: {}", describe(&err)),
        }
    }

    /// When the next [`turn`](Self::turn) is needed at the latest.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let may_help = self.waiting() > 0 && self.threads < MOST_THREADS;
        may_help.then(|| self.since + PATIENCE)
    }

    /// The next outcome, if there is one.
    pub(crate) fn poll_outcome(&self) -> Option<Outcome> {
        self.outcomes.try_recv().ok()
    }

    fn waiting(&self) -> usize {
        self.queue().len()
    }

    fn queue(&self) -> &Receiver<Order> {
        &self.tools.as_ref().expect("taken only by drop").orders
    }
}

/// Waits for the threads, but not for one whose `exec` hangs. What that one has started when it
/// comes back is ended: by itself, or by the kernel when the process is gone.
impl Drop for Spawner {
    fn drop(&mut self) {
        self.queue().try_iter().for_each(drop);
        self.orders = None;
        self.tools = None;
        let _ = self.end.recv_timeout(PATIENCE);
        self.outcomes.try_iter().for_each(Outcome::undo);
    }
}

impl Tools {
    fn put_to_work(self) -> io::Result<()> {
        thread::Builder::new()
            .name("rr-spawner".to_owned())
            .spawn(move || self.work())
            .map(drop)
    }

    fn work(&self) {
        for Order {
            worker,
            launch,
            control,
            sockets,
        } in &self.orders
        {
            let process = spawn(&launch, control, &sockets);
            drop(sockets);
            if let Err(unheard) = self.outbox.send(Outcome { worker, process }) {
                unheard.into_inner().undo();
            }
            let _ = self.waker.wake();
        }
    }
}

impl Outcome {
    /// Nobody wants it any more.
    fn undo(self) {
        if let Ok(started) = self.process {
            started.pidfd.destroy(PATIENCE);
        }
    }
}

/// Longer than a process that can be started needs for it; what it costs others when one cannot.
const PATIENCE: Duration = Duration::from_secs(1);

/// When so many starts hang, nothing can be started.
const MOST_THREADS: usize = 16;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use mio::{Poll, Token};
    use tempfile::TempDir;

    use worker_proto::ids::Slot;

    use super::*;
    use crate::config::surroundings::Surroundings;
    use crate::reactor::clock;
    use crate::sys::channel::control_pair;
    use crate::sys::lease::Lease;
    use crate::sys::pin::Pinned;

    /// A spawner, and a program whose start hangs.
    struct Hanging {
        spawner: Spawner,
        /// When nobody could take an order for so long.
        later: Instant,
        lease: Lease,
        directory: TempDir,
        _poll: Poll,
    }

    impl Hanging {
        fn new() -> Self {
            let poll = Poll::new().unwrap();
            let waker = Waker::new(poll.registry(), Token(0)).unwrap();
            let now = clock::now();
            let directory = tempfile::tempdir().unwrap();
            let lease = Lease::on_script(&directory.path().join("program"), "exec sleep 600");
            lease.take();
            let mut hanging = Hanging {
                spawner: Spawner::start(Arc::new(waker), now).unwrap(),
                later: now + PATIENCE,
                lease,
                directory,
                _poll: poll,
            };
            hanging.order(1, &hanging.directory.path().join("program"));
            while !hanging.lease.is_waited_for() {
                thread::yield_now();
            }
            hanging.spawner.turn(now);
            hanging
        }

        fn order(&mut self, worker: u64, program: &Path) {
            let (_, control) = control_pair().unwrap();
            let launch = Launch {
                name: program.to_owned(),
                program: Pinned::loosely(program.to_owned()),
                args: Vec::new(),
                directory: None,
                env: Vec::new(),
                private: Vec::new(),
                nofile: None,
                surroundings: Surroundings::default(),
                slot: Slot(0),
                cell: None,
            };
            let order = Order {
                worker: WorkerId(worker),
                launch: launch.with_env("RR_TEST", self.directory.path()),
                control: control.into(),
                sockets: Vec::new(),
            };
            let now = self.later.checked_sub(PATIENCE).unwrap();
            self.spawner.order(order, now);
        }

        /// Who was started; not for longer than this.
        fn next(&self) -> WorkerId {
            let wait = Duration::from_secs(20);
            let outcome = self
                .spawner
                .outcomes
                .recv_timeout(wait)
                .expect("an outcome");
            let worker = outcome.worker;
            outcome.undo();
            worker
        }
    }

    /// How many processes of this test live.
    fn started(mark: &Path) -> usize {
        let mark = format!("RR_TEST={}\0", mark.display());
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let environments = processes.flat_map(|it| fs::read(it.path().join("environ")));
        environments
            .filter(|it| String::from_utf8_lossy(it).contains(&mark))
            .count()
    }

    #[test]
    fn a_start_that_hangs_holds_up_nobody_for_long() {
        let mut hanging = Hanging::new();
        assert_eq!(hanging.spawner.deadline(), None);
        hanging.order(2, Path::new("/bin/true"));
        hanging.order(3, Path::new("/bin/true"));
        assert_eq!(hanging.spawner.deadline(), Some(hanging.later));
        hanging
            .spawner
            .turn(hanging.later - Duration::from_millis(1));
        assert_eq!(hanging.spawner.threads, 1);
        hanging.spawner.turn(hanging.later);
        assert_eq!(hanging.spawner.threads, 2);
        assert_eq!([hanging.next(), hanging.next()], [WorkerId(2), WorkerId(3)]);
        hanging.lease.give_back();
        assert_eq!(hanging.next(), WorkerId(1));
        // Both threads are there for what comes.
        assert_eq!(hanging.spawner.deadline(), None);
        hanging.order(4, Path::new("/bin/true"));
        assert_eq!(hanging.next(), WorkerId(4));
    }

    #[test]
    fn an_order_that_is_given_up_in_time_is_never_begun() {
        let mut hanging = Hanging::new();
        for worker in 2..=4 {
            hanging.order(worker, Path::new("/bin/true"));
        }
        hanging.spawner.give_up(WorkerId(3));
        hanging.spawner.give_up(WorkerId(1));
        hanging.lease.give_back();
        let started = [hanging.next(), hanging.next(), hanging.next()];
        assert_eq!(started, [WorkerId(1), WorkerId(2), WorkerId(4)]);
        assert_eq!(hanging.spawner.waiting(), 0);
    }

    #[test]
    fn the_end_does_not_wait_for_a_start_that_hangs_and_undoes_it() {
        let mut hanging = Hanging::new();
        hanging.order(2, Path::new("/bin/true"));
        let Hanging {
            spawner,
            lease,
            directory,
            ..
        } = hanging;
        let end = spawner.end.clone();
        drop(spawner);
        assert!(lease.is_waited_for());
        lease.give_back();
        // Not before what it has started is gone.
        assert!(
            end.recv_timeout(Duration::from_secs(20))
                .unwrap_err()
                .is_disconnected()
        );
        assert_eq!(started(directory.path()), 0);
    }
}
