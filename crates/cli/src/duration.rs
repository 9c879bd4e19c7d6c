//! Durations, as options take them: `500ms`, `30s`, `10m`, `1h`; a bare number is seconds.

use std::time::Duration;

/// Why a text is not a duration.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DurationError {
    #[error("a duration is a number and a unit, such as 500ms, 30s, 10m or 1h")]
    NotADuration,
    #[error("there is no unit '{0}': a duration is in ms, s, m or h, and a bare number is seconds")]
    UnknownUnit(String),
    #[error("a duration cannot be negative")]
    Negative,
    #[error("the time between two checks cannot be shorter than 10ms")]
    TooShort,
    #[error("a duration cannot be longer than {LONGEST_HOURS} hours")]
    TooLong,
}

/// A hundred years. A longer one is a mistake, and this much can be added to any clock.
const LONGEST_HOURS: u32 = 876_600;

/// The shortest time between two checks: a shell is started for each.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);

/// Reads a time between two checks.
pub(crate) fn parse_interval(text: &str) -> Result<Duration, DurationError> {
    parse(text)
        .and_then(|span| if span < SHORTEST_INTERVAL { Err(DurationError::TooShort) } else { Ok(span) })
}

/// Reads a duration.
pub(crate) fn parse(text: &str) -> Result<Duration, DurationError> {
    let text = text.trim();
    if text.starts_with('-') {
        return Err(DurationError::Negative);
    }
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    // `f64` reads words such as `inf` too, but only digits and dots have come this far.
    let number: f64 = number.parse().map_err(|_| DurationError::NotADuration)?;
    let seconds = match unit.trim_start() {
        "ms" => number / 1e3,
        "" | "s" => number,
        "m" => number * 60.0,
        "h" => number * 3600.0,
        unknown => return Err(DurationError::UnknownUnit(unknown.to_owned())),
    };
    if seconds > f64::from(LONGEST_HOURS) * 3600.0 {
        return Err(DurationError::TooLong);
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| DurationError::TooLong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_and_none() {
        let golden = [
            ("500ms", Duration::from_millis(500)),
            ("30s", Duration::from_secs(30)),
            ("10m", Duration::from_secs(600)),
            ("1h", Duration::from_secs(3600)),
            ("7", Duration::from_secs(7)),
            ("0", Duration::ZERO),
            ("0.3", Duration::from_millis(300)),
            (".5s", Duration::from_millis(500)),
            ("1.5h", Duration::from_secs(5400)),
            (" 2 s ", Duration::from_secs(2)),
        ];
        for (text, duration) in golden {
            assert_eq!(parse(text), Ok(duration), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_duration() {
        for text in ["", "s", "ms", ".", "1.2.3", "NaN", "inf", "infinity", "+5", "half", "１s"] {
            assert_eq!(parse(text), Err(DurationError::NotADuration), "{text}");
        }
    }

    #[test]
    fn a_unit_that_there_is_not_is_named() {
        for (text, unit) in [("5d", "d"), ("1e3", "e3"), ("3 min", "min"), ("1h30m", "h30m"), ("5S", "S")] {
            assert_eq!(parse(text), Err(DurationError::UnknownUnit(unit.to_owned())), "{text}");
        }
    }

    #[test]
    fn a_duration_has_its_bounds() {
        for text in ["-1", "-1s", "-0.5h", "-"] {
            assert_eq!(parse(text), Err(DurationError::Negative), "{text}");
        }
        for text in ["876601h", "99999999999999999999999s", &"9".repeat(400)] {
            assert_eq!(parse(text), Err(DurationError::TooLong), "{text}");
        }
        assert!(parse("876600h").is_ok());
    }

    #[test]
    fn messages() {
        let message = |text| parse(text).unwrap_err().to_string();
        insta::assert_snapshot!(message("x"), @"a duration is a number and a unit, such as 500ms, 30s, 10m or 1h");
        insta::assert_snapshot!(message("1d"), @"there is no unit 'd': a duration is in ms, s, m or h, and a bare number is seconds");
        insta::assert_snapshot!(message("-1"), @"a duration cannot be negative");
        insta::assert_snapshot!(message("999999h"), @"a duration cannot be longer than 876600 hours");
    }
}
