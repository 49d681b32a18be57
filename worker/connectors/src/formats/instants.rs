//! Dates and instants, text to numbers and back, in the proleptic Gregorian calendar and UTC. It never reads a clock or a time zone database.

use std::ops::RangeInclusive;

/// Microseconds of one second.
pub(super) const SECOND: i64 = 1_000_000;

/// A day of the calendar and a time of that day, for writing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Civil {
    pub(super) year: i64,
    pub(super) month: i64,
    pub(super) day: i64,
    pub(super) hour: i64,
    pub(super) minute: i64,
    pub(super) second: i64,
}

/// The day that is `days` after 1970-01-01, as year, month and day.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

impl Civil {
    /// The day and time `seconds` after 1970-01-01T00:00:00Z.
    pub(super) fn from_seconds(seconds: i64) -> Self {
        let (year, month, day) = civil_from_days(seconds.div_euclid(86_400));
        let of_day = seconds.rem_euclid(86_400);
        Self { year, month, day, hour: of_day / 3600, minute: of_day / 60 % 60, second: of_day % 60 }
    }
}

/// The two decimal digits at `at` as a number within `range`.
#[inline]
fn two(text: &[u8], at: usize, range: RangeInclusive<i64>) -> Option<i64> {
    let digits: [u8; 2] = text.get(at..at + 2)?.try_into().ok()?;
    let [tens, ones] = digits.map(|byte| byte.wrapping_sub(b'0'));
    let value = i64::from(tens) * 10 + i64::from(ones);
    (tens <= 9 && ones <= 9 && range.contains(&value)).then_some(value)
}

/// What two digits beside each other are worth, in the place of the first: 12 in the first and 34 in the fourth place of `12:34`. `None` unless `word` has digits where
/// `shape` has `0`, and in the other places the bytes that `shape` has.
#[inline]
fn pairs(word: [u8; 8], shape: &[u8; 8]) -> Option<[u8; 8]> {
    // Added to a byte, this marks its high bit: of a digit above 9, of anything else above 0.
    let margin = shape.map(|byte| if byte == b'0' { 0x76 } else { 0x7F });
    let values = u64::from_le_bytes(word) ^ u64::from_le_bytes(*shape);
    let wrong = (values.wrapping_add(u64::from_le_bytes(margin)) | values) & 0x8080_8080_8080_8080;
    (wrong == 0).then(|| values.wrapping_mul(10).wrapping_add(values >> 8).to_le_bytes())
}

/// Days of a year before the first of each month, in a year that is no leap year.
const BEFORE_MONTH: [i32; 13] = [0, 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
/// Days of each month, in a year that is no leap year.
const OF_MONTH: [u8; 13] = [0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// `yyyy-MM-dd` as days since 1970-01-01. The day must exist.
#[inline]
pub(super) fn parse_date(text: &[u8]) -> Option<i32> {
    let Some((head, [tens, ones])) = text.split_first_chunk::<8>() else { return None };
    let [century, _, of_century, _, _, month, _, _] = pairs(*head, b"0000-00-")?;
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    let day = tens.wrapping_mul(10).wrapping_add(ones);
    let year = i32::from(century) * 100 + i32::from(of_century);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let longest = OF_MONTH.get(usize::from(month))? + u8::from(leap && month == 2);
    if tens > 3 || ones > 9 || day == 0 || day > longest {
        return None;
    }
    // Leap days up to the end of the year before; the year 0 has one of its own.
    let before = if year == 0 { -1 } else { (year - 1) / 4 - (year - 1) / 100 + (year - 1) / 400 };
    Some(year * 365 + before + BEFORE_MONTH[usize::from(month)] + i32::from(leap && month > 2) + i32::from(day) - 719_528)
}

/// `HH:mm:ss` as seconds since midnight. A leap second counts as the second after.
#[inline]
pub(super) fn parse_time_of_day(text: &[u8]) -> Option<i64> {
    let [hour, _, _, minute, _, _, second, _] = pairs(text.try_into().ok()?, b"00:00:00")?;
    (hour < 24 && minute < 60 && second <= 60).then(|| i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second))
}

/// RFC 3339, or `yyyy-MM-dd HH:mm:ss[.ffffff]` in UTC, as microseconds since 1970-01-01T00:00:00Z.
/// Digits below the microsecond are cut.
pub(super) fn parse_timestamp(text: &[u8]) -> Option<i64> {
    let (date, rest) = text.split_at_checked(10)?;
    let (separator, rest) = rest.split_first()?;
    if !matches!(separator, b'T' | b't' | b' ') {
        return None;
    }
    let (time, rest) = rest.split_at_checked(8)?;
    let seconds = i64::from(parse_date(date)?) * 86_400 + parse_time_of_day(time)?;
    let (micros, zone) = parse_fraction(rest)?;
    let offset = match zone {
        b"Z" | b"z" => 0,
        b"" if *separator == b' ' => 0,
        _ => parse_offset(zone)?,
    };
    Some((seconds - offset) * SECOND + micros)
}

/// `.f…` as microseconds, and what follows; without a fraction 0.
#[inline]
fn parse_fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    let Some(digits) = text.strip_prefix(b".") else { return Some((0, text)) };
    // Milliseconds are what most writers write.
    if let [a @ b'0'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', zone @ ..] = digits
        && !zone.first().is_some_and(u8::is_ascii_digit)
    {
        let [a, b, c] = [a, b, c].map(|digit| i64::from(digit - b'0'));
        return Some(((a * 100 + b * 10 + c) * 1000, zone));
    }
    let (mut micros, mut unit) = (0, SECOND / 10);
    for (index, byte) in digits.iter().enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return (index > 0).then_some((micros, &digits[index..]));
        }
        micros += i64::from(digit) * unit;
        unit /= 10;
    }
    (!digits.is_empty()).then_some((micros, &[]))
}

