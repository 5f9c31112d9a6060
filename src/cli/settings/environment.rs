//! The layer of the environment: `RR_STOP_TIMEOUT` is `--stop-timeout`.
//!
//! A flag that may be repeated has one value per line. The variables through which a master
//! introduces itself to its processes (`worker_proto::env`) are no settings: a master may be one of
//! another's. Nor is the one that tells it and `rr-ctl` alike where control sockets are.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use worker_proto::env;

use super::layer::{Layer, Origin};
use super::setting::{ARGS_VARIABLE, Kind, OWN_VARIABLES, PREFIX, PROGRAM_VARIABLE, Setting};
use super::suggestion::did_you_mean;
use crate::cli::Failure;
use crate::control::place;

/// Whether somebody may have thought of a master.
pub(super) fn may_be_meant(name: &OsStr) -> bool {
    let is_introduction = env::ALL.iter().any(|known| name == *known);
    let is_other = is_introduction || name == place::DIRECTORY;
    name.as_bytes().starts_with(PREFIX.as_bytes()) && !is_other
}

/// What the variables say.
pub(super) fn layer(
    variables: &BTreeMap<OsString, OsString>,
    settings: &[Setting],
) -> Result<Layer, Failure> {
    let value = |name: &str| variables.get(OsStr::new(name));
    let mut layer = Layer::new(Origin::Environment);
    for setting in settings {
        let Some(value) = value(&setting.variable) else {
            continue;
        };
        let values = match setting.kind {
            Kind::Switch | Kind::Text | Kind::Value => vec![value.clone()],
            Kind::List | Kind::Pairs | Kind::Tables => lines(value),
        };
        layer.set(&setting.key, values);
    }
    let args = value(ARGS_VARIABLE).map(|args| lines(args));
    layer.set_program(value(PROGRAM_VARIABLE).cloned(), args)?;
    Ok(layer)
}

/// A warning for each variable that looks like a setting and is none.
pub(super) fn unknown(
    variables: &BTreeMap<OsString, OsString>,
    settings: &[Setting],
) -> Vec<String> {
    let known = settings.iter().map(|setting| setting.variable.as_str());
    let known: Vec<&str> = known.chain(OWN_VARIABLES).collect();
    let is_unknown = |name: &&OsString| known.iter().all(|known| *name != known);
    let warning = |name: &OsString| {
        let name = name.to_string_lossy();
        let tip = did_you_mean(&name, known.iter().copied());
        let tip = tip.map_or_else(String::new, |tip| format!(": did you mean {tip}?"));
        format!("environment {name}: no such setting{tip}")
    };
    let unknown = variables.keys().filter(is_unknown);
    unknown.map(warning).collect()
}

fn lines(value: &OsStr) -> Vec<OsString> {
    let lines = value.as_bytes().split(|byte| *byte == b'\n');
    let lines = lines.filter(|line| !line.is_empty());
    lines
        .map(|line| OsStr::from_bytes(line).to_owned())
        .collect()
}
