//! `puppet STAGE`: does what the test tells it over that Unix socket, see `tests/common/puppet`.
//!
//! It takes no notice of being told to drain, and leaves when the test is gone.

use std::fmt::Display;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::{ExitCode, abort, exit};
use std::time::Duration;

use worker_proto::{Message, Messenger, Payload, Peers, SendFailure, Subscription, Worker};

use crate::order::{Answer, Content, End, Heard, Introduction, Letter, Order, Way, hash};

struct Puppet {
    worker: Worker,
    messenger: Messenger,
    inbox: Option<Subscription>,
    peers: Option<Peers>,
    request: Option<Message>,
}

pub(crate) fn perform(stage: &str) -> ExitCode {
    let worker = Worker::connect().expect("connect");
    let mut stage = UnixStream::connect(stage).expect("the stage");
    let who = worker.identity();
    let introduction = Introduction {
        worker: who.worker,
        slot: who.slot,
        generation: who.generation,
        role: who.role,
        pid: who.pid,
    };
    say(&mut stage, &introduction);
    let mut puppet = Puppet {
        messenger: worker.messenger(),
        worker,
        inbox: None,
        peers: None,
        request: None,
    };
    let orders = BufReader::new(stage.try_clone().expect("a descriptor"));
    for order in orders.lines().map_while(Result::ok) {
        let order = serde_json::from_str(&order).expect("JSON");
        if matches!(order, Order::Leave) {
            break;
        }
        say(&mut stage, &puppet.obey(order));
    }
    puppet.worker.leave()
}

#[allow(clippy::disallowed_methods, reason = "ends as badly as it is told")]
impl Puppet {
    fn obey(&mut self, order: Order) -> Answer {
        match order {
            Order::Ready => done(self.worker.ready()),
            Order::Subscribe => {
                self.inbox = Some(self.messenger.subscribe_all());
                Answer::Done
            }
            Order::Send(way, letter) => done(self.send(way, letter)),
            Order::SendMany(to, letter, count) => {
                let payload = payload(&letter.content);
                let mut each = (0..count)
                    .map(|_| (self.messenger).send_to(to.clone(), &letter.action, payload.clone()));
                done(each.try_for_each(|sent| sent))
            }
            Order::Deliver(to, Letter { action, content }, within) => {
                let payload = payload(&content);
                let receipt = self.messenger.deliver(to, &action, payload, millis(within));
                receipt.map_or_else(failed, Answer::Receipt)
            }
            Order::Request(to, Letter { action, content }, within) => {
                let payload = payload(&content);
                let reply = self.messenger.request(to, &action, payload, millis(within));
                reply.map_or_else(failed, |reply| Answer::Heard(heard(&reply)))
            }
            Order::Hear(within) => {
                let inbox = self.inbox.as_ref().expect("subscribed");
                match inbox.recv_timeout(millis(within)) {
                    Ok(message) => {
                        let heard = heard(&message);
                        self.request = Some(message);
                        Answer::Heard(heard)
                    }
                    Err(_) => Answer::Silence,
                }
            }
            Order::Reply(content) => {
                let request = self.request.as_ref().expect("heard");
                done(request.reply(payload(&content)))
            }
            Order::Peers(within) => {
                let peers = self.peers.get_or_insert_with(|| self.worker.peers());
                peers
                    .changed(millis(within))
                    .map_or(Answer::Silence, Answer::Peers)
            }
            Order::Last(letter, end) => {
                self.send(Way::Broadcast, letter).expect("send");
                match end {
                    End::Exit => exit(0),
                    End::Abort => abort(),
                }
            }
            Order::Leave => Answer::Done,
        }
    }

    fn send(&self, way: Way, Letter { action, content }: Letter) -> Result<(), SendFailure> {
        let (messenger, payload) = (&self.messenger, payload(&content));
        match way {
            Way::To(recipient) => messenger.send_to(recipient, &action, payload),
            Way::ToAgent(name) => messenger.send_to_agent(name.as_deref(), &action, payload),
            Way::ToWorkers => messenger.send_to_workers(&action, payload),
            Way::Random => messenger.send_random(&action, payload),
            Way::Broadcast => messenger.broadcast(&action, payload),
            Way::BroadcastToOthers => messenger.broadcast_to_others(&action, payload),
            Way::ToMaster => messenger.send_to_master(&action, payload),
        }
    }
}

fn payload(content: &Content) -> Payload {
    match content {
        Content::Text(text) => Payload::text(text),
        Content::Noise { .. } => Payload::bytes(content.bytes()),
    }
}

fn heard(message: &Message) -> Heard {
    let text = message.text().ok().filter(|text| text.len() <= SHORT);
    Heard {
        from: message.from,
        action: message.action.clone(),
        content_type: message.content_type,
        len: message.bytes().len(),
        hash: hash(message.bytes()),
        text: text.map(str::to_owned),
        is_request: message.is_request(),
    }
}

fn done<E: Display>(result: Result<(), E>) -> Answer {
    result.map_or_else(failed, |()| Answer::Done)
}

fn failed(err: impl Display) -> Answer {
    Answer::Failed(err.to_string())
}

fn millis(within: u64) -> Duration {
    Duration::from_millis(within)
}

fn say(stage: &mut UnixStream, what: &impl serde::Serialize) {
    let mut line = serde_json::to_string(what).expect("JSON");
    line.push('\n');
    // Without the test the next order is the end.
    _ = stage.write_all(line.as_bytes());
}

/// How long a text is shown.
const SHORT: usize = 1024;
