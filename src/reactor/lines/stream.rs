//! One stream of one process: the pipe, what the loop took out of it before the thread came to it,
//! and the last of what it said.
//!
//! Bytes leave the pipe only under the lock, so their order is kept whoever takes them.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mio::Token;

use super::tail::Tail;
use crate::sys::pipe;

#[derive(Debug)]
pub(super) struct Stream {
    token: Token,
    name: String,
    destination: Destination,
    state: Mutex<State>,
}

/// Which of the master's streams it goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Destination {
    Stdout,
    Stderr,
}

/// How many bytes the loop has taken from pipes and nobody has written, of all streams together.
#[derive(Debug, Default)]
pub(super) struct Unwritten(AtomicUsize);

#[derive(Debug)]
struct State {
    /// `None` after its end.
    pipe: Option<OwnedFd>,
    /// Out of the pipe and not with the thread yet.
    taken: Vec<u8>,
    /// How many bytes came after that and found no room.
    lost: u64,
    tail: Tail,
    unwritten: Arc<Unwritten>,
}

/// What the thread got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Bytes(usize),
    /// So many bytes are missing here.
    Lost(u64),
    /// There is nothing now.
    Nothing,
    /// Nothing will come any more.
    End,
}

impl Stream {
    pub(super) fn new(
        token: Token,
        name: &str,
        pipe: OwnedFd,
        destination: Destination,
        unwritten: Arc<Unwritten>,
    ) -> Self {
        let state = State {
            pipe: Some(pipe),
            taken: Vec::new(),
            lost: 0,
            tail: Tail::default(),
            unwritten,
        };
        Stream {
            token,
            name: name.to_owned(),
            destination,
            state: Mutex::new(state),
        }
    }

