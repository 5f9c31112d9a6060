//! The spawner: a thread that starts processes, because starting one waits for `exec`.
//!
//! It lives as long as the reactor: the kernel ends every process whose forking *thread* ended.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, unbounded};
use mio::Waker;
use worker_proto::ids::WorkerId;

use crate::sys::spawn::{Launch, Started, spawn};

/// The thread, and the way to it.
#[derive(Debug)]
pub(crate) struct Spawner {
    orders: Option<Sender<Order>>,
    outcomes: Receiver<Outcome>,
    thread: Option<JoinHandle<()>>,
}

/// A process to be started.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) worker: WorkerId,
    pub(crate) launch: Launch,
    /// The process's end of its control channel; closed here once the process has its copy.
    pub(crate) control: OwnedFd,
}

/// What came of an order.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) worker: WorkerId,
    pub(crate) process: io::Result<Started>,
}

impl Spawner {
    pub(crate) fn start(waker: Arc<Waker>) -> io::Result<Self> {
        // One order per worker at a time: both queues are bounded by the number of slots.
        let (orders, inbox) = unbounded::<Order>();
        let (outbox, outcomes) = unbounded();
        let thread = thread::Builder::new()
            .name("rr-spawner".to_owned())
            .spawn(move || {
                for Order {
                    worker,
                    launch,
                    control,
                } in inbox
                {
                    let process = spawn(&launch, &control);
                    drop(control);
                    if outbox.send(Outcome { worker, process }).is_err() || waker.wake().is_err() {
                        break;
                    }
                }
            })?;
        Ok(Spawner {
            orders: Some(orders),
            outcomes,
            thread: Some(thread),
        })
    }

    /// Orders a process; its outcome comes later, with a wake-up of the loop.
    pub(crate) fn order(&self, order: Order) {
        let orders = self.orders.as_ref().expect("taken only by drop");
        // The thread ends only when this sender is gone.
        let _ = orders.send(order);
    }

    /// The next outcome, if there is one.
    pub(crate) fn poll_outcome(&self) -> Option<Outcome> {
        self.outcomes.try_recv().ok()
    }
}

impl Drop for Spawner {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
