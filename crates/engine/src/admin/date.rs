//! The date of an answer, as HTTP writes it (RFC 9110, 5.6.7).

use std::time::{Duration, SystemTime};

/// The last second that HTTP can write: the year has four digits.
const LAST: Duration = Duration::from_secs(253_402_300_799);

/// `Thu, 01 Jan 1970 00:00:00 GMT`. A clock that is set to before or behind what can be written is at the nearest second.
pub(super) fn http(now: SystemTime) -> String {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + since.min(LAST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_709_251_199, "Thu, 29 Feb 2024 23:59:59 GMT"),
            (1_709_251_200, "Fri, 01 Mar 2024 00:00:00 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
        ] {
            assert_eq!(http(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn a_clock_that_is_far_off_panics_nobody() {
        let second = Duration::from_secs(1);
        assert_eq!(http(SystemTime::UNIX_EPOCH - second), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(http(SystemTime::UNIX_EPOCH + LAST + second), "Fri, 31 Dec 9999 23:59:59 GMT");
    }
}
