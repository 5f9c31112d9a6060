//! Clients that ask again and again until they are told to stop, and note every failure.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::client::{Server, get};

/// Running clients.
pub struct Load {
    clients: Vec<JoinHandle<Tally>>,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
}

/// What happened to the requests.
#[derive(Debug, Default)]
pub struct Tally {
    pub answers: Vec<Server>,
    pub failures: Vec<String>,
}

impl Load {
    pub fn start(address: SocketAddr, clients: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicUsize::new(0));
        let clients = (0..clients)
            .map(|_| {
                let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
                thread::spawn(move || {
                    let mut tally = Tally::default();
                    while !stop.load(Ordering::Relaxed) {
                        match get(address, "/") {
                            Ok(response) => tally.answers.push(response.server()),
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

    pub fn stop(self) -> Tally {
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
