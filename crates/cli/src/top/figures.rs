//! Numbers in few characters: a column has little room.

/// What stands where a value is not known.
pub(super) const UNKNOWN: &str = "-";

/// A count: all of it up to five digits, then in thousands, millions ….
pub(super) fn amount(count: u64) -> String {
    const UNITS: [&str; 6] = ["k", "M", "G", "T", "P", "E"];
    if count < 100_000 {
        return count.to_string();
    }
    scaled(count, 1000, UNITS)
}

/// Bytes, in units of 1024.
pub(super) fn memory(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["K", "M", "G", "T", "P", "E"];
    if bytes < 1024 { format!("{bytes}B") } else { scaled(bytes, 1024, UNITS) }
}

/// In the greatest unit of which there is one whole; with a tenth where it has two digits at most.
fn scaled(count: u64, step: u64, units: [&str; 6]) -> String {
    let mut unit = step;
    let mut name = units.first().copied().unwrap_or_default();
    for next in units.into_iter().skip(1) {
        if count / unit < step {
            break;
        }
        unit *= step;
        name = next;
    }
    let (whole, tenth) = (count / unit, (count % unit) / unit.div_ceil(10));
    if whole < 100 { format!("{whole}.{tenth}{name}") } else { format!("{whole}{name}") }
}

/// How many in a second.
pub(super) fn rate(per_second: f64) -> String {
    match per_second {
        rate if rate >= 9.95 => amount(whole(rate)),
        rate if rate >= 0.05 => format!("{rate:.1}"),
        rate if rate > 0.0 => "<0.1".to_owned(),
        _ => "0".to_owned(),
    }
}

/// A share of one.
pub(super) fn percent(share: f64) -> String {
    format!("{}%", whole(share * 100.0))
}

/// A span of time in its two greatest units.
pub(super) fn span(seconds: f64) -> String {
    let seconds = whole(seconds);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{:02}s", seconds % 60),
        (0, _, _) => format!("{hours}h{:02}m", minutes % 60),
        (1..100, ..) => format!("{days}d{:02}h", hours % 24),
        _ => format!("{days}d"),
    }
}

/// A short span of time: a delay.
pub(super) fn delay(seconds: f64) -> String {
    match seconds {
        seconds if seconds >= 9.95 => span(seconds),
        seconds if seconds >= 0.9995 => format!("{seconds:.1}s"),
        seconds if seconds >= 0.000_95 => format!("{}ms", whole(seconds * 1000.0)),
        _ => "<1ms".to_owned(),
    }
}

/// Without its fraction; what is no number, or less than none, is 0.
fn whole(number: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a cast from a float saturates"
    )]
    let whole = number.round() as u64;
    whole
}

/// A bar of eighths for each share of one, the last of them, in so many characters.
pub(super) fn sparkline(shares: impl ExactSizeIterator<Item = f64>, width: usize) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let left_out = shares.len().saturating_sub(width);
    let bar = |share: f64| {
        let eighth = usize::try_from(whole(share.clamp(0.0, 1.0) * 7.0)).unwrap_or(0);
        BARS.get(eighth).copied().unwrap_or('▁')
    };
    let bars: String = shares.skip(left_out).map(bar).collect();
    format!("{bars:>width$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_six_characters_at_most() {
        let golden = [
            (0, "0"),
            (99_999, "99999"),
            (100_000, "100k"),
            (999_999, "999k"),
            (1_000_000, "1.0M"),
            (12_345_678, "12.3M"),
            (u64::MAX, "18.4E"),
        ];
        for (count, text) in golden {
            assert_eq!(amount(count), text);
        }
    }

    #[test]
    fn memory_is_in_units_of_1024() {
        let golden = [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1.0K"),
            (47_395_635, "45.1M"),
            (1024 * 1024 * 1023, "1023M"),
            (3 << 30, "3.0G"),
            (u64::MAX, "15.9E"),
        ];
        for (bytes, text) in golden {
            assert_eq!(memory(bytes), text);
        }
    }

    #[test]
    fn rates_shares_and_times() {
        let rates = [(0.0, "0"), (f64::NAN, "0"), (-1.0, "0"), (0.01, "<0.1"), (0.25, "0.2"), (9.94, "9.9")];
        for (number, text) in rates.into_iter().chain([(9.96, "10"), (123_456.0, "123k")]) {
            assert_eq!(rate(number), text);
        }
        assert_eq!((percent(0.124).as_str(), percent(12.0).as_str()), ("12%", "1200%"));
        let spans = [(0.4, "0s"), (59.0, "59s"), (61.0, "1m01s"), (3599.9, "1h00m"), (90_061.0, "1d01h")];
        for (seconds, text) in spans.into_iter().chain([(8_640_000.0, "100d"), (-1.0, "0s")]) {
            assert_eq!(span(seconds), text);
        }
        let delays =
            [(0.0, "<1ms"), (f64::NAN, "<1ms"), (0.0014, "1ms"), (0.9994, "999ms"), (0.9996, "1.0s")];
        for (seconds, text) in delays.into_iter().chain([(1.44, "1.4s"), (61.0, "1m01s")]) {
            assert_eq!(delay(seconds), text);
        }
    }

    #[test]
    fn a_sparkline_has_the_last_shares_at_its_right_end() {
        assert_eq!(sparkline([0.0, 0.5, 1.0].into_iter(), 5), "  ▁▅█");
        assert_eq!(sparkline([0.0, 0.5, 1.0].into_iter(), 2), "▅█");
        assert_eq!(sparkline([f64::NAN, -1.0, 7.0].into_iter(), 3), "▁▁█");
    }
}
