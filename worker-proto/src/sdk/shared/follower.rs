//! A follower: gets what the leader publishes, and has it do things, whoever it is at the time.
//!
//! What was asked for and reached nobody goes to the next leader. What a leader had received before
//! it was gone fails: nobody knows whether it was done.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{
    Receiver, RecvError, RecvTimeoutError, Sender, TryRecvError, select_biased, unbounded,
};

use super::calls::Calls;
use super::failure::{Attempt, LeadError, SharedFailure};
use super::following::{Following, TapId};
use super::wire::{Answer, ToFollower, ToLeader, decode, encode, follower_action, leader_action};
use crate::ids::WorkerId;
use crate::message::Recipient;
use crate::sdk::control;
use crate::sdk::elections::{Elections, Turn};
use crate::sdk::messenger::{Messenger, Payload, Subscription};
use crate::sdk::wait::Deadline;

/// Follows whoever leads; see [`follow`](super::follow()). Cheap to clone.
///
/// ```
/// # use std::time::Duration;
/// # use worker_proto::shared::{self, Leader};
/// # struct Board;
/// # impl Leader for Board {}
/// # let (_master, worker) = worker_proto::FakeMaster::new();
/// # let _candidacy = shared::lead(&worker, "board", Board)?;
/// let board = shared::follow(&worker, "board")?;
/// let headlines = board.subscribe("headlines");
///
/// board.publish("headlines", "all is well")?;
/// let latest = headlines.recv_timeout(Duration::from_secs(5))?;
/// assert_eq!(latest.read_text()?, "all is well");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Follower {
    hold: Arc<Hold>,
    patience: Duration,
}

/// The values of one key; see [`Follower::subscribe`]. Dropping it unsubscribes.
///
/// It holds 64 values; for one that does not take them the oldest make room. Several threads may
/// receive from it, and each value reaches one of them.
#[derive(Debug)]
pub struct Values {
    values: Receiver<Payload>,
    key: String,
    id: TapId,
    hold: Arc<Hold>,
}

/// The thread ends when the last of those who hold this has let go.
#[derive(Debug)]
struct Hold {
    core: Arc<Core>,
    wants: Sender<Want>,
}

#[derive(Debug)]
struct Core {
    action: String,
    /// Which of the followers of this process it is.
    number: u64,
    messenger: Messenger,
    following: Following,
}

/// What the thread is to tell the leader.
#[derive(Debug)]
enum Want {
    Subscribe(String),
    Unsubscribe(String),
}

impl Follower {
    pub(super) fn start(
        name: &str,
        elections: Arc<Elections>,
        messenger: Messenger,
    ) -> Result<Self, LeadError> {
        let (wants, wanted) = unbounded();
        let core = Arc::new(Core {
            action: leader_action(name),
            number: elections.number(),
            following: Following::default(),
            messenger: messenger.clone(),
        });
        let desk = Desk {
            news: messenger.subscribe(&follower_action(name)),
            turns: elections.follow(name),
            wanted,
            core: Arc::clone(&core),
            errands: Calls::none(),
        };
        control::start_thread("rr-follow", move || desk.run())?;
        Ok(Follower {
            hold: Arc::new(Hold { core, wants }),
            patience: PATIENCE,
        })
    }

    /// The same follower, whose [`publish`](Self::publish) waits at most `patience` instead of 60 s.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The values that are published for a key: the last one before, if there is one, and each from
    /// now on, whoever leads. A process that does not run for so long that what waits for it is too
    /// much (`--max-message`) misses those for which there is no room, be it the last one.
    #[must_use]
    pub fn subscribe(&self, key: &str) -> Values {
        let (id, values, is_new) = self.hold.core.following.tap(key);
        if is_new {
            // The thread is there as long as this.
            _ = self.hold.wants.send(Want::Subscribe(key.to_owned()));
        }
        Values {
            values,
            key: key.to_owned(),
            id,
            hold: Arc::clone(&self.hold),
        }
    }

    /// Gives the leader a value for a key, who gives it to all who have subscribed to it unless it has
    /// something else in mind. Returns when the leader has done so.
    ///
    /// # Errors
    /// See [`SharedFailure`].
    pub fn publish(&self, key: &str, value: impl Into<Payload>) -> Result<(), SharedFailure> {
        let key = key.to_owned();
        let value = value.into().into();
        let what = ToLeader::Publish { key, value };
        self.hold.core.ask(&what, self.patience).map(drop)
    }

    /// Has the leader do something, and waits for what it returns. If there is no leader, it waits for
    /// one as well.
    ///
    /// # Errors
    /// See [`SharedFailure`].
    pub fn invoke(
        &self,
        method: &str,
        argument: impl Into<Payload>,
        within: Duration,
    ) -> Result<Payload, SharedFailure> {
        let method = method.to_owned();
        let argument = argument.into().into();
        let what = ToLeader::Invoke { method, argument };
        self.hold.core.ask(&what, within)
    }

    /// Who leads, if this process knows of somebody who does.
    #[must_use]
    pub fn leader(&self) -> Option<WorkerId> {
        self.hold.core.following.leader().map(|(_, leader)| leader)
    }
}

impl Values {
    /// The next value; waits for it.
    ///
    /// # Errors
    /// When no more will come: the master is gone, or this process has left.
    pub fn recv(&self) -> Result<Payload, RecvError> {
        self.values.recv()
    }

    /// The next value, if it comes within that time.
    ///
    /// # Errors
    /// `Timeout` when none has come, `Disconnected` when none will.
    pub fn recv_timeout(&self, within: Duration) -> Result<Payload, RecvTimeoutError> {
        self.values.recv_timeout(within)
    }

