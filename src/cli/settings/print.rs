//! Settings as a configuration file: what `--print-config` prints.
//!
//! It is written from what clap was given, so there is a line for every setting, and reading it
//! again gives the same settings.

use std::ffi::OsStr;

use toml::{Table, Value};

use super::Settings;
use super::layer::Origin;
use super::setting::{ARGS, Kind, PROGRAM, Setting};
use crate::cli::{Failure, usage};
use crate::printable::printable;

/// Every setting, with where it comes from.
pub(super) fn to_toml(settings: &Settings) -> Result<String, Failure> {
    let mut lines = vec![format!(
        "# The configuration of rr-master {}, and where each setting comes from.",
        env!("CARGO_PKG_VERSION")
    )];
    lines.push(String::new());
    lines.extend(program(settings)?);
    let mut headings: Vec<&str> = Vec::new();
    for Setting { heading, .. } in &settings.settings {
        if !headings.contains(&heading.as_str()) {
            headings.push(heading);
        }
    }
    for heading in headings {
        lines.extend([String::new(), format!("# {heading}")]);
        let all = settings.settings.iter();
        for setting in all.filter(|setting| setting.heading == heading) {
            lines.push(line(settings, setting)?);
        }
    }
    lines.push(String::new());
    Ok(lines.join("\n"))
}

fn program(settings: &Settings) -> Result<Vec<String>, Failure> {
    let Some((program, args)) = settings.args.command.split_first() else {
        let text = format!("# {PROGRAM} is not set: the built-in hello worker");
        return Ok(vec![text]);
    };
    let origin = settings.origin(PROGRAM);
    let program = Value::String(utf8(PROGRAM, program)?);
    let args = args.iter().map(|arg| Ok(Value::String(utf8(ARGS, arg)?)));
    let args = Value::Array(args.collect::<Result<_, Failure>>()?);
    Ok(vec![
        assignment(PROGRAM, &program, origin),
        assignment(ARGS, &args, origin),
    ])
}

fn line(settings: &Settings, setting: &Setting) -> Result<String, Failure> {
    let Setting { id, key, kind, .. } = setting;
    let origin = settings.origin(key);
    let values = settings.matches.get_raw(id.as_str());
    let values = values.into_iter().flatten();
    let values: Vec<String> = values
        .map(|value| utf8(key, value))
        .collect::<Result<_, _>>()?;
    let value = match (kind, &values[..]) {
        (Kind::List | Kind::Pairs, values) if !values.is_empty() || *origin != Origin::Default => {
            Value::Array(values.iter().cloned().map(Value::String).collect())
        }
        (Kind::Tables, values) if !values.is_empty() || *origin != Origin::Default => {
            Value::Array(values.iter().map(|value| table(value)).collect())
        }
        (Kind::Switch, [value]) => Value::Boolean(value == "true"),
        (Kind::Value, [value]) => number_or_text(value),
        (Kind::Text, [value]) => Value::String(value.clone()),
        (Kind::Switch | Kind::Text | Kind::Value | Kind::List | Kind::Pairs | Kind::Tables, _) => {
            return Ok(format!("# {key} is not set"));
        }
    };
    Ok(assignment(key, &value, origin))
}

fn assignment(key: &str, value: &Value, origin: &Origin) -> String {
    format!("{key} = {value}  # {}", printable(&origin.to_string()))
}

/// A table is written as one; it was read before.
fn table(text: &str) -> Value {
    let text = text.trim();
    let inner = text
        .strip_prefix('{')
        .and_then(|text| text.strip_suffix('}'));
    let line = format!("it = {{ {} }}", inner.unwrap_or(text));
    let read = line.parse::<Table>().ok();
    let read = read.and_then(|mut read| read.remove("it"));
    read.unwrap_or_else(|| Value::String(text.to_owned()))
}

/// A number is written as one if it comes back as it was.
fn number_or_text(value: &str) -> Value {
    match value.parse::<i64>() {
        Ok(number) if number.to_string() == value => Value::Integer(number),
        Ok(_) | Err(_) => Value::String(value.to_owned()),
    }
}

fn utf8(key: &str, value: &OsStr) -> Result<String, Failure> {
    let text = value.to_str().map(str::to_owned);
    text.ok_or_else(|| usage(format!("{key} {value:?}: not UTF-8, so no file can say it")))
}
