//! The timetable: a schedule that is known to mean something.
//!
//! What happens when the clocks change for summer is the crate's: a time of day that is left out is
//! made up for as soon as the hour is over, one that comes twice counts the first time; what is due
//! every so often goes on through both.

use std::time::Duration;

use croner::parser::{CronParser, Seconds};
use croner::{Cron, CronPattern, Weekday};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use worker_proto::job::Schedule;

use super::unfit::Unfit;

/// When a job is due.
#[derive(Clone, Debug)]
pub(super) enum Timetable {
    Never,
    Every(Duration),
    Calendar(Box<Calendar>),
}

/// A cron line, and where its hours are told.
#[derive(Clone, Debug)]
pub(super) struct Calendar {
    cron: Cron,
    zone: TimeZone,
}

impl Timetable {
    /// What the schedule says; `home` is the zone of who names none.
    pub(super) fn of(schedule: &Schedule, home: &TimeZone) -> Result<Timetable, Unfit> {
        Ok(match schedule {
            Schedule::Never => Timetable::Never,
            Schedule::Interval(interval) => Timetable::Every(*interval),
            Schedule::Cron {
                expression,
                time_zone,
            } => {
                let cron = parse(expression)?;
                let zone = match time_zone {
                    Some(name) => zone(name)?,
                    None => home.clone(),
                };
                Timetable::Calendar(Box::new(Calendar { cron, zone }))
            }
        })
    }
}

impl Calendar {
    /// The first moment after that one; `None` if there is no other before the year 5000.
    pub(super) fn after(&self, moment: Timestamp) -> Option<Timestamp> {
        let moment = moment.to_zoned(self.zone.clone());
        let found = self.cron.find_next_occurrence(&moment, false);
        found.ok().map(|found| found.timestamp())
    }
}

fn zone(name: &str) -> Result<TimeZone, Unfit> {
    // Longer than any, and not worth a look.
    let found = (name.len() <= LONGEST_LINE).then(|| TimeZone::get(name));
    found.and_then(Result::ok).ok_or_else(|| Unfit::TimeZone {
        name: name.chars().take(LONGEST_LINE).collect(),
    })
}

fn parse(expression: &str) -> Result<Cron, Unfit> {
    let unfit = |reason: String| Unfit::Cron {
        expression: expression.chars().take(LONGEST_LINE).collect(),
        reason,
    };
    if expression.len() > LONGEST_LINE {
        return Err(unfit(format!("longer than {LONGEST_LINE} bytes")));
    }
    let cron = parser()
        .parse(expression)
        .map_err(|err| unfit(explain(expression, &err.to_string())))?;
    if is_on_no_day(&cron) {
        return Err(unfit("there is no such day in these months".to_owned()));
    }
    Ok(cron)
}

fn parser() -> CronParser {
    CronParser::builder().seconds(Seconds::Optional).build()
}

/// Whether it means the 30th of February and the like, which the crate would look for through three
/// thousand years: a second and more, in which the master does nothing else.
fn is_on_no_day(cron: &Cron) -> bool {
    !every_kind_of_day().any(|day| is_on(&cron.pattern, day))
}

/// Every date there can be, on every weekday that it can be.
fn every_kind_of_day() -> impl Iterator<Item = Date> {
    // Without a century in between years repeat after 28.
    let first = jiff::civil::date(2001, 1, 1);
    first.series(1.day()).take(28 * 365 + 7)
}

/// What is no day of the crate's is no day.
fn is_on(pattern: &CronPattern, day: Date) -> bool {
    let [month, day_of_month] = [day.month(), day.day()]
        .map(i8::unsigned_abs)
        .map(u32::from);
    let weekday = u32::from(day.weekday().to_sunday_zero_offset().unsigned_abs());
    let weekday = Weekday::from_days_from_sunday(weekday);
    let year = i32::from(day.year());
    pattern.month_match(month).unwrap_or(false)
        && pattern
            .day_match(year, month, day_of_month, weekday)
            .unwrap_or(false)
}

/// What is wrong with which field: the crate tells what, and each field by itself tells which.
fn explain(expression: &str, reason: &str) -> String {
    let reason = reason.rsplit(": ").next().unwrap_or(reason);
    let reason = reason.trim_end_matches('.').to_lowercase();
    let fields: Vec<&str> = expression.split_whitespace().collect();
    let names: &[_] = match fields.len() {
        5 => &FIELDS[1..6],
        6 => &FIELDS[..6],
        7 => &FIELDS,
        _ => {
            return "write 5 fields, minute hour day month weekday, before them a field of seconds if \
                    it matters; or @hourly, @daily, @weekly, @monthly, @yearly"
                .to_owned();
        }
    };
    let is_wrong = |index: usize| {
        let mut alone = vec!["*"; fields.len()];
        alone[index] = fields[index];
        parser().parse(&alone.join(" ")).is_err()
    };
    match (0..fields.len()).find(|&index| is_wrong(index)) {
        Some(index) => {
            let ((name, range), field) = (names[index], fields[index]);
            format!("{name} {field:?}: {reason}; write {range}")
        }
        None => reason,
    }
}

