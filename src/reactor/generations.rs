//! The generations: what the workers and the agents of each of them run, from the reload that began it
//! until nobody of it is left. An agent that is restarted during a rollout is of the generation before.

use std::collections::BTreeMap;
use std::path::Path;

use worker_proto::ids::{Generation, Role, Slot};

use crate::config::Config;
use crate::config::program::Program;
use crate::sys::pin::Pinned;

/// What everybody runs who may be started.
#[derive(Debug)]
pub(crate) struct Generations(BTreeMap<Generation, Versions>);

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
        Generations(BTreeMap::from([(Generation(1), versions)]))
    }

    /// There are as many agents as in the generation before: they stay what they were if others are
    /// wanted.
    pub(crate) fn begin(&mut self, generation: Generation, from: Generation, new: Versions) {
        let mut new = new;
        if let Some(old) = self.0.get(&from)
            && old.agents.len() != new.agents.len()
        {
            new.agents.clone_from(&old.agents);
        }
        self.0.insert(generation, new);
    }

    /// What whoever is started there runs. A generation that is over runs what the latest does.
    pub(crate) fn version(&self, role: Role, slot: Slot, generation: Generation) -> &Version {
        let versions = self.0.get(&generation);
        let versions = versions.or_else(|| self.0.values().next_back());
        let version = versions.and_then(|versions| match role {
            Role::Agent => versions.agents.get(slot.0 as usize),
            Role::Worker => Some(&versions.worker),
        });
        version.expect("the latest generation is kept, and each has every agent")
    }

    /// Forgets those that nobody can be started in any more, but for the latest.
    pub(crate) fn keep(&mut self, is_needed: impl Fn(Generation) -> bool) {
        let latest = self.0.keys().next_back().copied();
        self.0
            .retain(|generation, _| Some(*generation) == latest || is_needed(*generation));
    }
}
