//! The load: clients that call again and again until they are told to stop, and keep every
//! account.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::common::evidence::client::{Account, Caller};

pub(crate) struct Load {
    clients: Vec<JoinHandle<Vec<Account>>>,
    ends: Arc<Ends>,
}

#[derive(Default)]
struct Ends {
    stop: AtomicBool,
    calls: AtomicU64,
}

impl Load {
    pub(crate) fn start(server: SocketAddr, clients: usize) -> Self {
        let ends = Arc::new(Ends::default());
        let clients = (0..clients)
            .map(|_| {
                let ends = Arc::clone(&ends);
                thread::spawn(move || call_until_told(server, &ends))
            })
            .collect();
        Load { clients, ends }
    }

    /// How many connections have ended, well or not.
    pub(crate) fn calls(&self) -> u64 {
        self.ends.calls.load(Ordering::Relaxed)
    }

    /// Begins no more connections.
    pub(crate) fn stop(&self) {
        self.ends.stop.store(true, Ordering::Relaxed);
    }

    /// Whether every connection has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.clients.iter().all(JoinHandle::is_finished)
    }

    pub(crate) fn accounts(self) -> Vec<Account> {
        let accounts = self.clients.into_iter();
        accounts
            .flat_map(|client| client.join().expect("a client"))
            .collect()
    }
}

fn call_until_told(server: SocketAddr, ends: &Ends) -> Vec<Account> {
    let mut accounts = Vec::new();
    while !ends.stop.load(Ordering::Relaxed) {
        let account = match Caller::connect(server) {
            Ok(caller) => {
                if caller.origin().0 % ONE_IS_SLOW_OF == 0 {
                    thread::sleep(SLOW);
                }
                caller.ask()
            }
            Err(refused) => refused,
        };
        accounts.push(account);
        ends.calls.fetch_add(1, Ordering::Relaxed);
    }
    accounts
}

/// Clients that take their time to ask keep workers with connections in hand.
const ONE_IS_SLOW_OF: u32 = 50;
const SLOW: Duration = Duration::from_millis(5);
