//! `values`: what the cluster holds by key, and who is behind.

use std::fmt::Write;

use comfy_table::CellAlignment::{Left, Right};

use super::screen::{Palette, Tone};
use super::table::{Column, column, table};
use crate::control::held::{HeldValue, HeldValues};
use crate::printable::printable;

/// All of them.
pub(super) fn shown(held: &HeldValues, width: Option<u16>, palette: Palette) -> String {
    match held.values.is_empty() {
        true => "no values; give the cluster one with rr-ctl push KEY FILE".to_owned(),
        false => table(columns(), &held.values, width, palette),
    }
}

fn columns() -> Vec<Column<HeldValue>> {
    vec![
        column("KEY", Left, 0, |it: &HeldValue| {
            (printable(&it.key), Tone::Plain)
        }),
        column("VERSION", Right, 0, |it| {
            (it.version.to_string(), Tone::Plain)
        }),
        column("BYTES", Right, 2, |it| (it.bytes.to_string(), Tone::Plain)),
        column("TYPE", Left, 3, |it| {
            (printable(&it.content_type), Tone::Plain)
        }),
        column("ADOPTED", Right, 0, |it| {
            let tone = match it.adopted == it.watchers {
                true => Tone::Good,
                false => Tone::Changing,
            };
            (format!("{} of {}", it.adopted, it.watchers), tone)
        }),
        column("BEHIND", Left, 1, |it| (behind(it), Tone::Changing)),
    ]
}

/// `w3 at 1, w7 at none`.
fn behind(value: &HeldValue) -> String {
    let mut text = String::new();
    let mut holders = value.holders.iter();
    let mut late = holders.by_ref().filter(|it| it.version < value.version);
    for holder in late.by_ref().take(SHOWN) {
        let gap = if text.is_empty() { "" } else { ", " };
        let _ = match holder.version {
            0 => write!(text, "{gap}w{} at none", holder.worker),
            version => write!(text, "{gap}w{} at {version}", holder.worker),
        };
    }
    if late.next().is_some() {
        text += ", …";
    }
    text
}

/// How many of those who are behind are named.
const SHOWN: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::held::Holder;

    #[test]
    fn who_is_behind_is_named() {
        let holder = |worker, version| Holder {
            worker,
            role: "worker".to_owned(),
            slot: 0,
            version,
        };
        let mut value = HeldValue {
            key: "flags".to_owned(),
            version: 3,
            bytes: 12,
            content_type: "json".to_owned(),
            watchers: 3,
            adopted: 1,
            holders: vec![holder(7, 0), holder(8, 2), holder(9, 3)],
        };
        let values = HeldValues {
            values: vec![value.clone()],
        };
        let text = shown(&values, None, Palette::Plain);
        let row = text.lines().last().unwrap();
        let cells: Vec<_> = row.split_whitespace().collect();
        let expected = "flags 3 12 json 1 of 3 w7 at none, w8 at 2";
        assert_eq!(cells.join(" "), expected, "{text}");
        value.holders = (1..9).map(|id| holder(id, 1)).collect();
        assert_eq!(behind(&value), "w1 at 1, w2 at 1, w3 at 1, w4 at 1, …");
    }
}
