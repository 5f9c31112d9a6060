//! Simulates strategies of dispatch, in virtual time and with the code that the master runs: what
//! happens at a size that no machine at hand has. `scripts/simulate --help`.

mod agenda;
mod args;
mod arrivals;
mod canvas;
mod chart;
mod cluster;
mod outcome;
mod plan;
mod scenario;
mod setting;
mod sources;
mod table;
#[cfg(test)]
mod theory;
mod work;
mod worker;

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result};
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use self::args::Args;
use self::plan::{Row, Run};

fn main() -> Result<()> {
    let args = Args::parse();
    let runs = wanted(&args).unwrap_or_else(|err| err.exit());
    let rows = plan::simulate(&runs, args.seed, tell);
    table::show(&rows, &mut io::stdout().lock()).context("write the tables")?;
    if let Some(into) = &args.into {
        write(&rows, args.seed, into).with_context(|| format!("write into {}", into.display()))?;
    }
    Ok(())
}

/// Empty tables and charts would look like results.
fn wanted(args: &Args) -> Result<Vec<Run>, clap::Error> {
    match (plan::runs(args), args.max_workers) {
        (runs, Some(most)) if runs.is_empty() => Err(Args::command().error(
            ErrorKind::ValueValidation,
            format!(
                "--max-workers {most} leaves nothing to simulate: say --workers {most} for such a cluster"
            ),
        )),
        (runs, Some(_) | None) => Ok(runs),
    }
}

fn tell(row: &Row) {
    let setting = row.run.setting;
    // Nobody minds when nobody looks.
    let _ = writeln!(
        io::stderr(),
        "{}: {}, {} workers, {} %",
        row.run.strategy,
        setting.scenario.name,
        setting.workers,
        setting.utilisation
    );
}

fn write(rows: &[Row], seed: u64, into: &Path) -> Result<()> {
    fs::create_dir_all(into)?;
    let mut csv = Vec::new();
    table::write_csv(rows, seed, &mut csv)?;
    fs::write(into.join("simulation.csv"), csv)?;
    chart::draw(rows, into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_that_leave_nothing_are_a_matter_of_usage() {
        let wanted = |flags: &[&str]| {
            let args = ["simulate", "--quick", "--scenario=plain"];
            wanted(&Args::parse_from(args.iter().chain(flags)))
        };
        let refused = wanted(&["--max-workers=1"]).unwrap_err();
        assert_eq!(refused.exit_code(), 2);
        assert!(refused.to_string().contains("say --workers 1"), "{refused}");
        assert!(!wanted(&["--workers=1"]).unwrap().is_empty());
        assert!(!wanted(&["--max-workers=64"]).unwrap().is_empty());
    }
}
