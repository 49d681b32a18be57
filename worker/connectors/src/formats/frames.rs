//! Where records begin and end in a stream of chunks. It copies a record only if a chunk boundary cuts it, and never holds more than one
//! chunk and `limit` bytes of a record, however long the record is.

use std::collections::VecDeque;

use bytes::Bytes;
use memchr::memchr;

use super::PAYLOAD_CAP;

/// One record, without its line terminator (`\n` or `\r\n`).
#[derive(Debug)]
pub(super) enum Frame<'a> {
    /// A record within the limit.
    Record(&'a [u8]),
    /// A record above the limit: how it begins (at most [`PAYLOAD_CAP`] bytes), and its length.
    TooLong { start: &'a [u8], length: u64 },
}

/// What separates records.
#[derive(Clone, Copy, Debug)]
pub(super) enum Separator {
    /// Each newline.
    Newline,
    /// Each newline that is not inside a field in double quotes; fields are separated by this byte.
    NewlineOutsideQuotes(u8),
}

/// Where a scan for the end of a record stands within delimited text.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Quoting {
    FieldStart,
    Unquoted,
    Quoted,
    /// After a quote inside quotes: the end of the field, or half of a doubled quote.
    QuoteInQuotes,
}

/// Cuts chunks into records.
#[derive(Debug)]
pub(super) struct Frames {
    separator: Separator,
    limit: usize,
    chunks: VecDeque<Bytes>,
    /// Bytes of the first chunk that are done with.
    done: usize,
    /// The beginning of a record that was cut by a chunk boundary.
    carry: Vec<u8>,
    /// The carry was returned and must be emptied before the next record.
    carry_returned: bool,
    quoting: Quoting,
    /// Length so far of a record above the limit; the carry holds its beginning.
    skipping: Option<u64>,
    ended: bool,
    byte: u64,
}

/// Where the bytes of a found record are.
enum Found {
    InChunk(usize, usize),
    InCarry,
    TooLong(u64),
}

impl Frames {
    /// `byte` is the place of the first byte in the whole stream; records above `limit` bytes are [`Frame::TooLong`].
    pub(super) fn new(separator: Separator, limit: usize, byte: u64) -> Self {
        Self {
            separator,
            limit,
            chunks: VecDeque::new(),
            done: 0,
            carry: Vec::new(),
            carry_returned: false,
            quoting: Quoting::FieldStart,
            skipping: None,
            ended: false,
            byte,
        }
    }

