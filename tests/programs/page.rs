//! `docs/any-program.md`, as far as it is commands: what it says, is run.
//!
//! A block that begins with ```` ```sh test=NAME ```` ends with a command that a test of that name runs.

use std::collections::BTreeMap;

const PAGE: &str = include_str!("../../docs/any-program.md");

/// Every command that is to be run, by its name.
pub(crate) fn commands() -> BTreeMap<&'static str, &'static str> {
    let blocks = PAGE.split("\n```sh test=").skip(1).map(|rest| {
        let (name, rest) = rest.split_once('\n').expect("a line after the name");
        let (command, _) = rest.split_once("\n```\n").expect("the end of a block");
        (name, command)
    });
    blocks.collect()
}

/// The one of that name.
pub(crate) fn command(name: &str) -> &'static str {
    let commands = commands();
    let command = commands.get(name);
    command.unwrap_or_else(|| panic!("docs/any-program.md has no block ```sh test={name}"))
}
