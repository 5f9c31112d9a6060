//! Shares: how many descriptors of this process are the same connection, for those that were
//! duplicated. The last one that is closed finishes the connection.

use std::sync::atomic::{AtomicU16, Ordering};

use crate::marks::NUMBER;

/// The descriptors of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share(u16);

impl Share {
    /// There is one descriptor only.
    pub(crate) const NONE: Share = Share(0);

    pub(crate) const fn from_number(number: u16) -> Self {
        Share(number)
    }

    pub(crate) const fn number(self) -> u16 {
        self.0
    }

    /// One more; `None` if that cannot be counted.
    pub(crate) fn another(self) -> Option<Self> {
        if let Some(count) = self.count() {
            count.fetch_add(1, Ordering::Relaxed);
            return Some(self);
        }
        let (index, _) = COUNTS.iter().enumerate().find(|(_, count)| {
            let taken = count.compare_exchange(0, 2, Ordering::Relaxed, Ordering::Relaxed);
            taken.is_ok()
        })?;
        Some(Share(u16::try_from(index + 1).ok()?))
    }

    /// One less; answers whether that was the last.
    pub(crate) fn is_last(self) -> bool {
        self.count()
            .is_none_or(|count| count.fetch_sub(1, Ordering::AcqRel) == 1)
    }

    fn count(self) -> Option<&'static AtomicU16> {
        COUNTS.get(usize::from(self.0).checked_sub(1)?)
    }
}

static COUNTS: [AtomicU16; CAPACITY] = [const { AtomicU16::new(0) }; CAPACITY];

const CAPACITY: usize = 4096;
const _: () = assert!(CAPACITY < NUMBER as usize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_descriptor_of_a_connection_finishes_it() {
        assert!(Share::NONE.is_last());
        let two = Share::NONE.another().unwrap();
        let three = two.another().unwrap();
        assert_eq!(two, three);
        assert_eq!(
            [two.is_last(), two.is_last(), two.is_last()],
            [false, false, true]
        );
    }
}
