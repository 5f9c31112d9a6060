//! Calls: what followers want done by the leader, several at a time and not all at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::sdk::control;

/// Something to be done.
pub(super) type Call = Box<dyn FnOnce() + Send>;

/// The threads of one leader. They end when this is dropped, after what waits for them.
pub(super) struct Calls {
    give: Sender<Call>,
    take: Receiver<Call>,
    /// How many threads there are.
    threads: usize,
    /// How many calls wait or are being done.
    open: Arc<AtomicUsize>,
}

impl Calls {
    pub(super) fn none() -> Self {
        let (give, take) = bounded(MOST_WAITING);
        Calls {
            give,
            take,
            threads: 0,
            open: Arc::default(),
        }
    }

    /// Has it done; gives it back when too many wait.
    pub(super) fn push(&mut self, call: Call) -> Result<(), Call> {
        let open = self.open.fetch_add(1, Ordering::AcqRel);
        if open >= self.threads && self.threads < MOST_THREADS {
            match self.start() {
                Ok(()) => self.threads += 1,
                // Those that there are do it.
                Err(err) if self.threads > 0 => log::warn!("start a thread: {err}"),
                Err(err) => {
                    log::error!("start a thread: {err}");
                    self.open.fetch_sub(1, Ordering::AcqRel);
                    return Err(call);
                }
            }
        }
        self.give.try_send(call).map_err(|err| {
            self.open.fetch_sub(1, Ordering::AcqRel);
            match err {
                TrySendError::Full(call) | TrySendError::Disconnected(call) => call,
            }
        })
    }

    fn start(&self) -> io::Result<()> {
        let (take, open) = (self.take.clone(), Arc::clone(&self.open));
        control::start_thread("rr-invoke", move || {
            for call in take {
                call();
                open.fetch_sub(1, Ordering::AcqRel);
            }
        })
    }
}

/// How many calls are done at a time.
const MOST_THREADS: usize = 16;

/// How many more may wait.
const MOST_WAITING: usize = 1024;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn calls_are_done_side_by_side_and_not_without_end() {
        let mut calls = Calls::none();
        let (hold, held) = bounded::<()>(0);
        let (begin, begun) = bounded(MOST_THREADS + MOST_WAITING);
        let push = |calls: &mut Calls| {
            let (held, begin) = (held.clone(), begin.clone());
            let call: Call = Box::new(move || {
                begin.send(()).unwrap();
                _ = held.recv();
            });
            calls.push(call).is_ok()
        };
        for _ in 0..MOST_THREADS {
            assert!(push(&mut calls));
            begun.recv_timeout(Duration::from_secs(10)).unwrap();
        }
        for _ in 0..MOST_WAITING {
            assert!(push(&mut calls));
        }
        assert!(!push(&mut calls));
        drop(hold);
        for _ in 0..MOST_WAITING {
            begun.recv_timeout(Duration::from_secs(10)).unwrap();
        }
    }
}
