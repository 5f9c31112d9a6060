//! The face: what the outside sees of the master without asking it. Its title in `ps`, and what its
//! service manager hears.
//!
//! The supervisor's notices say that something changed; the new numbers are shown once per turn of
//! the loop, however many changes it had.

use std::time::Instant;

use super::service::Service;
use super::standing::Standing;
use crate::supervisor::{Notice, Supervisor};
use crate::sys::title::Title;

/// Whoever is shown something.
#[derive(Debug)]
pub(crate) struct Face {
    service: Option<Service>,
    title: Option<Title>,
    is_outdated: bool,
}

impl Face {
    pub(crate) fn new(service: Option<Service>, title: Option<Title>) -> Self {
        Face {
            service,
            title,
            is_outdated: true,
        }
    }

    /// Something happened.
    pub(crate) fn note(&mut self, notice: &Notice) {
        self.is_outdated = true;
        let Some(service) = &mut self.service else {
            return;
        };
        if let Notice::ClusterReady { .. } = notice {
            service.ready();
        }
        if let Notice::ReloadDone { .. } | Notice::RolledBack { .. } = notice {
            service.ready();
        }
        if let Notice::Stopping { .. } = notice {
            service.stopping();
        }
    }

    /// Somebody wanted a reload, and its turn has come; whether it can be made is not known yet.
    pub(crate) fn reload_begins(&mut self) {
        if let Some(service) = &mut self.service {
            service.reloading();
        }
    }

    /// It was refused; that one was made, or went back, is a notice.
    pub(crate) fn reload_is_refused(&mut self) {
        if let Some(service) = &mut self.service {
            service.ready();
        }
    }

    /// Shows what is new.
    pub(crate) fn turn(&mut self, now: Instant, supervisor: &Supervisor) {
        if std::mem::take(&mut self.is_outdated) {
            let standing = Standing::of(supervisor);
            if let Some(service) = &mut self.service {
                service.show(standing.status());
            }
            if let Some(title) = &mut self.title {
                title.show(&standing.titles());
            }
        }
        if let Some(service) = &mut self.service {
            service.turn(now);
        }
    }

    /// When the next turn is needed at the latest.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.service.as_ref().and_then(Service::deadline)
    }
}
