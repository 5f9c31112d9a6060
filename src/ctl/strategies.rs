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
    match (&listener.strategy, listener.mode.as_str()) {
        (Some(strategy), _) => strategy.clone(),
        (None, "hand-off") => "not told: this master is older than this rr-ctl".to_owned(),
        (None, mode) => format!("none: the workers accept themselves ({mode})"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::from_value;

    use super::*;

    /// A master that knew no strategies says nothing of them, and accepts nevertheless.
    #[test]
    fn a_listener_without_a_strategy_is_explained() {
        let told = |more: Value| {
            let mut fields = json!({
                "name": "web", "address": "127.0.0.1:1", "paused": false, "held": 0, "accepted": 7,
                "handed_off": 7, "reclaimed": 0, "moved": 0, "refused": 0, "aborted": 0, "skipped": 0,
            });
            let more = more.as_object().unwrap().clone();
            fields.as_object_mut().unwrap().extend(more);
            strategy(&from_value(fields).unwrap())
        };
        assert_eq!(told(json!({ "strategy": "random" })), "random");
        let older = "not told: this master is older than this rr-ctl";
        assert_eq!(told(json!({})), older);
        let accept = "none: the workers accept themselves (shared)";
        assert_eq!(told(json!({ "mode": "shared" })), accept);
    }
}
