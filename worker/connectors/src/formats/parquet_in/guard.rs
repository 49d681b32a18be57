//! Looks at the thrift structures of a Parquet file before the parquet crate does, because it believes the sizes in them: a footer of a
//! hundred bytes could make it reserve terabytes, or recurse as deep as the file likes. It decodes nothing else.

/// Nesting of thrift structures; Parquet's own need fewer than ten.
const MAX_THRIFT_DEPTH: u32 = 32;
/// Nesting of groups in a schema.
const MAX_SCHEMA_DEPTH: usize = 64;
/// Row groups of a file; their ordinal is a 16-bit number.
const MAX_ROW_GROUPS: usize = i16::MAX as usize;
/// Column chunks of a file: row groups times columns.
const MAX_CHUNKS: usize = 1 << 18;
/// Decompressed bytes of one page. Writers make pages of 1 MiB.
const MAX_PAGE_BYTES: u64 = 64 << 20;

const STOP: u8 = 0;
const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
const I16: u8 = 4;
const I32: u8 = 5;
const I64: u8 = 6;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const SET: u8 = 10;
const MAP: u8 = 11;
const STRUCT: u8 = 12;
const UUID: u8 = 13;

/// Whether a footer can safely be decoded.
///
/// # Errors
/// Text for people.
pub(super) fn check_footer(footer: &[u8]) -> Result<(), String> {
    let mut reader = Thrift { bytes: footer, at: 0 };
    let (mut columns, mut row_groups) = (0, 0);
    let read = reader.fields(&mut |reader, id, kind| match (id, kind) {
        (2, LIST) => {
            columns = check_schema(reader)?;
            Some(())
        }
        (4, LIST) => {
            let at = reader.at;
            row_groups = reader.list()?.1;
            reader.at = at;
            reader.skip(LIST, 0)
        }
        _ => reader.skip(kind, 0),
    });
    if read.is_none() {
        return Err("the footer is damaged".to_owned());
    }
    if row_groups > MAX_ROW_GROUPS || columns.saturating_mul(row_groups) > MAX_CHUNKS {
        return Err(format!(
            "the footer lists {row_groups} row groups of {columns} columns; {MAX_ROW_GROUPS} row groups and {MAX_CHUNKS} column chunks are allowed"
        ));
    }
    Ok(())
}

/// The schema elements, which are a tree in preorder. Returns how many there are, or `None` unless they are one tree.
fn check_schema(reader: &mut Thrift<'_>) -> Option<usize> {
    let (kind, count) = reader.list()?;
    if kind != STRUCT {
        return None;
    }
    // Children that are still to come, for each open group.
    let mut open: Vec<usize> = Vec::new();
    for index in 0..count {
        let mut children = 0;
        reader.fields(&mut |reader, id, kind| match (id, kind) {
            (5, I32) => {
                children = usize::try_from(reader.int()?).ok()?;
                Some(())
            }
            _ => reader.skip(kind, 0),
        })?;
        match open.last_mut() {
            Some(left) => *left -= 1,
            None if index == 0 => {}
            None => return None,
        }
        if children > count {
            return None;
        }
        open.push(children);
        while open.last() == Some(&0) {
            open.pop();
        }
        if open.len() > MAX_SCHEMA_DEPTH {
            return None;
        }
    }
    open.is_empty().then_some(count)
}

/// Walks the pages of one column chunk of `values` values, and returns the sum of their decompressed sizes.
///
/// # Errors
/// Text for people: a page is damaged, or larger than anything a writer makes.
pub(super) fn check_pages(chunk: &[u8], values: u64) -> Result<u64, String> {
    let (mut at, mut seen, mut total) = (0, 0, 0);
    while seen < values {
        let mut reader = Thrift { bytes: chunk, at };
        let page = read_page(&mut reader).ok_or_else(|| format!("the page header at byte {at} of a column is damaged"))?;
        let end = reader.at as u64 + page.compressed;
        if end > chunk.len() as u64 {
            return Err(format!("the page at byte {at} of a column goes beyond its end"));
        }
        // A value of a dictionary takes at least a byte.
        if page.decompressed > MAX_PAGE_BYTES || page.dictionary_values > page.decompressed {
            return Err(format!(
                "a page has {} bytes and {} dictionary values, {MAX_PAGE_BYTES} bytes are allowed",
                page.decompressed, page.dictionary_values
            ));
        }
        seen += page.values;
        total += page.decompressed;
        at = end as usize;
    }
    Ok(total)
}

