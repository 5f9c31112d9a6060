//! The requests: who of the program waits for a reply or for a receipt.
//!
//! What nobody waits for, or not any more, is ignored.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::letter::Letter;
use crate::message::{MessageId, Receipt};

/// All who wait.
#[derive(Debug)]
pub(crate) struct Requests(Mutex<State>);

/// What somebody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Awaited {
    Receipt,
    Reply,
}

/// What came.
#[derive(Debug)]
pub(crate) enum Answer {
    Receipt(Receipt),
    Reply(Letter),
    /// The receiver had the request, and is gone.
    PeerGone,
    /// The master's patience is over, and the request had come this far.
    TimedOut(Progress),
}

/// How far a request had come that is waited for no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    Sent,
    Delivered,
}

#[derive(Debug)]
enum State {
    Open(HashMap<MessageId, Waiting>),
    /// The master is gone: nothing comes any more.
    Ended,
}

#[derive(Debug)]
struct Waiting {
    awaited: Awaited,
    progress: Progress,
    tell: Sender<Answer>,
}

impl Requests {
    pub(crate) fn new() -> Self {
        Requests(Mutex::new(State::Open(HashMap::new())))
    }

    /// From now on the answer to `message` is waited for. The receiver ends with the master.
    pub(crate) fn register(&self, message: MessageId, awaited: Awaited) -> Receiver<Answer> {
        let (tell, answer) = bounded(1);
        if let State::Open(waiting) = &mut *self.state() {
            let progress = Progress::Sent;
            waiting.insert(
                message,
                Waiting {
                    awaited,
                    progress,
                    tell,
                },
            );
        }
        answer
    }

    /// Nobody waits for it any more; `None` if the answer has come.
    pub(crate) fn give_up(&self, message: MessageId) -> Option<Progress> {
        match &mut *self.state() {
            State::Open(waiting) => waiting.remove(&message).map(|one| one.progress),
            State::Ended => None,
        }
    }

    pub(crate) fn receipt(&self, message: MessageId, receipt: Receipt) {
        let mut state = self.state();
        let State::Open(waiting) = &mut *state else {
            return;
        };
        let Some(one) = waiting.get_mut(&message) else {
            return;
        };
        let answer = match (one.awaited, one.progress, receipt) {
            (Awaited::Reply, Progress::Sent, Receipt::Delivered { receivers: 1.., .. }) => {
                one.progress = Progress::Delivered;
                return;
            }
            (Awaited::Reply, progress, Receipt::Expired) => Answer::TimedOut(progress),
            (Awaited::Reply, Progress::Delivered, _) => Answer::PeerGone,
            (Awaited::Reply, Progress::Sent, _) | (Awaited::Receipt, ..) => {
                Answer::Receipt(receipt)
            }
        };
        answer_to(waiting.remove(&message), answer);
    }

    pub(crate) fn reply(&self, to: MessageId, letter: Letter) {
        let mut state = self.state();
        let State::Open(waiting) = &mut *state else {
            return;
        };
        match waiting.get(&to) {
            Some(one) if one.awaited == Awaited::Reply => {
                answer_to(waiting.remove(&to), Answer::Reply(letter));
            }
            Some(_) | None => log::debug!("ignored a reply that nobody waits for"),
        }
    }

    pub(crate) fn ended(&self) {
        *self.state() = State::Ended;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock can leave it half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn answer_to(waiting: Option<Waiting>, answer: Answer) {
    if let Some(waiting) = waiting {
        // Room for one, and this is the only one.
        _ = waiting.tell.try_send(answer);
    }
}
