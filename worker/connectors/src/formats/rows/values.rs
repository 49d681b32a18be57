//! How one value of each plain Arrow type is written as JSON. It knows nothing of rows.

use std::io::Write as _;

use arrow::array::{Array, ArrowPrimitiveType, AsArray, BinaryArrayType, BooleanArray, Decimal256Array, PrimitiveArray, StringArrayType};
use arrow::datatypes::{
    DataType, Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, Float16Type, Float32Type, Float64Type,
    Int8Type, Int16Type, Int32Type, Int64Type, Time32MillisecondType, Time32SecondType, Time64MicrosecondType, Time64NanosecondType,
    TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;

use super::super::instants::{write_date, write_time, write_timestamp};
use super::super::json::{is_plain, plain_prefix};
use super::nested::{Maps, Structs, dictionary, list};

/// The values of one array.
pub(super) trait Value {
    /// Whether the value is NULL.
    fn is_null(&self, row: usize) -> bool;

    /// Appends a value that is not NULL.
    fn write(&self, row: usize, out: &mut Vec<u8>);
}

/// Whether [`value`] knows arrays of this type.
pub(super) fn is_supported(data_type: &DataType) -> bool {
    match data_type {
        DataType::Duration(_) | DataType::Interval(_) | DataType::Union(..) | DataType::RunEndEncoded(..) => false,
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => is_supported(item.data_type()),
        DataType::Struct(fields) => fields.iter().all(|field| is_supported(field.data_type())),
        DataType::Dictionary(_, values) => is_supported(values),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) if fields.len() == 2 => is_text(fields[0].data_type()) && is_supported(fields[1].data_type()),
            _ => false,
        },
        _ => true,
    }
}

fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, values) => is_text(values),
        _ => false,
    }
}

/// The values of `array`; `None` if its type is not supported.
pub(super) fn value(array: &dyn Array) -> Option<Box<dyn Value + '_>> {
    Some(match array.data_type() {
        DataType::Null => Box::new(Nothing),
        DataType::Boolean => Box::new(array.as_boolean()),
        DataType::Int8 => integer::<Int8Type>(array),
        DataType::Int16 => integer::<Int16Type>(array),
        DataType::Int32 => integer::<Int32Type>(array),
        DataType::Int64 => integer::<Int64Type>(array),
        DataType::UInt8 => integer::<UInt8Type>(array),
        DataType::UInt16 => integer::<UInt16Type>(array),
        DataType::UInt32 => integer::<UInt32Type>(array),
        DataType::UInt64 => number::<UInt64Type>(array),
        DataType::Float16 => Box::new(Halves(array.as_primitive())),
        DataType::Float32 => number::<Float32Type>(array),
        DataType::Float64 => number::<Float64Type>(array),
        DataType::Decimal32(_, scale) => decimal::<Decimal32Type>(array, *scale),
        DataType::Decimal64(_, scale) => decimal::<Decimal64Type>(array, *scale),
        DataType::Decimal128(_, scale) => decimal::<Decimal128Type>(array, *scale),
        DataType::Decimal256(..) => Box::new(WideDecimals(array.as_primitive::<Decimal256Type>())),
        DataType::Utf8 => Box::new(Texts(array.as_string::<i32>())),
        DataType::LargeUtf8 => Box::new(Texts(array.as_string::<i64>())),
        DataType::Utf8View => Box::new(Texts(array.as_string_view())),
        DataType::Binary => Box::new(Binaries(array.as_binary::<i32>())),
        DataType::LargeBinary => Box::new(Binaries(array.as_binary::<i64>())),
        DataType::BinaryView => Box::new(Binaries(array.as_binary_view())),
        DataType::FixedSizeBinary(_) => Box::new(Binaries(array.as_fixed_size_binary())),
        DataType::Date32 => Box::new(Dates { array: array.as_primitive::<Date32Type>(), per_day: 1 }),
        DataType::Date64 => Box::new(Dates { array: array.as_primitive::<Date64Type>(), per_day: 86_400_000 }),
        DataType::Time32(TimeUnit::Second) => times::<Time32SecondType>(array, 1, write_time),
        DataType::Time32(_) => times::<Time32MillisecondType>(array, 1000, write_time),
        DataType::Time64(TimeUnit::Microsecond) => times::<Time64MicrosecondType>(array, 1_000_000, write_time),
        DataType::Time64(_) => times::<Time64NanosecondType>(array, 1_000_000_000, write_time),
        DataType::Timestamp(TimeUnit::Second, _) => times::<TimestampSecondType>(array, 1, write_timestamp),
        DataType::Timestamp(TimeUnit::Millisecond, _) => times::<TimestampMillisecondType>(array, 1000, write_timestamp),
        DataType::Timestamp(TimeUnit::Microsecond, _) => times::<TimestampMicrosecondType>(array, 1_000_000, write_timestamp),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => times::<TimestampNanosecondType>(array, 1_000_000_000, write_timestamp),
        DataType::List(_) => list(array.as_list::<i32>())?,
        DataType::LargeList(_) => list(array.as_list::<i64>())?,
        DataType::ListView(_) => list(array.as_list_view::<i32>())?,
        DataType::LargeListView(_) => list(array.as_list_view::<i64>())?,
        DataType::FixedSizeList(..) => list(array.as_fixed_size_list())?,
        DataType::Struct(_) => Box::new(Structs::new(array.as_struct())?),
        DataType::Map(..) => Box::new(Maps::new(array.as_map())?),
        DataType::Dictionary(key, _) => dictionary(array, key)?,
        DataType::Duration(_) | DataType::Interval(_) | DataType::Union(..) | DataType::RunEndEncoded(..) => return None,
    })
}