/// `+hh:mm` or `-hh:mm` as seconds.
fn parse_offset(text: &[u8]) -> Option<i64> {
    let [sign, _, _, b':', _, _] = text else { return None };
    let seconds = two(text, 1, 0..=23)? * 3600 + two(text, 4, 0..=59)? * 60;
    match sign {
        b'+' => Some(seconds),
        b'-' => Some(-seconds),
        _ => None,
    }
}

/// Two digits of `value`, 0 to 99.
#[inline]
fn two_digits(value: u32) -> [u8; 2] {
    [b'0' + (value / 10) as u8, b'0' + (value % 10) as u8]
}

/// Three digits of `value`, 0 to 999.
#[inline]
fn three_digits(value: u32) -> [u8; 3] {
    let [tens, ones] = two_digits(value % 100);
    [b'0' + (value / 100) as u8, tens, ones]
}

/// Appends `value`, 0 to 99, with two digits.
pub(super) fn write_two(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(&two_digits(value as u32));
}

/// Appends a year with four digits, or with a sign and as many as it needs.
pub(super) fn write_year(out: &mut Vec<u8>, year: i64) {
    if (0..=9999).contains(&year) {
        write_two(out, year / 100);
        write_two(out, year % 100);
    } else {
        out.extend_from_slice(format!("{year:+05}").as_bytes());
    }
}

/// Appends `yyyy-MM-dd` of the day `days` after 1970-01-01.
#[inline]
pub(super) fn write_date(out: &mut Vec<u8>, days: i64) {
    let (year, month, day) = civil_from_days(days);
    if !(0..=9999).contains(&year) {
        write_year(out, year);
        out.push(b'-');
        write_two(out, month);
        out.push(b'-');
        write_two(out, day);
        return;
    }
    let (year, month, day) = (year as u32, month as u32, day as u32);
    let ([y1, y2], [y3, y4], [m1, m2], [d1, d2]) = (two_digits(year / 100), two_digits(year % 100), two_digits(month), two_digits(day));
    out.extend_from_slice(&[y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2]);
}

/// Appends `HH:mm:ss` and the fraction of the second, of which there are `per_second` (a power of ten, at most a billion).
/// A fraction of zero is left out; otherwise it has as many groups of three digits as it needs.
pub(super) fn write_time(out: &mut Vec<u8>, of_day: i64, per_second: i64) {
    // Dividing by what is known costs far less.
    match per_second {
        1_000_000 => write_time_in(out, of_day, 1_000_000),
        other => write_time_in(out, of_day, other),
    }
}

#[inline]
fn write_time_in(out: &mut Vec<u8>, of_day: i64, per_second: i64) {
    let seconds = (of_day / per_second) as u32;
    let ([h1, h2], [m1, m2], [s1, s2]) = (two_digits(seconds / 3600 % 100), two_digits(seconds / 60 % 60), two_digits(seconds % 60));
    out.extend_from_slice(&[h1, h2, b':', m1, m2, b':', s1, s2]);
    let nanos = (of_day % per_second * (1_000_000_000 / per_second)) as u32;
    if nanos != 0 {
        let groups = [nanos / 1_000_000, nanos / 1000 % 1000, nanos % 1000].map(three_digits);
        let length = if nanos.is_multiple_of(1_000_000) {
            3
        } else if nanos.is_multiple_of(1000) {
            6
        } else {
            9
        };
        out.push(b'.');
        out.extend_from_slice(&groups.as_flattened()[..length]);
    }
}

