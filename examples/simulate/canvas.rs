//! What charts are drawn with: axes, marks, and one look for each strategy in all charts.
//!
//! The colours are those of Okabe and Ito, "Color Universal Design", which people see differently
//! and still tell apart; a mark of its own does so without colours.

use std::ops::Range;
use std::path::Path;

use anyhow::Result;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use rr_master::dispatch::StrategyName;

/// A drawing, with room for a plot, its axes, and the legend beside it.
pub(crate) struct Canvas<'a> {
    area: DrawingArea<SVGBackend<'a>, Shift>,
    pub(crate) plot: Plot,
}

/// Where the plot is, in pixels.
#[derive(Clone, Copy)]
pub(crate) struct Plot {
    pub(crate) left: i32,
    pub(crate) right: i32,
    pub(crate) top: i32,
    pub(crate) bottom: i32,
}

/// Where a number is on an axis.
pub(crate) struct Scale {
    pub(crate) spacing: Spacing,
    pub(crate) range: Range<f64>,
    /// Where it is labelled.
    pub(crate) ticks: &'static [f64],
    /// What is less than the range begins with.
    pub(crate) less: Less,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Less {
    Impossible,
    /// Is drawn where the range begins.
    Shown,
}

#[derive(Clone, Copy)]
pub(crate) enum Spacing {
    Linear,
    Logarithmic,
}

impl Scale {
    /// The pixel of a number, of those from `first` to `last`.
    pub(crate) fn pixel(&self, value: f64, first: i32, last: i32) -> i32 {
        let bent = |value: f64| match self.spacing {
            Spacing::Linear => value,
            Spacing::Logarithmic => value.ln(),
        };
        let value = bent(value.clamp(self.range.start, self.range.end));
        let (start, end) = (bent(self.range.start), bent(self.range.end));
        let share = (value - start) / (end - start);
        #[expect(clippy::cast_possible_truncation, reason = "lies between two pixels")]
        let offset = (share * f64::from(last - first)).round() as i32;
        first + offset
    }
}

impl Scale {
    fn label(&self, tick: f64) -> String {
        if self.less == Less::Shown && tick <= self.range.start {
            format!("≤ {}", number(tick))
        } else {
            number(tick)
        }
    }
}

impl<'a> Canvas<'a> {
    /// An empty one, of which the plot is that large.
    pub(crate) fn new(path: &'a Path, title: &str, left: i32, plot: (i32, i32)) -> Result<Self> {
        let plot = Plot {
            left,
            right: left + plot.0,
            top: 44,
            bottom: 44 + plot.1,
        };
        let size = (plot.right + LEGEND_WIDTH, plot.bottom + 56);
        let size = (size.0.unsigned_abs(), size.1.unsigned_abs());
        let area = SVGBackend::new(path, size).into_drawing_area();
        area.fill(&WHITE)?;
        let canvas = Canvas { area, plot };
        canvas.write(title, (left, 20), 16, HPos::Left)?;
        canvas.legend()?;
        Ok(canvas)
    }

    pub(crate) fn write(&self, text: &str, at: (i32, i32), size: i32, align: HPos) -> Result<()> {
        let style = ("sans-serif", size).into_text_style(&self.area);
        let style = style.color(&INK).pos(Pos::new(align, VPos::Center));
        self.area.draw(&Text::new(text.to_owned(), at, style))?;
        Ok(())
    }

    /// Lines and labels across the plot.
    pub(crate) fn x_axis(&self, scale: &Scale, label: &str) -> Result<()> {
        let Plot {
            left,
            right,
            top,
            bottom,
        } = self.plot;
        for &tick in scale.ticks {
            let x = scale.pixel(tick, left, right);
            self.line(&[(x, top), (x, bottom)], GRID, 1)?;
            self.write(&scale.label(tick), (x, bottom + 14), 12, HPos::Center)?;
        }
        self.line(&[(left, bottom), (right, bottom)], INK, 1)?;
        self.write(
            label,
            (i32::midpoint(left, right), bottom + 38),
            13,
            HPos::Center,
        )
    }

