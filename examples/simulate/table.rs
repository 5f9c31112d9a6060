//! The results, as a table for people and as CSV for programs.

use std::io::{self, Write};

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};

use crate::plan::Row;

/// Writes a table for each setting.
pub(crate) fn show(rows: &[Row], out: &mut impl Write) -> io::Result<()> {
    for rows in rows.chunk_by(|one, other| one.run.setting == other.run.setting) {
        let setting = rows[0].run.setting;
        let scenario = setting.scenario;
        writeln!(
            out,
            "\n{}: {}\n{} workers, {} % utilisation, {} connections",
            scenario.name,
            scenario.about,
            setting.workers,
            setting.utilisation,
            setting.measured()
        )?;
        let mut table = Table::new();
        table.load_preset(NOTHING);
        table.set_header([
            "strategy",
            "mean wait",
            "p50",
            "p99",
            "p99.9",
            "busy %",
            "most busy",
            "most conn.",
            "saturated %",
            "held %",
            "refused %",
        ]);
        for Row { run, outcome } in rows {
            table.add_row([
                run.strategy.to_string(),
                figure(outcome.mean),
                figure(outcome.p50),
                figure(outcome.p99),
                figure(outcome.p999),
                format!("{:.1}", outcome.busy * 100.0),
                format!("{:.2}×", outcome.busy_spread),
                format!("{:.2}×", outcome.connections_spread),
                percent(outcome.saturated),
                percent(outcome.held),
                percent(outcome.refused),
            ]);
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        writeln!(out, "{table}")?;
    }
    Ok(())
}

/// Writes a line for each run, and one that names the columns.
pub(crate) fn write_csv(rows: &[Row], seed: u64, out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "scenario,workers,utilisation,window,servers,seed,strategy,connections,\
         wait_mean,wait_p50,wait_p99,wait_p999,busy,busy_max_by_mean,connections_max_by_mean,\
         saturated,held,refused"
    )?;
    for Row { run, outcome } in rows {
        let setting = run.setting;
        writeln!(
            out,
            "{},{},{},{},{},{seed},{},{},{:.4},{:.4},{:.4},{:.4},{:.4},{:.4},{:.4},{:.6},{:.6},{:.6}",
            setting.scenario.name,
            setting.workers,
            setting.utilisation,
            setting.window,
            setting.servers,
            run.strategy,
            outcome.connections,
            outcome.mean,
            outcome.p50,
            outcome.p99,
            outcome.p999,
            outcome.busy,
            outcome.busy_spread,
            outcome.connections_spread,
            outcome.saturated,
            outcome.held,
            outcome.refused,
        )?;
    }
    Ok(())
}

fn figure(value: f64) -> String {
    if value < 10.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.1}")
    }
}

fn percent(share: f64) -> String {
    if share == 0.0 {
        "0".to_owned()
    } else {
        format!("{:.2}", share * 100.0)
    }
}