/// Each field, and what may stand there.
const FIELDS: [(&str, &str); 7] = [
    ("second", "0 to 59, * or */N"),
    ("minute", "0 to 59, * or */N"),
    ("hour", "0 to 23, * or */N"),
    ("day", "1 to 31, L for the last one, * or */N"),
    ("month", "1 to 12, JAN to DEC, * or */N"),
    ("weekday", "0 to 7, SUN to SAT, * or */N"),
    ("year", "1 to 9999, * or */N"),
];

/// Longer than anybody writes a line, and nothing to a parser.
const LONGEST_LINE: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(line: &str) -> String {
        parse(line).unwrap_err().to_string()
    }

    fn next(line: &str, zone_name: &str, after: &str) -> String {
        let calendar = Calendar {
            cron: parse(line).unwrap(),
            zone: zone(zone_name).unwrap(),
        };
        let after = after.parse().unwrap();
        calendar.after(after).unwrap().to_string()
    }

    #[test]
    fn a_line_that_is_none_is_refused_with_its_field_and_the_remedy() {
        for (line, says) in [
            (
                "61 * * * *",
                "minute \"61\": number out of bounds; write 0 to 59",
            ),
            ("0 61 * * * *", "minute \"61\""),
            ("* 24 * * *", "hour \"24\""),
            ("* * 0 * *", "day \"0\""),
            ("* * * 13 *", "month \"13\""),
            ("* * * * FOO", "weekday \"FOO\""),
            ("*/0 * * * *", "minute \"*/0\""),
            ("0/5 * * * *", "minute \"0/5\""),
            ("* * *", "write 5 fields"),
            ("", "write 5 fields"),
            ("@reboot", "@hourly"),
            ("0 0 30 2 *", "no such day"),
            ("0 0 31 4,6,9,11 +MON", "no such day"),
            ("0 0 31W 2 *", "no such day"),
            ("0 0 20 * +MON#1", "no such day"),
            ("0 0 31 12 +L", "no such day"),
        ] {
            let said = refusal(line);
            assert!(said.contains(says), "{line}: {said}");
            assert!(said.contains(&format!("cron {line:?}")), "{said}");
        }
        assert!(refusal(&"* ".repeat(200)).contains("longer than"));
        assert!(zone("Europe/Atlantis").is_err());
        assert!(zone(&"x".repeat(100_000)).unwrap_err().to_string().len() < 1000);
    }

    #[test]
    fn a_day_that_comes_now_and_then_is_one() {
        for line in [
            "0 0 29 2 *",
            "0 0 31 * *",
            "0 0 30 2 MON",
            "0 0 L 2 *",
            "0 0 29 2 +MON#5",
            "0 0 29W 2 *",
            "0 0 LW 2 *",
            "@hourly",
        ] {
            assert!(parse(line).is_ok(), "{line}");
        }
    }

    #[test]
    fn seconds_are_a_field_that_may_be_left_out() {
        let at = "2026-01-31T12:00:00Z";
        assert_eq!(next("*/5 * * * *", "UTC", at), "2026-01-31T12:05:00Z");
        assert_eq!(next("*/5 * * * * *", "UTC", at), "2026-01-31T12:00:05Z");
    }

    /// In Berlin there is no 02:30 on 29 March 2026, and two on 25 October.
    #[test]
    fn a_time_of_day_counts_once_when_the_clocks_change() {
        let berlin = |line, after| next(line, "Europe/Berlin", after);
        let first = berlin("30 2 * * *", "2026-03-28T12:00:00Z");
        assert_eq!(first, "2026-03-29T01:00:00Z", "made up for at 03:00");
        assert_eq!(berlin("30 2 * * *", &first), "2026-03-30T00:30:00Z");
        let first = berlin("30 2 * * *", "2026-10-24T12:00:00Z");
        assert_eq!(first, "2026-10-25T00:30:00Z", "the first of the two");
        assert_eq!(berlin("30 2 * * *", &first), "2026-10-26T01:30:00Z");
    }

    #[test]
    fn what_is_due_every_hour_goes_on_when_the_clocks_change() {
        let mut at = "2026-10-24T23:30:00Z".to_owned();
        for expected in ["00", "01", "02", "03"] {
            at = next("0 * * * *", "Europe/Berlin", &at);
            assert_eq!(at, format!("2026-10-25T{expected}:00:00Z"));
        }
    }
}
