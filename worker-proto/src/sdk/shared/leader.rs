//! What a leader does: the program's part.

use super::reign::Reign;
use crate::sdk::HookResult;
use crate::sdk::messenger::Payload;

/// What one process does for all. Nothing of it is called unless this process leads.
///
/// [`elected`](Self::elected), [`subscribed`](Self::subscribed), [`published`](Self::published) and
/// [`deposed`](Self::deposed) are called one after the other on one thread,
/// [`invoke`](Self::invoke) on others, several at a time. A panic is a failure, and is told the
/// master.
pub trait Leader: Send + Sync + 'static {
    /// This process leads from now on: connect, load, begin. Followers wait until it is done. When it
    /// fails the master is told, and whatever followers ask for fails with the same words: to let
    /// somebody else try, end the process, or drop the [`Candidacy`](super::Candidacy).
    ///
    /// # Errors
    /// Whatever keeps it from leading.
    fn elected(&self, reign: &Reign) -> HookResult {
        _ = reign;
        Ok(())
    }

    /// Somebody wants the values of a key that nobody has wanted before in this reign. Of keys that
    /// nobody wants any more the last 1024 or so are remembered; one that was forgotten begins anew.
    fn subscribed(&self, key: &str, reign: &Reign) {
        _ = (key, reign);
    }

    /// A follower has a value for a key. If this does nothing else, all who have subscribed to the key
    /// get it.
    ///
    /// # Errors
    /// What the follower is told.
    fn published(&self, key: &str, value: Payload, reign: &Reign) -> Result<(), String> {
        reign.publish(key, value).map_err(|err| err.to_string())
    }

    /// A follower wants something done. If this is not there, there is nothing to be done.
    ///
    /// # Errors
    /// What the follower is told.
    fn invoke(&self, method: &str, argument: Payload, reign: &Reign) -> Result<Payload, String> {
        _ = (argument, reign);
        Err(format!("the leader has no method {method:?}"))
    }

    /// Another process leads from now on, or nobody: let go of what only one may have. It is not
    /// called when the process simply ends.
    fn deposed(&self) {}
}
