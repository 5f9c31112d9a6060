//! A candidacy: the offer to lead, and the thread that does it while this process is the one.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded, select_biased};

use super::calls::{Call, Calls};
use super::failure::LeadError;
use super::leader::Leader;
use super::reign::Reign;
use super::wire::{Answer, ToLeader, decode, encode, leader_action};
use crate::ids::WorkerId;
use crate::message::Sender as From;
use crate::sdk::alarm::Alarm;
use crate::sdk::control;
use crate::sdk::elections::{Elections, Turn};
use crate::sdk::hook;
use crate::sdk::messenger::{Message, Messenger, Payload, Subscription};
use crate::sdk::work::Work;

/// The offer to lead; see [`lead`](super::lead). Dropping it takes the offer back: if this process
/// leads, another one does so from then on.
#[derive(Debug)]
#[must_use = "the offer is taken back when this is dropped"]
pub struct Candidacy {
    name: String,
    elections: Arc<Elections>,
    /// The term in which this process leads; 0 while it does not.
    term: Arc<AtomicU64>,
    /// Its end is the order to end.
    _stop: Sender<()>,
}

impl Candidacy {
    pub(super) fn start(
        name: &str,
        leader: Arc<dyn Leader>,
        elections: Arc<Elections>,
        messenger: Messenger,
        alarm: Alarm,
    ) -> Result<Self, LeadError> {
        let requests = messenger.subscribe(&leader_action(name));
        let Some(turns) = elections.offer(name) else {
            let name = name.to_owned();
            return Err(LeadError::Twice { name });
        };
        // Who leads wants to know who of its followers is gone.
        _ = messenger.peers();
        let (stop, stopped) = bounded(0);
        let term = Arc::new(AtomicU64::new(0));
        let candidacy = Candidacy {
            name: name.to_owned(),
            elections: Arc::clone(&elections),
            term: Arc::clone(&term),
            _stop: stop,
        };
        let desk = Desk {
            name: name.to_owned(),
            own: elections.own(),
            leader,
            messenger,
            alarm,
            turns,
            requests,
            stopped,
            term,
            elections,
            work: None,
            office: Office::Waiting,
        };
        control::start_thread("rr-lead", move || desk.run())?;
        Ok(candidacy)
    }

    /// Whether this process leads. It may be another one by the time this is looked at: what depends
    /// on it belongs into the [`Leader`].
    #[must_use]
    pub fn is_leading(&self) -> bool {
        self.term.load(Ordering::Acquire) > 0
    }

    /// What is led.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Candidacy {
    fn drop(&mut self) {
        self.elections.resign(&self.name);
    }
}

/// What the thread has.
struct Desk {
    name: String,
    own: WorkerId,
    leader: Arc<dyn Leader>,
    messenger: Messenger,
    alarm: Alarm,
    turns: Receiver<Turn>,
    requests: Subscription,
    stopped: Receiver<()>,
    term: Arc<AtomicU64>,
    elections: Arc<Elections>,
    /// While it leads, and what came in that time is not given to anybody yet.
    work: Option<Work>,
    office: Office,
}

/// What this process is.
enum Office {
    /// It does not lead.
    Waiting,
    Leading {
        reign: Reign,
        calls: Calls,
    },
    /// It was elected, and could not begin.
    Failed(String),
}

impl Desk {
    fn run(mut self) {
        loop {
            // Whose turn it is comes before what is asked.
            select_biased! {
                recv(self.stopped) -> _ => return self.resigned(),
                recv(self.turns) -> turn => match turn {
                    Ok(turn) => self.turn(turn),
                    // The cluster has ended for this process, or the offer is taken back.
                    Err(_) => return self.resigned(),
                },
                recv(self.requests.channel()) -> queued => match queued {
                    Ok(queued) => {
                        let request = self.requests.take(queued);
                        self.answer(&request);
                    }
                    Err(_) => return self.resigned(),
                },
            }
        }
    }

    fn turn(&mut self, turn: Turn) {
        match turn {
            Turn::Leader { term, leader } if leader == Some(self.own) => self.elected(term),
            Turn::Leader { .. } => self.deposed(),
            Turn::Draining => {
                self.answer_all();
                self.work = None;
            }
            Turn::Refused(reason) => log::info!("will not lead {:?}: {reason}", self.name),
        }
    }

    fn elected(&mut self, term: u64) {
        if let Office::Leading { reign, .. } = &self.office
            && reign.term() == term
        {
            return;
        }
        // It was deposed in between, and does not know.
        self.deposed();
        let reign = Reign::begin(&self.name, term, self.messenger.clone());
        self.work = self.elections.begin_work();
        let leader = &self.leader;
        let begun = self.guard("begin", || leader.elected(&reign));
        let begun = begun.and_then(|it| {
            it.map_err(|err| complain(&self.alarm, &self.name, &format!("begin failed: {err}")))
        });
        self.office = match begun {
            Ok(()) => Office::Leading {
                reign,
                calls: Calls::none(),
            },
            Err(failure) => {
                reign.end();
                Office::Failed(failure)
            }
        };
        self.term.store(term, Ordering::Release);
    }

