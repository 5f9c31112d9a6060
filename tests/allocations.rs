//! A connection costs the master no allocation, as far as its parts can be had by themselves: choosing
//! a worker, and sending a packet.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;

use allocation_counter::measure;
use rr_master::dispatch::{Reason, Rotation, RoundRobin, StrategyName};
use worker_proto::address::Address;
use worker_proto::frame::{Connections, MAX_CONNECTIONS_BYTES};
use worker_proto::ids::{Slot, WorkerId};
use worker_proto::scm::Wait;
use worker_proto::socket::{Inbox, QueueReceiver, QueueSender, pair};

#[test]
fn a_worker_is_chosen_without_an_allocation() {
    let all = StrategyName::ALL.into_iter();
    for (name, workers) in all.flat_map(|name| [1, 4, 1024].map(|workers| (name, workers))) {
        let mut rotation = Rotation::new(name.build(1));
        for slot in 0..workers {
            rotation.enter(WorkerId(u64::from(slot) + 1), Slot(slot));
        }
        // What a strategy remembers of each, it remembers from the first time on.
        for _ in 0..2 * workers {
            rotation.pick(&peer(1), &mut ());
        }
        let made = measure(|| {
            for _ in 0..ROUNDS {
                assert!(rotation.pick(&peer(1), &mut ()).is_some());
            }
        });
        assert_eq!(made.count_total, 0, "{name}, {workers} workers: {made:?}");
    }
}

/// Under load workers are full and have room again all the time.
#[test]
fn a_worker_stands_aside_and_returns_without_an_allocation() {
    let mut rotation = Rotation::new(Box::new(RoundRobin::default()));
    for slot in 0..64 {
        rotation.enter(WorkerId(u64::from(slot) + 1), Slot(slot));
    }
    let full = WorkerId(33);
    let mut round = || {
        rotation.set_aside(full, Reason::Saturated);
        assert!(rotation.pick(&peer(1), &mut ()).is_some());
        rotation.restore(full, Reason::Saturated);
    };
    // Until it has missed a turn, and is in the books.
    (0..64).for_each(|_| round());
    let made = measure(|| (0..ROUNDS).for_each(|_| round()));
    assert_eq!(made.count_total, 0, "{made:?}");
}

#[test]
fn a_packet_is_built_and_sent_without_an_allocation() {
    let (sender, receiver): (QueueSender, QueueReceiver) = pair().unwrap();
    let file = File::open("/dev/null").unwrap();
    let mut inbox = Inbox::with_room(MAX_CONNECTIONS_BYTES);
    let (mut scratch, mut peers) = (Vec::new(), Vec::new());
    let mut frame = Connections {
        sequence: 0,
        peers: Vec::new(),
        padding: Vec::new(),
    };
    let mut pass = |count: u16| {
        frame.peers.clear();
        frame.peers.extend((0..count).map(peer));
        let descriptors = [file.as_fd(); 64];
        let descriptors = &descriptors[..count.into()];
        sender
            .send_with(&frame, descriptors, Wait::Never, &mut scratch)
            .unwrap();
        frame.sequence += 1;
        // As the master takes back what nobody has received.
        let received = receiver.receive_connections(&mut inbox, &mut peers, Wait::Never);
        received.unwrap();
        inbox.descriptors.clear();
    };
    pass(64);
    for count in [1, 8, 64] {
        let made = measure(|| (0..ROUNDS).for_each(|_| pass(count)));
        assert_eq!(made.count_total, 0, "{count} in a packet: {made:?}");
    }
}

fn peer(number: u16) -> Address {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 40_000 + number)).into()
}

const ROUNDS: usize = 100;
