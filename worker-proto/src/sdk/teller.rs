//! The teller: puts into the queue of events what the master says.
//!
//! Of the orders to open log files again at most one waits there: who takes it, opens them after
//! everything that was ordered until then, and a program that looks seldom misses nothing else for
//! the sake of them.

use std::cell::Cell;

use crossbeam_channel::{Sender, TrySendError};

use super::event::Event;

/// The one who writes to the queue. The queue ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Teller {
    queue: Sender<Event>,
    /// How many events were put behind the last order, if there was one.
    behind: Cell<Option<usize>>,
}

impl Teller {
    pub(crate) fn new(queue: Sender<Event>) -> Self {
        let behind = Cell::new(None);
        Teller { queue, behind }
    }

    /// Fails only when the queue is full, or nobody can read it any more.
    pub(crate) fn tell(&self, event: Event) -> Result<(), TrySendError<Event>> {
        let is_order = event == Event::ReopenLogs;
        if is_order && self.order_waits() {
            return Ok(());
        }
        self.queue.try_send(event)?;
        self.behind.set(if is_order {
            Some(0)
        } else {
            self.behind.get().map(|count| count.saturating_add(1))
        });
        Ok(())
    }

    /// Should it be taken at this moment: what is ordered now was done before, so it is not late.
    fn order_waits(&self) -> bool {
        self.behind
            .get()
            .is_some_and(|count| self.queue.len() > count)
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::{Receiver, bounded};

    use super::*;

    fn taken(events: &Receiver<Event>) -> Vec<Event> {
        events.try_iter().collect()
    }

    #[test]
    fn orders_that_nobody_takes_leave_room_for_everything_else() {
        let (queue, events) = bounded(3);
        let teller = Teller::new(queue);
        teller.tell(Event::ClusterReady).unwrap();
        for _ in 0..100 {
            teller.tell(Event::ReopenLogs).unwrap();
        }
        teller.tell(Event::MasterGone).unwrap();
        for _ in 0..100 {
            teller.tell(Event::ReopenLogs).unwrap();
        }
        assert_eq!(
            taken(&events),
            [Event::ClusterReady, Event::ReopenLogs, Event::MasterGone]
        );
    }

    #[test]
    fn an_order_after_one_that_was_taken_is_told() {
        let (queue, events) = bounded(3);
        let teller = Teller::new(queue);
        for _ in 0..3 {
            teller.tell(Event::ReopenLogs).unwrap();
            teller.tell(Event::ClusterReady).unwrap();
            assert_eq!(events.recv(), Ok(Event::ReopenLogs));
            teller.tell(Event::ReopenLogs).unwrap();
            assert_eq!(taken(&events), [Event::ClusterReady, Event::ReopenLogs]);
        }
    }

    #[test]
    fn an_order_that_found_no_room_is_not_taken_for_one_that_waits() {
        let (queue, events) = bounded(1);
        let teller = Teller::new(queue);
        teller.tell(Event::ClusterReady).unwrap();
        assert!(teller.tell(Event::ReopenLogs).unwrap_err().is_full());
        assert_eq!(taken(&events), [Event::ClusterReady]);
        teller.tell(Event::ReopenLogs).unwrap();
        assert_eq!(taken(&events), [Event::ReopenLogs]);
    }
}
