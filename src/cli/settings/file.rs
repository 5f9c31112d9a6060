//! The layer of the configuration file: TOML, a key for every flag.
//!
//! Whatever a file is, reading it ends: it has to be a regular one, and not a long one.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::OFlag;
use toml::Value;
use toml::de::{DeTable, DeValue};

use super::layer::{Layer, Origin};
use super::setting::{ARGS, Kind, PROGRAM, Setting};
use super::suggestion::did_you_mean;
use crate::cli::{Failure, usage};
use crate::sys::describe;

/// What is in the file.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let refused = |reason: &str| {
        let path = path.display();
        usage(format!(
            "configuration file {path}: {reason}: check --config or RR_CONFIG"
        ))
    };
    let failed = |err: io::Error| refused(&describe(&err));
    let file = OpenOptions::new()
        .read(true)
        // A FIFO would wait for somebody to write into it, see open(2).
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)
        .map_err(failed)?;
    let kind = file.metadata().map_err(failed)?.file_type();
    if kind.is_dir() {
        return Err(refused("is a directory"));
    }
    if !kind.is_file() {
        return Err(refused("not a regular file"));
    }
    let mut bytes = Vec::new();
    let mut start = file.take(LONGEST_BYTES + 1);
    start.read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > LONGEST_BYTES {
        return Err(refused("longer than 1 MiB"));
    }
    Ok(bytes)
}

/// What the file says.
pub(super) fn layer(path: &Path, bytes: &[u8], settings: &[Setting]) -> Result<Layer, Failure> {
    let mut layer = Layer::new(Origin::File(path.to_owned()));
    let (mut program, mut args) = (None, None);
    for (key, value) in &parse(path, bytes)? {
        let (key, value) = (key.get_ref().as_ref(), value.get_ref());
        let refused = |reason: String| layer.refused(key, &reason);
        match key {
            PROGRAM => program = Some(text(value).map_err(refused)?),
            ARGS => args = Some(list(value).map_err(refused)?),
            _ => {
                let setting = settings.iter().find(|setting| setting.key == key);
                let setting = setting.ok_or_else(|| unknown(path, key, settings))?;
                let values = words(setting.kind, value).map_err(refused)?;
                layer.set(key, values);
            }
        }
    }
    layer.set_program(program, args)?;
    Ok(layer)
}

/// Numbers stay as they were written: what they mean is for clap to say.
fn parse<'a>(path: &Path, bytes: &'a [u8]) -> Result<DeTable<'a>, Failure> {
    let refused = |offset, reason: &str| {
        let (line, column) = position(bytes, offset);
        let path = path.display();
        usage(format!("{path}: line {line}, column {column}: {reason}"))
    };
    let text = str::from_utf8(bytes).map_err(|err| refused(err.valid_up_to(), "not UTF-8"))?;
    let table = DeTable::parse(text).map_err(|err| {
        let Range { start, .. } = err.span().unwrap_or_default();
        refused(start, &err.message().replace('\n', ", "))
    })?;
    Ok(table.into_inner())
}

/// The line and the column of a byte, both from 1.
fn position(bytes: &[u8], offset: usize) -> (usize, usize) {
    let before = &bytes[..offset.min(bytes.len())];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let start = before.iter().rposition(|byte| *byte == b'\n');
    let start = start.map_or(0, |newline| newline + 1);
    let column = String::from_utf8_lossy(&before[start..]).chars().count() + 1;
    (line, column)
}

fn unknown(path: &Path, key: &str, settings: &[Setting]) -> Failure {
    let known = settings.iter().map(|setting| setting.key.as_str());
    let tip = match did_you_mean(key, known.chain([PROGRAM, ARGS])) {
        Some(tip) => format!("did you mean {tip:?}?"),
        None => "rr-master --print-config shows all there are".to_owned(),
    };
    usage(format!("{}: unknown key {key:?}: {tip}", path.display()))
}