struct Nothing;

impl Value for Nothing {
    fn is_null(&self, _: usize) -> bool {
        true
    }

    fn write(&self, _: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(b"null");
    }
}

impl Value for &BooleanArray {
    fn is_null(&self, row: usize) -> bool {
        Array::is_null(self, row)
    }

    fn write(&self, row: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(if self.value(row) { b"true" } else { b"false" });
    }
}

fn number<T: ArrowPrimitiveType<Native: Serialize>>(array: &dyn Array) -> Box<dyn Value + '_> {
    Box::new(Numbers(array.as_primitive::<T>()))
}

struct Numbers<'a, T: ArrowPrimitiveType>(&'a PrimitiveArray<T>);

impl<T: ArrowPrimitiveType<Native: Serialize>> Value for Numbers<'_, T> {
    fn is_null(&self, row: usize) -> bool {
        self.0.is_null(row)
    }

    fn write(&self, row: usize, out: &mut Vec<u8>) {
        write_number(self.0.value(row), out);
    }
}

fn write_number(value: impl Serialize, out: &mut Vec<u8>) {
    serde_json::to_writer(out, &value).expect("a number can always be written to memory");
}

fn integer<T: ArrowPrimitiveType<Native: Into<i64>>>(array: &dyn Array) -> Box<dyn Value + '_> {
    Box::new(Integers(array.as_primitive::<T>()))
}

struct Integers<'a, T: ArrowPrimitiveType>(&'a PrimitiveArray<T>);

impl<T: ArrowPrimitiveType<Native: Into<i64>>> Value for Integers<'_, T> {
    fn is_null(&self, row: usize) -> bool {
        self.0.is_null(row)
    }

    fn write(&self, row: usize, out: &mut Vec<u8>) {
        write_integer(self.0.value(row).into(), out);
    }
}

/// The two digits of each number below 100.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[b'0'; 2]; 100];
    let mut number = 0;
    while number < 100 {
        pairs[number] = [b'0' + number as u8 / 10, b'0' + number as u8 % 10];
        number += 1;
    }
    pairs
};

fn write_integer(value: i64, out: &mut Vec<u8>) {
    // As many as the longest one has.
    let mut text = [0; 20];
    let mut start = text.len();
    let mut rest = value.unsigned_abs();
    while rest >= 10 {
        start -= 2;
        text[start..start + 2].copy_from_slice(&PAIRS[(rest % 100) as usize]);
        rest /= 100;
    }
    if rest > 0 || start == text.len() {
        start -= 1;
        text[start] = b'0' + rest as u8;
    }
    if value < 0 {
        start -= 1;
        text[start] = b'-';
    }
    out.extend_from_slice(&text[start..]);
}

struct Halves<'a>(&'a PrimitiveArray<Float16Type>);

impl Value for Halves<'_> {
    fn is_null(&self, row: usize) -> bool {
        self.0.is_null(row)
    }

    fn write(&self, row: usize, out: &mut Vec<u8>) {
        write_number(self.0.value(row).to_f32(), out);
    }
}

fn decimal<T: ArrowPrimitiveType<Native: Into<i128>>>(array: &dyn Array, scale: i8) -> Box<dyn Value + '_> {
    Box::new(Decimals { array: array.as_primitive::<T>(), scale })
}

struct Decimals<'a, T: ArrowPrimitiveType> {
    array: &'a PrimitiveArray<T>,
    scale: i8,
}

impl<T: ArrowPrimitiveType<Native: Into<i128>>> Value for Decimals<'_, T> {
    fn is_null(&self, row: usize) -> bool {
        self.array.is_null(row)
    }

    fn write(&self, row: usize, out: &mut Vec<u8>) {
        write_decimal(self.array.value(row).into(), self.scale, out);
    }
}

