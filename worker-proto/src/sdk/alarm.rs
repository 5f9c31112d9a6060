//! The alarm: how a program says that something in it went wrong.
//!
//! It may ring anywhere, in a panic hook too: it takes no lock, logs nothing while it has a master,
//! and waits for nobody but the kernel. A forked child shares the channel and must not ring on it.

use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::Sender;

use super::control::Control;
use super::draining::Draining;
use super::event::Event;
use crate::frame::{MAX_REASON_BYTES, ToMaster};
use crate::origin::Origin;
use crate::text::beginning;

/// Says that something went wrong. Cheap to clone, one alarm for all clones; see
/// [`Worker::alarm`](super::Worker::alarm).
#[derive(Clone, Debug)]
pub struct Alarm(Arc<Bell>);

#[derive(Debug)]
struct Bell {
    listener: Listener,
    draining: Draining,
    /// A process retires once.
    rung: AtomicBool,
    origin: Origin,
}

/// Who hears it. The alarm keeps nobody: a worker that has left rings in vain.
#[derive(Debug)]
enum Listener {
    Master(Weak<Control>),
    Nobody(Sender<Event>),
}

impl Alarm {
    pub(crate) fn for_master(control: &Arc<Control>, draining: Draining) -> Self {
        Self::new(Listener::Master(Arc::downgrade(control)), draining)
    }

    pub(crate) fn for_nobody(tell: Sender<Event>, draining: Draining) -> Self {
        Self::new(Listener::Nobody(tell), draining)
    }

    fn new(listener: Listener, draining: Draining) -> Self {
        Alarm(Arc::new(Bell {
            listener,
            draining,
            rung: AtomicBool::new(false),
            origin: Origin::here(),
        }))
    }

    /// Something went wrong that may go wrong again: this process takes nothing new, finishes what
    /// it has, and is replaced at once.
    ///
    /// Listeners end after what they have received, and draining begins, before this returns; what
    /// waits in the accept queues is served by others. The master gives the process as long as in
    /// any drain, then SIGTERM. Without a master the program just finishes. In a process that is
    /// draining already this is a [`report`](Self::report).
    pub fn retire(&self, reason: &str) {
        let bell = &*self.0;
        if Origin::here() != bell.origin {
            return;
        }
        if bell.draining.is_draining() || bell.rung.swap(true, Ordering::AcqRel) {
            return self.report(reason);
        }
        match &bell.listener {
            Listener::Master(control) => {
                if let Some(control) = control.upgrade() {
                    // Before anybody can finish and say Goodbye. A master that cannot be told sees
                    // a process that leaves.
                    _ = control.send(&ToMaster::Retiring {
                        reason: beginning(reason, MAX_REASON_BYTES).to_owned(),
                    });
                    control.stop_receiving();
                }
                bell.draining.begin();
            }
            Listener::Nobody(tell) => {
                bell.draining.begin();
                // Nobody sets a deadline.
                let within = Duration::MAX;
                _ = tell.try_send(Event::Drain { within });
            }
        }
    }

