//! What is still to happen, in the order in which it will. This is the clock: time is whatever the
//! next event says.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::Duration;

/// Events by time; those of the same moment in the order in which they were noted.
#[derive(Debug)]
pub(crate) struct Agenda<E> {
    entries: BinaryHeap<Entry<E>>,
    noted: u64,
}

#[derive(Debug)]
struct Entry<E> {
    at: Duration,
    number: u64,
    event: E,
}

impl<E> Agenda<E> {
    pub(crate) fn new() -> Self {
        Agenda {
            entries: BinaryHeap::new(),
            noted: 0,
        }
    }

    pub(crate) fn note(&mut self, at: Duration, event: E) {
        self.noted += 1;
        self.entries.push(Entry {
            at,
            number: self.noted,
            event,
        });
    }

    pub(crate) fn next(&mut self) -> Option<(Duration, E)> {
        let Entry { at, event, .. } = self.entries.pop()?;
        Some((at, event))
    }
}

// A `BinaryHeap` gives its greatest first.
impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl<E> Eq for Entry<E> {}