    /// The same, up the plot; the label stands above it.
    pub(crate) fn y_axis(&self, scale: &Scale) -> Result<()> {
        let Plot {
            left,
            right,
            top,
            bottom,
        } = self.plot;
        for &tick in scale.ticks {
            let y = scale.pixel(tick, bottom, top);
            self.line(&[(left, y), (right, y)], GRID, 1)?;
            self.write(&scale.label(tick), (left - 8, y), 12, HPos::Right)?;
        }
        self.line(&[(left, top), (left, bottom)], INK, 1)
    }

    pub(crate) fn line(&self, points: &[(i32, i32)], color: RGBColor, width: u32) -> Result<()> {
        let style = color.stroke_width(width);
        self.area.draw(&PathElement::new(points.to_vec(), style))?;
        Ok(())
    }

    /// The strategy's mark.
    pub(crate) fn mark(&self, strategy: StrategyName, (x, y): (i32, i32)) -> Result<()> {
        let color = color(strategy);
        let (fill, line) = (color.filled(), color.stroke_width(2));
        let polygon = |corners: &[(i32, i32)]| {
            let corners = corners.iter().map(|&(right, down)| (x + right, y + down));
            Polygon::new(corners.collect::<Vec<_>>(), fill)
        };
        match strategy {
            StrategyName::RoundRobin => self.area.draw(&Circle::new((x, y), 5, fill))?,
            StrategyName::LeastConnections => {
                self.area
                    .draw(&polygon(&[(-5, -5), (5, -5), (5, 5), (-5, 5)]))?;
            }
            StrategyName::PowerOfTwoChoices => {
                self.area.draw(&polygon(&[(0, -6), (6, 5), (-6, 5)]))?;
            }
            // Around the mark of round-robin, where it does the same.
            StrategyName::Weighted => self.area.draw(&Circle::new((x, y), 8, line))?,
            StrategyName::SourceHash => {
                self.area
                    .draw(&polygon(&[(0, -7), (7, 0), (0, 7), (-7, 0)]))?;
            }
            StrategyName::IdleFirst => {
                self.area.draw(&polygon(&[(0, 6), (6, -5), (-6, -5)]))?;
            }
            StrategyName::Random => self.area.draw(&Cross::new((x, y), 7, line))?,
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> Result<()> {
        self.area.present()?;
        Ok(())
    }

    fn legend(&self) -> Result<()> {
        let left = self.plot.right + 28;
        for (strategy, line) in StrategyName::ALL.into_iter().zip(0..) {
            let y = self.plot.top + 12 + line * 24;
            self.mark(strategy, (left, y))?;
            self.write(strategy.as_str(), (left + 16, y), 13, HPos::Left)?;
        }
        Ok(())
    }
}

/// A strategy's colour.
pub(crate) fn color(strategy: StrategyName) -> RGBColor {
    match strategy {
        StrategyName::RoundRobin => RGBColor(0, 114, 178),
        StrategyName::LeastConnections => RGBColor(0, 158, 115),
        StrategyName::PowerOfTwoChoices => RGBColor(213, 94, 0),
        StrategyName::Weighted => RGBColor(86, 180, 233),
        StrategyName::SourceHash => RGBColor(204, 121, 167),
        StrategyName::IdleFirst => RGBColor(230, 159, 0),
        StrategyName::Random => RGBColor(90, 90, 90),
    }
}

/// 10000 is hard to read.
fn number(value: f64) -> String {
    if value >= 1000.0 {
        format!("{},{:03}", (value / 1000.0).floor(), value % 1000.0)
    } else {
        value.to_string()
    }
}

const LEGEND_WIDTH: i32 = 210;
pub(crate) const INK: RGBColor = RGBColor(40, 40, 40);
pub(crate) const GRID: RGBColor = RGBColor(225, 225, 225);
