//! The fake master's relay: a cluster of one, in which a worker's messages come back to it.
//!
//! It writes on a thread of its own and keeps to the window, so that the master goes on reading
//! while the worker does not.

use std::collections::VecDeque;
use std::process;
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::frame::{FromMaster, Welcome};
use crate::message::{
    Deliver, Kind, MAX_CHUNK_BYTES, More, Peer, PeerState, RECEIVE_WINDOW_BYTES, Receipt,
    Recipient, Send,
};
use crate::scm::Wait;
use crate::sdk::Identity;
use crate::sdk::messenger::{Assembly, Letter, Loopback, Nonsense, charge};
use crate::socket::MasterChannel;

/// What the worker sends, on its way to whom it is for.
#[derive(Debug)]
pub(super) struct Relay {
    own: Loopback,
    assembly: Assembly,
    /// What the worker sends in pieces just now.
    begun: Option<Addressed>,
    carrier: Option<Carrier>,
}

/// What a message is to the one who carries it.
#[derive(Debug)]
struct Addressed {
    recipient: Recipient,
    wants_receipt: bool,
}

/// The thread that writes.
#[derive(Debug)]
struct Carrier {
    errands: Sender<Errand>,
    thread: JoinHandle<()>,
}

#[derive(Debug)]
enum Errand {
    Carry(Letter),
    Taken(u64),
}

impl Relay {
    pub(super) fn for_who_is_welcome(welcome: &Welcome) -> Self {
        Relay {
            own: Loopback::of(Identity {
                worker: welcome.worker,
                slot: welcome.slot,
                generation: welcome.generation,
                role: welcome.role,
                count: welcome.count,
                pid: process::id(),
            }),
            assembly: Assembly::within(welcome.limits.max_message_bytes),
            begun: None,
            carrier: None,
        }
    }

    /// Takes a message, or its beginning; answers with a receipt if one is due now.
    pub(super) fn send(
        &mut self,
        send: &Send,
        channel: &MasterChannel,
    ) -> Result<Option<FromMaster>, Nonsense> {
        let deliver = Deliver {
            from: self.own.sender(),
            message: send.message,
            kind: send.kind,
            action: send.action.clone(),
            content_type: send.content_type,
            len_bytes: send.len_bytes,
            chunk: send.chunk.clone(),
        };
        self.begun = Some(Addressed {
            recipient: send.recipient.clone(),
            wants_receipt: send.wants_receipt,
        });
        let whole = self.assembly.begin(deliver)?;
        Ok(whole.and_then(|letter| self.route(letter, channel)))
    }

    /// Takes a further piece of it.
    pub(super) fn more(
        &mut self,
        more: &More,
        channel: &MasterChannel,
    ) -> Result<Option<FromMaster>, Nonsense> {
        let whole = self.assembly.add(more)?;
        Ok(whole.and_then(|letter| self.route(letter, channel)))
    }

    /// The worker's program has taken so much.
    pub(super) fn taken(&self, bytes: u64) {
        if let Some(carrier) = &self.carrier {
            _ = carrier.errands.send(Errand::Taken(bytes));
        }
    }

    /// Brings a message to the worker, after those that wait already.
    pub(super) fn carry(&mut self, letter: Letter, channel: &MasterChannel) {
        let carrier = self.carrier.get_or_insert_with(|| Carrier::start(channel));
        _ = carrier.errands.send(Errand::Carry(letter));
    }

    /// The worker, as its peers see it.
    pub(super) fn peer(&self, state: PeerState) -> Peer {
        self.own.peer(state)
    }

    /// Ends the thread; the channel has to have ended before.
    pub(super) fn end(&mut self) {
        if let Some(Carrier { errands, thread }) = self.carrier.take() {
            drop(errands);
            _ = thread.join();
        }
    }

    fn route(&mut self, letter: Letter, channel: &MasterChannel) -> Option<FromMaster> {
        let Addressed {
            recipient,
            wants_receipt,
        } = self.begun.take()?;
        let message = letter.message;
        let is_request = letter.kind == Kind::Request;
        let receivers = if self.own.is_for_us(&recipient, letter.kind) {
            self.carry(letter, channel);
            1
        } else {
            // The master has no answers.
            u32::from(recipient == Recipient::Master && !is_request)
        };
        let receipt = match receivers {
            0 => Receipt::NoSuchPeer,
            _ => Receipt::Delivered {
                receivers,
                missed: 0,
            },
        };
        let is_due = wants_receipt || (is_request && receipt == Receipt::NoSuchPeer);
        is_due.then_some(FromMaster::Receipt { message, receipt })
    }
}

impl Carrier {
    fn start(channel: &MasterChannel) -> Self {
        let channel = channel.try_clone().expect("fcntl(2)");
        let (errands, to_do) = unbounded();
        let thread = thread::Builder::new()
            .name("rr-fake-relay".to_owned())
            .spawn(move || run(&channel, &to_do))
            .expect("start a thread");
        Carrier { errands, thread }
    }
}

fn run(channel: &MasterChannel, errands: &Receiver<Errand>) {
    let mut outbox = VecDeque::new();
    let mut in_flight = 0_u64;
    for errand in errands {
        match errand {
            Errand::Carry(letter) => outbox.push_back(letter),
            Errand::Taken(bytes) => {
                // A test may have sent it frames of its own.
                in_flight = in_flight.saturating_sub(bytes);
            }
        }
        while let Some(letter) = outbox.front() {
            let bytes = charge(letter.payload.len());
            let fits =
                in_flight + bytes <= RECEIVE_WINDOW_BYTES || in_flight <= RECEIVE_WINDOW_BYTES / 4;
            if !fits {
                break;
            }
            in_flight += bytes;
            let letter = outbox.pop_front().expect("looked at above");
            for frame in frames(letter) {
                if channel.send(&frame, &[], Wait::AsSet).is_err() {
                    // The worker has left, or the test is over.
                    return;
                }
            }
        }
    }
}

fn frames(letter: Letter) -> impl Iterator<Item = FromMaster> {
    let content_type = letter.payload.content_type();
    let mut rest = letter.payload.into_bytes();
    let len_bytes = rest.len() as u64;
    let first = FromMaster::Deliver(Deliver {
        from: letter.from,
        message: letter.message,
        kind: letter.kind,
        action: letter.action,
        content_type,
        len_bytes,
        chunk: rest.split_to(rest.len().min(MAX_CHUNK_BYTES)),
    });
    let more = (1..).map_while(move |index| {
        let chunk = rest.split_to(rest.len().min(MAX_CHUNK_BYTES));
        (!chunk.is_empty()).then(|| FromMaster::DeliverMore(More { index, chunk }))
    });
    std::iter::once(first).chain(more)
}
