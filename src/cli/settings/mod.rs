//! The settings: what the command line, the environment, the configuration file and the defaults
//! say together.
//!
//! A setting is defined once, as a flag in `cli::args`. What the other places say is given to clap
//! as if it stood on the command line, so a value means, and is refused for, the same everywhere.
//! The command line wins over the environment, the environment over the file, setting by setting.

mod environment;
mod file;
mod layer;
mod print;
mod setting;
mod suggestion;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::env;
use std::ffi::{OsStr, OsString};
use std::iter;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{ArgMatches, FromArgMatches};

use self::layer::{Layer, Origin};
use self::setting::Setting;
use super::args::Args;
use super::{Failure, problem, usage};
use crate::config::Config;
use crate::master::StartError;
use crate::preflight::{self, PreflightError};
use crate::sys::program::locate;

/// What settings are read from: the command line and the environment as they were at the start,
/// and a file that may have changed when it is read again.
///
/// What [`config`](Self::config) says at the start and later, `config::diff` tells apart.
#[derive(Clone, Debug)]
pub struct Source {
    arguments: Vec<OsString>,
    /// Those that could be meant for a master.
    variables: BTreeMap<OsString, OsString>,
}

/// What was read.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) args: Args,
    /// What may be a mistake.
    pub(super) warnings: Vec<String>,
    settings: Vec<Setting>,
    matches: ArgMatches,
    /// Of each key that is not a default.
    origins: BTreeMap<String, Origin>,
}

/// Why nothing was read.
#[derive(Debug)]
pub(super) enum Unread {
    /// --help or --version: this is to be shown.
    Asked(clap::Error),
    /// Something is wrong.
    Refused(Failure),
}

impl Source {
    /// The command line and the environment of this process.
    #[must_use]
    pub fn of_this_process() -> Self {
        Source::new(env::args_os(), env::vars_os())
    }

