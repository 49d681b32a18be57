//! A strict JSON scanner that finds where values begin and end. It neither recurses nor allocates, whatever it is given.

use super::words::{integer, plain_prefix, quote};

/// Deepest nesting of arrays and objects, the record itself included.
pub(super) const MAX_DEPTH: u32 = 64;

/// What is wrong with a text.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Flaw {
    /// Not JSON: what is expected, and at which byte.
    Syntax(&'static str, usize),
    /// Nested deeper than [`MAX_DEPTH`].
    Depth,
}

/// What kind of value a token is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Null,
    True,
    False,
    Number,
    /// A number that is written as an integer of at most 16 digits.
    Integer(i64),
    /// The token is what is between the quotes.
    Text {
        escaped: bool,
    },
    /// An array or object.
    Nested,
}

/// A value in the scanned text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Token {
    /// A value that is missing is as good as NULL.
    pub(super) const NULL: Self = Self { kind: Kind::Null, start: 0, end: 0 };
}

/// The value at `at`, nested in one object, if it is an integer or a text and can be told at a glance, and where it ends. `plain`: the text has no escapes and no control
/// characters. Inlined into a loop that keeps its place in a register.
#[inline]
pub(super) fn glance(bytes: &[u8], at: usize, plain: bool) -> Option<(Token, usize)> {
    match bytes.get(at)? {
        b'"' if plain => {
            let start = at + 1;
            let end = start + quote(&bytes[start..])?;
            Some((Token { kind: Kind::Text { escaped: false }, start, end }, end + 1))
        }
        b'-' | b'0'..=b'9' => {
            let (value, length) = integer(&bytes[at..])?;
            Some((Token { kind: Kind::Integer(value), start: at, end: at + length }, at + length))
        }
        _ => None,
    }
}