    /// The next value, if it is there.
    ///
    /// # Errors
    /// `Empty` when there is none now, `Disconnected` when none will come.
    pub fn try_recv(&self) -> Result<Payload, TryRecvError> {
        self.values.try_recv()
    }

    /// The values until there will be no more.
    pub fn iter(&self) -> impl Iterator<Item = Payload> + '_ {
        self.values.iter()
    }
}

impl Drop for Values {
    fn drop(&mut self) {
        if self.hold.core.following.untap(&self.key, self.id) {
            _ = self.hold.wants.send(Want::Unsubscribe(self.key.clone()));
        }
    }
}

impl Core {
    /// Asks the leader, and the next one if nobody has got it.
    fn ask(&self, what: &ToLeader, within: Duration) -> Result<Payload, SharedFailure> {
        let what = encode(what);
        let deadline = Deadline::after(within);
        let mut tried = 0;
        loop {
            // Who did not get it is gone, and the master says soon who comes next.
            let patience = match tried {
                0 => deadline.left(),
                _ => deadline.left().min(ELECTION_WITHIN),
            };
            let Some((term, leader)) = self.following.await_leader(tried, patience)? else {
                return Err(match tried {
                    0 => SharedFailure::NoLeader { within },
                    _ => SharedFailure::LeaderGone,
                });
            };
            tried = term;
            let to = Recipient::Worker(leader);
            let replied = self
                .messenger
                .request(to, &self.action, what.clone(), deadline.left());
            match replied.map(|reply| decode(&reply)) {
                Ok(Some(Answer::Done)) => return Ok(Payload::bytes(Vec::new())),
                Ok(Some(Answer::Returned(content))) => return Ok(content.into()),
                Ok(Some(Answer::Failed(why))) => return Err(SharedFailure::Failed(why)),
                Ok(Some(Answer::NotLeading)) => {}
                Ok(None) => {
                    let why = "the leader's answer is not understood".to_owned();
                    return Err(SharedFailure::Failed(why));
                }
                Err(failure) => match Attempt::of(failure, within) {
                    Attempt::Failed(failure) => return Err(failure),
                    Attempt::NotReceived => {}
                },
            }
        }
    }

    /// Subscribes with the leader of this term, as often as it takes.
    fn subscribe(&self, key: &str) {
        let what = encode(&ToLeader::Subscribe {
            key: key.to_owned(),
            follower: self.number,
        });
        let Some((term, leader)) = self.following.leader() else {
            return;
        };
        while self.following.is_wanted(key, term) {
            let to = Recipient::Worker(leader);
            let replied = self
                .messenger
                .request(to, &self.action, what.clone(), SUBSCRIBED_WITHIN);
            match replied.map(|reply| decode(&reply)) {
                Ok(Some(Answer::Failed(why))) => {
                    return log::warn!("failed to subscribe to {key:?}: {why}");
                }
                // Whoever leads next is asked next.
                Ok(_) => return,
                Err(failure) => match Attempt::of(failure, SUBSCRIBED_WITHIN) {
                    Attempt::Failed(SharedFailure::TimedOut { .. } | SharedFailure::Unsent(_)) => {
                        self.following.pause(term, AGAIN_AFTER);
                    }
                    Attempt::Failed(_) | Attempt::NotReceived => return,
                },
            }
        }
    }

    fn unsubscribe(&self, key: &str) {
        let what = encode(&ToLeader::Unsubscribe {
            key: key.to_owned(),
            follower: self.number,
        });
        if let Some((_, leader)) = self.following.leader() {
            let to = Recipient::Worker(leader);
            if let Err(err) = self.messenger.send_to(to, &self.action, what) {
                log::debug!("failed to unsubscribe from {key:?}: {err}");
            }
        }
    }
}

/// What the thread has.
struct Desk {
    core: Arc<Core>,
    turns: Receiver<Turn>,
    news: Subscription,
    wanted: Receiver<Want>,
    errands: Calls,
}

impl Desk {
    fn run(mut self) {
        loop {
            select_biased! {
                recv(self.turns) -> turn => match turn {
                    Ok(turn) => self.turn(turn),
                    Err(_) => break,
                },
                recv(self.news.channel()) -> queued => match queued {
                    Ok(queued) => {
                        let message = self.news.take(queued);
                        if let Some(ToFollower::Value { term, number, key, value }) = decode(&message) {
                            self.core.following.deliver(&key, (term, number), &value.into());
                        }
                    }
                    Err(_) => break,
                },
                recv(self.wanted) -> want => match want {
                    Ok(Want::Subscribe(key)) => self.subscribe(key),
                    Ok(Want::Unsubscribe(key)) => self.core.unsubscribe(&key),
                    // Nobody is left who could want something.
                    Err(_) => break,
                },
            }
        }
        self.core.following.close();
    }

    fn turn(&mut self, turn: Turn) {
        match turn {
            Turn::Leader { term, leader } => {
                let keys = self.core.following.change(term, leader);
                for key in keys {
                    self.subscribe(key);
                }
            }
            Turn::Refused(reason) => self.core.following.refuse(reason),
            Turn::Draining => self.core.following.drain(),
        }
    }

    /// On a thread of its own: the leader may take its time.
    fn subscribe(&mut self, key: String) {
        let core = Arc::clone(&self.core);
        let errand = Box::new(move || core.subscribe(&key));
        if self.errands.push(errand).is_err() {
            log::warn!("too many subscriptions at once: one waits for the next leader");
        }
    }
}

/// What there is to wait for if nobody says, as long as cluster-client waits.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long the master may take to name the next leader.
const ELECTION_WITHIN: Duration = Duration::from_secs(5);

/// How long a leader may take to take a subscription.
const SUBSCRIBED_WITHIN: Duration = Duration::from_secs(60);

/// How long a leader is left alone that could not take one.
const AGAIN_AFTER: Duration = Duration::from_millis(200);
