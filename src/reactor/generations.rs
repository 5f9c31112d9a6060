//! The generations: what the workers of each of them run, from the reload that began it until nobody of
//! it is left; and what agents run, who have none.

use std::collections::BTreeMap;
use std::path::Path;

use worker_proto::ids::{Generation, Role, Slot};

use crate::config::Config;
use crate::config::program::Program;
use crate::sys::pin::Pinned;

/// What everybody runs who may be started.
#[derive(Debug)]
pub(crate) struct Generations {
    workers: BTreeMap<Generation, Version>,
    agents: Vec<Version>,
}

/// A program as it was when somebody looked, and the directory that it runs in.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    pub(crate) program: Program,
    pub(crate) pinned: Pinned,
    /// The master's own one at that moment, if no other is wanted: a later reload may leave it.
    pub(crate) directory: Pinned,
}

/// The programs of a configuration.
#[derive(Debug)]
pub(crate) struct Versions {
    worker: Version,
    agents: Vec<Version>,
}

impl Version {
    fn of(program: &Program) -> Self {
        let directory = program.cwd.as_deref().unwrap_or(Path::new("."));
        Version {
            pinned: Pinned::new(&program.path),
            directory: Pinned::new(directory),
            program: program.clone(),
        }
    }
}

impl Versions {
    /// Looks at files, so this may take its time.
    pub(crate) fn of(config: &Config) -> Self {
        Versions {
            worker: Version::of(&config.program),
            agents: config.agents.iter().map(Version::of).collect(),
        }
    }
}

impl Generations {
    /// The generation that a master starts with.
    pub(crate) fn starting_with(versions: Versions) -> Self {
        Generations {
            workers: BTreeMap::from([(Generation(1), versions.worker)]),
            agents: versions.agents,
        }
    }

    /// Agents are started in their new version from now on, as many as there are.
    pub(crate) fn begin(&mut self, generation: Generation, versions: Versions) {
        self.workers.insert(generation, versions.worker);
        if self.agents.len() == versions.agents.len() {
            self.agents = versions.agents;
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
