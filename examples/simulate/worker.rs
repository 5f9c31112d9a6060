//! A worker as the simulation sees it: an accept queue, and a loop that does one thing after the
//! other.

use std::collections::VecDeque;
use std::time::Duration;

use rr_master::dispatch::Load;

/// One worker.
#[derive(Debug)]
pub(crate) struct Worker {
    /// How much faster than usual it is.
    speed: f64,
    /// How many things it does at a time.
    servers: u32,
    serving: u32,
    /// What it will do, first come, first served: nothing is ahead of anything else in a loop.
    queue: VecDeque<Task>,
    /// The connections among them: what was handed off and not received.
    waiting: u64,
    /// Connections that it was given and has not finished.
    open: u64,
    /// Of these so many came since the measurement began.
    pub(crate) given: u64,
    /// How long it was busy since then.
    pub(crate) busy: Duration,
}

/// What keeps a worker busy once: a new connection, or a request on one that stays.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Task {
    /// Since when the client waits.
    pub(crate) since: Duration,
    /// How long it takes at the usual speed.
    pub(crate) work: Duration,
    pub(crate) subject: Subject,
    /// How many requests will follow on the same connection.
    pub(crate) follow: u32,
}

/// What a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// A connection, which waits in the accept queue until it is received.
    Connection {
        /// Whether its wait counts.
        is_measured: bool,
    },
    /// A request on a connection that the worker has.
    Request,
}

impl Worker {
    pub(crate) fn new(speed: f64, servers: u32) -> Worker {
        Worker {
            speed,
            servers,
            serving: 0,
            queue: VecDeque::new(),
            waiting: 0,
            open: 0,
            given: 0,
            busy: Duration::ZERO,
        }
    }

    /// What its scoreboard says.
    pub(crate) fn load(&self) -> Load {
        Load {
            waiting: self.waiting,
            open: self.open,
        }
    }

    pub(crate) fn add(&mut self, task: Task) {
        if let Subject::Connection { .. } = task.subject {
            self.given += 1;
            self.open += 1;
            self.waiting += 1;
        }
        self.queue.push_back(task);
    }

    /// Begins with the next task, if it can; and how long that will take.
    pub(crate) fn begin(&mut self) -> Option<(Task, Duration)> {
        if self.serving == self.servers {
            return None;
        }
        let task = self.queue.pop_front()?;
        if let Subject::Connection { .. } = task.subject {
            self.waiting -= 1;
        }
        self.serving += 1;
        let takes = task.work.div_f64(self.speed);
        self.busy += takes;
        Some((task, takes))
    }

    /// Has done what it began.
    pub(crate) fn end(&mut self, task: &Task) {
        self.serving -= 1;
        if task.follow == 0 {
            self.open -= 1;
        }
    }
}
