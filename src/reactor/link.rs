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

use crate::relay::Nonsense;

/// The master's end of one control channel.
#[derive(Debug)]
pub(crate) struct Link {
    channel: MasterChannel,
    /// Waits for the process to read; at most [`OUTBOX_FRAMES`].
    outbox: VecDeque<Outgoing>,
    speaker: Speaker,
}

/// Who may speak on the channel.
#[derive(Clone, Copy, Debug)]
enum Speaker {
    Unknown,
    /// The process that said `Hello`, and none that it started.
    Pid(u32),
    /// A program that knows nothing of its master: whichever of its processes listens.
    Anybody,
}

#[derive(Debug)]
struct Outgoing {
    frame: FromMaster,
    descriptors: Vec<OwnedFd>,
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

/// What became of the outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Flushed {
    /// It is empty, or the channel becomes writable when the process has read.
    Heard,
    /// The system ran out of what sending takes (`ETOOMANYREFS`): nothing will say when it has it
    /// again.
    Starved,
}

/// What became of a frame of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Posted {
    Sent,
    /// The channel becomes writable when the process has read.
    Full,
    /// The system ran out of what sending takes: nothing will say when it has it again.
    Starved,
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
    #[error("frames of a program and of a library that is preloaded to it on one channel")]
    Mixed,
    #[error("messages: {0}")]
    Nonsense(#[from] Nonsense),
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
            (Speaker::Unknown | Speaker::Anybody, ToMaster::Attach(attach), _) => {
                handshake::check_attach(attach, sender_pid)?;
                self.speaker = Speaker::Anybody;
                Ok(Heard::Frame(frame))
            }
            (Speaker::Unknown, _, _) => Err(Broken::NoHello),
            (Speaker::Pid(speaker), _, Some(pid)) if pid != speaker => Ok(Heard::Stranger { pid }),
            (Speaker::Pid(_), ToMaster::Hello(_), _) => Err(Broken::SecondHello),
            (Speaker::Pid(_), ToMaster::Attach(_) | ToMaster::Inherit { .. }, _) => {
                Err(Broken::Mixed)
            }
            (Speaker::Pid(_), _, _) => Ok(Heard::Frame(frame)),
            (
                Speaker::Anybody,
                ToMaster::Inherit { .. }
                | ToMaster::Unlisten { .. }
                | ToMaster::Ready
                | ToMaster::NoRoom { .. }
                | ToMaster::Relieved,
                _,
            ) => Ok(Heard::Frame(frame)),
            (Speaker::Anybody, _, _) => Err(Broken::Mixed),
        }
    }

    /// Sends a frame, now or when the process has read what was sent before.
    pub(crate) fn send(
        &mut self,
        frame: FromMaster,
        descriptors: Vec<OwnedFd>,
    ) -> Result<Flushed, Broken> {
        if self.outbox.len() >= OUTBOX_FRAMES {
            return Err(Broken::Deaf);
        }
        self.outbox.push_back(Outgoing { frame, descriptors });
        self.flush()
    }

    /// Has the process open its log files again. An order that it was not sent yet is as good as
    /// another one.
    pub(crate) fn reopen_logs(&mut self) -> Result<Flushed, Broken> {
        let mut waiting = self.outbox.iter();
        if waiting.any(|outgoing| outgoing.frame == FromMaster::ReopenLogs) {
            return Ok(Flushed::Heard);
        }
        self.send(FromMaster::ReopenLogs, Vec::new())
    }

    /// Whether the process has said `Hello`: otherwise it can be told nothing.
    pub(crate) fn is_introduced(&self) -> bool {
        matches!(self.speaker, Speaker::Pid(_))
    }

    /// Whether a preloaded library speaks for the program: it is told nothing but answers.
    pub(crate) fn is_attached(&self) -> bool {
        matches!(self.speaker, Speaker::Anybody)
    }

    /// Sends a frame of a message, if nothing else waits and the process has read enough.
    pub(crate) fn post(
        &mut self,
        frame: &FromMaster,
        scratch: &mut Vec<u8>,
    ) -> Result<Posted, Broken> {
        if !self.outbox.is_empty() {
            return Ok(Posted::Full);
        }
        match self.channel.send_with(frame, &[], Wait::Never, scratch) {
            Ok(()) => Ok(Posted::Sent),
            // Of a channel that has ended the end will be read.
            Err(SendError::Full | SendError::Gone) => Ok(Posted::Full),
            Err(SendError::Exhausted(_)) => Ok(Posted::Starved),
            Err(SendError::Io(err)) => Err(Broken::Io(err)),
            Err(err @ SendError::TooLarge(_)) => Err(Broken::Io(std::io::Error::other(err))),
        }
    }

    /// Sends what waits, as far as the process reads it.
    pub(crate) fn flush(&mut self) -> Result<Flushed, Broken> {
        while let Some(Outgoing { frame, descriptors }) = self.outbox.front() {
            let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
            match self.channel.send(frame, &descriptors, Wait::Never) {
                Ok(()) => {
                    self.outbox.pop_front();
                }
                Err(SendError::Full) => return Ok(Flushed::Heard),
                Err(SendError::Exhausted(_)) => return Ok(Flushed::Starved),
                // The end of the channel will be read, after what is still on it.
                Err(SendError::Gone) => self.outbox.clear(),
                Err(SendError::Io(err)) => return Err(Broken::Io(err)),
                Err(err @ SendError::TooLarge(_)) => {
                    return Err(Broken::Io(std::io::Error::other(err)));
                }
            }
        }
        Ok(Flushed::Heard)
    }
}

