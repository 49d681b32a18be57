//! Kubernetes quantities (`500m`, `2Gi`) compared by value: the API server rewrites them. It does no arithmetic on them.

/// Whether two texts are quantities of the same value. Texts that are not quantities never are.
pub(crate) fn equal(one: &str, other: &str) -> bool {
    matches!((nanos(one), nanos(other)), (Some(one), Some(other)) if one == other)
}

/// The value in billionths; `None` if it is no quantity, finer than that, or larger than any sensible one.
fn nanos(text: &str) -> Option<i128> {
    let end = text.find(|c: char| !matches!(c, '0'..='9' | '.' | '+' | '-')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let sign = if whole.starts_with('-') { -1 } else { 1 };
    let digits = whole.trim_start_matches(['+', '-']);
    let whole: i128 = if digits.is_empty() { 0 } else { digits.parse().ok()? };
    let fraction: i128 = format!("{fraction:0<9}").parse().ok()?;
    let value = whole.checked_mul(1_000_000_000)?.checked_add(fraction)?.checked_mul(sign)?;
    scale(value, suffix)
}

fn scale(nanos: i128, suffix: &str) -> Option<i128> {
    let decimal = |exponent: u32| nanos.checked_mul(10_i128.checked_pow(exponent)?);
    let binary = |exponent: u32| nanos.checked_mul(1024_i128.checked_pow(exponent)?);
    match suffix {
        "" => Some(nanos),
        "n" => Some(nanos / 1_000_000_000),
        "u" => Some(nanos / 1_000_000),
        "m" => Some(nanos / 1_000),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        _ => match suffix.strip_prefix(['e', 'E'])?.parse::<i32>().ok()? {
            up @ 0..=18 => decimal(up.unsigned_abs()),
            down @ -9..0 => Some(nanos / 10_i128.checked_pow(down.unsigned_abs())?),
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::equal;

    #[test]
    fn compared_by_value() {
        for (one, other) in [
            ("1", "1000m"),
            ("0.5", "500m"),
            (".5", "500m"),
            ("1Gi", "1024Mi"),
            ("1k", "1000"),
            ("2e3", "2k"),
            ("+1", "1"),
            ("1500m", "1.5"),
            ("1024Ki", "1Mi"),
        ] {
            assert!(equal(one, other), "{one} = {other}");
        }
        for (one, other) in [("1", "1m"), ("1Gi", "1G"), ("-1", "1"), ("a", "a"), ("", ""), ("1.2.3", "1.2.3"), ("1x", "1x")] {
            assert!(!equal(one, other), "{one} ≠ {other}");
        }
    }
}
