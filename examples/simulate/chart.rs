//! The results, as charts.

use std::path::Path;

use anyhow::Result;
use plotters::style::text_anchor::HPos;
use rr_master::dispatch::StrategyName;

use crate::canvas::{Canvas, GRID, Less, Plot, Scale, Spacing, color};
use crate::outcome::Outcome;
use crate::plan::Row;
use crate::scenario::Scenario;
use crate::setting::Setting;

/// Draws every chart for which there are results.
pub(crate) fn draw(rows: &[Row], into: &Path) -> Result<()> {
    by_number(
        rows,
        &Chart {
            path: &into.join("wait-by-utilisation.svg"),
            title: "p99 wait, in times the work for one connection: 64 workers",
            scale: &UTILISATIONS,
            axis: "utilisation, %",
        },
        |setting| (setting.workers == WORKERS).then_some(setting.utilisation),
    )?;
    by_number(
        rows,
        &Chart {
            path: &into.join("wait-by-workers.svg"),
            title: "p99 wait, in times the work for one connection: 80 % utilisation",
            scale: &SIZES,
            axis: "workers",
        },
        |setting| (setting.utilisation == UTILISATION).then_some(setting.workers),
    )?;
    by_scenario(
        rows,
        &Chart {
            path: &into.join("wait-by-scenario.svg"),
            title: "p99 wait, by what happens: 64 workers, 80 % utilisation",
            scale: &WAITS,
            axis: "times the work for one connection",
        },
        UTILISATION,
        |outcome| outcome.p99,
    )?;
    by_scenario(
        rows,
        &Chart {
            path: &into.join("busiest-by-scenario.svg"),
            title: "The busiest worker, by what happens: 64 workers, 50 % utilisation",
            scale: &SPREADS,
            axis: "its busy time, in times the mean of all workers",
        },
        LITTLE_UTILISATION,
        |outcome| outcome.busy_spread,
    )
}

/// What one chart is about.
struct Chart<'a> {
    path: &'a Path,
    title: &'a str,
    scale: &'a Scale,
    axis: &'a str,
}

/// How long clients wait in the plain scenario, by a number that the setting has.
fn by_number(rows: &[Row], chart: &Chart<'_>, number: fn(&Setting) -> Option<u32>) -> Result<()> {
    let plain = rows
        .iter()
        .filter(|row| row.run.setting.scenario == Scenario::PLAIN);
    let points = plain.filter_map(|row| Some((row, f64::from(number(&row.run.setting)?))));
    let mut points: Vec<(&Row, f64)> = points.collect();
    points.sort_by(|(_, one), (_, other)| one.total_cmp(other));
    if points.is_empty() {
        return Ok(());
    }
    let canvas = Canvas::new(chart.path, chart.title, 60, (560, 380))?;
    canvas.x_axis(chart.scale, chart.axis)?;
    canvas.y_axis(&WAITS)?;
    let Plot {
        left,
        right,
        top,
        bottom,
    } = canvas.plot;
    // The first is on top of those that do the same.
    for strategy in StrategyName::ALL.into_iter().rev() {
        let own = points
            .iter()
            .filter(|(row, _)| row.run.strategy == strategy);
        let pixels = own.map(|(row, x)| {
            let x = chart.scale.pixel(*x, left, right);
            (x, WAITS.pixel(row.outcome.p99, bottom, top))
        });
        let pixels: Vec<(i32, i32)> = pixels.collect();
        canvas.line(&pixels, color(strategy), 2)?;
        for &pixel in &pixels {
            canvas.mark(strategy, pixel)?;
        }
    }
    canvas.finish()
}

/// A figure of every scenario, in one cluster.
fn by_scenario(
    rows: &[Row],
    chart: &Chart<'_>,
    utilisation: u32,
    figure: fn(&Outcome) -> f64,
) -> Result<()> {
    let is_shown =
        |setting: &Setting| setting.workers == WORKERS && setting.utilisation == utilisation;
    let rows: Vec<&Row> = rows
        .iter()
        .filter(|row| is_shown(&row.run.setting))
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    let lines = i32::try_from(Scenario::ALL.len())?;
    let canvas = Canvas::new(chart.path, chart.title, 120, (500, lines * LINE))?;
    canvas.x_axis(chart.scale, chart.axis)?;
    let Plot {
        left, right, top, ..
    } = canvas.plot;
    for (scenario, line) in Scenario::ALL.iter().zip(0..) {
        let middle = top + line * LINE + LINE / 2;
        canvas.write(scenario.name, (left - 14, middle), 13, HPos::Right)?;
        canvas.line(
            &[(left, middle + LINE / 2), (right, middle + LINE / 2)],
            GRID,
            1,
        )?;
        for (strategy, place) in StrategyName::ALL.into_iter().zip(-3..) {
            let of =
                |row: &&&Row| row.run.strategy == strategy && row.run.setting.scenario == *scenario;
            if let Some(row) = rows.iter().find(of) {
                let x = chart.scale.pixel(figure(&row.outcome), left, right);
                canvas.mark(strategy, (x, middle + place * STEP))?;
            }
        }
    }
    canvas.finish()
}

const WORKERS: u32 = 64;
const UTILISATION: u32 = 80;
/// At which a worker can be twice as busy as the mean.
const LITTLE_UTILISATION: u32 = 50;

const WAITS: Scale = Scale {
    spacing: Spacing::Logarithmic,
    range: 0.1..200.0,
    ticks: &[0.1, 1.0, 10.0, 100.0],
    less: Less::Shown,
};
const SPREADS: Scale = Scale {
    spacing: Spacing::Linear,
    range: 1.0..2.1,
    ticks: &[1.0, 1.2, 1.4, 1.6, 1.8, 2.0],
    less: Less::Impossible,
};
const UTILISATIONS: Scale = Scale {
    spacing: Spacing::Linear,
    range: 20.0..100.0,
    ticks: &[20.0, 40.0, 60.0, 80.0, 100.0],
    less: Less::Impossible,
};
const SIZES: Scale = Scale {
    spacing: Spacing::Logarithmic,
    range: 4.0..10_000.0,
    ticks: &[4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 10_000.0],
    less: Less::Impossible,
};

/// How high a scenario is, and how far apart its marks are, in pixels.
const LINE: i32 = 104;
const STEP: i32 = 14;
