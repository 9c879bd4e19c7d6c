//! Amounts of memory as people write them: `512M`, `2 GiB`; a bare number is bytes.

/// How many bytes that is; none where it is no amount, or too much to be one.
pub fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim().to_ascii_uppercase().trim_end_matches('B').trim_end_matches('I') {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_and_a_unit() {
        let sizes = [
            ("0", 0),
            ("1024", 1024),
            ("512M", 512 << 20),
            ("2 GiB", 2 << 30),
            ("1kb", 1024),
            (" 3T ", 3 << 40),
        ];
        for (text, size) in sizes {
            assert_eq!(bytes(text), Some(size), "{text}");
        }
    }

    #[test]
    fn what_is_no_size() {
        for text in ["", "M", "1.5G", "-1", "+1", "12X", "99999999999T"] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }
}
