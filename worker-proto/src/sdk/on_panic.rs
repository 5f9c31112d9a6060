//! What becomes of a process that panicked: retire, report, or nothing.
//!
//! The hook tells the master before anything unwinds or aborts, and then does what the hook before
//! it did. It takes no lock and waits for no other thread, whatever thread it was that panicked.

use std::panic::{self, PanicHookInfo};

use super::alarm::Alarm;
use super::hook;
use crate::ids::Role;

/// What is to be done about a panic; see
/// [`Worker::catch_panics_with`](super::Worker::catch_panics_with).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnPanic {
    /// What panicked has left behind who knows what: finish, and be replaced.
    Retire,
    /// Let the master log and count it, and go on.
    Report,
    /// Go on.
    Ignore,
}

impl OnPanic {
    /// A worker retires, as there are others. An agent reports: what it does is done nowhere else,
    /// not even while it is being replaced.
    #[must_use]
    pub fn usual_for(role: Role) -> Self {
        match role {
            Role::Worker => OnPanic::Retire,
            Role::Agent => OnPanic::Report,
        }
    }
}

/// Installs the hook.
pub(crate) fn catch(
    alarm: Alarm,
    judge: impl Fn(&PanicHookInfo<'_>) -> OnPanic + Send + Sync + 'static,
) {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if !hook::is_running() {
            match judge(panic) {
                OnPanic::Retire => alarm.retire(&describe(panic)),
                OnPanic::Report => alarm.report(&describe(panic)),
                OnPanic::Ignore => {}
            }
        }
        before(panic);
    }));
}

/// `panicked at src/main.rs:1:2: index out of bounds`.
fn describe(panic: &PanicHookInfo<'_>) -> String {
    let message = hook::message(panic.payload());
    match panic.location() {
        Some(place) => format!("panicked at {place}: {message}"),
        None => format!("panicked: {message}"),
    }
}
