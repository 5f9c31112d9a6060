//! What processes say, line by line: read by a thread of its own, written to the master's own
//! streams with the name of the process before each line; and the last of it, for the log.
//!
//! The thread may be kept by whoever reads the master's streams; then pipes fill, and processes wait
//! when they write. The loop never does: it holds the lock of a stream only to take what is there.

mod escape;
mod reader;
mod splitter;
mod stream;
mod tail;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};
use mio::unix::SourceFd;
use mio::{Interest, Poll, Registry, Token, Waker};
use worker_proto::ids::WorkerId;

use self::stream::{Destination, Stream, Unwritten};

/// Every stream that the master reads, and the thread that reads them.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    /// Not before the first process needs it.
    thread: Option<Thread>,
    processes: HashMap<WorkerId, Vec<Arc<Stream>>>,
    /// Of processes that are gone; somebody whom they started may have them still, or the thread
    /// has not come to their end.
    orphans: VecDeque<Arc<Stream>>,
}

/// The way to the thread.
#[derive(Debug)]
struct Thread {
    shared: Arc<Shared>,
    registry: Registry,
    waker: Waker,
    /// Disconnected when the thread has written everything.
    done: Receiver<()>,
    next: usize,
}

/// What both sides have.
#[derive(Debug, Default)]
struct Shared {
    streams: Mutex<Streams>,
    unwritten: Arc<Unwritten>,
}

#[derive(Debug, Default)]
struct Streams {
    by_token: HashMap<Token, Arc<Stream>>,
    is_closing: bool,
}

/// The streams of a process that the master reads.
#[derive(Debug)]
pub(crate) struct Pipes {
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
}

impl Lines {
    /// Reads the streams of a process from now on; `name` comes before every line.
    pub(crate) fn adopt(&mut self, worker: WorkerId, name: &str, pipes: Pipes) -> io::Result<()> {
        let pipes = [
            (pipes.stdout, Destination::Stdout),
            (pipes.stderr, Destination::Stderr),
        ];
        for (pipe, destination) in pipes {
            let Some(pipe) = pipe else { continue };
            let thread = match &mut self.thread {
                Some(thread) => thread,
                none => none.insert(Thread::start()?),
            };
            let stream = thread.add(name, pipe, destination)?;
            self.processes.entry(worker).or_default().push(stream);
        }
        Ok(())
    }

    /// The process has ended: takes what is left in its pipes, so that nothing of its last words is
    /// missing from [`tail`](Self::tail). It is written by the thread like everything else.
    pub(crate) fn hear_out(&mut self, worker: WorkerId) {
        let (Some(streams), Some(thread)) = (self.processes.get(&worker), &self.thread) else {
            return;
        };
        for stream in streams {
            stream.drain();
        }
        // Somebody may have to be told that nothing more comes. It fails for want of memory only.
        let _ = thread.waker.wake();
    }

    /// The last lines of the process's standard error, as far as the master reads it, the oldest
    /// first.
    pub(crate) fn tail(&self, worker: WorkerId) -> Vec<String> {
        let streams = self.processes.get(&worker).into_iter().flatten();
        streams.flat_map(|stream| stream.tail()).collect()
    }

    /// Nobody will ask for the process any more.
    pub(crate) fn forget(&mut self, worker: WorkerId) {
        let Some(streams) = self.processes.remove(&worker) else {
            return;
        };
        self.orphans.retain(|stream| !stream.is_finished());
        self.orphans.extend(streams);
        while self.orphans.len() > MOST_ORPHANS {
            let (Some(oldest), Some(thread)) = (self.orphans.pop_front(), &self.thread) else {
                break;
            };
            // Closed when the thread lets go of it, and with that forgotten by its poll, epoll(7).
            thread.shared.lock().by_token.remove(&oldest.token());
            log::warn!(
                "{}: nothing more of its output is shown: more than {MOST_ORPHANS} streams of processes that are gone are still open",
                oldest.name()
            );
        }
    }
}

