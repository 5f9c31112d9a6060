//! A hook: what a program wants done at a turn of its life, on a thread of its own.
//!
//! Whatever a hook does, the one who runs it goes on: it is given so long, and a failure is words.

use std::any::Any;
use std::cell::Cell;
use std::error::Error;
use std::fmt;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, bounded};

use super::control;

/// What a hook answers.
pub type HookResult = Result<(), Box<dyn Error + Send + Sync>>;

/// What is to be done, once, and how long that may take.
pub(crate) struct Hook {
    act: Box<dyn FnOnce() -> HookResult + Send>,
    within: Duration,
}

/// What a hook came to instead of its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("failed: {0}")]
    Failed(String),
    #[error("panicked: {0}")]
    Panicked(String),
    #[error("has not ended within {0:?}")]
    TimedOut(Duration),
    #[error("could not be started: {0}")]
    NotStarted(io::Error),
}

impl Hook {
    pub(crate) fn new(within: Duration, act: impl FnOnce() -> HookResult + Send + 'static) -> Self {
        let act = Box::new(act);
        Hook { act, within }
    }

    /// Runs it, and waits for its end or until its time is over. It goes on then, and ends with the
    /// process.
    pub(crate) fn run(self) -> Result<(), Failure> {
        let Hook { act, within } = self;
        let (tell, told) = bounded(1);
        control::start_thread("rr-stop", move || {
            // Room for one, and this is the only one.
            _ = tell.try_send(attempt(act));
        })
        .map_err(Failure::NotStarted)?;
        match told.recv_timeout(within) {
            Ok(outcome) => outcome,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                Err(Failure::TimedOut(within))
            }
        }
    }
}

/// Does it in this thread.
pub(crate) fn attempt<T, E: fmt::Display>(
    act: impl FnOnce() -> Result<T, E>,
) -> Result<T, Failure> {
    RUNNING.set(true);
    // Nothing of ours is seen half-way.
    let outcome = panic::catch_unwind(AssertUnwindSafe(act));
    RUNNING.set(false);
    match outcome {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(err)) => Err(Failure::Failed(err.to_string())),
        Err(payload) => Err(Failure::Panicked(message(&*payload).to_owned())),
    }
}

/// Whether this thread is running a hook: whoever runs it tells of its panic.
pub(crate) fn is_running() -> bool {
    RUNNING.get()
}

/// What a panic said.
pub(crate) fn message(payload: &(dyn Any + Send)) -> &str {
    if let Some(message) = payload.downcast_ref::<&str>() {
        message
    } else if let Some(message) = payload.downcast_ref::<String>() {
        message
    } else {
        "without a message"
    }
}

impl Failure {
    /// The words of whoever failed, or of us if there are none.
    pub(crate) fn into_words(self) -> String {
        match self {
            Failure::Failed(words) => words,
            Failure::Panicked(_) | Failure::TimedOut(_) | Failure::NotStarted(_) => {
                self.to_string()
            }
        }
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Hook { act: _, within } = self;
        f.debug_struct("Hook")
            .field("within", within)
            .finish_non_exhaustive()
    }
}

thread_local! {
    static RUNNING: Cell<bool> = const { Cell::new(false) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_hook_does_is_known_in_time() {
        let (hold, held) = bounded::<()>(0);
        let outcome = |act: Box<dyn FnOnce() -> HookResult + Send>, millis| {
            let hook = Hook::new(Duration::from_millis(millis), act);
            hook.run().map_err(|failure| failure.to_string())
        };
        assert_eq!(outcome(Box::new(|| Ok(())), 5_000), Ok(()));
        assert_eq!(
            outcome(Box::new(|| Err("no such file".into())), 5_000),
            Err("failed: no such file".to_owned())
        );
        assert_eq!(
            outcome(Box::new(|| panic!("oh {}", "no")), 5_000),
            Err("panicked: oh no".to_owned())
        );
        let waits = Box::new(move || Ok(held.recv()?));
        assert_eq!(
            outcome(waits, 1),
            Err("has not ended within 1ms".to_owned())
        );
        drop(hold);
    }
}
