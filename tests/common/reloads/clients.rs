//! Clients of two kinds, which note every request without a whole answer.

use std::io::{self, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::common::client::{Response, connect, read_response};

/// Running clients.
pub(crate) struct Clients {
    threads: Vec<JoinHandle<Tally>>,
    stop: Arc<AtomicBool>,
}

/// What they saw.
#[derive(Default)]
pub(crate) struct Tally {
    /// Requests on a connection of their own.
    pub(crate) single: u64,
    /// Requests on connections that had more than one.
    pub(crate) kept: u64,
    pub(crate) longest: Duration,
    /// In the order in which their workers answered.
    pub(crate) generations: Vec<u64>,
    pub(crate) failures: Vec<String>,
}

/// Whether a client keeps its connection.
#[derive(Clone, Copy)]
enum Habit {
    Single,
    Kept,
}

impl Clients {
    /// So many of each kind.
    pub(crate) fn start(address: SocketAddr, each: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let habits = [Habit::Single, Habit::Kept];
        let threads = (0..each)
            .flat_map(|_| habits)
            .enumerate()
            .map(|(number, habit)| {
                let stop = Arc::clone(&stop);
                thread::spawn(move || live(address, habit, number as u64, &stop))
            })
            .collect();
        Clients { threads, stop }
    }

    pub(crate) fn stop(self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Tally::default();
        for client in self.threads {
            let tally = client.join().expect("a client");
            all.single += tally.single;
            all.kept += tally.kept;
            all.longest = all.longest.max(tally.longest);
            all.generations.extend(tally.generations);
            all.failures.extend(tally.failures);
        }
        all
    }
}

fn live(address: SocketAddr, habit: Habit, number: u64, stop: &AtomicBool) -> Tally {
    let mut tally = Tally::default();
    let mut connection: Option<BufReader<TcpStream>> = None;
    let mut pauses = number;
    while !stop.load(Ordering::Relaxed) {
        let since = Instant::now();
        match request(address, habit, &mut connection) {
            Ok(response) => {
                match habit {
                    Habit::Single => tally.single += 1,
                    Habit::Kept => tally.kept += 1,
                }
                let generation = response.server().generation;
                if tally.generations.last() != Some(&generation) {
                    tally.generations.push(generation);
                }
            }
            Err(err) => {
                connection = None;
                tally.failures.push(format!("{err:?}"));
            }
        }
        tally.longest = tally.longest.max(since.elapsed());
        // Up to 300 ms, so that a connection is found idle as well as busy.
        pauses = pauses
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let longest = match habit {
            Habit::Single => 20,
            Habit::Kept => 300,
        };
        thread::sleep(Duration::from_millis((pauses >> 33) % longest));
    }
    tally
}

/// One request. A connection that the worker said it would close is not used again.
fn request(
    address: SocketAddr,
    habit: Habit,
    kept: &mut Option<BufReader<TcpStream>>,
) -> io::Result<Response> {
    let mut reader = match kept.take() {
        Some(reader) => reader,
        None => BufReader::new(connect(address)?),
    };
    let wish = match habit {
        Habit::Single => "close",
        Habit::Kept => "keep-alive",
    };
    let request = format!("GET / HTTP/1.1\r\nHost: test\r\nConnection: {wish}\r\n\r\n");
    reader.get_mut().write_all(request.as_bytes())?;
    let response = read_response(&mut reader)?;
    let stays = response
        .headers
        .get("connection")
        .is_some_and(|it| it == "keep-alive");
    if stays {
        *kept = Some(reader);
    }
    Ok(response)
}
