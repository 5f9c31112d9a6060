//! A process cluster for Linux servers.

pub mod dispatch;
mod exit_code;
pub mod supervisor;

pub use exit_code::ExitCode;
