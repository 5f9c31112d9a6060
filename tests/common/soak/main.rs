//! The soak: load on a real master while its workers die, and an account of every connection.
//!
//! It ends by itself, with code 1 when a promise is broken and the evidence left where it says.
//! It signals only processes that it has seen this master start. See `scripts/soak`.
#![allow(clippy::disallowed_methods, reason = "measures and waits in real time")]

mod args;
#[path = "../mod.rs"]
mod common;
mod curve;
mod load;
mod progress;
mod reaper;
mod report;
mod run;
mod victim;

use std::process::ExitCode;

use clap::Parser;

use crate::args::Args;
use crate::report::Report;

fn main() -> ExitCode {
    let args = Args::parse();
    let evidence = tempfile::tempdir().expect("a directory for the evidence");
    let report = Report::on(run::run(&args, evidence.path()));
    print!("{report}");
    if report.is_clean() {
        ExitCode::SUCCESS
    } else {
        println!("the evidence is in {}", evidence.keep().display());
        ExitCode::FAILURE
    }
}
