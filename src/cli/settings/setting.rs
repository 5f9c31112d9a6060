//! One setting: a flag, and by the same name a key of the file and a variable.
//!
//! Nothing is listed here: whatever takes a value on the command line is a setting, but for hidden
//! flags, which are for masters and not for people, and those of `ConfigurationArgs`.

use std::any::TypeId;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::builder::ValueParser;
use clap::{Arg, ArgAction, Command, CommandFactory};

use crate::cli::args::Args;

/// One setting.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    /// What clap calls it.
    pub(super) id: clap::Id,
    /// Its name in the file, which is the flag's.
    pub(super) key: String,
    /// Its name in the environment.
    pub(super) variable: String,
    pub(super) kind: Kind,
    /// Under which heading the help has it.
    pub(super) heading: String,
    default: Vec<OsString>,
}

/// What a setting may be in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// True or false.
    Switch,
    /// A text, where a number is a mistake: a path.
    Text,
    /// A text or a number.
    Value,
    /// Several of them.
    List,
    /// Several of the form `NAME=VALUE`, which may be written as a table.
    Pairs,
    /// Several tables, each of which is one value: `{ KEY = "value", … }`.
    Tables,
}

impl Setting {
    /// Every setting, in the order of the help.
    pub(super) fn all(command: &Command) -> Vec<Setting> {
        let settings = command
            .get_arguments()
            .filter(|arg| is_setting(command, arg));
        settings.map(Setting::of).collect()
    }

    fn of(arg: &Arg) -> Self {
        let key = arg.get_long().unwrap_or_default().to_owned();
        Setting {
            id: arg.get_id().clone(),
            variable: variable(&key),
            kind: Kind::of(arg),
            heading: arg.get_help_heading().unwrap_or("Options").to_owned(),
            default: arg.get_default_values().iter().map(Into::into).collect(),
            key,
        }
    }

    /// The value as it would stand on the command line.
    pub(super) fn argument(&self, value: &OsStr) -> OsString {
        let mut argument = OsString::from(format!("--{}=", self.key));
        argument.push(value);
        argument
    }

    pub(super) fn is_default(&self, values: &[OsString]) -> bool {
        values == self.default
    }
}

impl Kind {
    fn of(arg: &Arg) -> Self {
        let parsed = arg.get_value_parser().type_id();
        if parsed == TypeId::of::<bool>() {
            return Kind::Switch;
        }
        if matches!(arg.get_action(), ArgAction::Append) {
            let names = arg.get_value_names().unwrap_or_default();
            if names.iter().any(|name| name.ends_with("=VALUE,...")) {
                return Kind::Tables;
            }
            let is_pair = names.iter().any(|name| name.contains('='));
            return if is_pair { Kind::Pairs } else { Kind::List };
        }
        let texts = [TypeId::of::<PathBuf>(), TypeId::of::<OsString>()];
        if texts.iter().any(|text| parsed == *text) {
            Kind::Text
        } else {
            Kind::Value
        }
    }
}

/// The command line, on which every switch may be written out: `--no-refork=false` takes back what
/// the file or the environment says.
pub(super) fn command() -> Command {
    let command = Args::command();
    let is_switch = |arg: &&Arg| matches!(arg.get_action(), ArgAction::SetTrue);
    let settings = command
        .get_arguments()
        .filter(|arg| is_setting(&command, arg));
    let switches: Vec<clap::Id> = settings
        .filter(is_switch)
        .map(|arg| arg.get_id().clone())
        .collect();
    command.mut_args(|arg| {
        if switches.contains(arg.get_id()) {
            with_a_value(arg)
        } else {
            arg
        }
    })
}

/// The names of the variables that are for this master, and not for processes that it starts.
pub(super) fn variables(settings: &[Setting]) -> Vec<OsString> {
    let own = OWN_VARIABLES.into_iter().map(Into::into);
    own.chain(settings.iter().map(|setting| (&setting.variable).into()))
        .collect()
}

/// `--no-refork` and `--no-refork=true` are the same.
fn with_a_value(arg: Arg) -> Arg {
    arg.action(ArgAction::Set)
        .num_args(0..=1)
        .require_equals(true)
        .value_parser(ValueParser::bool())
        .value_name("true|false")
        .default_value("false")
        .default_missing_value("true")
        .hide_default_value(true)
        .hide_possible_values(true)
}

fn is_setting(command: &Command, arg: &Arg) -> bool {
    let takes_a_value = matches!(
        arg.get_action(),
        ArgAction::Set | ArgAction::Append | ArgAction::SetTrue
    );
    let mut others = command
        .get_groups()
        .filter(|group| group.get_id() == NO_SETTINGS);
    let is_other = others.any(|group| group.get_args().any(|id| id == arg.get_id()));
    arg.get_long().is_some() && takes_a_value && !arg.is_hide_set() && !is_other
}

/// `stop-timeout` is `RR_STOP_TIMEOUT`.
pub(super) fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.to_uppercase().replace('-', "_"))
}

/// How the names of all variables begin that are for masters, or from them.
pub(super) const PREFIX: &str = "RR_";

/// The program, which has no flag.
pub(super) const PROGRAM: &str = "program";
/// Its arguments.
pub(super) const ARGS: &str = "args";

/// Where the file is.
pub(super) const CONFIG_VARIABLE: &str = "RR_CONFIG";
/// [`PROGRAM`] in the environment.
pub(super) const PROGRAM_VARIABLE: &str = "RR_PROGRAM";
/// [`ARGS`] in the environment.
pub(super) const ARGS_VARIABLE: &str = "RR_ARGS";

/// The variables that no flag has given a name.
pub(super) const OWN_VARIABLES: [&str; 3] = [CONFIG_VARIABLE, PROGRAM_VARIABLE, ARGS_VARIABLE];

/// The group that clap makes of `ConfigurationArgs`.
const NO_SETTINGS: &str = "ConfigurationArgs";