/// A place in a text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    /// At byte `at` of `bytes`.
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    /// The next byte's place.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn flaw<T>(&self, expected: &'static str) -> Result<T, Flaw> {
        Err(Flaw::Syntax(expected, self.at))
    }

    #[inline]
    pub(super) fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// Whether the text has ended.
    pub(super) fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// The text must have ended.
    pub(super) fn expect_end(&self, name: &'static str) -> Result<(), Flaw> {
        if self.is_at_end() { Ok(()) } else { self.flaw(name) }
    }

    /// Takes `byte`, if it is next.
    #[inline]
    pub(super) fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// Takes `byte`, which must be next.
    #[inline]
    pub(super) fn expect(&mut self, byte: u8, name: &'static str) -> Result<(), Flaw> {
        if self.take(byte) { Ok(()) } else { self.flaw(name) }
    }

    /// A name, its colon, and the space around it.
    #[inline]
    pub(super) fn key(&mut self) -> Result<Token, Flaw> {
        self.expect(b'"', "a name in quotes")?;
        let key = self.text()?;
        self.skip_space();
        self.expect(b':', "a colon")?;
        self.skip_space();
        Ok(key)
    }

    /// A value that is nested in one object.
    #[inline]
    pub(super) fn value(&mut self) -> Result<Token, Flaw> {
        match self.peek() {
            Some(b'{' | b'[') => {
                let start = self.at;
                self.nested()?;
                Ok(Token { kind: Kind::Nested, start, end: self.at })
            }
            _ => self.scalar(),
        }
    }

    #[inline]
    fn scalar(&mut self) -> Result<Token, Flaw> {
        let start = self.at;
        let kind = match self.peek() {
            Some(b'"') => {
                self.at += 1;
                return self.text();
            }
            Some(b'-' | b'0'..=b'9') => {
                self.number()?;
                Kind::Number
            }
            Some(b't') => self.literal(b"true", Kind::True)?,
            Some(b'f') => self.literal(b"false", Kind::False)?,
            Some(b'n') => self.literal(b"null", Kind::Null)?,
            _ => return self.flaw("a value"),
        };
        Ok(Token { kind, start, end: self.at })
    }

    fn literal(&mut self, name: &[u8], kind: Kind) -> Result<Kind, Flaw> {
        if self.bytes[self.at..].starts_with(name) {
            self.at += name.len();
            Ok(kind)
        } else {
            self.flaw("true, false or null")
        }
    }

    fn number(&mut self) -> Result<(), Flaw> {
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            let _sign = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Flaw> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at > start { Ok(()) } else { self.flaw("a digit") }
    }

    /// The rest of a text whose opening quote was taken.
    #[inline]
    fn text(&mut self) -> Result<Token, Flaw> {
        let start = self.at;
        let mut escaped = false;
        loop {
            self.at += plain_prefix(&self.bytes[self.at..]);
            match self.peek() {
                Some(b'"') => {
                    let end = self.at;
                    self.at += 1;
                    return Ok(Token { kind: Kind::Text { escaped }, start, end });
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(_) => return self.flaw("no control character in a text"),
                None => return self.flaw("the closing quote of a text"),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Flaw> {
        match self.bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
            Some(b'u') => {
                let unit = self.unit()?;
                if (0xDC00..0xE000).contains(&unit) {
                    return self.flaw("a high surrogate before a low one");
                }
                self.at += 6;
                if (0xD800..0xDC00).contains(&unit) {
                    if !self.bytes[self.at..].starts_with(b"\\u") || !(0xDC00..0xE000).contains(&self.unit()?) {
                        return self.flaw("a low surrogate after a high one");
                    }
                    self.at += 6;
                }
            }
            _ => return self.flaw("a known escape"),
        }
        Ok(())
    }

    /// The UTF-16 unit of the `\uxxxx` that begins here.
    fn unit(&self) -> Result<u32, Flaw> {
        let hex = self.bytes.get(self.at + 2..self.at + 6);
        hex.and_then(hex_unit).map_or_else(|| self.flaw("four hexadecimal digits"), Ok)
    }

    /// Skips an array or object inside the outermost object.
    fn nested(&mut self) -> Result<(), Flaw> {
        // One bit for each open level, 1 for an object; `MAX_DEPTH` levels fit.
        let mut objects: u64 = 0;
        let mut depth = 1;
        loop {
            let opens = match self.peek() {
                Some(b'{') => Some(true),
                Some(b'[') => Some(false),
                _ => None,
            };
            if let Some(is_object) = opens {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(Flaw::Depth);
                }
                objects = objects << 1 | u64::from(is_object);
                self.at += 1;
                self.skip_space();
                if self.peek() != Some(if is_object { b'}' } else { b']' }) {
                    if is_object {
                        self.key()?;
                    }
                    continue;
                }
            } else {
                self.scalar()?;
                self.skip_space();
            }
            // Behind a value, or in front of the end of an empty container.
            loop {
                let is_object = objects & 1 == 1;
                match self.peek() {
                    Some(b',') => break,
                    Some(b'}') if is_object => {}
                    Some(b']') if !is_object => {}
                    _ => return self.flaw(if is_object { "a comma or }" } else { "a comma or ]" }),
                }
                self.at += 1;
                objects >>= 1;
                depth -= 1;
                if depth == 1 {
                    return Ok(());
                }
                self.skip_space();
            }
            self.at += 1;
            self.skip_space();
            if objects & 1 == 1 {
                self.key()?;
            }
        }
    }
}

fn hex_unit(hex: &[u8]) -> Option<u32> {
    hex.iter().try_fold(0, |unit, byte| Some(unit << 4 | char::from(*byte).to_digit(16)?))
}

/// Appends a scanned text with its escapes resolved.
pub(super) fn unescape(text: &str, out: &mut String) {
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
        out.push_str(&rest[..at]);
        let (plain, length) = match rest.as_bytes()[at + 1] {
            b'b' => ('\u{8}', 2),
            b'f' => ('\u{c}', 2),
            b'n' => ('\n', 2),
            b'r' => ('\r', 2),
            b't' => ('\t', 2),
            b'u' => unescape_unit(&rest.as_bytes()[at..]),
            other => (char::from(other), 2),
        };
        out.push(plain);
        rest = &rest[at + length..];
    }
    out.push_str(rest);
}

/// The character of the `\uxxxx`, or the pair of them, that `text` begins with, and its length.
fn unescape_unit(text: &[u8]) -> (char, usize) {
    let unit = |at: usize| text.get(at + 2..at + 6).and_then(hex_unit).unwrap_or(0);
    let first = unit(0);
    let (code, length) = match first {
        0xD800..0xDC00 => (0x1_0000 + ((first - 0xD800) << 10) + (unit(6).wrapping_sub(0xDC00) & 0x3FF), 12),
        _ => (first, 6),
    };
    (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), length)
}
