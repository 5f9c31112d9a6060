//! A connection costs the master no allocation: accepted, handed off and closed, again and again, with
//! what the first ones have left behind.

use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::time::Duration;

use allocation_counter::{measure, opt_out};
use mio::{Poll, Registry};
use worker_proto::frame::{DispatchMode, ListenOptions};
use worker_proto::ids::{ListenerId, Slot, WorkerId};
use worker_proto::scm::Wait;
use worker_proto::socket::{Inbox, QueueReceiver};

use super::{Rules, Serving, Tenure, Turn};
use crate::config::listener::ListenerSpec;
use crate::config::{ConnectionLimits, Overflow};
use crate::dispatch::StrategyName;
use crate::reactor::clock;
use crate::reactor::load::Loads;
use crate::reactor::queue::{AcceptQueue, Taker};
use crate::sys::closing::Closing;
use crate::sys::listening::{Keeping, ListeningSocket};

#[test]
fn a_connection_is_handed_off_without_an_allocation() {
    for strategy in StrategyName::ALL {
        for max_batch in [1, 8] {
            let mut cluster = Cluster::new(max_batch);
            cluster.serving.choose_by(strategy);
            for _ in 0..WARM_UP {
                cluster.visit();
                cluster.turn();
                cluster.receive();
            }
            let made = measure(|| {
                for _ in 0..ROUNDS {
                    opt_out(|| cluster.visit());
                    cluster.turn();
                    opt_out(|| cluster.receive());
                }
            });
            assert_eq!(cluster.received, (WARM_UP + ROUNDS) * CLIENTS);
            assert_eq!(made.count_total, 0, "{strategy}, {max_batch} in a packet");
        }
    }
}

/// A listener and the queues of its workers.
struct Cluster {
    serving: Serving,
    queues: Vec<QueueReceiver>,
    clients: Vec<TcpStream>,
    received: usize,
    poll: Poll,
    shared: Shared,
}

/// What a turn uses.
struct Shared {
    scratch: Vec<u8>,
    closing: Closing,
    inbox: Inbox,
    loads: Loads,
}

impl Shared {
    fn turn(&mut self, registry: &Registry, serving: &mut Serving) {
        serving.turn(&mut Turn {
            now: clock::now(),
            registry,
            scratch: &mut self.scratch,
            closing: &mut self.closing,
            inbox: &mut self.inbox,
            loads: &mut self.loads,
            findings: &mut Vec::new(),
        });
    }
}

impl Cluster {
    fn new(max_batch: u8) -> Self {
        let spec = ListenerSpec::bind("127.0.0.1:0".parse().unwrap());
        let socket = ListeningSocket::open(&spec, Keeping::Own).unwrap();
        let address = socket.address().clone();
        let rules = Rules {
            overflow: Overflow::Wait,
            stall_timeout: None,
            hang_timeout: None,
            coalesce: Duration::ZERO,
        };
        let (id, tenure) = (ListenerId(0), Tenure::Declared);
        let name = spec.name();
        let mut serving = Serving::new(id, name, DispatchMode::HandOff, rules, tenure, socket);
        let options = ListenOptions {
            max_batch,
            ..ListenOptions::default()
        };
        let queues = (0..WORKERS).map(|slot| {
            let queue = AcceptQueue::create(options, WINDOW, &address, Taker::Worker);
            let (queue, worker_end): (_, OwnedFd) = queue.unwrap();
            let worker = WorkerId(u64::from(slot) + 1);
            serving.add_queue(worker, queue);
            serving.enter(worker, Slot(slot), clock::now());
            QueueReceiver::from(worker_end)
        });
        Cluster {
            queues: queues.collect(),
            serving,
            clients: Vec::new(),
            received: 0,
            poll: Poll::new().unwrap(),
            shared: Shared {
                // What it has grown to by then.
                scratch: Vec::with_capacity(1024),
                closing: Closing::default(),
                inbox: Inbox::new(),
                loads: Loads::new(ConnectionLimits::default()),
            },
        }
    }

    /// Clients come, and those before are gone.
    fn visit(&mut self) {
        let address = self.serving.address().inet().unwrap();
        let connect = |_| TcpStream::connect(address).unwrap();
        self.clients = (0..CLIENTS).map(connect).collect();
        // As the poll would.
        self.serving.note_readable(clock::now());
    }

    fn turn(&mut self) {
        self.shared.turn(self.poll.registry(), &mut self.serving);
    }

    fn receive(&mut self) {
        let mut inbox = Inbox::new();
        for queue in &self.queues {
            while let Ok(packet) = queue.receive(&mut inbox, Wait::Never) {
                self.received += packet.frame.peers.len();
            }
        }
    }
}

const WORKERS: u32 = 4;
const WINDOW: u32 = 32;
const CLIENTS: usize = 10;
const WARM_UP: usize = 5;
const ROUNDS: usize = 20;
