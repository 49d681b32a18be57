//! Numbers from their text, exactly or not at all. Nothing here allocates.

/// A decimal integer with an optional sign.
#[inline]
pub(super) fn parse_int(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] | digits => (false, digits),
    };
    if digits.is_empty() {
        return None;
    }
    // Below 19 digits nothing can overflow.
    if digits.len() < 19 {
        let mut value: i64 = 0;
        for byte in digits {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                return None;
            }
            value = value * 10 + i64::from(digit);
        }
        return Some(if negative { -value } else { value });
    }
    let mut value: i64 = 0;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        // Downwards, because the smallest number has no positive counterpart.
        value = value.checked_mul(10)?.checked_sub(i64::from(digit))?;
    }
    if negative { Some(value) } else { value.checked_neg() }
}

/// Powers of ten that a double holds exactly.
const POWERS: [f64; 23] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22];

/// A floating-point number, correctly rounded. `NaN` and `inf` in any case are numbers, a number too large for a double is not.
#[inline]
pub(super) fn parse_double(text: &[u8]) -> Option<f64> {
    plain_double(text).or_else(|| {
        let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
        (value.is_finite() || !text.iter().any(u8::is_ascii_digit)).then_some(value)
    })
}

/// `parse_double` for what nearly all numbers in logs look like: up to 15 digits with a point in between. Exact, because numerator
/// and denominator are.
#[inline]
fn plain_double(text: &[u8]) -> Option<f64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || digits.len() > 16 {
        return None;
    }
    let mut value: i64 = 0;
    let mut point = None;
    for (index, byte) in digits.iter().enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit <= 9 {
            value = value * 10 + i64::from(digit);
        } else if *byte == b'.' && point.is_none() {
            point = Some(index);
        } else {
            return None;
        }
    }
    let fraction = point.map_or(0, |index| digits.len() - 1 - index);
    let count = digits.len() - usize::from(point.is_some());
    if count == 0 || count > 15 {
        return None;
    }
    let value = value as f64 / POWERS[fraction];
    Some(if negative { -value } else { value })
}

/// A single-precision number; one too large for it is not one.
pub(super) fn parse_float(text: &[u8]) -> Option<f32> {
    let value: f32 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (value.is_finite() || !text.iter().any(u8::is_ascii_digit)).then_some(value)
}

/// A decimal number, with or without exponent, times ten to the `scale`; `None` if that is not a whole number of at most `precision` digits.
///
/// So nothing is ever rounded. `precision` is 1 to 38, `scale` 0 to `precision`.
pub(super) fn parse_decimal(text: &[u8], precision: u8, scale: i8) -> Option<i128> {
    let (value, dropped) = scaled(text, precision, scale)?;
    (!dropped).then_some(value)
}

/// As [`parse_decimal`], but digits beyond the scale are cut.
pub(super) fn parse_decimal_cut(text: &[u8], precision: u8, scale: i8) -> Option<i128> {
    scaled(text, precision, scale).map(|(value, _)| value)
}

/// The number times ten to the `scale`, cut to an integer, and whether anything but zeros was cut.
fn scaled(text: &[u8], precision: u8, scale: i8) -> Option<(i128, bool)> {
    let (negative, unsigned) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] | rest => (false, rest),
    };
    let (mantissa, exponent) = match unsigned.iter().position(|b| matches!(b, b'e' | b'E')) {
        Some(at) => (&unsigned[..at], parse_int(&unsigned[at + 1..])?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = match mantissa.iter().position(|b| *b == b'.') {
        Some(at) => (&mantissa[..at], &mantissa[at + 1..]),
        None => (mantissa, &[][..]),
    };
    if whole.is_empty() && fraction.is_empty() || !whole.iter().chain(fraction).all(u8::is_ascii_digit) {
        return None;
    }
    // Digits of the mantissa that stand before the point once the number is scaled.
    let kept = i64::try_from(whole.len()).ok()?.saturating_add(exponent).saturating_add(i64::from(scale));
    let mut value: i128 = 0;
    let mut dropped = false;
    let mut taken = 0;
    for byte in whole.iter().chain(fraction) {
        if taken < kept {
            value = value.checked_mul(10)?.checked_add(i128::from(byte - b'0'))?;
            taken += 1;
        } else {
            dropped |= *byte != b'0';
        }
    }
    if value != 0 {
        for _ in 0..kept.saturating_sub(taken) {
            value = value.checked_mul(10)?;
        }
    }
    (value < 10_i128.pow(u32::from(precision))).then_some((if negative { -value } else { value }, dropped))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_exact_or_nothing() {
        let cases: [(&str, Option<i64>); 14] = [
            ("0", Some(0)),
            ("-0", Some(0)),
            ("+7", Some(7)),
            ("000", Some(0)),
            ("9007199254740993", Some(9_007_199_254_740_993)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("-9223372036854775809", None),
            ("99999999999999999999999", None),
            ("", None),
            ("-", None),
            ("1.0", None),
            ("1 ", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_int(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn doubles_agree_with_the_standard_library() {
        for text in ["0", "-0", "0.001", "1.5", "123456789012345", "12345.6789012345", "0.1", "-2.5", "1e10", "5.", ".5", "1e-400", "00.10"]
        {
            let ours = parse_double(text.as_bytes()).unwrap();
            assert_eq!(ours.to_bits(), text.parse::<f64>().unwrap().to_bits(), "{text}");
        }
        for text in ["", "-", ".", "1.2.3", "1e400", "-1e400", "0x1", "1_0", " 1"] {
            assert_eq!(parse_double(text.as_bytes()), None, "{text}");
        }
        assert!(parse_double(b"NaN").unwrap().is_nan());
        assert_eq!(parse_double(b"-inf"), Some(f64::NEG_INFINITY));
        assert_eq!(parse_float(b"1e39"), None);
        assert_eq!(parse_float(b"0.1"), Some(0.1));
    }

    #[test]
    fn decimals_are_never_rounded() {
        let cases: [(&str, Option<i128>); 14] = [
            ("1.23", Some(123)),
            ("1.2300", Some(123)),
            ("1.234", None),
            ("-0.5", Some(-50)),
            ("12e1", Some(12_000)),
            ("120e-1", Some(1200)),
            ("1e-3", None),
            ("0e999999999999", Some(0)),
            ("1e999999999999", None),
            ("999.99", Some(99_999)),
            ("1000", None),
            (".5", Some(50)),
            (".", None),
            ("1e", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_decimal(text.as_bytes(), 5, 2), expected, "{text}");
        }
        assert_eq!(parse_decimal(b"99999999999999999999999999999999999999", 38, 0), Some(10_i128.pow(38) - 1));
        assert_eq!(parse_decimal(b"1e-9223372036854775808", 5, 2), None);
        assert_eq!(parse_decimal_cut(b"1.239", 5, 2), Some(123));
    }
}