impl AsRawFd for Link {
    fn as_raw_fd(&self) -> RawFd {
        self.channel.as_raw_fd()
    }
}

/// How many frames may wait for one process. It is asked for little, so this is patience enough.
const OUTBOX_FRAMES: usize = 128;

#[cfg(test)]
mod tests {
    use std::fs::File;

    use nix::sys::socket::{setsockopt, sockopt};
    use worker_proto::socket::{WorkerChannel, pair};

    use super::*;

    /// A link after its `Hello`, without the kernel's own refusal of descriptors: as before Linux
    /// 6.16.
    fn link() -> (Link, WorkerChannel) {
        let (master, worker): (MasterChannel, WorkerChannel) = pair().unwrap();
        setsockopt(&master.as_fd(), sockopt::PassCred, &true).unwrap();
        let mut link = Link::new(master);
        say(&worker, &ToMaster::Hello(handshake::hello()));
        assert!(matches!(hear(&mut link), Ok(Heard::Frame(_))));
        (link, worker)
    }

    fn say(worker: &WorkerChannel, frame: &ToMaster) {
        worker.send(frame, &[], Wait::Never).unwrap();
    }

    fn hear(link: &mut Link) -> Result<Heard, Broken> {
        link.receive(&mut Inbox::new())
    }

    #[test]
    fn a_frame_with_a_descriptor_breaks_the_link_and_the_descriptor_is_owned() {
        let (mut link, worker) = link();
        let null = File::open("/dev/null").unwrap();
        let descriptors = [null.as_fd(), null.as_fd()];
        worker
            .send(&ToMaster::Ready, &descriptors, Wait::Never)
            .unwrap();
        let mut inbox = Inbox::new();
        let broken = link.receive(&mut inbox).unwrap_err();
        assert_eq!(
            broken.to_string(),
            "a frame with 2 descriptors instead of 0"
        );
        assert_eq!(inbox.descriptors.len(), 2, "for the closer");
    }

    #[test]
    fn a_process_that_does_not_read_is_given_up() {
        let (mut link, _worker) = link();
        let farewells = || FromMaster::NotListening {
            request: worker_proto::ids::RequestId(0),
            errno: 0,
            reason: "x".repeat(10_000),
        };
        let broken = (0..10_000).find_map(|_| link.send(farewells(), Vec::new()).err());
        assert!(matches!(broken, Some(Broken::Deaf)));
        assert_eq!(link.outbox.len(), OUTBOX_FRAMES);
    }

    #[test]
    fn what_waits_is_sent_in_order_when_the_process_reads_again() {
        let (mut link, worker) = link();
        let numbered = |token| FromMaster::Ping { token };
        let mut sent = 0;
        while link.outbox.len() < 3 {
            assert_eq!(
                link.send(numbered(sent), Vec::new()).unwrap(),
                Flushed::Heard
            );
            sent += 1;
        }
        let mut inbox = Inbox::new();
        for token in 0..sent {
            let frame = worker.receive(&mut inbox, Wait::Never).unwrap().frame;
            assert_eq!(frame, numbered(token));
            assert_eq!(link.flush().unwrap(), Flushed::Heard);
        }
        assert!(link.outbox.is_empty());
    }

    #[test]
    fn the_end_of_the_channel_comes_after_what_was_sent_before() {
        let (mut link, worker) = link();
        say(&worker, &ToMaster::Ready);
        drop(worker);
        assert!(link.send(FromMaster::ClusterReady, Vec::new()).is_ok());
        assert!(matches!(hear(&mut link), Ok(Heard::Frame(ToMaster::Ready))));
        assert!(matches!(hear(&mut link), Ok(Heard::Closed)));
    }
}
