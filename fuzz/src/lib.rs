//! What must be true of every decoder, whatever bytes it is given. One check for each.
//!
//! A check takes bytes and panics where a decoder breaks its word. The targets in `fuzz_targets/`
//! give it what libFuzzer thinks up; `tests/decoders/` gives it, with a stable compiler, what is
//! kept in `corpus/` and mutations of that. Nothing is checked in one of the two places only.
//!
//! A new decoder gets a check here, a target and its `[[bin]]`, a line in
//! `tests/decoders/main.rs`, and in `corpus/` a few seeds: one of everything that it takes, and
//! one of each way to be wrong, with names that say which.

mod address;
mod allocation;
mod ancillary;
mod command_line;
mod config_file;
mod configuration;
mod control_request;
mod descriptors;
mod environment;
mod frame;
mod input;
mod listener_spec;
mod proxy_header;
mod relay;
mod scoreboard;

pub use address::address;
pub use ancillary::ancillary;
pub use command_line::flags;
pub use config_file::config_file;
pub use control_request::control_request;
pub use environment::environment;
pub use frame::{connections, from_master, to_master};
pub use listener_spec::listener_spec;
pub use proxy_header::proxy_header;
pub use relay::relay;
pub use scoreboard::scoreboard;
