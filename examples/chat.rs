//! A chat over TCP: what one types, everybody reads, whichever worker they are connected to.
//!
//! ```text
//! cargo run --example chat                                           # alone, on 127.0.0.1:7070
//! rr-master -w 4 -l 127.0.0.1:7070 target/debug/examples/chat
//! nc 127.0.0.1 7070                                                  # as often as you like
//! ```
//!
//! Every line goes through the messenger, to its own worker as to all others, so that each client
//! sees each speaker's lines once and in their order. A client that does not read is put out and
//! keeps nobody waiting. A worker that is to leave asks its clients to come again: they are served
//! by the others, and by its successor.

use std::collections::HashMap;
use std::error::Error;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use worker_proto::{Connection, Identity, Messenger, SendFailure, Server, Worker};

fn main() -> ExitCode {
    serve().unwrap_or_else(|err| {
        eprintln!("chat: {err}");
        ExitCode::FAILURE
    })
}

fn serve() -> Result<ExitCode, Box<dyn Error>> {
    let worker = Worker::connect()?;
    let room = Arc::new(Room::default());
    let messenger = worker.messenger();
    let loudspeaker = Arc::clone(&room);
    let _hears = messenger.on(SAID, move |message| {
        if let Ok(line) = message.text() {
            loudspeaker.say(line);
        }
    })?;
    let leaving = Arc::clone(&room);
    worker.on_drain(move || {
        leaving.close();
        Ok(())
    })?;
    let listeners = worker.listen_declared_or("127.0.0.1:7070")?;
    worker.ready()?;
    if worker.is_alone() {
        eprintln!("chat: listening on {}", listeners[0].address());
    }
    let server = Server::new().max_threads(MOST_CLIENTS);
    server.serve(listeners, |connection| {
        if let Err(err) = converse(&connection, &room, &messenger, worker.identity()) {
            eprintln!("chat: {}: {err}", connection.peer());
        }
    })?;
    Ok(worker.leave())
}

/// Passes on what one client says, from its coming to its going.
fn converse(
    connection: &Connection,
    room: &Room,
    messenger: &Messenger,
    at: &Identity,
) -> Result<(), Box<dyn Error>> {
    let mut name = connection.peer().to_string();
    let greeting = format!(
        "* you are {name}, at {} slot {}; /nick NAME",
        at.worker, at.slot
    );
    let Some(id) = room.enter(connection, &greeting)? else {
        return Ok(());
    };
    let heard = pass_on(connection, &mut name, messenger);
    // Whatever went wrong: nobody listens to it any more.
    room.leave(id);
    heard?;
    messenger.broadcast(SAID, format!("* {name} left"))?;
    Ok(())
}

fn pass_on(
    connection: &Connection,
    name: &mut String,
    messenger: &Messenger,
) -> Result<(), SendFailure> {
    messenger.broadcast(SAID, format!("* {name} joined"))?;
    let mut reader = BufReader::new(connection);
    // A connection that breaks is no more than a client that goes.
    while let Ok(Some(line)) = read_line(&mut reader) {
        match line.strip_prefix("/nick ") {
            Some(nick) => {
                messenger.broadcast(SAID, format!("* {name} is now {nick}"))?;
                nick.clone_into(name);
            }
            None if line.is_empty() => {}
            None => messenger.broadcast(SAID, format!("{name}: {line}"))?,
        }
    }
    Ok(())
}

/// The next line without what could play tricks on a terminal. A longer one comes in several.
fn read_line(reader: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    reader.take(LONGEST_LINE).read_until(b'\n', &mut line)?;
    let text = String::from_utf8_lossy(&line);
    let text = text.chars().filter(|c| !c.is_control()).collect();
    Ok((!line.is_empty()).then_some(text))
}

/// The clients of this worker.
#[derive(Default)]
struct Room {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    clients: HashMap<u64, Client>,
    next: u64,
    is_closed: bool,
}

struct Client {
    /// At most [`MOST_LINES`] that it has not read.
    lines: SyncSender<String>,
    connection: Connection,
}

impl Room {
    /// A client comes, and is greeted; `None` if it is sent away.
    fn enter(&self, connection: &Connection, greeting: &str) -> io::Result<Option<u64>> {
        let (lines, to_write) = sync_channel(MOST_LINES);
        let client = Client {
            lines,
            connection: connection.try_clone()?,
        };
        let writer = connection.try_clone()?;
        writer.set_write_timeout(Some(PATIENCE))?;
        thread::Builder::new().spawn(move || write_lines(&writer, &to_write))?;
        client.tell(greeting);

        let mut state = self.state();
        if state.is_closed {
            client.tell(FAREWELL);
            return Ok(None);
        }
        let id = state.next;
        state.next += 1;
        state.clients.insert(id, client);
        Ok(Some(id))
    }

    fn leave(&self, id: u64) {
        self.state().clients.remove(&id);
    }

    /// Everybody here is told. Who has not read what was said long before is put out.
    fn say(&self, line: &str) {
        let mut state = self.state();
        state.clients.retain(|_, client| {
            let is_told = client.tell(line);
            if !is_told {
                _ = client.connection.shutdown(Shutdown::Both);
            }
            is_told
        });
    }

    /// Asks everybody to come again, and lets nobody in any more.
    fn close(&self) {
        let mut state = self.state();
        state.is_closed = true;
        // Their connections end when the last line is written.
        for (_, client) in state.clients.drain() {
            client.tell(FAREWELL);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock can leave it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Client {
    fn tell(&self, line: &str) -> bool {
        self.lines.try_send(format!("{line}\n")).is_ok()
    }
}

/// Writes to one client as fast as it reads, and ends its connection when there is no more to write.
fn write_lines(mut connection: &Connection, lines: &Receiver<String>) {
    for line in lines {
        if connection.write_all(line.as_bytes()).is_err() {
            break;
        }
    }
    _ = connection.shutdown(Shutdown::Both);
}

/// The action of everything that is said.
const SAID: &str = "chat";

const FAREWELL: &str = "* this server restarts, please connect again";

/// Of one worker: each has a thread that reads and one that writes.
const MOST_CLIENTS: usize = 512;

/// How many lines may wait for a client.
const MOST_LINES: usize = 256;

const LONGEST_LINE: u64 = 1024;

/// How long a client may take to read anything.
const PATIENCE: Duration = Duration::from_secs(10);
