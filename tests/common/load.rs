//! Clients that ask again and again until they are told to stop, and note every failure.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::client::{Server, get};

/// Running clients.
pub struct Load<A = Server> {
    clients: Vec<JoinHandle<Tally<A>>>,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
}

/// What happened to the requests.
#[derive(Debug)]
pub struct Tally<A = Server> {
    pub answers: Vec<A>,
    pub failures: Vec<String>,
}

impl Load {
    pub fn start(address: SocketAddr, clients: usize) -> Self {
        Self::asking(clients, move || Ok(get(address, "/")?.server()))
    }
}

impl<A: Send + 'static> Load<A> {
    /// Clients that ask in a way of their own.
    pub fn asking(
        clients: usize,
        ask: impl Fn() -> io::Result<A> + Clone + Send + 'static,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicUsize::new(0));
        let clients = (0..clients)
            .map(|_| {
                let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
                let ask = ask.clone();
                thread::spawn(move || {
                    let mut tally = Tally::default();
                    while !stop.load(Ordering::Relaxed) {
                        match ask() {
                            Ok(answer) => tally.answers.push(answer),
                            Err(err) => tally.failures.push(format!("{err:?}")),
                        }
                        answered.fetch_add(1, Ordering::Relaxed);
                        // Leaves something of the machine to the other tests.
                        thread::park_timeout(Duration::from_millis(1));
                    }
                    tally
                })
            })
            .collect();
        Load {
            clients,
            stop,
            answered,
        }
    }

    /// Waits until this many more requests came to an end, well or not.
    pub fn await_more(&self, count: usize) {
        let wanted = self.answered.load(Ordering::Relaxed) + count;
        super::await_condition("more requests", || {
            self.answered.load(Ordering::Relaxed) >= wanted
        });
    }

    pub fn stop(self) -> Tally<A> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Tally::default();
        for client in self.clients {
            let tally = client.join().expect("a client");
            all.answers.extend(tally.answers);
            all.failures.extend(tally.failures);
        }
        all
    }
}

impl<A> Default for Tally<A> {
    fn default() -> Self {
        Tally {
            answers: Vec::new(),
            failures: Vec::new(),
        }
    }
}
