//! Values, pushed and told: what comes from operators, handles and files, and goes to processes.

use std::time::{Duration, Instant};

use serde_json::json;
use worker_proto::frame::FromMaster;
use worker_proto::ids::WorkerId;
use worker_proto::message::{Kind, RECEIVE_WINDOW_BYTES, Receipt, Recipient};

use super::command::{Answer, Origin};
use super::uploads::Taken;
use super::waiting::{Goal, Waiting};
use super::{Reactor, clock};
use crate::control::event::Fact;
use crate::control::held::{HeldValue, HeldValues, Holder};
use crate::control::outcome::Outcome;
use crate::control::protocol::When;
use crate::control::push::Piece;
use crate::control::server::ClientId;
use crate::printable::printable;
use crate::relay::Envelope;
use crate::values::content::type_name;
use crate::values::{Content, Pushed, Refused, Spread, Value};

impl Reactor {
    /// Takes a piece of a value; with the last one the value is pushed.
    pub(super) fn take_piece(&mut self, client: ClientId, id: u64, piece: &Piece) {
        let Some(peer) = self.server.as_ref().and_then(|it| it.peer(client)) else {
            return;
        };
        let answer = Answer::Operator(client, id);
        let (key, size) = (&piece.key, piece.size);
        // Said before all of it has come.
        if let Err(refused) = self.values.admits(key, piece.content_type, size) {
            log::info!("{}: push: denied: {refused}", Origin::Operator(peer));
            return self.answer(answer, Err(refused.into()));
        }
        match self.uploads.take(client, piece, clock::now()) {
            Ok(Taken::Part { received }) => {
                self.answer(answer, Ok(Outcome::Receiving { received, size }));
            }
            Ok(Taken::Whole(content)) => {
                let by = (Origin::Operator(peer), piece.answer);
                self.push(key, content, by, answer);
            }
            Err(denied) => self.answer(answer, Err(denied)),
        }
    }

    /// From now on this is what the key says; answers at once, or when all have it.
    pub(super) fn push(
        &mut self,
        key: &str,
        content: Content,
        (origin, when): (Origin, When),
        answer: Answer,
    ) {
        let what = printable(&format!("{origin}: push {key:?}"));
        let outcome = match self.shelve(key, content, &origin.to_string()) {
            Ok(outcome) => outcome,
            Err(refused) => {
                log::info!("{what}: denied: {refused}");
                return self.answer(answer, Err(refused.into()));
            }
        };
        log::info!("{what}: {outcome}");
        match when {
            When::Begun => self.answer(answer, Ok(outcome)),
            When::Done => {
                let key = key.to_owned();
                let goal = Goal::Adopted { key };
                self.await_goal(Waiting { goal, answer, what });
            }
        }
    }

    /// Puts it on the shelf, and announces it if it is new.
    pub(super) fn shelve(
        &mut self,
        key: &str,
        content: Content,
        from: &str,
    ) -> Result<Outcome, Refused> {
        let (bytes, content_type) = (content.len(), content.content_type);
        let key = key.to_owned();
        match self.values.push(&key, content)? {
            Pushed::Same { version } => Ok(Outcome::Unchanged { key, version }),
            Pushed::New { version } => {
                let Spread { watchers, .. } = self.values.spread(&key);
                let fields = json!({
                    "key": key,
                    "version": version,
                    "bytes": bytes,
                    "type": type_name(content_type),
                    "watchers": watchers,
                    "from": from,
                });
                let text = format!("{key:?} is at version {version}, from {from}");
                let fact = Fact::of_cluster("pushed", text, fields);
                self.announce(clock::wall(), fact);
                Ok(Outcome::Pushed {
                    key,
                    version,
                    watchers,
                })
            }
        }
    }

    /// The process wants to know what the key says.
    pub(super) fn watch_value(&mut self, worker: WorkerId, key: String, now: Instant) {
        match self.values.watch(worker, &key) {
            Ok(true) => {}
            Ok(false) => self.tell(worker, FromMaster::NoValue { key }, None, now),
            Err(refused) => {
                self.note_problem(worker, &refused.to_string(), now);
                self.tell(worker, FromMaster::NoValue { key }, None, now);
            }
        }
    }

    /// The program of the process has taken a version over.
    pub(super) fn note_adopted(&mut self, worker: WorkerId, key: &str, version: u64) {
        if let Some(spread) = self.values.adopt(worker, key, version) {
            self.announce_adopted(key, spread);
        }
    }

    /// Nobody waits for the process any more.
    pub(super) fn release_values(&mut self, worker: WorkerId) {
        for (key, spread) in self.values.leave(worker) {
            self.announce_adopted(&key, spread);
        }
    }

    /// The process is gone.
    pub(super) fn forget_values(&mut self, worker: WorkerId) {
        for (key, spread) in self.values.forget(worker) {
            self.announce_adopted(&key, spread);
        }
    }

    /// Tells processes what they watch, where it has changed; answers whether anybody was told. Who has
    /// not read what was sent before is told when it has, and by then perhaps something newer.
    pub(super) fn tell_values(&mut self, now: Instant) -> bool {
        let due: Vec<(WorkerId, String)> = self
            .values
            .due()
            .map(|(worker, key)| (worker, key.to_owned()))
            .collect();
        let mut any = false;
        for (worker, key) in due {
            if self.relay.awaited_bytes(worker) > RECEIVE_WINDOW_BYTES {
                continue;
            }
            let Some(Value { version, content }) = self.values.get(&key).cloned() else {
                continue;
            };
            let kind = Kind::Value { version };
            let Content {
                content_type,
                bytes,
            } = content;
            let envelope = Envelope::of_the_master(kind, key.clone(), content_type, bytes);
            let to = Recipient::Worker(worker);
            match self.relay.post(now, &to, envelope, Duration::ZERO) {
                Err(Receipt::Full) => {}
                // Who leaves gets nothing new, and needs nothing.
                Ok(_) | Err(_) => {
                    self.values.told(worker, &key);
                    any = true;
                }
            }
        }
        any
    }

    /// Every value, and who has it.
    pub(super) fn held_values(&self) -> HeldValues {
        let values = self.values.iter();
        let values = values.map(|(key, value)| self.held(key, value)).collect();
        HeldValues { values }
    }

    fn held(&self, key: &str, value: &Value) -> HeldValue {
        let Spread { watchers, adopted } = self.values.spread(key);
        let mut holders: Vec<Holder> = self
            .values
            .watchers(key)
            .filter_map(|(worker, version)| {
                let view = self.supervisor.worker(worker)?;
                Some(Holder {
                    worker: worker.0,
                    role: view.role.to_string(),
                    slot: view.slot.0,
                    version,
                })
            })
            .collect();
        holders.sort_by_key(|holder| (holder.version, holder.worker));
        holders.truncate(MOST_SHOWN);
        HeldValue {
            key: key.to_owned(),
            version: value.version,
            bytes: value.content.len(),
            content_type: type_name(value.content.content_type).to_owned(),
            watchers,
            adopted,
            holders,
        }
    }

    fn announce_adopted(&mut self, key: &str, spread: Spread) {
        let version = self.values.get(key).map_or(0, |value| value.version);
        let processes = spread.adopted;
        let outcome = Outcome::Adopted {
            key: key.to_owned(),
            version,
            processes,
        };
        let fields = json!({ "key": key, "version": version, "processes": processes });
        let fact = Fact::of_cluster("adopted", outcome.to_string(), fields);
        self.announce(clock::wall(), fact);
    }
}

/// How many of those who watch a value are listed.
const MOST_SHOWN: usize = 64;
