//! The standing of the cluster: how many serve of those that should, as `ps` and the service manager
//! show it.

use worker_proto::ids::{Generation, Role};

use crate::supervisor::{Stage, Supervisor, WorkerState, WorkerView};

/// The numbers at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    course: Course,
    /// Whose numbers these are: the agents' in a cluster that has nothing else.
    role: Role,
    serving: usize,
    /// Those that exist, serving or not.
    alive: usize,
    wanted: u32,
    generation: Generation,
}

/// Where the cluster is heading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    Starting,
    Serving,
    Stopping,
}

impl Standing {
    pub(crate) fn of(supervisor: &Supervisor) -> Self {
        let (role, wanted) = match supervisor.wanted() {
            0 => (Role::Agent, supervisor.slots(Role::Agent)),
            workers => (Role::Worker, workers),
        };
        // Spare workers, which stand by, are not counted; agents never do anything else.
        let serves = |view: &WorkerView| match role {
            Role::Worker => view.state == WorkerState::Serving,
            Role::Agent => view.role == role && view.state == WorkerState::Standby,
        };
        let course = match supervisor.stage() {
            Stage::Idle | Stage::Booting { .. } => Course::Starting,
            Stage::Serving => Course::Serving,
            Stage::Closing { .. } | Stage::Stopping { .. } | Stage::Finished => Course::Stopping,
        };
        Standing {
            course,
            role,
            // A canary serves beside the others; who counts are those that there should be.
            serving: supervisor
                .workers()
                .filter(serves)
                .count()
                .min(wanted as usize),
            alive: supervisor
                .workers()
                .filter(|view| view.role == role)
                .count(),
            wanted,
            generation: supervisor.generation(),
        }
    }

    /// For the service manager: `4 of 4 workers serving`.
    pub(crate) fn status(&self) -> String {
        let Standing { wanted, role, .. } = self;
        match self.course {
            Course::Starting => format!("starting: {} of {wanted} {role}s ready", self.serving),
            Course::Serving => format!("{} of {wanted} {role}s serving", self.serving),
            Course::Stopping => format!("stopping: {} of {wanted} {role}s left", self.alive),
        }
    }

    /// For `ps`, the fullest first: `rr-master: 4/4 serving, gen 2` down to the mere name, which
    /// people search for.
    pub(crate) fn titles(&self) -> [String; 4] {
        let (count, what) = match self.course {
            Course::Starting => (self.serving, "ready"),
            Course::Serving => (self.serving, "serving"),
            Course::Stopping => (self.alive, "left"),
        };
        let count = format!("{NAME}: {count}/{}", self.wanted);
        [
            format!("{count} {what}, gen {}", self.generation),
            format!("{count} {what}"),
            count,
            NAME.to_owned(),
        ]
    }
}

const NAME: &str = "rr-master";