/// Appends an instant as RFC 3339 in UTC; `value` counts from 1970-01-01T00:00:00Z in units of which there are `per_second` in a second.
pub(super) fn write_timestamp(out: &mut Vec<u8>, value: i64, per_second: i64) {
    match per_second {
        1_000_000 => write_timestamp_in(out, value, 1_000_000),
        other => write_timestamp_in(out, value, other),
    }
}

#[inline]
fn write_timestamp_in(out: &mut Vec<u8>, value: i64, per_second: i64) {
    let per_day = 86_400 * per_second;
    write_date(out, value.div_euclid(per_day));
    out.push(b'T');
    write_time_in(out, value.rem_euclid(per_day), per_second);
    out.push(b'Z');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(micros: i64) -> String {
        let mut out = Vec::new();
        write_timestamp(&mut out, micros, SECOND);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn dates_count_from_1970_and_must_exist() {
        let cases: [(&str, Option<i32>); 21] = [
            ("1970-01-01", Some(0)),
            ("1969-12-31", Some(-1)),
            ("2000-02-29", Some(11_016)),
            ("0001-01-01", Some(-719_162)),
            ("9999-12-31", Some(2_932_896)),
            ("1900-02-29", None),
            ("2023-02-29", None),
            ("2023-04-31", None),
            ("2023-13-01", None),
            ("2023-00-01", None),
            ("2023-1-01", None),
            ("2023-01-01 ", None),
            ("0000-02-29", Some(-719_469)),
            ("2023-02-00", None),
            ("2023-01-32", None),
            ("2023-99-01", None),
            ("2023/01/01", None),
            ("2023-0:-01", None),
            ("2023-01-0/", None),
            ("/023-01-01", None),
            ("202\u{bd}-01-01", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_date(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn timestamps_take_offsets_and_fractions() {
        let base = 1_575_493_351 * SECOND;
        let cases: [(&str, Option<i64>); 22] = [
            ("2019-12-04T21:02:31Z", Some(base)),
            ("2019-12-04T23:02:31+02:00", Some(base)),
            ("2019-12-04 21:02:31", Some(base)),
            ("2019-12-04 21:02:31.5", Some(base + 500_000)),
            ("2019-12-04T21:02:31.123456789z", Some(base + 123_456)),
            ("1969-12-31T23:59:59.999999Z", Some(-1)),
            ("2016-12-31T23:59:60Z", Some(1_483_228_800 * SECOND)),
            ("2019-12-04T21:02:31", None),
            ("2019-12-04T21:02:31.Z", None),
            ("2019-12-04T24:02:31Z", None),
            ("2019-12-04T21:02:31+2:00", None),
            ("2019-12-04", None),
            ("", None),
            ("2019-12-04T21:02:31Zx", None),
            ("2019-12-04T21:60:31Z", None),
            ("2019-12-04T21:02:61Z", None),
            ("2019-12-04T21-02:31Z", None),
            ("2019-12-04T2::02:31Z", None),
            ("2019-12-04 21:02:31.1234567", Some(base + 123_456)),
            ("2019-12-04 21:02:31.000001", Some(base + 1)),
            ("2019-12-04 21:02:31.", None),
            ("2019-12-04 21:02:31.5 ", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_timestamp(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for micros in [0, -1, 1, 999_999, 500_000, 1_575_493_351_000_001, -62_135_596_800_000_000, 253_402_300_799_999_999] {
            assert_eq!(parse_timestamp(written(micros).as_bytes()), Some(micros), "{}", written(micros));
        }
        assert_eq!(written(1_575_493_351_120_000), "2019-12-04T21:02:31.120Z");
        assert_eq!(written(-62_135_596_800_000_001), "0000-12-31T23:59:59.999999Z");
        assert!(written(i64::MAX).starts_with("+294247-01-10T"));
        assert!(written(i64::MIN).starts_with("-290308-12-21T"));
    }

    #[test]
    fn times_that_are_none_are_still_text() {
        for of_day in [86_400 * SECOND, 1_000_000 * 3600 * SECOND, -1, -SECOND, i64::MAX, i64::MIN] {
            for per_second in [1, 1000, SECOND, 1_000_000_000] {
                let mut out = Vec::new();
                write_time(&mut out, of_day, per_second);
                assert!(out.is_ascii() && out.len() >= 8, "{of_day} {per_second}");
            }
        }
    }

    #[test]
    fn every_day_of_eight_centuries_survives() {
        for days in -150_000..150_000_i32 {
            let mut out = Vec::new();
            write_date(&mut out, i64::from(days));
            assert_eq!(parse_date(&out), Some(days));
        }
    }
}
