//! Shared: what one process does for all, such as a connection that only one may have, a cache that
//! only one fills, a subscription that is paid for by the head.
//!
//! The process that does it *leads*. The master sees to it that there is one: an agent, if the
//! cluster has agents, otherwise a worker; and when it leaves or dies, another one that has
//! [offered](lead) to. All who [follow](follow()) get the values that it publishes, and can have it do
//! something. Without a master this process leads, and follows itself.

mod calls;
mod candidacy;
mod failure;
mod follower;
mod following;
mod leader;
mod reign;
mod wire;

pub use candidacy::Candidacy;
pub use failure::{LeadError, SharedFailure};
pub use follower::{Follower, Values};
pub use leader::Leader;
pub use reign::Reign;

use std::sync::Arc;

use super::worker::Worker;
use crate::name;

/// Offers to lead `name`: to be the one process that does it. Whether this process is the one is for
/// the master to say; `leader` is called only while it is, and is asked for more after each
/// election. Dropping what this returns takes the offer back.
///
/// In a cluster with agents only they lead, so call this in the agent's program; without agents call
/// it in the workers'. A worker that leads and has to leave is followed by one of the newest
/// generation, that has served longest.
///
/// ```
/// use std::time::Duration;
/// use worker_proto::{Payload, shared};
/// use worker_proto::shared::{Leader, Reign};
///
/// struct Clock;
///
/// impl Leader for Clock {
///     fn invoke(&self, method: &str, argument: Payload, _: &Reign) -> Result<Payload, String> {
///         match method {
///             "greet" => Ok(Payload::text(format!("hello, {}", argument.read_text().unwrap_or("you")))),
///             other => Err(format!("there is no {other:?}")),
///         }
///     }
/// }
///
/// # let (_master, worker) = worker_proto::FakeMaster::new();
/// let _candidacy = shared::lead(&worker, "clock", Clock)?;
/// let clock = shared::follow(&worker, "clock")?;
/// worker.ready()?;
///
/// let greeting = clock.invoke("greet", "Ada", Duration::from_secs(5))?;
/// assert_eq!(greeting.read_text()?, "hello, Ada");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// See [`LeadError`].
pub fn lead(worker: &Worker, name: &str, leader: impl Leader) -> Result<Candidacy, LeadError> {
    check(name)?;
    Candidacy::start(
        name,
        Arc::new(leader),
        worker.elections(),
        worker.messenger(),
        worker.alarm(),
    )
}

/// Follows whoever leads `name`, now and after every election.
///
/// There need not be a leader yet: whoever asks for something waits for one, as long as it has time.
///
/// # Errors
/// See [`LeadError`].
pub fn follow(worker: &Worker, name: &str) -> Result<Follower, LeadError> {
    check(name)?;
    Follower::start(name, worker.elections(), worker.messenger())
}

fn check(name: &str) -> Result<(), LeadError> {
    name::check(name).map_err(|problem| LeadError::BadName {
        name: name.to_owned(),
        problem,
    })
}