impl Thread {
    fn start() -> io::Result<Self> {
        let poll = Poll::new()?;
        let registry = poll.registry().try_clone()?;
        let waker = Waker::new(&registry, reader::WAKER)?;
        let shared = Arc::new(Shared::default());
        let (end, done) = bounded(0);
        reader::start(poll, Arc::clone(&shared), end)?;
        Ok(Thread {
            shared,
            registry,
            waker,
            done,
            next: 0,
        })
    }

    fn add(
        &mut self,
        name: &str,
        pipe: OwnedFd,
        destination: Destination,
    ) -> io::Result<Arc<Stream>> {
        let token = Token(self.next);
        self.next += 1;
        let fd = pipe.as_raw_fd();
        let unwritten = Arc::clone(&self.shared.unwritten);
        let stream = Arc::new(Stream::new(token, name, pipe, destination, unwritten));
        // Before it can be reported readable.
        let known = Arc::clone(&stream);
        self.shared.lock().by_token.insert(token, known);
        let registered = self
            .registry
            .register(&mut SourceFd(&fd), token, Interest::READABLE);
        if registered.is_err() {
            self.shared.lock().by_token.remove(&token);
        }
        registered.map(|()| stream)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Streams> {
        // Whoever holds it does nothing that could panic half-way.
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread writes what there is, for as long as the end may take.
impl Drop for Lines {
    fn drop(&mut self) {
        if let Some(thread) = &self.thread {
            thread.shared.lock().is_closing = true;
            if thread.waker.wake().is_ok() {
                let _ = thread.done.recv_timeout(FLUSH_TIMEOUT);
            }
        }
    }
}

/// How many streams of processes that are gone are still read; then the oldest is closed.
const MOST_ORPHANS: usize = 256;

/// How long the end of the master waits for a slow reader of its streams.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::sys::credentials::Credentials;
    use crate::sys::pipe;

    /// Adopts a process; answers the end that it writes to.
    fn adopt(lines: &mut Lines, worker: u64) -> std::fs::File {
        let (reader, writer) = pipe::create(&Credentials::default()).unwrap();
        let pipes = Pipes {
            stdout: None,
            stderr: Some(reader),
        };
        lines.adopt(WorkerId(worker), "w", pipes).unwrap();
        writer.into()
    }

    fn open(lines: &Lines) -> usize {
        lines.thread.as_ref().unwrap().shared.lock().by_token.len()
    }

    #[test]
    fn a_process_that_is_forgotten_has_no_tail() {
        let mut lines = Lines::default();
        adopt(&mut lines, 1).write_all(b"bye\n").unwrap();
        lines.hear_out(WorkerId(1));
        assert_eq!(lines.tail(WorkerId(1)), ["bye"]);
        lines.forget(WorkerId(1));
        assert_eq!(lines.tail(WorkerId(1)), Vec::<String>::new());
    }

    /// What somebody else holds open for ever does not pile up.
    #[test]
    fn of_streams_that_never_end_the_oldest_are_closed() {
        let mut lines = Lines::default();
        let most = MOST_ORPHANS as u64;
        let mut writers: Vec<_> = (0..most + 2).map(|id| adopt(&mut lines, id)).collect();
        for worker in 0..most + 2 {
            lines.forget(WorkerId(worker));
        }
        assert_eq!(open(&lines), MOST_ORPHANS);
        // The thread may have it in hand for a moment.
        while writers[0].write_all(b"x").is_ok() {}
        writers[2].write_all(b"x").unwrap();
    }

    #[test]
    fn streams_that_end_leave_nothing_behind() {
        let mut lines = Lines::default();
        for worker in 0..10 {
            drop(adopt(&mut lines, worker));
            lines.hear_out(WorkerId(worker));
            lines.forget(WorkerId(worker));
        }
        while open(&lines) > 0 {
            std::thread::yield_now();
        }
    }
}
