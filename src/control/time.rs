//! A moment of the wall clock, as it is written into events.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A moment, since 1970. Written as `2026-01-31T12:00:00.123Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnixTime(pub Duration);

impl UnixTime {
    /// The same moment, for the standard library.
    #[must_use]
    pub fn to_system_time(self) -> SystemTime {
        UNIX_EPOCH.checked_add(self.0).unwrap_or(UNIX_EPOCH)
    }
}

impl From<SystemTime> for UnixTime {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        UnixTime(Duration::from_millis(millis))
    }
}

impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Beyond the year 9999 there is no way to write it.
        let latest = UNIX_EPOCH + LATEST;
        let time = self.to_system_time().min(latest);
        humantime::format_rfc3339_millis(time).fmt(f)
    }
}

impl Serialize for UnixTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for UnixTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time = humantime::parse_rfc3339(&text).map_err(de::Error::custom)?;
        Ok(UnixTime::from(time))
    }
}

/// The last second of the year 9999.
const LATEST: Duration = Duration::from_secs(253_402_300_799);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_and_read_to_the_millisecond() {
        let moment = UnixTime(Duration::from_millis(1_769_860_800_123));
        let written = serde_json::to_string(&moment).unwrap();
        assert_eq!(written, "\"2026-01-31T12:00:00.123Z\"");
        assert_eq!(serde_json::from_str::<UnixTime>(&written).unwrap(), moment);
        assert!(UnixTime(Duration::MAX).to_string().starts_with("1970"));
    }
}
