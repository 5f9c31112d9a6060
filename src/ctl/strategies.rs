//! What `rr-ctl strategy` shows: how the next worker of each listener is chosen.

use comfy_table::CellAlignment::Left;
use serde_json::{Value, json};

use super::screen::Palette;
use super::table::{Column, IntoPlain, column, table};
use crate::control::status::Listener;
use crate::printable::printable;

/// For people.
pub(super) fn shown(listeners: &[Listener], width: Option<u16>, palette: Palette) -> String {
    if listeners.is_empty() {
        return "there is no listener yet".to_owned();
    }
    let columns: Vec<Column<Listener>> = vec![
        column("LISTENER", Left, 0, |it| printable(&it.name).into_plain()),
        column("STRATEGY", Left, 0, |it| {
            printable(&strategy(it)).into_plain()
        }),
    ];
    table(columns, listeners, width, palette)
}

/// For programs.
pub(super) fn json(listeners: &[Listener]) -> Value {
    let listeners = listeners.iter();
    let listeners = listeners.map(|it| json!({ "listener": it.name, "strategy": it.strategy }));
    Value::Array(listeners.collect())
}

fn strategy(listener: &Listener) -> String {
    let none = || format!("none: the workers accept themselves ({})", listener.mode);
    listener.strategy.clone().unwrap_or_else(none)
}
