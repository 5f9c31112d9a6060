//! The flags about messages between processes.

use std::num::NonZeroU64;
use std::time::Duration;

use bytesize::ByteSize;
use clap::Args;

use super::parse_timeout;
use super::renewal::parse_size;
use crate::cli::{Failure, usage};
use crate::config::Config;
use crate::config::messages::MessageLimits;

/// Flags.
#[derive(Debug, Args)]
pub(super) struct MessageArgs {
    /// The longest message between processes; also how much may wait for one that does not read
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = parse_size, help_heading = "Messages")]
    max_message: NonZeroU64,

    /// How much the master may hold of all messages together
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = parse_size, help_heading = "Messages")]
    message_memory: NonZeroU64,

    /// How long a message waits for an agent that is not there, if its sender does not say
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_timeout, help_heading = "Messages")]
    message_hold: Duration,
}

impl MessageArgs {
    /// Puts what the flags say into the configuration.
    pub(super) fn apply(&self, config: &mut Config) -> Result<(), Failure> {
        let (message, memory) = (self.max_message.get(), self.message_memory.get());
        if memory < message {
            return Err(usage(format!(
                "--message-memory {}: a message of --max-message {} would never have room: raise the one, or lower the other",
                ByteSize(memory),
                ByteSize(message)
            )));
        }
        config.messages = MessageLimits {
            max_message: message,
            memory,
            hold: self.message_hold,
        };
        Ok(())
    }
}