/// The values as words for the command line, or what was expected.
fn words(kind: Kind, value: &DeValue<'_>) -> Result<Vec<OsString>, String> {
    match (kind, value) {
        (Kind::Switch, DeValue::Boolean(on)) => Ok(vec![on.to_string().into()]),
        (Kind::Switch, _) => Err(expected("true or false", value)),
        (Kind::Text, _) => Ok(vec![text(value)?]),
        (Kind::Value, _) => Ok(vec![scalar(value)?]),
        (Kind::Pairs, DeValue::Table(pairs)) => pairs
            .iter()
            .map(|(name, value)| pair(name.get_ref(), value.get_ref()))
            .collect(),
        (Kind::Tables, DeValue::Array(tables)) => {
            tables.iter().map(|it| table(it.get_ref())).collect()
        }
        (Kind::Tables, _) => Ok(vec![table(value)?]),
        (Kind::List | Kind::Pairs, _) => list(value),
    }
}

/// `{ NAME = "value" }` is `NAME=value`.
fn pair(name: &str, value: &DeValue<'_>) -> Result<OsString, String> {
    let value = scalar(value).map_err(|reason| format!("{name:?}: {reason}"))?;
    if name.contains('=') {
        return Err(format!("{name:?}: a name has no '=' in it"));
    }
    let mut pair = without_zero(name)?;
    pair.push("=");
    pair.push(value);
    Ok(pair)
}

/// A table as one line, or a line that is one.
fn table(value: &DeValue<'_>) -> Result<OsString, String> {
    let DeValue::Table(entries) = value else {
        let text = value.as_str().ok_or_else(|| expected("a table", value))?;
        return without_zero(text);
    };
    let entries = entries.iter().map(|(key, value)| {
        let (key, value) = (key.get_ref(), value.get_ref());
        let value = match value.as_bool() {
            Some(switch) => Value::Boolean(switch),
            None => Value::String(
                value
                    .as_str()
                    .ok_or_else(|| {
                        format!("{key}: {}", expected("a string, true or false", value))
                    })?
                    .to_owned(),
            ),
        };
        Ok((key.to_string(), value))
    });
    let entries: toml::Table = entries.collect::<Result<_, String>>()?;
    without_zero(&Value::Table(entries).to_string())
}

/// Several values; one may stand by itself.
fn list(value: &DeValue<'_>) -> Result<Vec<OsString>, String> {
    match value {
        DeValue::Array(values) => values.iter().map(|value| scalar(value.get_ref())).collect(),
        DeValue::String(_) | DeValue::Integer(_) | DeValue::Float(_) => Ok(vec![scalar(value)?]),
        DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Table(_) => {
            Err(expected("an array of strings", value))
        }
    }
}

fn scalar(value: &DeValue<'_>) -> Result<OsString, String> {
    match value {
        DeValue::String(text) => without_zero(text),
        // Flags read 0o27 in ways of their own, or not at all.
        DeValue::Integer(number) if number.radix() != 10 => Err(format!(
            "write {number} in decimal, or as the flag has it in a string"
        )),
        DeValue::Integer(number) => Ok(number.as_str().into()),
        DeValue::Float(number) => Ok(number.as_str().into()),
        DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
            Err(expected("a string or a number", value))
        }
    }
}

fn text(value: &DeValue<'_>) -> Result<OsString, String> {
    let text = value.as_str().ok_or_else(|| expected("a string", value))?;
    without_zero(text)
}

/// What stands on a command line ends at one.
fn without_zero(text: &str) -> Result<OsString, String> {
    if text.contains('\0') {
        return Err(format!("{text:?} has a zero byte in it"));
    }
    Ok(text.into())
}

fn expected(what: &str, found: &DeValue<'_>) -> String {
    let found = match found {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    };
    format!("expected {what}, found {found}")
}

/// Far more than there are settings, and nothing to an allocator.
const LONGEST_BYTES: u64 = 1 << 20;