/// Appends `value` divided by ten to the `scale`, with all its digits.
pub(in crate::formats) fn write_decimal(value: i128, scale: i8, out: &mut Vec<u8>) {
    if value < 0 {
        out.push(b'-');
    }
    let digits = value.unsigned_abs();
    let places = usize::from(scale.unsigned_abs());
    let written = if scale <= 0 {
        let zeros = if digits == 0 { 0 } else { places };
        write!(out, "{digits}{:0<zeros$}", "")
    } else {
        // The scale may be larger than what fits a power of ten.
        let (whole, fraction) = 10_u128.checked_pow(places as u32).map_or((0, digits), |unit| (digits / unit, digits % unit));
        write!(out, "{whole}.{fraction:0>places$}")
    };
    written.expect("memory can always be written to");
}

struct WideDecimals<'a>(&'a Decimal256Array);

impl Value for WideDecimals<'_> {
    fn is_null(&self, row: usize) -> bool {
        self.0.is_null(row)
    }

    fn write(&self, row: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(self.0.value_as_string(row).as_bytes());
    }
}

struct Texts<A>(A);

impl<'a, A: StringArrayType<'a>> Value for Texts<A> {
    fn is_null(&self, row: usize) -> bool {
        self.0.is_null(row)
    }

    fn write(&self, row: usize, out: &mut Vec<u8>) {
        write_text(self.0.value(row), out);
    }
}

/// Appends a text in quotes.
pub(super) fn write_text(text: &str, out: &mut Vec<u8>) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    let mut rest = text.as_bytes();
    if is_plain(rest) {
        out.extend_from_slice(rest);
        out.push(b'"');
        return;
    }
    loop {
        let (plain, special) = rest.split_at(plain_prefix(rest));
        out.extend_from_slice(plain);
        let Some((byte, after)) = special.split_first() else { break };
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(byte >> 4)]);
                out.push(HEX[usize::from(byte & 15)]);
            }
        }
        rest = after;
    }
    out.push(b'"');
}

struct Binaries<A>(A);

impl<'a, A: BinaryArrayType<'a>> Value for Binaries<A> {
    fn is_null(&self, row: usize) -> bool {
        self.0.is_null(row)
    }

    fn write(&self, row: usize, out: &mut Vec<u8>) {
        let bytes = self.0.value(row);
        out.push(b'"');
        let start = out.len();
        out.resize(start + bytes.len().div_ceil(3) * 4, 0);
        BASE64.encode_slice(bytes, &mut out[start..]).expect("the room is what base64 needs");
        out.push(b'"');
    }
}

struct Dates<'a, T: ArrowPrimitiveType> {
    array: &'a PrimitiveArray<T>,
    per_day: i64,
}

impl<T: ArrowPrimitiveType<Native: Into<i64>>> Value for Dates<'_, T> {
    fn is_null(&self, row: usize) -> bool {
        self.array.is_null(row)
    }

    fn write(&self, row: usize, out: &mut Vec<u8>) {
        out.push(b'"');
        write_date(out, self.array.value(row).into().div_euclid(self.per_day));
        out.push(b'"');
    }
}

type WriteTime = fn(&mut Vec<u8>, i64, i64);

fn times<T: ArrowPrimitiveType<Native: Into<i64>>>(array: &dyn Array, per_second: i64, write: WriteTime) -> Box<dyn Value + '_> {
    Box::new(Times { array: array.as_primitive::<T>(), per_second, write })
}

struct Times<'a, T: ArrowPrimitiveType> {
    array: &'a PrimitiveArray<T>,
    per_second: i64,
    write: WriteTime,
}

impl<T: ArrowPrimitiveType<Native: Into<i64>>> Value for Times<'_, T> {
    fn is_null(&self, row: usize) -> bool {
        self.array.is_null(row)
    }

    fn write(&self, row: usize, out: &mut Vec<u8>) {
        out.push(b'"');
        (self.write)(out, self.array.value(row).into(), self.per_second);
        out.push(b'"');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_written_as_the_standard_library_does() {
        let powers = (0..19).map(|power| 10_i64.pow(power));
        let around = powers.flat_map(|power| [power - 1, power, power + 1, power * 9]);
        for value in around.chain([i64::MAX, i64::MIN, i64::MIN + 1]).chain(0..2000) {
            for value in [value, value.wrapping_neg()] {
                let mut out = b"before ".to_vec();
                write_integer(value, &mut out);
                assert_eq!(out, format!("before {value}").into_bytes());
            }
        }
    }
}