    pub(super) fn token(&self) -> Token {
        self.token
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn destination(&self) -> Destination {
        self.destination
    }

    /// For the thread: what comes next.
    pub(super) fn take(&self, buffer: &mut [u8]) -> Taken {
        let mut state = self.lock();
        if !state.taken.is_empty() {
            return Taken::Bytes(state.take_taken(buffer));
        }
        match std::mem::take(&mut state.lost) {
            0 => {}
            lost => return Taken::Lost(lost),
        }
        state.read(buffer)
    }

    /// For the loop: takes what is in the pipe, at most as much as fits into one.
    pub(super) fn drain(&self) {
        let mut state = self.lock();
        let mut buffer = [0; DRAINED_AT_ONCE];
        let mut left = pipe::CAPACITY;
        // Once more than the pipe holds, to see the end of it.
        while let Taken::Bytes(len) = state.read(&mut buffer) {
            state.keep(&buffer[..len]);
            if left == 0 {
                break;
            }
            left = left.saturating_sub(len);
        }
    }

    /// The last lines, if it is standard error.
    pub(super) fn tail(&self) -> Vec<String> {
        match self.destination {
            Destination::Stderr => self.lock().tail.lines(),
            Destination::Stdout => Vec::new(),
        }
    }

    /// How much there can be in it now.
    pub(super) fn unwritten_at_most(&self) -> usize {
        self.lock().taken.len() + pipe::CAPACITY + 1
    }

    /// Whether everything was written, or is with the thread.
    pub(super) fn is_finished(&self) -> bool {
        let state = self.lock();
        state.pipe.is_none() && state.taken.is_empty() && state.lost == 0
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nobody panics with it in hand.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn read(&mut self, buffer: &mut [u8]) -> Taken {
        let Some(pipe) = &self.pipe else {
            return Taken::End;
        };
        match pipe::take(pipe, buffer) {
            Ok(None) => Taken::Nothing,
            Ok(Some(len @ 1..)) => {
                self.tail.feed(&buffer[..len]);
                Taken::Bytes(len)
            }
            Ok(Some(0)) | Err(_) => {
                self.pipe = None;
                Taken::End
            }
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        // After a gap nothing may come that was before it.
        if self.lost == 0 && self.unwritten.admits(bytes.len()) {
            self.taken.extend_from_slice(bytes);
        } else {
            self.lost += bytes.len() as u64;
        }
    }

    fn take_taken(&mut self, buffer: &mut [u8]) -> usize {
        let len = self.taken.len().min(buffer.len());
        buffer[..len].copy_from_slice(&self.taken[..len]);
        self.taken.drain(..len);
        self.unwritten.0.fetch_sub(len, Ordering::Relaxed);
        if self.taken.is_empty() {
            self.taken = Vec::new();
        }
        len
    }
}

impl Drop for State {
    fn drop(&mut self) {
        let left = self.taken.len();
        self.unwritten.0.fetch_sub(left, Ordering::Relaxed);
    }
}

impl Unwritten {
    /// Whether there is room for so many more. Only the loop adds, so it cannot be overtaken.
    fn admits(&self, len: usize) -> bool {
        let admits = self.0.load(Ordering::Relaxed) + len <= MOST_UNWRITTEN;
        if admits {
            self.0.fetch_add(len, Ordering::Relaxed);
        }
        admits
    }
}

const DRAINED_AT_ONCE: usize = 1 << 14;

/// Sixteen full pipes; what processes leave beyond that, while nobody reads the master's streams,
/// is lost and counted.
const MOST_UNWRITTEN: usize = 16 << 20;

#[cfg(test)]
mod tests {
    use nix::unistd::write;

    use super::*;
    use crate::sys::credentials::Credentials;

    fn stream(unwritten: &Arc<Unwritten>) -> (Stream, OwnedFd) {
        let (reader, writer) = pipe::create(&Credentials::default()).unwrap();
        let unwritten = Arc::clone(unwritten);
        let stream = Stream::new(Token(0), "w1", reader, Destination::Stderr, unwritten);
        (stream, writer)
    }

    #[test]
    fn what_the_loop_takes_comes_in_order_with_what_the_thread_takes() {
        let (stream, writer) = stream(&Arc::default());
        let mut buffer = [0; 4];
        write(&writer, b"one two").unwrap();
        assert_eq!(stream.take(&mut buffer), Taken::Bytes(4));
        assert_eq!(&buffer, b"one ");
        write(&writer, b" three\n").unwrap();
        drop(writer);
        stream.drain();
        assert_eq!(stream.tail(), ["one two three"]);
        assert!(!stream.is_finished());
        let mut rest = Vec::new();
        while let Taken::Bytes(len) = stream.take(&mut buffer) {
            rest.extend_from_slice(&buffer[..len]);
        }
        assert_eq!(rest, b"two three\n");
        assert_eq!(stream.take(&mut buffer), Taken::End);
        assert!(stream.is_finished());
    }

    #[test]
    fn what_finds_no_room_is_counted_and_the_tail_has_it_nevertheless() {
        let unwritten = Arc::new(Unwritten::default());
        assert!(unwritten.admits(MOST_UNWRITTEN - 4));
        let (stream, writer) = stream(&unwritten);
        write(&writer, b"12345").unwrap();
        stream.drain();
        // There would be room for this, but not for what was before it.
        write(&writer, b"6").unwrap();
        stream.drain();
        assert_eq!(stream.tail(), ["123456"]);
        assert_eq!(stream.take(&mut [0; 8]), Taken::Lost(6));
        assert_eq!(stream.take(&mut [0; 8]), Taken::Nothing);
    }

    #[test]
    fn room_is_given_back_when_it_was_written_or_forgotten() {
        let unwritten = Arc::new(Unwritten::default());
        let (stream, writer) = stream(&unwritten);
        write(&writer, b"12345").unwrap();
        stream.drain();
        assert_eq!(stream.take(&mut [0; 2]), Taken::Bytes(2));
        assert_eq!(unwritten.0.load(Ordering::Relaxed), 3);
        drop(stream);
        assert_eq!(unwritten.0.load(Ordering::Relaxed), 0);
    }
}
