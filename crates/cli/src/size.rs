//! Amounts of memory, as options take them: `512M`, `2G`; a bare number is bytes. A share is `80%`.

use std::num::NonZeroU8;

use recluster::MemoryLimit;

/// What no worker does without: the memory of a shell.
const LEAST_OF_WORKER: u64 = 1 << 20;
/// Fewer bytes hold no request line with anything to know a client by.
const LEAST_PEEK: u64 = 64;
/// How many bytes of a connection can be looked at.
const MOST_PEEK: u64 = 64 << 10;
/// Less compiled code is hardly that of one release.
const LEAST_CACHE: u64 = 1 << 20;
/// In a smaller file there is no room for a longer line.
const LEAST_LOG: u64 = 64 << 10;
/// The largest number whose unit may have been forgotten.
const MOST_MEANT: u64 = 65_536;

/// Why a text is not an amount of memory that will do.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SizeError {
    #[error(
        "an amount of memory is a whole number and a unit, such as 512M or 2G (K, M, G and T are powers of 1024)"
    )]
    NotASize,
    #[error("a share of the memory is a whole number from 1% to 100%")]
    NotAShare,
    #[error("that is less than any worker uses{}", meant(*.number, 'M', " (write the unit: 512M, 2G)"))]
    TooLittleForWorker { number: u64 },
    #[error("that is too little to be of use{}", meant(*.number, 'M', ""))]
    TooLittleToKeep { number: u64 },
    #[error("that is too little to find anything in{}", meant(*.number, 'K', ""))]
    TooLittleToPeek { number: u64 },
    #[error("at most {}K of a connection are looked at", MOST_PEEK >> 10)]
    TooMuchToPeek,
}

/// The same number with the unit that was probably meant, where it was given none and would make sense with it.
fn meant(number: u64, unit: char, otherwise: &str) -> String {
    match number {
        1..=MOST_MEANT => format!(": {number} is in bytes, did you mean {number}{unit}?"),
        _ => otherwise.to_owned(),
    }
}

/// Reads how much memory a worker may use.
pub(crate) fn of_worker(text: &str) -> Result<MemoryLimit, SizeError> {
    if let Some(percent) = text.trim().strip_suffix('%') {
        let percent = percent.parse::<NonZeroU8>().ok().filter(|percent| percent.get() <= 100);
        return percent.map(MemoryLimit::Percent).ok_or(SizeError::NotAShare);
    }
    let bytes = parse(text)?;
    let number = number_without_unit(text);
    if bytes < LEAST_OF_WORKER { Err(SizeError::TooLittleForWorker { number }) } else { Ok(bytes.into()) }
}

/// Reads how much of a connection is looked at, in bytes.
pub(crate) fn of_peek(text: &str) -> Result<u64, SizeError> {
    match parse(text)? {
        ..LEAST_PEEK => Err(SizeError::TooLittleToPeek { number: number_without_unit(text) }),
        bytes @ LEAST_PEEK..=MOST_PEEK => Ok(bytes),
        _ => Err(SizeError::TooMuchToPeek),
    }
}

/// Reads how much compiled code is kept, in bytes.
pub(crate) fn of_cache(text: &str) -> Result<u64, SizeError> {
    let bytes = parse(text)?;
    let number = number_without_unit(text);
    if bytes < LEAST_CACHE { Err(SizeError::TooLittleToKeep { number }) } else { Ok(bytes) }
}

/// Reads how large a file of the workers' log becomes, in bytes.
pub(crate) fn of_log(text: &str) -> Result<u64, SizeError> {
    let bytes = parse(text)?;
    let number = number_without_unit(text);
    if bytes < LEAST_LOG { Err(SizeError::TooLittleToKeep { number }) } else { Ok(bytes) }
}

/// The number that was written without a unit; zero where it has one.
fn number_without_unit(text: &str) -> u64 {
    text.trim().parse().unwrap_or_default()
}

/// Reads an amount of memory, in bytes.
fn parse(text: &str) -> Result<u64, SizeError> {
    recluster::bytes(text).filter(|bytes| *bytes > 0).ok_or(SizeError::NotASize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_no_size() {
        assert_eq!(
            (parse("2 GiB"), parse("0"), parse("1.5G")),
            (Ok(2 << 30), Err(SizeError::NotASize), Err(SizeError::NotASize))
        );
    }

    #[test]
    fn what_no_worker_can_live_on() {
        assert_eq!([of_worker("1M"), of_worker("536870912")], [Ok((1 << 20).into()), Ok((512 << 20).into())]);
        let percent = |number| Ok(MemoryLimit::Percent(NonZeroU8::new(number).unwrap()));
        assert_eq!([of_worker("80%"), of_worker(" 100% ")], [percent(80), percent(100)]);
        let refusals = ["512", "1000000", "900K", "1.5G", "0%", "101%", "1.5%", "-1%", "%"]
            .map(|text| of_worker(text).unwrap_err().to_string());
        insta::assert_snapshot!(refusals.join("\n"), @r"
        that is less than any worker uses: 512 is in bytes, did you mean 512M?
        that is less than any worker uses (write the unit: 512M, 2G)
        that is less than any worker uses (write the unit: 512M, 2G)
        an amount of memory is a whole number and a unit, such as 512M or 2G (K, M, G and T are powers of 1024)
        a share of the memory is a whole number from 1% to 100%
        a share of the memory is a whole number from 1% to 100%
        a share of the memory is a whole number from 1% to 100%
        a share of the memory is a whole number from 1% to 100%
        a share of the memory is a whole number from 1% to 100%
        ");
    }

    #[test]
    fn how_much_is_kept() {
        assert_eq!([of_cache("1M"), of_cache("2G")], [Ok(1 << 20), Ok(2 << 30)]);
        assert_eq!(
            [of_log("64K"), of_log("63K")],
            [Ok(64 << 10), Err(SizeError::TooLittleToKeep { number: 0 })]
        );
        let refusals = ["256", "1000000", "big"].map(|text| of_cache(text).unwrap_err().to_string());
        insta::assert_snapshot!(refusals.join("\n"), @r"
        that is too little to be of use: 256 is in bytes, did you mean 256M?
        that is too little to be of use
        an amount of memory is a whole number and a unit, such as 512M or 2G (K, M, G and T are powers of 1024)
        ");
    }

    #[test]
    fn how_much_can_be_looked_at() {
        assert_eq!(["64", "16K", "64K", "65536"].map(of_peek), [64, 16 << 10, 64 << 10, 64 << 10].map(Ok));
        let refusals = ["16", "63B", "65K", "1G", "65537"].map(|text| of_peek(text).unwrap_err().to_string());
        insta::assert_snapshot!(refusals.join("\n"), @r"
        that is too little to find anything in: 16 is in bytes, did you mean 16K?
        that is too little to find anything in
        at most 64K of a connection are looked at
        at most 64K of a connection are looked at
        at most 64K of a connection are looked at
        ");
    }
}
