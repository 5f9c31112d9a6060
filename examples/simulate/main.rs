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
use clap::Parser;

use self::args::Args;
use self::plan::Row;

fn main() -> Result<()> {
    let args = Args::parse();
    let runs = plan::runs(&args);
    let rows = plan::simulate(&runs, args.seed, tell);
    table::show(&rows, &mut io::stdout().lock()).context("write the tables")?;
    if let Some(into) = &args.into {
        write(&rows, args.seed, into).with_context(|| format!("write into {}", into.display()))?;
    }
    Ok(())
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