    fn deposed(&mut self) {
        self.term.store(0, Ordering::Release);
        match std::mem::replace(&mut self.office, Office::Waiting) {
            Office::Leading { reign, calls } => {
                reign.end();
                // What was begun is finished, and its answers arrive.
                drop(calls);
                let leader = &self.leader;
                _ = self.guard("be deposed", || leader.deposed());
            }
            Office::Waiting | Office::Failed(_) => {}
        }
        self.work = None;
    }

    /// The end: in a program that ends there is nobody to hear of a failure.
    fn resigned(mut self) {
        self.deposed();
        self.answer_all();
    }

    /// What has come until now.
    fn answer_all(&mut self) {
        while let Ok(request) = self.requests.try_recv() {
            self.answer(&request);
        }
    }

    fn answer(&mut self, request: &Message) {
        let (Some(wanted), From::Process { worker, .. }) = (decode(request), request.from) else {
            return;
        };
        let reign = match &self.office {
            Office::Waiting => return reply(request, &Answer::NotLeading),
            Office::Failed(why) => return reply(request, &Answer::Failed(why.clone())),
            Office::Leading { reign, .. } => reign.clone(),
        };
        match wanted {
            ToLeader::Subscribe { key, follower } => {
                let answer = self.subscribe(&key, (worker, follower), &reign);
                reply(request, &answer);
            }
            // Nobody waits for an answer.
            ToLeader::Unsubscribe { key, follower } => reign.unsubscribe(&key, (worker, follower)),
            ToLeader::Publish { key, value } => {
                let leader = &self.leader;
                let published = self.guard("take a value", || {
                    leader.published(&key, value.into(), &reign)
                });
                reply(
                    request,
                    &published
                        .and_then(|it| it)
                        .map_or_else(Answer::Failed, |()| Answer::Done),
                );
            }
            ToLeader::Invoke { method, argument } => {
                self.invoke(request.clone(), method, argument.into(), reign);
            }
        }
    }

    fn subscribe(&self, key: &str, subscriber: (WorkerId, u64), reign: &Reign) -> Answer {
        match reign.subscribe(key, subscriber) {
            Ok(is_new) => {
                let leader = &self.leader;
                if is_new {
                    _ = self.guard("begin with a key", || leader.subscribed(key, reign));
                }
                Answer::Done
            }
            Err(problem) => Answer::Failed(problem),
        }
    }

    fn invoke(&mut self, request: Message, method: String, argument: Payload, reign: Reign) {
        let Office::Leading { calls, .. } = &mut self.office else {
            return;
        };
        let (leader, name, alarm) = (
            Arc::clone(&self.leader),
            self.name.clone(),
            self.alarm.clone(),
        );
        let asked = request.clone();
        let work = self.elections.begin_work();
        let call: Call = Box::new(move || {
            let what = format!("{method:?}");
            let returned = guard(&alarm, &name, &what, || {
                leader.invoke(&method, argument, &reign)
            });
            let returned = returned.and_then(|it| it);
            let answer = match returned {
                Ok(payload) => Answer::Returned(payload.into()),
                Err(failure) => Answer::Failed(failure),
            };
            reply(&request, &answer);
            drop(work);
        });
        if calls.push(call).is_err() {
            let failure = "too many calls wait for the leader".to_owned();
            reply(&asked, &Answer::Failed(failure));
        }
    }

    fn guard<T>(&self, what: &str, act: impl FnOnce() -> T) -> Result<T, String> {
        guard(&self.alarm, &self.name, what, act)
    }
}

/// Does what is the program's; of a panic the master is told.
fn guard<T>(alarm: &Alarm, name: &str, what: &str, act: impl FnOnce() -> T) -> Result<T, String> {
    let mut returned = None;
    let done = hook::attempt(|| {
        returned = Some(act());
        Ok::<_, Infallible>(())
    });
    match (done, returned) {
        (Ok(()), Some(returned)) => Ok(returned),
        (Err(failure), _) => Err(complain(alarm, name, &format!("{what} {failure}"))),
        (Ok(()), None) => unreachable!("it has returned"),
    }
}

/// To our own log, and to the master's; answers what was said.
fn complain(alarm: &Alarm, name: &str, what: &str) -> String {
    let problem = format!("the leader of {name:?}: {what}");
    log::warn!("{problem}");
    alarm.report(&problem);
    problem
}

/// Whoever asked may be gone, and so may the master.
fn reply(request: &Message, answer: &Answer) {
    if let Err(err) = request.reply(encode(answer)) {
        log::debug!("failed to answer a follower: {err}");
    }
}