    /// These arguments, the first being the program's name, and these variables.
    pub fn new<A: Into<OsString>>(
        arguments: impl IntoIterator<Item = A>,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Self {
        let arguments = arguments.into_iter().map(Into::into).collect();
        let variables = variables.into_iter().filter(|(name, value)| {
            // An empty one is as one that is not set.
            environment::may_be_meant(name) && !value.is_empty()
        });
        Source {
            arguments,
            variables: variables.collect(),
        }
    }

    /// The configuration as it is now: reads the file again, and looks whether this machine can run
    /// it. Waits for the disk, so it is not for the loop.
    ///
    /// # Errors
    /// As on standard error at the start, without the program's name.
    pub fn config(&self) -> Result<Config, String> {
        let settings = self.read().map_err(|unread| Failure::from(unread).line())?;
        let (config, _) = settings.config().map_err(|failure| failure.line())?;
        Ok(config)
    }

    /// Reads everything; says whether every value is one, not whether they can be run.
    pub(super) fn read(&self) -> Result<Settings, Unread> {
        self.read_with(file::read)
    }

    /// As [`read`](Self::read), with another way to read the file.
    pub(super) fn read_with(
        &self,
        read: impl Fn(&Path) -> Result<Vec<u8>, Failure>,
    ) -> Result<Settings, Unread> {
        let mut command = setting::command();
        let matches = command
            .try_get_matches_from_mut(&self.arguments)
            .map_err(Unread::of_command_line)?;
        let given = Args::from_arg_matches(&matches).map_err(Unread::of_command_line)?;
        let settings = Setting::all(&command);
        if given.builtin.is_some() {
            // A worker, not a master.
            return Ok(Settings {
                args: given,
                warnings: Vec::new(),
                settings,
                matches,
                origins: BTreeMap::new(),
            });
        }
        let mut layers = vec![environment::layer(&self.variables, &settings)?];
        let path = given.configuration.config.clone();
        let variable = self.variables.get(OsStr::new(setting::CONFIG_VARIABLE));
        if let Some(path) = path.or_else(|| variable.map(PathBuf::from)) {
            layers.push(file::layer(&path, &read(&path)?, &settings)?);
        }
        for layer in &layers {
            layer.check(&mut command, &settings)?;
        }
        let warnings = environment::unknown(&self.variables, &settings);
        Ok(Settings {
            warnings,
            ..self.merge(command, &matches, settings, &layers)?
        })
    }

    /// What the command line does not say is taken from the first layer that does.
    fn merge(
        &self,
        mut command: clap::Command,
        given: &ArgMatches,
        settings: Vec<Setting>,
        layers: &[Layer],
    ) -> Result<Settings, Unread> {
        let mut origins = BTreeMap::new();
        let mut words = Vec::new();
        for setting in &settings {
            if given.value_source(setting.id.as_str()) == Some(ValueSource::CommandLine) {
                origins.insert(setting.key.clone(), Origin::CommandLine);
                continue;
            }
            let mut said = layers
                .iter()
                .filter_map(|layer| Some((&layer.origin, layer.values(&setting.key)?)));
            if let Some((origin, values)) = said.next() {
                origins.insert(setting.key.clone(), origin.clone());
                // The default contradicts no other flag, also when it is spelled out.
                if !setting.is_default(values) {
                    words.extend(values.iter().map(|value| setting.argument(value)));
                }
            }
        }
        let (name, own) = self.arguments.split_first().unzip();
        let name = name.cloned().unwrap_or_else(|| "rr-master".into());
        let own = own.unwrap_or_default().iter().cloned();
        let words = iter::once(name).chain(words).chain(own);
        let matches = command
            .try_get_matches_from_mut(words)
            .map_err(Unread::of_command_line)?;
        let mut args = Args::from_arg_matches(&matches).map_err(Unread::of_command_line)?;
        let program = layers
            .iter()
            .find_map(|layer| Some((layer.origin.clone(), layer.program.clone()?)));
        if !args.command.is_empty() {
            origins.insert(setting::PROGRAM.to_owned(), Origin::CommandLine);
        } else if let Some((origin, program)) = program {
            origins.insert(setting::PROGRAM.to_owned(), origin);
            args.command = program;
        }
        Ok(Settings {
            args,
            warnings: Vec::new(),
            settings,
            matches,
            origins,
        })
    }
}

impl Settings {
    /// The configuration, and how the workers were counted. It can be run on this machine.
    pub(super) fn config(&self) -> Result<(Config, String), Failure> {
        let (config, count) = self.unchecked_config()?;
        let program = config.program.path.clone();
        let config = preflight::check(config).map_err(|err| {
            let mut setting = err.setting();
            if let PreflightError::Program(_) = &err {
                // The workers' is looked for before those of the agents.
                let is_agents = locate(&program).is_ok();
                setting = Some(if is_agents { "agent" } else { setting::PROGRAM });
            }
            self.placed(Failure::from(StartError::from(err)).about(setting))
        })?;
        Ok((config, count))
    }

    /// The configuration, whether or not this machine can run it.
    pub(super) fn unchecked_config(&self) -> Result<(Config, String), Failure> {
        let (mut config, count) = self.args.config().map_err(|err| self.placed(err))?;
        config.own_process.variables = setting::variables(&self.settings);
        config.own_process.document = Some(self.to_toml()?.into());
        let count = match self.origin("workers").place("workers") {
            Some(place) => count.replace("--workers", &place),
            None => count,
        };
        Ok((config, count))
    }

    /// Every setting, as a file that could be read again.
    ///
    /// # Errors
    /// When a value is not UTF-8.
    pub(super) fn to_toml(&self) -> Result<String, Failure> {
        print::to_toml(self)
    }

    fn origin(&self, key: &str) -> &Origin {
        self.origins.get(key).unwrap_or(&Origin::Default)
    }

    /// The same failure; it says where the setting was made that it is about.
    fn placed(&self, failure: Failure) -> Failure {
        let place = failure.setting.and_then(|key| self.origin(key).place(key));
        match place {
            Some(place) => Failure {
                reason: format!("{place}: {}", failure.reason),
                ..failure
            },
            None => failure,
        }
    }
}

impl Unread {
    fn of_command_line(err: clap::Error) -> Self {
        if err.use_stderr() {
            let problem = problem(&err);
            Unread::Refused(usage(format!("{problem}; see rr-master --help")))
        } else {
            Unread::Asked(err)
        }
    }
}

impl From<Failure> for Unread {
    fn from(failure: Failure) -> Self {
        Unread::Refused(failure)
    }
}

impl From<Unread> for Failure {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Asked(text) => usage(problem(&text)),
            Unread::Refused(failure) => failure,
        }
    }
}
