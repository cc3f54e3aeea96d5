//! Sizes in bytes, as people write them.
#![forbid(unsafe_code)]

use std::ops::RangeInclusive;

/// Bytes in text like `512MiB`, `4G` (binary as well, like `4GiB`) or `1000000`.
///
/// # Errors
/// What is wrong with the text.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        "t" | "tib" => 40,
        _ => return Err(format!("'{text}' is no size: write for example 512MiB or 4GiB")),
    };
    let number: u64 = number.parse().map_err(|_| format!("'{text}' is no size: write for example 512MiB or 4GiB"))?;
    number.checked_mul(1 << shift).ok_or_else(|| format!("{text} is more than 64 bits of bytes"))
}

/// The same, of something that has bounds.
///
/// # Errors
/// What is wrong with the text, or the bounds.
pub(crate) fn parse_within(text: &str, bounds: RangeInclusive<u32>) -> Result<u32, String> {
    let bytes = parse(text)?;
    let fitting = u32::try_from(bytes).ok().filter(|bytes| bounds.contains(bytes));
    fitting.ok_or_else(|| format!("{bytes} is not in {}..={}", bounds.start(), bounds.end()))
}

#[cfg(test)]
mod tests {
    use super::{parse, parse_within};

    #[test]
    fn sizes_have_binary_units() {
        assert_eq!(parse("0"), Ok(0));
        assert_eq!(parse("17b"), Ok(17));
        assert_eq!(parse("4GiB"), Ok(4 << 30));
        assert_eq!(parse("512 m"), Ok(512 << 20));
        for bad in ["", "GiB", "-1", "1.5G", "4GB", "99999999999999TiB"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn bounds_hold_for_bytes_not_for_digits() {
        assert_eq!(parse_within("1KiB", 0..=1024), Ok(1024));
        assert_eq!(parse_within("2k", 0..=1024), Err("2048 is not in 0..=1024".to_owned()));
        assert!(parse_within("8GiB", 0..=u32::MAX).is_err());
    }
}
