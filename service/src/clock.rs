//! The wall clock, read in one place.

use record::UnixMillis;
use std::time::{SystemTime, UNIX_EPOCH};

/// The time now; 0 if the clock stands before 1970.
pub fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