#[derive(Default)]
struct Page {
    compressed: u64,
    decompressed: u64,
    values: u64,
    dictionary_values: u64,
}

fn read_page(reader: &mut Thrift<'_>) -> Option<Page> {
    let mut page = Page::default();
    let (mut has_compressed, mut has_decompressed) = (false, false);
    reader.fields(&mut |reader, id, kind| {
        match (id, kind) {
            (2, I32) => {
                page.decompressed = u64::try_from(reader.int()?).ok()?;
                has_decompressed = true;
            }
            (3, I32) => {
                page.compressed = u64::try_from(reader.int()?).ok()?;
                has_compressed = true;
            }
            (5 | 8, STRUCT) => page.values = first_int(reader)?,
            (7, STRUCT) => page.dictionary_values = first_int(reader)?,
            _ => reader.skip(kind, 0)?,
        }
        Some(())
    })?;
    (has_compressed && has_decompressed).then_some(page)
}

/// Field 1 of a struct, which counts values in every kind of page.
fn first_int(reader: &mut Thrift<'_>) -> Option<u64> {
    let mut first = None;
    reader.fields(&mut |reader, id, kind| match (id, kind) {
        (1, I32) => {
            first = Some(u64::try_from(reader.int()?).ok()?);
            Some(())
        }
        _ => reader.skip(kind, 1),
    })?;
    first
}

/// Thrift's compact protocol.
struct Thrift<'a> {
    bytes: &'a [u8],
    at: usize,
}

type EachField<'a, 'b> = &'b mut dyn FnMut(&mut Thrift<'a>, i64, u8) -> Option<()>;

impl<'a> Thrift<'a> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn skip_bytes(&mut self, count: u64) -> Option<()> {
        let left = self.bytes.len() - self.at;
        let count = usize::try_from(count).ok().filter(|count| *count <= left)?;
        self.at += count;
        Some(())
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn int(&mut self) -> Option<i64> {
        let value = self.varint()?;
        Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    /// Type and number of the elements; each takes a byte at least.
    fn list(&mut self) -> Option<(u8, usize)> {
        let header = self.byte()?;
        let count = match header >> 4 {
            15 => usize::try_from(self.varint()?).ok()?,
            count => usize::from(count),
        };
        (count <= self.bytes.len() - self.at).then_some((header & 15, count))
    }

    /// Hands each field's number and type to `each`, which must consume its value.
    fn fields(&mut self, each: EachField<'a, '_>) -> Option<()> {
        let mut id = 0_i64;
        loop {
            let header = self.byte()?;
            let kind = header & 15;
            if kind == STOP {
                return Some(());
            }
            id = match header >> 4 {
                0 => self.int()?,
                delta => id.checked_add(i64::from(delta))?,
            };
            each(self, id, kind)?;
        }
    }

    fn skip(&mut self, kind: u8, depth: u32) -> Option<()> {
        if depth > MAX_THRIFT_DEPTH {
            return None;
        }
        match kind {
            TRUE | FALSE => Some(()),
            BYTE => self.skip_bytes(1),
            I16 | I32 | I64 => self.varint().map(drop),
            DOUBLE => self.skip_bytes(8),
            UUID => self.skip_bytes(16),
            BINARY => {
                let length = self.varint()?;
                self.skip_bytes(length)
            }
            LIST | SET => {
                let (kind, count) = self.list()?;
                (0..count).try_for_each(|_| self.skip_element(kind, depth + 1))
            }
            MAP => {
                let count = self.varint()?;
                let kinds = if count == 0 { 0 } else { self.byte()? };
                (0..count).try_for_each(|_| {
                    self.skip_element(kinds >> 4, depth + 1)?;
                    self.skip_element(kinds & 15, depth + 1)
                })
            }
            STRUCT => self.fields(&mut |reader, _, kind| reader.skip(kind, depth + 1)),
            _ => None,
        }
    }

    /// Elements of collections differ from fields in that a truth value takes a byte.
    fn skip_element(&mut self, kind: u8, depth: u32) -> Option<()> {
        match kind {
            TRUE | FALSE => self.skip_bytes(1),
            kind => self.skip(kind, depth),
        }
    }
}
