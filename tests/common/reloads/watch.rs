//! Looks at the rotation again and again, through the operator's door.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::common::operator::ByHand;

/// A running look-out.
pub(crate) struct Watch {
    thread: JoinHandle<Rotation>,
    stop: Arc<AtomicBool>,
}

/// What it saw.
pub(crate) struct Rotation {
    pub(crate) looks: u64,
    /// How many workers there were in the rotation at the least.
    pub(crate) fewest: usize,
    /// How many processes there were at the most, those that leave included.
    pub(crate) most: usize,
}

impl Watch {
    pub(crate) fn start(control: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&stop);
        let thread = thread::spawn(move || look(&control, &is_over));
        Watch { thread, stop }
    }

    pub(crate) fn stop(self) -> Rotation {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the look-out")
    }
}

fn look(control: &std::path::Path, is_over: &AtomicBool) -> Rotation {
    let mut operator = ByHand::connect(control);
    let mut rotation = Rotation {
        looks: 0,
        fewest: usize::MAX,
        most: 0,
    };
    while !is_over.load(Ordering::Relaxed) {
        let answer = operator.ask(r#"{"id":1,"command":"status"}"#);
        let workers = find(&answer, "workers").as_array().expect("workers");
        let serving = workers.iter().filter(|it| it["state"] == "serving").count();
        rotation.looks += 1;
        rotation.fewest = rotation.fewest.min(serving);
        rotation.most = rotation.most.max(workers.len());
        thread::sleep(PAUSE);
    }
    rotation
}

/// The first value under this name, however deep.
fn find<'a>(value: &'a serde_json::Value, name: &str) -> &'a serde_json::Value {
    let found = value.get(name);
    found.unwrap_or_else(|| {
        let values = value.as_object().into_iter().flat_map(|it| it.values());
        let mut inner = values.filter_map(|it| it.get(name));
        inner.next().expect("the status has it")
    })
}

/// Short beside everything that a reload waits for.
const PAUSE: Duration = Duration::from_millis(5);
