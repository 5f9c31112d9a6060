//! What messages between processes may take of the master.

use std::time::Duration;

/// The bounds of the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageLimits {
    /// The longest payload of one message in bytes; also how much may wait for one process that does
    /// not read.
    pub max_message: u64,
    /// How much the master holds for everybody together, in bytes: what it has not received whole, and
    /// what waits for its receivers. At least `max_message`.
    pub memory: u64,
    /// How long a message waits for an agent that is not there, or for a reply, if its sender does
    /// not say.
    pub hold: Duration,
}

impl Default for MessageLimits {
    fn default() -> Self {
        MessageLimits {
            max_message: 64 << 20,
            memory: 256 << 20,
            hold: Duration::from_secs(10),
        }
    }
}
