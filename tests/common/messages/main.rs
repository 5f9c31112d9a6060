//! The messages' soak: workers write to each other while they are killed, and an account of every
//! message.
//!
//! It ends by itself, with code 1 when a promise is broken and the ledgers left where it says. It
//! signals only processes that it has seen this master start. See `scripts/messages-soak`.
#![allow(clippy::disallowed_methods, reason = "measures and waits in real time")]

mod account;
mod args;
#[path = "../mod.rs"]
mod common;
mod ledger;
mod reaper;
mod report;
mod run;
#[path = "../soak/victim.rs"]
mod victim;

use std::process::ExitCode;

use clap::Parser;

use crate::args::Args;
use crate::report::Report;

fn main() -> ExitCode {
    let args = Args::parse();
    let ledgers = tempfile::tempdir().expect("a directory for the ledgers");
    let report = Report::on(run::run(&args, ledgers.path()));
    print!("{report}");
    if report.is_clean() {
        ExitCode::SUCCESS
    } else {
        println!("the ledgers are in {}", ledgers.keep().display());
        ExitCode::FAILURE
    }
}
