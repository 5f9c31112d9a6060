//! The generations: what the workers of each of them run, from the reload that began it until nobody of
//! it is left; and what agents run, who have none.

use std::collections::BTreeMap;
use std::fs;

use worker_proto::ids::{Generation, Role, Slot};

use crate::config::Config;
use crate::config::program::Program;
use crate::sys::pin::{Pinned, PinnedDirectory};

/// What everybody runs who may be started.
#[derive(Debug)]
pub(crate) struct Generations {
    workers: BTreeMap<Generation, Version>,
    agents: Vec<Version>,
    /// What agents run when the reload under way was good.
    next_agents: Option<Vec<Version>>,
}

/// A program as it was when somebody looked.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    pub(crate) program: Program,
    pub(crate) pinned: Pinned,
    /// Where it is started if nothing else is said: a reload may move the master.
    pub(crate) directory: Option<PinnedDirectory>,
}

/// The programs of a configuration.
#[derive(Debug)]
pub(crate) struct Versions {
    worker: Version,
    agents: Vec<Version>,
}

impl Version {
    fn of(program: &Program, current: Option<&PinnedDirectory>) -> Self {
        let pinned = Pinned::new(&program.path);
        let mut program = program.clone();
        let directory = current.filter(|_| program.cwd.is_none()).cloned();
        program.cwd = program.cwd.map(|cwd| fs::canonicalize(&cwd).unwrap_or(cwd));
        Version {
            program,
            pinned,
            directory,
        }
    }
}

impl Versions {
    /// Looks at files, so this may take its time.
    pub(crate) fn of(config: &Config) -> Self {
        let current = PinnedDirectory::current();
        let version = |program| Version::of(program, current.as_ref());
        Versions {
            worker: version(&config.program),
            agents: config.agents.iter().map(version).collect(),
        }
    }
}

impl Generations {
    /// The generation that a master starts with.
    pub(crate) fn starting_with(versions: Versions) -> Self {
        Generations {
            workers: BTreeMap::from([(Generation(1), versions.worker)]),
            agents: versions.agents,
            next_agents: None,
        }
    }

    /// A reload has begun this generation, for workers.
    pub(crate) fn begin(&mut self, generation: Generation, versions: Versions) {
        self.workers.insert(generation, versions.worker);
        let is_possible = self.agents.len() == versions.agents.len();
        self.next_agents = is_possible.then_some(versions.agents);
    }

    /// The reload was good: agents are started in their new version from now on, as many as there
    /// are.
    pub(crate) fn complete(&mut self) {
        if let Some(agents) = self.next_agents.take() {
            self.agents = agents;
        }
    }

    /// What whoever is started there runs. A generation that is over runs what the latest does.
    pub(crate) fn version(&self, role: Role, slot: Slot, generation: Generation) -> &Version {
        let version = match role {
            Role::Agent => self.agents.get(slot.0 as usize),
            Role::Worker => self
                .workers
                .get(&generation)
                .or_else(|| self.workers.values().next_back()),
        };
        version.expect("the latest generation is kept, and every agent")
    }

    /// Forgets those that nobody can be started in any more, but for the latest.
    pub(crate) fn keep(&mut self, is_needed: impl Fn(Generation) -> bool) {
        let latest = self.workers.keys().next_back().copied();
        self.workers
            .retain(|generation, _| Some(*generation) == latest || is_needed(*generation));
    }
}
