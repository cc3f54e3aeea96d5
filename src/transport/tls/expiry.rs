//! When a certificate expires: the one thing that rustls does not tell of it.
//!
//! ```text
//!   Certificate { TBSCertificate { [0] version, serial, algorithm, issuer, Validity { notBefore, notAfter }, ..
//! ```
//!
//! RFC 5280, section 4.1, in DER (X.690): tag, length, content. Only for metrics and warnings; who is let in is decided
//! by rustls.
#![forbid(unsafe_code)]

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const VERSION: u8 = 0xA0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The `notAfter` of a certificate in seconds of Unix time; `None` where it is not where it belongs.
pub(super) fn of(certificate: &[u8]) -> Option<u64> {
    let mut fields = content(&mut content(&mut &*certificate, SEQUENCE)?, SEQUENCE)?;
    if fields.first() == Some(&VERSION) {
        content(&mut fields, VERSION)?;
    }
    content(&mut fields, INTEGER)?;
    content(&mut fields, SEQUENCE)?;
    content(&mut fields, SEQUENCE)?;
    let mut validity = content(&mut fields, SEQUENCE)?;
    time(&mut validity)?;
    time(&mut validity)
}

/// Takes the content of the element that comes next, which has a tag.
fn content<'a>(bytes: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let (found, rest) = bytes.split_first()?;
    let (first, mut rest) = rest.split_first()?;
    let length = match first {
        0..=0x7F => usize::from(*first),
        // The length of the length, and the length.
        0x81..=0x84 => {
            let (length, behind) = rest.split_at_checked(usize::from(first & 0x7F))?;
            rest = behind;
            length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte))
        }
        _ => return None,
    };
    let (content, behind) = rest.split_at_checked(length)?;
    *bytes = behind;
    (*found == tag).then_some(content)
}

/// Takes a time, `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`.
fn time(bytes: &mut &[u8]) -> Option<u64> {
    let tag = *bytes.first()?;
    let text = content(bytes, tag)?.strip_suffix(b"Z")?;
    let year_digits = match tag {
        UTC_TIME => 2,
        GENERALIZED_TIME => 4,
        _ => return None,
    };
    let (year, rest) = text.split_at_checked(year_digits)?;
    let year = match (number(year)?, tag) {
        (year @ 0..50, UTC_TIME) => 2_000 + year,
        (year, UTC_TIME) => 1_900 + year,
        (year, _) => year,
    };
    let (fields, []) = rest.as_chunks::<2>() else { return None };
    let [month, day, hour, minute, second] = fields else { return None };
    let [month, day, hour] = [month, day, hour].map(|field| number(field));
    let seconds = number(minute)? * 60 + number(second)?;
    let days = days_since_1970(year, month?, day?)?;
    Some(days * 86_400 + hour? * 3_600 + seconds)
}

fn number(digits: &[u8]) -> Option<u64> {
    let digit = |digit: &u8| digit.is_ascii_digit().then(|| u64::from(digit - b'0'));
    digits.iter().try_fold(0, |number, byte| Some(number * 10 + digit(byte)?))
}

/// Of the Gregorian calendar: years begin in March, so that leap days are at their ends.
fn days_since_1970(year: u64, month: u64, day: u64) -> Option<u64> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || year < 1_970 {
        return None;
    }
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    // Of 1 January 1970, counted alike.
    days.checked_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn der(tag: u8, content: &[u8]) -> Vec<u8> {
        [&[tag, 0x82, (content.len() >> 8) as u8, content.len() as u8], content].concat()
    }

    fn certificate(tag: u8, not_after: &[u8]) -> Vec<u8> {
        let validity =
            [vec![0x17, 13], b"700101000000Z".to_vec(), vec![tag, not_after.len() as u8], not_after.to_vec()];
        let fields = [
            vec![VERSION, 3, 2, 1, 2, INTEGER, 1, 7, SEQUENCE, 0, SEQUENCE, 0],
            der(SEQUENCE, &validity.concat()),
            vec![SEQUENCE, 0],
        ];
        der(SEQUENCE, &[der(SEQUENCE, &fields.concat()), vec![SEQUENCE, 0]].concat())
    }

    #[test]
    fn the_second_time_of_a_certificate_is_its_end() {
        for (tag, text, seconds) in [
            (UTC_TIME, "700101000000Z", 0),
            (UTC_TIME, "000229235959Z", 951_868_799),
            (UTC_TIME, "491231235959Z", 2_524_607_999),
            (GENERALIZED_TIME, "20500101000000Z", 2_524_608_000),
            (GENERALIZED_TIME, "21000301000000Z", 4_107_542_400),
        ] {
            assert_eq!(of(&certificate(tag, text.as_bytes())), Some(seconds), "{text}");
        }
    }

    #[test]
    fn what_is_no_certificate_has_no_end() {
        let whole = certificate(UTC_TIME, b"300101000000Z");
        assert!((0..whole.len()).all(|cut| of(&whole[..cut]).is_none()));
        for text in ["301301000000Z", "300100000000Z", "3001010000Z", "300101000000", "30010100000aZ"] {
            assert_eq!(of(&certificate(UTC_TIME, text.as_bytes())), None, "{text}");
        }
        assert_eq!(of(&certificate(0x16, b"300101000000Z")), None);
    }
}
