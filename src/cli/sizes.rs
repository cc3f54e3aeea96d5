//! Sizes in bytes, as people write them.
#![forbid(unsafe_code)]

/// Bytes in text like `512MiB`, `4G` (binary as well, like `4GiB`) or `1000000`.
///
/// # Errors
/// What is wrong with the text.
pub(super) fn parse(text: &str) -> Result<u64, String> {
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

#[cfg(test)]
mod tests {
    use super::parse;

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
}
