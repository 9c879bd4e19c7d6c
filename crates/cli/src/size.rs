//! Amounts of memory, as options take them: `512M`, `2G`; a bare number is bytes.

/// Why a text is not an amount of memory.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "an amount of memory is a whole number and a unit, such as 512M or 2G (K, M, G and T are powers of 1024)"
)]
pub(crate) struct NotASize;

/// Reads an amount of memory, in bytes.
pub(crate) fn parse(text: &str) -> Result<u64, NotASize> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim().to_ascii_uppercase().trim_end_matches('B').trim_end_matches('I') {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err(NotASize),
    };
    let number: u64 = number.parse().map_err(|_| NotASize)?;
    number.checked_mul(1 << shift).filter(|bytes| *bytes > 0).ok_or(NotASize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_people_write_them() {
        let sizes =
            [("1024", 1024), ("512M", 512 << 20), ("2 GiB", 2 << 30), ("1kb", 1024), (" 3T ", 3 << 40)];
        for (text, bytes) in sizes {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size() {
        for text in ["", "M", "1.5G", "-1", "0", "12X", "99999999999T"] {
            assert_eq!(parse(text), Err(NotASize), "{text}");
        }
    }
}