    /// Something went wrong and was survived: the master writes it to its log, with the name of
    /// this process, and counts it. It is lost if the master is that far behind with reading.
    /// Without a master nobody is told: write it to your own log, too.
    pub fn report(&self, problem: &str) {
        let bell = &*self.0;
        if let Listener::Master(control) = &bell.listener
            && let Some(control) = control.upgrade()
        {
            _ = control.try_send(&ToMaster::Report {
                problem: beginning(problem, MAX_REASON_BYTES).to_owned(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::tests::in_a_child;
    use crate::sdk::{FakeMaster, Worker};

    /// N18, and E32: in the worker's own words.
    #[test]
    fn a_worker_that_retires_drains_at_once_and_says_it_once() {
        let (master, worker) = FakeMaster::new();
        worker.retire("a lamp is out");
        assert!(worker.draining().is_draining());
        worker.retire("another lamp is out");
        assert_eq!(master.next_frame(), retiring("a lamp is out"));
        assert_eq!(master.next_frame(), report("another lamp is out"));
        let drain = worker.events().recv_timeout(PATIENCE);
        assert!(matches!(drain, Ok(Event::Drain { .. })), "{drain:?}");
    }

    #[test]
    fn who_is_told_to_drain_reports_instead_of_retiring() {
        let (master, worker) = FakeMaster::new();
        let listener = worker.listen("127.0.0.1:8000").unwrap();
        let _client = master.connect("127.0.0.1:8000");
        assert!(matches!(master.next_frame(), ToMaster::Listen(_)));
        master.drain(PATIENCE);
        assert!(worker.draining().wait(PATIENCE));
        worker.retire("late");
        assert_eq!(master.next_frame(), report("late"));
        // What it was given is its own to serve: perhaps nobody else is left.
        assert!(listener.accept().unwrap().is_some());
    }

    /// G08.
    #[test]
    fn a_report_changes_nothing_else() {
        let (master, worker) = FakeMaster::new();
        worker.report("odd");
        worker.report("odd again");
        assert_eq!(master.next_frame(), report("odd"));
        assert_eq!(master.next_frame(), report("odd again"));
        assert!(!worker.draining().is_draining());
    }

    #[test]
    fn what_a_retiring_worker_has_not_received_is_for_others() {
        let (master, worker) = FakeMaster::new();
        let listener = worker.listen("127.0.0.1:8000").unwrap();
        let _clients = [(); 3].map(|()| master.connect("127.0.0.1:8000"));
        let _served = listener.accept().unwrap().unwrap();
        worker.retire("ill");
        assert!(listener.accept().unwrap().is_none());
        assert_eq!(master.reclaim("127.0.0.1:8000").len(), 2);
    }

    #[test]
    fn a_text_is_cut_between_two_characters() {
        let longest = "x".repeat(MAX_REASON_BYTES);
        assert_eq!(beginning(&longest, MAX_REASON_BYTES), longest);
        let longer = "x".repeat(MAX_REASON_BYTES - 1) + "ä";
        assert_eq!(
            beginning(&longer, MAX_REASON_BYTES).len(),
            MAX_REASON_BYTES - 1
        );
        let (master, worker) = FakeMaster::new();
        worker.report(&"ä".repeat(100_000));
        let ToMaster::Report { problem } = master.next_frame() else {
            panic!("a report");
        };
        assert_eq!(problem.len(), MAX_REASON_BYTES);
    }

    #[test]
    fn alone_a_program_that_retires_just_finishes() {
        let worker = Worker::connect().unwrap();
        let listener = worker.listen("127.0.0.1:0").unwrap();
        let events = worker.events();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| listener.accept());
            worker.retire("ill");
            assert!(waiting.join().unwrap().unwrap().is_none());
        });
        let within = Duration::MAX;
        assert_eq!(events.recv_timeout(PATIENCE), Ok(Event::Drain { within }));
    }

    #[test]
    fn an_alarm_rings_in_vain_after_the_worker_has_left() {
        let (master, worker) = FakeMaster::new();
        let alarm = worker.alarm();
        _ = worker.leave();
        alarm.retire("late");
        alarm.report("later");
        assert_eq!(master.next_frame(), ToMaster::Goodbye);
    }

    #[test]
    fn a_forked_child_does_not_ring_for_its_parent() {
        let (master, worker) = FakeMaster::new();
        let alarm = worker.alarm();
        assert!(in_a_child(|| {
            alarm.retire("the child's own business");
            alarm.report("this too");
            true
        }));
        assert!(!worker.draining().wait(Duration::ZERO));
        worker.report("the parent's");
        assert_eq!(master.next_frame(), report("the parent's"));
    }

    fn retiring(reason: &str) -> ToMaster {
        ToMaster::Retiring {
            reason: reason.to_owned(),
        }
    }

    fn report(problem: &str) -> ToMaster {
        ToMaster::Report {
            problem: problem.to_owned(),
        }
    }

    const PATIENCE: Duration = Duration::from_secs(5);
}
