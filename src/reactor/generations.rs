//! The generations: what the workers of each of them run, from the reload that began it until nobody of
//! it is left.

use std::collections::BTreeMap;
use std::fs;

use worker_proto::ids::Generation;

use crate::config::program::Program;
use crate::sys::pin::Pinned;

/// What every generation runs that may be started again.
#[derive(Debug)]
pub(crate) struct Generations(BTreeMap<Generation, Version>);

/// A program as it was when a generation began.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    pub(crate) program: Program,
    pub(crate) pinned: Pinned,
}

impl Version {
    /// Looks at files, so this may take its time.
    pub(crate) fn of(program: &Program) -> Self {
        let pinned = Pinned::new(&program.path);
        let mut program = program.clone();
        program.cwd = program.cwd.map(|cwd| fs::canonicalize(&cwd).unwrap_or(cwd));
        Version { program, pinned }
    }
}

impl Generations {
    /// The generation that a master starts with.
    pub(crate) fn starting_with(version: Version) -> Self {
        Generations(BTreeMap::from([(Generation(1), version)]))
    }

    pub(crate) fn begin(&mut self, generation: Generation, version: Version) {
        self.0.insert(generation, version);
    }

    /// What the generation runs; if it is over, what the latest does.
    pub(crate) fn version(&self, generation: Generation) -> Option<&Version> {
        self.0
            .get(&generation)
            .or_else(|| self.0.values().next_back())
    }

    /// Forgets those that nobody can be started in any more.
    pub(crate) fn keep(&mut self, is_needed: impl Fn(Generation) -> bool) {
        self.0.retain(|generation, _| is_needed(*generation));
    }
}
