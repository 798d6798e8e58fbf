//! A moment, as a value that the caller brings.

use std::fmt;
use std::ops::Add;
use std::time::{Duration, SystemTime};

/// Milliseconds since 1970-01-01T00:00:00Z, without leap seconds.
///
/// Pure crates never ask a clock: a `Timestamp` comes in as an argument. A caller that wants to be
/// safe from a clock that steps back hands out the start time plus a monotonic clock's progress.
/// Arithmetic saturates. [`Timestamp::rfc5322`] is the only rendering for machines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(transparent))]
pub struct Timestamp(u64);

impl Timestamp {
    /// From milliseconds since 1970.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to this moment; zero when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// The moment `by` earlier; 1970 at the earliest.
    #[must_use]
    pub fn before(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(millis(by)))
    }

    /// The date-time of RFC 5322 section 3.3, in UTC: `Tue, 24 Mar 2020 23:11:47 +0000`.
    #[must_use]
    pub fn rfc5322(self) -> String {
        const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
        const MONTHS: [&str; 12] =
            ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let (days, civil) = (self.0 / 86_400_000, Civil::from(self));
        let weekday = usize::try_from(days % 7).ok().and_then(|i| DAYS.get(i)).unwrap_or(&"Thu");
        let month = usize::try_from(civil.month - 1).ok().and_then(|i| MONTHS.get(i));
        format!(
            "{weekday}, {} {} {} {:02}:{:02}:{:02} +0000",
            civil.day,
            month.unwrap_or(&"Jan"),
            civil.year,
            civil.hour,
            civil.minute,
            civil.second
        )
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What a clock said, which the caller has asked: `Timestamp::from(SystemTime::now())`. To the whole
/// millisecond; a time before 1970 is 1970.
impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        Self(millis(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Timestamp;

    fn add(self, by: Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(millis(by)))
    }
}

/// RFC 3339, in UTC, to the second: `2020-03-24T23:11:47Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Civil { year, month, day, hour, minute, second } = Civil::from(*self);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

struct Civil {
    year: u64,
    month: u64,
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
}

impl From<Timestamp> for Civil {
    /// The proleptic Gregorian calendar, counted in 400-year eras that begin on 1 March.
    fn from(at: Timestamp) -> Self {
        let seconds = at.0 / 1000;
        let days = seconds / 86_400 + 719_468;
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * day_of_year + 2) / 153;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        Civil {
            year: year_of_era + era * 400 + u64::from(month <= 2),
            month,
            day: day_of_year - (153 * shifted + 2) / 5 + 1,
            hour: seconds / 3600 % 24,
            minute: seconds / 60 % 60,
            second: seconds % 60,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_known_moments() {
        for (seconds, iso, mail) in [
            (0, "1970-01-01T00:00:00Z", "Thu, 1 Jan 1970 00:00:00 +0000"),
            (951_782_400, "2000-02-29T00:00:00Z", "Tue, 29 Feb 2000 00:00:00 +0000"),
            (1_585_091_507, "2020-03-24T23:11:47Z", "Tue, 24 Mar 2020 23:11:47 +0000"),
            (4_102_444_799, "2099-12-31T23:59:59Z", "Thu, 31 Dec 2099 23:59:59 +0000"),
        ] {
            let at = Timestamp::from_millis(seconds * 1000 + 999);
            assert_eq!(at.to_string(), iso);
            assert_eq!(at.rfc5322(), mail);
        }
    }

    #[test]
    fn arithmetic_saturates() {
        let end = Timestamp::from_millis(u64::MAX);
        assert_eq!(end + Duration::from_secs(1), end);
        assert_eq!(Timestamp::default().since(end), Duration::ZERO);
        assert_eq!(Timestamp::default().before(Duration::from_secs(1)), Timestamp::default());
        let _ = end.rfc5322();
    }
}
