//! A program to run: path, arguments, environment, directory, surroundings.

use std::ffi::OsString;
use std::path::PathBuf;

use super::readiness::ReadyOn;
use super::surroundings::Surroundings;

/// A program to run. It gets the master's environment, plus `env`, plus the `RR_*` variables.
///
/// Arguments and the values of variables may have placeholders, which differ from process to
/// process: `{slot}`, `{id}`, `{generation}`, `{role}`, `{9230+slot}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The file, or a name to be searched for in `PATH`.
    pub path: PathBuf,
    /// Its arguments, without the program's own name.
    pub args: Vec<OsString>,
    /// Added to the environment.
    pub env: Vec<(OsString, OsString)>,
    /// Where it runs, if not where the master does.
    pub cwd: Option<PathBuf>,
    /// What else its processes find around them.
    pub surroundings: Surroundings,
    /// What operators call an agent that runs it, if not by its file's name.
    pub name: Option<String>,
    /// The library that answers for it what it asks of its listening sockets, for a program that
    /// knows nothing of its master; an absolute path.
    pub preload: Option<PathBuf>,
    /// What shows that a process of it can serve.
    pub ready_on: ReadyOn,
}

impl Program {
    /// A program without arguments.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Program {
            path: path.into(),
            args: Vec::new(),
            env: Vec::new(),
            cwd: None,
            surroundings: Surroundings::default(),
            name: None,
            preload: None,
            ready_on: ReadyOn::default(),
        }
    }

    /// What operators call an agent that runs it.
    #[must_use]
    pub fn name(&self) -> String {
        self.name.clone().unwrap_or_else(|| {
            let name = self.path.file_name().unwrap_or_default();
            name.to_string_lossy().into_owned()
        })
    }

    /// The same program with these arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args = args.into_iter().map(Into::into).collect();
        self
    }

    /// The same program with one more variable in its environment.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }
}
