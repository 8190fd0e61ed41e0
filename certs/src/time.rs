//! Points in time and spans of validity, in whole seconds as certificates hold
//! them. The caller supplies the present.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use x509_parser::time::ASN1Time;

use crate::Error;

/// How long a new certificate authority lives, in days: ten years.
pub const CA_DAYS: u32 = 3653;
/// How long a certificate lives unless asked otherwise, in days: a year and a
/// month to renew it in, and no longer than any browser accepts.
pub const LEAF_DAYS: u32 = 397;
/// How long a revocation list may be used before it must be refreshed, in days.
pub const CRL_DAYS: u32 = 30;
/// The longest validity that may be asked for, in days: a hundred years.
pub const MAX_DAYS: u32 = 36_525;
/// How far a certificate's beginning lies before its issue, in seconds, so
/// that a machine whose clock is behind can use it at once.
pub const BACKDATE_SECONDS: u64 = 3600;

const DAY: u64 = 86_400;
/// The last second of the year 9999, the last that a certificate can hold.
const LAST: u64 = 253_402_300_799;

/// Seconds since 1970-01-01T00:00:00Z, at most the last of the year 9999.
/// Shown as RFC 3339 in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "u64")]
pub struct Timestamp(u64);

/// From when until when a certificate or revocation list holds, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Validity {
    /// The first second.
    pub not_before: Timestamp,
    /// The last second.
    pub not_after: Timestamp,
}

impl Timestamp {
    /// Seconds since 1970-01-01T00:00:00Z.
    pub fn seconds(self) -> u64 {
        self.0
    }

    /// This time plus so many days, at most the year 9999.
    pub fn plus_days(self, days: u32) -> Self {
        (self.0 + u64::from(days) * DAY).into()
    }

    /// This time minus so many seconds, at least 1970.
    pub fn minus_seconds(self, seconds: u64) -> Self {
        self.0.saturating_sub(seconds).into()
    }

    pub(crate) fn asn1(self) -> ASN1Time {
        let seconds = i64::try_from(self.0).expect("bounded by the year 9999");
        ASN1Time::from_timestamp(seconds).expect("bounded by the year 9999")
    }
}

impl From<u64> for Timestamp {
    fn from(seconds: u64) -> Self {
        Timestamp(seconds.min(LAST))
    }
}

impl From<SystemTime> for Timestamp {
    /// A clock before 1970 counts as 1970.
    fn from(time: SystemTime) -> Self {
        time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs().into()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.asn1().to_datetime();
        let (month, day) = (u8::from(at.month()), at.day());
        let (hour, minute, second) = (at.hour(), at.minute(), at.second());
        write!(f, "{:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z", at.year())
    }
}

impl Validity {
    /// From an hour before `now` until `days` after it.
    ///
    /// # Errors
    /// [`Error::Days`] unless `days` is 1 to [`MAX_DAYS`].
    pub fn days(now: Timestamp, days: u32) -> Result<Self, Error> {
        if !(1..=MAX_DAYS).contains(&days) {
            return Err(Error::Days(days));
        }
        Ok(Validity {
            not_before: now.minus_seconds(BACKDATE_SECONDS),
            not_after: now.plus_days(days),
        })
    }

    pub(crate) fn check(self) -> Result<Self, Error> {
        if self.not_before < self.not_after {
            return Ok(self);
        }
        Err(Error::Backwards { not_before: self.not_before, not_after: self.not_after })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_reads_the_date_that_is_in_the_certificate() {
        assert_eq!(Timestamp::from(1_795_248_147).to_string(), "2026-11-21T08:02:27Z");
        assert_eq!(Timestamp::from(0).to_string(), "1970-01-01T00:00:00Z");
        assert_eq!(Timestamp::from(u64::MAX).to_string(), "9999-12-31T23:59:59Z");
    }

    #[test]
    fn a_validity_of_no_days_or_of_ages_is_refused() {
        let now = Timestamp::from(1_795_248_147);
        assert!(Validity::days(now, 0).is_err());
        assert!(Validity::days(now, MAX_DAYS + 1).is_err());
        let valid = Validity::days(now, 1).unwrap();
        assert_eq!(valid.not_after.seconds() - valid.not_before.seconds(), DAY + BACKDATE_SECONDS);
    }
}
