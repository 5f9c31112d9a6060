//! The contents of an accept queue, packet by packet: how many connections are in those that nobody
//! has received.
//!
//! The kernel counts packets. What it says is asked for only when there might be too many
//! connections in them, so what is known here is never less than the truth.

use std::collections::VecDeque;

/// The packets that may be unread.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// How many connections each has, oldest first.
    packets: VecDeque<u8>,
    connections: u64,
}

impl Contents {
    /// With room for so many packets.
    pub(crate) fn with_room(packets: usize) -> Self {
        Contents {
            packets: VecDeque::with_capacity(packets),
            connections: 0,
        }
    }

    /// A packet was sent.
    pub(crate) fn add(&mut self, connections: usize) {
        let connections = u8::try_from(connections).expect("no more than a packet has");
        self.packets.push_back(connections);
        self.connections += u64::from(connections);
    }

    /// Only so many packets are unread: the latest.
    pub(crate) fn keep(&mut self, unread: u64) {
        while self.packets.len() as u64 > unread {
            let received = self.packets.pop_front().unwrap_or_default();
            self.connections -= u64::from(received);
        }
    }

    /// How many connections may be unread.
    pub(crate) fn connections(&self) -> u64 {
        self.connections
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_received_first_came_first() {
        let mut contents = Contents::default();
        for connections in [8, 1, 3] {
            contents.add(connections);
        }
        assert_eq!(contents.connections(), 12);
        contents.keep(2);
        assert_eq!(contents.connections(), 4);
        contents.keep(5);
        assert_eq!(contents.connections(), 4);
        contents.keep(0);
        assert_eq!(contents.connections(), 0);
    }
}
