//! The thread that reads every stream and writes its lines. It may block for as long as the
//! master's own streams do, and holds no lock then.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::thread;

use crossbeam_channel::Sender;
use mio::{Events, Poll, Token};

use super::Shared;
use super::splitter::{Splitter, Surface};
use super::stream::{Destination, Stream, Taken};
use crate::sys::pipe;

/// Starts it. It ends when the master does, and drops `done`.
pub(super) fn start(poll: Poll, shared: Arc<Shared>, done: Sender<()>) -> io::Result<()> {
    let reader = Reader {
        shared,
        splitters: HashMap::new(),
        ready: BTreeSet::new(),
        stdout: Outlet::to(Destination::Stdout),
        stderr: Outlet::to(Destination::Stderr),
        buffer: vec![0; CHUNK],
        out: Vec::new(),
    };
    thread::Builder::new()
        .name("rr-lines".to_owned())
        .spawn(move || {
            reader.run(poll);
            drop(done);
        })?;
    Ok(())
}

struct Reader {
    shared: Arc<Shared>,
    splitters: HashMap<Token, Splitter>,
    /// Whose stream may have more: readiness is reported once per change, epoll(7).
    ready: BTreeSet<Token>,
    stdout: Outlet,
    stderr: Outlet,
    buffer: Vec<u8>,
    out: Vec<u8>,
}

/// One of the master's own streams: whatever it is when something is written, since `--daemon` puts
/// another file in its place when the log is opened again.
struct Outlet {
    destination: Destination,
    surface: Surface,
}

impl Reader {
    fn run(mut self, mut poll: Poll) {
        let mut events = Events::with_capacity(EVENTS);
        while !self.shared.lock().is_closing {
            let timeout = (!self.ready.is_empty()).then_some(std::time::Duration::ZERO);
            match poll.poll(&mut events, timeout) {
                Err(err) if err.kind() != io::ErrorKind::Interrupted => {
                    log::error!("read what the processes say: {err}");
                    break;
                }
                Ok(()) | Err(_) => {}
            }
            for event in &events {
                if event.token() == WAKER {
                    // The loop took something, of whomever.
                    self.ready.extend(self.shared.lock().by_token.keys());
                } else {
                    self.ready.insert(event.token());
                }
            }
            for token in self.ready.clone() {
                if !self.advance(token) {
                    self.ready.remove(&token);
                }
            }
        }
        self.finish();
    }

    /// Writes a little of what the stream has; answers whether it may have more.
    fn advance(&mut self, token: Token) -> bool {
        let stream = self.shared.lock().by_token.get(&token).cloned();
        let Some(stream) = stream else {
            self.splitters.remove(&token);
            return false;
        };
        let outlet = match stream.destination() {
            Destination::Stdout => &self.stdout,
            Destination::Stderr => &self.stderr,
        };
        let splitter = self
            .splitters
            .entry(token)
            .or_insert_with(|| Splitter::new(stream.name(), outlet.surface));
        let taken = stream.take(&mut self.buffer);
        match taken {
            Taken::Bytes(len) => splitter.feed(&self.buffer[..len], &mut self.out),
            Taken::Lost(bytes) => {
                let remark = format!("[{bytes} bytes lost: nobody reads the master's output]");
                splitter.remark(&remark, &mut self.out);
            }
            Taken::Nothing => {}
            Taken::End => splitter.finish(&mut self.out),
        }
        outlet.write(&self.out);
        self.out.clear();
        self.out.shrink_to(MOST_KEPT);
        if taken == Taken::End {
            self.splitters.remove(&token);
            self.shared.lock().by_token.remove(&token);
        }
        matches!(taken, Taken::Bytes(_) | Taken::Lost(_))
    }

    /// The master ends: writes what there is, and no more than was in the pipes, since somebody
    /// whom the processes started may go on writing.
    fn finish(&mut self) {
        let streams: Vec<Arc<Stream>> = self.shared.lock().by_token.values().cloned().collect();
        for stream in streams {
            let most = stream.unwritten_at_most().div_ceil(CHUNK);
            for _ in 0..most {
                if !self.advance(stream.token()) {
                    break;
                }
            }
            if let Some(mut splitter) = self.splitters.remove(&stream.token()) {
                splitter.finish(&mut self.out);
                match stream.destination() {
                    Destination::Stdout => self.stdout.write(&self.out),
                    Destination::Stderr => self.stderr.write(&self.out),
                }
                self.out.clear();
            }
        }
    }
}

impl Outlet {
    fn to(destination: Destination) -> Self {
        let is_terminal = match destination {
            Destination::Stdout => io::stdout().is_terminal(),
            Destination::Stderr => io::stderr().is_terminal(),
        };
        let surface = if is_terminal {
            Surface::Terminal
        } else {
            Surface::Other
        };
        Outlet {
            destination,
            surface,
        }
    }

    /// Writes whole lines. If nobody can read them any more, the processes go on nevertheless.
    fn write(&self, lines: &[u8]) {
        let _ = match self.destination {
            Destination::Stdout => pipe::put(&io::stdout(), lines),
            // The log's lines and these do not get into each other.
            Destination::Stderr => pipe::put(&io::stderr().lock(), lines),
        };
    }
}

/// Not the token of a stream: those are counted from 0.
pub(super) const WAKER: Token = Token(usize::MAX);

/// How much of one stream is written before the next one has its turn.
const CHUNK: usize = 64 * 1024;

/// How much memory is kept for the next lines: they may have been much longer than their bytes, if
/// every one of those was a line.
const MOST_KEPT: usize = 4 * CHUNK;

const EVENTS: usize = 256;
