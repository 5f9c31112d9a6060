//! A link: the master's end of one control channel, with what could not be sent yet.
//!
//! Nothing that the process sends, or does not read, makes the master wait or grow: frames are
//! read within a budget, and the outbox has a bound beyond which the link counts as broken.

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use thiserror::Error;
use worker_proto::frame::{FromMaster, ToMaster};
use worker_proto::handshake;
use worker_proto::scm::Wait;
use worker_proto::socket::{Inbox, MasterChannel, ReceiveError, Received, SendError, Violation};

/// The master's end of one control channel.
#[derive(Debug)]
pub(crate) struct Link {
    channel: MasterChannel,
    /// Waits for the process to read; at most [`OUTBOX_FRAMES`].
    outbox: VecDeque<Outgoing>,
    speaker: Speaker,
}

/// Who may speak on the channel: the process that said `Hello`, and none that it started.
#[derive(Clone, Copy, Debug)]
enum Speaker {
    Unknown,
    Pid(u32),
}

#[derive(Debug)]
struct Outgoing {
    frame: FromMaster,
    descriptor: Option<OwnedFd>,
}

/// What a link has to say.
#[derive(Debug)]
pub(crate) enum Heard {
    /// A frame from the process that this link belongs to.
    Frame(ToMaster),
    /// A frame from another process that inherited the channel: not listened to.
    Stranger {
        /// Who sent it.
        pid: u32,
    },
    /// Nothing more for now.
    Silence,
    /// The process closed the channel, and everything on it was read.
    Closed,
}

/// A link that cannot go on.
#[derive(Debug, Error)]
pub(crate) enum Broken {
    #[error(transparent)]
    Violation(#[from] Violation),
    #[error("the first frame is not Hello")]
    NoHello,
    #[error("Hello a second time")]
    SecondHello,
    #[error("Hello: {0}")]
    Mismatch(#[from] handshake::Mismatch),
    #[error("does not read its control channel: {OUTBOX_FRAMES} frames wait")]
    Deaf,
    #[error("control channel: {0}")]
    Io(std::io::Error),
}

impl Link {
    pub(crate) fn new(channel: MasterChannel) -> Self {
        Link {
            channel,
            outbox: VecDeque::new(),
            speaker: Speaker::Unknown,
        }
    }

    /// Receives the next frame. Whatever descriptors came with it stay in the inbox.
    pub(crate) fn receive(&mut self, inbox: &mut Inbox) -> Result<Heard, Broken> {
        let Received { frame, sender_pid } = match self.channel.receive(inbox, Wait::Never) {
            Ok(received) => received,
            Err(ReceiveError::Empty) => return Ok(Heard::Silence),
            Err(ReceiveError::Closed) => return Ok(Heard::Closed),
            Err(ReceiveError::Violation(violation)) => return Err(violation.into()),
            Err(ReceiveError::Io(err)) => return Err(Broken::Io(err)),
        };
        if !inbox.descriptors.is_empty() {
            let found = inbox.descriptors.len();
            return Err(Violation::Descriptors { expected: 0, found }.into());
        }
        match (self.speaker, &frame, sender_pid) {
            (Speaker::Unknown, ToMaster::Hello(hello), _) => {
                handshake::check(hello, sender_pid)?;
                self.speaker = Speaker::Pid(hello.pid);
                Ok(Heard::Frame(frame))
            }
            (Speaker::Unknown, _, _) => Err(Broken::NoHello),
            (Speaker::Pid(speaker), _, Some(pid)) if pid != speaker => Ok(Heard::Stranger { pid }),
            (Speaker::Pid(_), ToMaster::Hello(_), _) => Err(Broken::SecondHello),
            (Speaker::Pid(_), _, _) => Ok(Heard::Frame(frame)),
        }
    }

    /// Sends a frame, now or when the process has read what was sent before.
    pub(crate) fn send(
        &mut self,
        frame: FromMaster,
        descriptor: Option<OwnedFd>,
    ) -> Result<(), Broken> {
        if self.outbox.len() >= OUTBOX_FRAMES {
            return Err(Broken::Deaf);
        }
        self.outbox.push_back(Outgoing { frame, descriptor });
        self.flush()
    }

    /// Sends what waits, as far as the process reads it.
    pub(crate) fn flush(&mut self) -> Result<(), Broken> {
        while let Some(Outgoing { frame, descriptor }) = self.outbox.front() {
            let descriptors: Vec<_> = descriptor.iter().map(AsFd::as_fd).collect();
            match self.channel.send(frame, &descriptors, Wait::Never) {
                Ok(()) => {
                    self.outbox.pop_front();
                }
                // Exhausted: tried again with whatever is sent next.
                Err(SendError::Full | SendError::Exhausted(_)) => return Ok(()),
                // The end of the channel will be read, after what is still on it.
                Err(SendError::Gone) => {
                    self.outbox.clear();
                    return Ok(());
                }
                Err(SendError::Io(err)) => return Err(Broken::Io(err)),
                Err(err @ SendError::TooLarge(_)) => {
                    return Err(Broken::Io(std::io::Error::other(err)));
                }
            }
        }
        Ok(())
    }
}

impl AsRawFd for Link {
    fn as_raw_fd(&self) -> RawFd {
        self.channel.as_raw_fd()
    }
}

/// How many frames may wait for one process. It is asked for little, so this is patience enough.
const OUTBOX_FRAMES: usize = 128;
