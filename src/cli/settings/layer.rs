//! A layer: what one place says about settings, as words for clap.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use clap::Command;

use super::setting::{self, Setting};
use crate::cli::{Failure, problem, usage};

/// What one place says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layer {
    pub(super) origin: Origin,
    /// The program and its arguments: who names the one gives the others, too.
    pub(super) program: Option<Vec<OsString>>,
    values: BTreeMap<String, Vec<OsString>>,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Default,
    /// The configuration file, as it was named.
    File(PathBuf),
    Environment,
    CommandLine,
}

impl Layer {
    pub(super) fn new(origin: Origin) -> Self {
        Layer {
            origin,
            program: None,
            values: BTreeMap::new(),
        }
    }

    pub(super) fn set(&mut self, key: &str, values: Vec<OsString>) {
        self.values.insert(key.to_owned(), values);
    }

    /// Every value of a setting; `None` if this place says nothing about it, and none at all if it
    /// says that there are none.
    pub(super) fn values(&self, key: &str) -> Option<&[OsString]> {
        self.values.get(key).map(Vec::as_slice)
    }

    /// Sets the program and its arguments.
    pub(super) fn set_program(
        &mut self,
        program: Option<OsString>,
        args: Option<Vec<OsString>>,
    ) -> Result<(), Failure> {
        self.program = match (program, args) {
            (Some(program), args) => {
                let args = args.unwrap_or_default();
                Some([vec![program], args].concat())
            }
            (None, None) => None,
            (None, Some(_)) => {
                let program = self.origin.name(setting::PROGRAM).unwrap_or_default();
                let reason = format!("there is no program that they are for: add {program}");
                return Err(self.refused(setting::ARGS, &reason));
            }
        };
        Ok(())
    }

    /// Says of each value whether it is one, so that what is wrong is told with its place, and also
    /// where another place has the last word.
    pub(super) fn check(&self, command: &mut Command, settings: &[Setting]) -> Result<(), Failure> {
        for setting in settings {
            let Some(values) = self.values(&setting.key) else {
                continue;
            };
            let name = OsString::from("rr-master");
            let words = values.iter().map(|value| setting.argument(value));
            let words = [name].into_iter().chain(words);
            if let Err(err) = command.try_get_matches_from_mut(words) {
                return Err(self.refused(&setting.key, &without_the_flag(&err)));
            }
        }
        Ok(())
    }

    /// A value that is wrong, with its place.
    pub(super) fn refused(&self, key: &str, reason: &str) -> Failure {
        let place = self.origin.place(key).unwrap_or_default();
        usage(format!("{place}: {reason}"))
    }
}

impl Origin {
    /// Where exactly that is, if it is not on the command line before everybody's eyes.
    pub(super) fn place(&self, key: &str) -> Option<String> {
        let name = self.name(key)?;
        match self {
            Origin::Default | Origin::CommandLine => None,
            Origin::File(path) => Some(format!("{}: key {name:?}", path.display())),
            Origin::Environment => Some(format!("environment {name}")),
        }
    }

    /// What a setting is called there.
    fn name(&self, key: &str) -> Option<String> {
        match self {
            Origin::Default | Origin::CommandLine => None,
            Origin::File(_) => Some(key.to_owned()),
            Origin::Environment => Some(setting::variable(key)),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File(path) => path.display().fmt(f),
            Origin::Environment => f.write_str("environment"),
            Origin::CommandLine => f.write_str("command line"),
        }
    }
}

/// What clap says, without the flag that nobody has written.
fn without_the_flag(err: &clap::Error) -> String {
    let problem = problem(err);
    match err.get(clap::error::ContextKind::InvalidArg) {
        Some(flag) => problem.replacen(&format!(" for '{flag}'"), "", 1),
        None => problem,
    }
}
