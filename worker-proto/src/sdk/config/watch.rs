//! A watch: one who wants each version of a value, and whose taking it over is waited for.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::ConfigValue;
use super::shelf::{Next, Shelf, WatchId};
use crate::sdk::alarm::Alarm;
use crate::sdk::{HookResult, control, hook};

/// Each version of a value; see [`Config::watch`](super::Config::watch).
///
/// A version is adopted when this is asked for the next one: whoever loops over
/// [`changed`](Self::changed) has taken over what came before. Versions that follow each other
/// faster than that are passed over.
#[derive(Debug)]
pub struct ConfigWatch {
    shelf: Arc<Shelf>,
    key: Arc<str>,
    id: WatchId,
    seen: u64,
}

impl ConfigWatch {
    pub(super) fn of(shelf: &Arc<Shelf>, key: &Arc<str>) -> Self {
        ConfigWatch {
            shelf: Arc::clone(shelf),
            key: Arc::clone(key),
            id: shelf.watch(key),
            seen: 0,
        }
    }

    /// Waits for a version that this has not answered with before, which at first is that of now.
    /// `None` when there is none within that time, and at once when there will be none: the master is
    /// gone, or this process has left.
    pub fn changed(&mut self, within: Duration) -> Option<ConfigValue> {
        self.take_over();
        let next = self.shelf.after(&self.key, self.seen, within);
        self.see(next)
    }

    /// The version that was answered with last is in use from now on. Asking for the next one says
    /// so, too.
    pub fn take_over(&self) {
        self.shelf.taken_over(&self.key, self.id, self.seen);
    }

    fn see(&mut self, next: Next) -> Option<ConfigValue> {
        match next {
            Next::Value(value) => {
                self.seen = value.version;
                Some(value)
            }
            Next::None | Next::Ended => None,
        }
    }
}

impl Drop for ConfigWatch {
    fn drop(&mut self) {
        self.shelf.unwatch(&self.key, self.id);
    }
}

/// What is done with each version, until this is dropped; see
/// [`Config::on_change`](super::Config::on_change).
#[derive(Debug)]
#[must_use = "nothing is done any more when this is dropped"]
pub struct ConfigHandler {
    over: Arc<AtomicBool>,
    shelf: Arc<Shelf>,
}

impl ConfigHandler {
    pub(super) fn start(
        mut watch: ConfigWatch,
        alarm: Alarm,
        mut take_over: impl FnMut(ConfigValue) -> HookResult + Send + 'static,
    ) -> io::Result<Self> {
        let over = Arc::new(AtomicBool::new(false));
        let handler = ConfigHandler {
            over: Arc::clone(&over),
            shelf: Arc::clone(&watch.shelf),
        };
        control::start_thread("rr-config", move || {
            let is_over = || over.load(Ordering::Acquire);
            loop {
                let next = watch.shelf.after_unless(&watch.key, watch.seen, is_over);
                let Some(value) = watch.see(next) else {
                    return;
                };
                let version = value.version;
                match hook::attempt(|| take_over(value)) {
                    Ok(()) => watch.take_over(),
                    Err(failure) => {
                        let key = &watch.key;
                        let problem = format!(
                            "what is to be done with version {version} of {key:?} {failure}"
                        );
                        log::error!("{problem}");
                        alarm.report(&problem);
                    }
                }
            }
        })?;
        Ok(handler)
    }
}

impl Drop for ConfigHandler {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        self.shelf.wake();
    }
}
