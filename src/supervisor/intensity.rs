//! The restart intensity: how many restarts, of all slots together, were made lately.
//!
//! It remembers only restarts that can still matter, never more than the limit.

use std::collections::VecDeque;
use std::time::Instant;

use worker_proto::ids::Role;

use super::deadline::after;
use super::plan::RestartLimit;

/// The restarts within the window, and whether the operator was told that they are too many.
#[derive(Debug, Default)]
pub(super) struct Intensity {
    restarts: VecDeque<Instant>,
    episode: Episode,
}

/// The intensities of both roles: agents have their own, so that workers that die one after the other
/// do not keep an agent from coming back.
#[derive(Debug, Default)]
pub(super) struct Intensities {
    agents: Intensity,
    workers: Intensity,
}

impl Intensities {
    pub(super) fn of(&mut self, role: Role) -> &mut Intensity {
        match role {
            Role::Agent => &mut self.agents,
            Role::Worker => &mut self.workers,
        }
    }

    pub(super) fn look_at(&self, role: Role) -> &Intensity {
        match role {
            Role::Agent => &self.agents,
            Role::Worker => &self.workers,
        }
    }
}

/// An episode lasts until a restart comes through without having to wait for the window.
#[derive(Debug, Default, PartialEq, Eq)]
enum Episode {
    #[default]
    None,
    Told,
}

/// When the next restart is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    Now,
    At(Instant),
    Never,
}

impl Room {
    pub(super) fn is_open(self, now: Instant) -> bool {
        match self {
            Room::Now => true,
            Room::At(moment) => moment <= now,
            Room::Never => false,
        }
    }
}

impl Intensity {
    /// When the window has room for one more.
    pub(super) fn room(&self, limit: RestartLimit) -> Room {
        if limit.count == 0 {
            return Room::Never;
        }
        match self.restarts.front() {
            Some(&oldest) if self.is_full(limit) => Room::At(after(oldest, limit.window)),
            Some(_) | None => Room::Now,
        }
    }

    /// A restart that was due then is made now.
    pub(super) fn record(&mut self, limit: RestartLimit, now: Instant, due: Instant) {
        if !self.had_to_wait(limit, due) {
            self.episode = Episode::None;
        }
        if self.is_full(limit) {
            self.restarts.pop_front();
        }
        while let Some(&oldest) = self.restarts.front()
            && after(oldest, limit.window) <= now
        {
            self.restarts.pop_front();
        }
        self.restarts.push_back(now);
    }

    /// A restart has to wait: is that news?
    #[must_use]
    pub(super) fn refuse(&mut self) -> bool {
        let is_news = self.episode == Episode::None;
        self.episode = Episode::Told;
        is_news
    }

    fn had_to_wait(&self, limit: RestartLimit, due: Instant) -> bool {
        match self.room(limit) {
            Room::Now => false,
            Room::At(moment) => moment > due,
            Room::Never => true,
        }
    }

    fn is_full(&self, limit: RestartLimit) -> bool {
        self.restarts.len() >= limit.count as usize
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "any moment will do as the beginning"
)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn limit(count: u32) -> RestartLimit {
        let window = Duration::from_secs(10);
        RestartLimit { count, window }
    }

    fn clock() -> impl Fn(u64) -> Instant {
        let beginning = Instant::now();
        move |secs| beginning + Duration::from_secs(secs)
    }

    /// F08.
    #[test]
    fn the_window_slides() {
        let (mut intensity, limit, at) = (Intensity::default(), limit(2), clock());
        for (now, room_after) in [
            (0, Room::Now),
            (4, Room::At(at(10))),
            (10, Room::At(at(14))),
        ] {
            intensity.record(limit, at(now), at(now));
            assert_eq!(
                intensity.room(limit),
                room_after,
                "after a restart at {now}"
            );
        }
    }

    #[test]
    fn a_limit_of_none_never_has_room() {
        assert_eq!(Intensity::default().room(limit(0)), Room::Never);
    }

    #[test]
    fn it_remembers_no_more_than_the_window() {
        let (mut intensity, limit, at) = (Intensity::default(), limit(u32::MAX), clock());
        (0..100).for_each(|now| intensity.record(limit, at(now), at(now)));
        assert_eq!(intensity.restarts.len(), 10);
    }

    #[test]
    fn an_episode_is_news_once_and_ends_with_a_restart_that_need_not_wait() {
        let (mut intensity, limit, at) = (Intensity::default(), limit(1), clock());
        intensity.record(limit, at(0), at(0));
        assert!(intensity.refuse());
        assert!(!intensity.refuse());
        intensity.record(limit, at(10), at(1));
        assert!(!intensity.refuse());
        intensity.record(limit, at(20), at(11));
        intensity.record(limit, at(30), at(30));
        assert!(intensity.refuse());
    }
}