    pub(super) fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.chunks.push_back(chunk);
        }
    }

    /// No more chunks: what is left is the last record.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    /// Bytes of the stream up to the end of the last returned record.
    pub(super) fn byte(&self) -> u64 {
        self.byte
    }

    /// Bytes that a record may have.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Memory held for a record that is not complete yet.
    #[cfg(test)]
    pub(super) fn carry_capacity(&self) -> usize {
        self.carry.capacity()
    }

    /// The next record, or `None` if it needs more chunks.
    #[inline]
    pub(super) fn next(&mut self) -> Option<Frame<'_>> {
        if self.carry_returned {
            self.carry.clear();
            self.carry.shrink_to(PAYLOAD_CAP);
            self.carry_returned = false;
        }
        match self.find()? {
            Found::InChunk(start, end) => {
                let chunk = self.chunks.front().expect("the record was found in this chunk");
                Some(Frame::Record(without_return(&chunk[start..end])))
            }
            Found::InCarry => {
                self.carry_returned = true;
                Some(Frame::Record(without_return(&self.carry)))
            }
            Found::TooLong(length) => {
                self.carry_returned = true;
                Some(Frame::TooLong { start: &self.carry, length })
            }
        }
    }

    fn find(&mut self) -> Option<Found> {
        loop {
            let Some(chunk) = self.chunks.front() else { return self.find_at_end() };
            let rest = &chunk[self.done..];
            if rest.is_empty() {
                self.chunks.pop_front();
                self.done = 0;
                continue;
            }
            if let Some(length) = self.skipping {
                let end = memchr(b'\n', rest);
                let length = length + end.unwrap_or(rest.len()) as u64;
                self.done += end.map_or(rest.len(), |end| end + 1);
                self.skipping = end.is_none().then_some(length);
                if end.is_some() {
                    self.byte += length + 1;
                    return Some(Found::TooLong(length));
                }
                continue;
            }
            // One byte more than a record may have: its terminator.
            let room = self.limit + 1 - self.carry.len();
            let window = &rest[..rest.len().min(room)];
            match find_end(self.separator, &mut self.quoting, window) {
                Some(end) => {
                    let start = self.done;
                    self.done += end + 1;
                    self.byte += (self.carry.len() + end + 1) as u64;
                    if self.carry.is_empty() {
                        return Some(Found::InChunk(start, start + end));
                    }
                    self.carry.extend_from_slice(&window[..end]);
                    return Some(Found::InCarry);
                }
                None if window.len() == room => {
                    // Too long: keep the beginning only, and go on at the next newline, quoted or not.
                    self.skipping = Some((self.carry.len() + room) as u64);
                    let wanted = PAYLOAD_CAP.saturating_sub(self.carry.len()).min(room);
                    self.carry.extend_from_slice(&window[..wanted]);
                    self.carry.truncate(PAYLOAD_CAP);
                    self.carry.shrink_to(PAYLOAD_CAP);
                    self.done += room;
                    self.quoting = Quoting::FieldStart;
                }
                None => {
                    self.carry.extend_from_slice(window);
                    self.done += window.len();
                }
            }
        }
    }

    fn find_at_end(&mut self) -> Option<Found> {
        if !self.ended {
            return None;
        }
        if let Some(length) = self.skipping.take() {
            self.byte += length;
            return Some(Found::TooLong(length));
        }
        if self.carry.is_empty() {
            return None;
        }
        self.byte += self.carry.len() as u64;
        self.quoting = Quoting::FieldStart;
        if self.carry.len() > self.limit {
            let length = self.carry.len() as u64;
            self.carry.truncate(PAYLOAD_CAP);
            return Some(Found::TooLong(length));
        }
        Some(Found::InCarry)
    }
}

/// Index of the newline that ends the record. Without one, `quoting` says where the scan has to go on.
#[inline]
fn find_end(separator: Separator, quoting: &mut Quoting, window: &[u8]) -> Option<usize> {
    match separator {
        Separator::Newline => memchr(b'\n', window),
        Separator::NewlineOutsideQuotes(delimiter) => find_unquoted_end(delimiter, quoting, window),
    }
}

fn find_unquoted_end(delimiter: u8, quoting: &mut Quoting, window: &[u8]) -> Option<usize> {
    let mut at = 0;
    if *quoting == Quoting::FieldStart || *quoting == Quoting::Unquoted {
        // The usual line has no quote at all.
        let newline = memchr(b'\n', window);
        let line = &window[..newline.unwrap_or(window.len())];
        match memchr(b'"', line) {
            None if newline.is_some() => {
                *quoting = Quoting::FieldStart;
                return newline;
            }
            None => {
                if let Some(last) = line.last() {
                    *quoting = if *last == delimiter { Quoting::FieldStart } else { Quoting::Unquoted };
                }
                return None;
            }
            Some(first) if first > 0 => {
                *quoting = if line[first - 1] == delimiter { Quoting::FieldStart } else { Quoting::Unquoted };
                at = first;
            }
            Some(_) => {}
        }
    }
    while at < window.len() {
        let byte = window[at];
        match *quoting {
            Quoting::Quoted => match memchr(b'"', &window[at..]) {
                None => return None,
                Some(skip) => {
                    at += skip;
                    *quoting = Quoting::QuoteInQuotes;
                }
            },
            Quoting::QuoteInQuotes | Quoting::FieldStart if byte == b'"' => *quoting = Quoting::Quoted,
            _ if byte == b'\n' => {
                *quoting = Quoting::FieldStart;
                return Some(at);
            }
            _ => *quoting = if byte == delimiter { Quoting::FieldStart } else { Quoting::Unquoted },
        }
        at += 1;
    }
    None
}

/// Without the `\r` of a `\r\n`.
#[inline]
fn without_return(record: &[u8]) -> &[u8] {
    record.strip_suffix(b"\r").unwrap_or(record)
}
