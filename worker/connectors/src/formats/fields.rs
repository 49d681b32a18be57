//! Lines of fields with one separator byte and no quoting, named by a header. Only the fields that are used are looked at; the others are counted.

use std::ops::Range;

use memchr::memchr_iter;

use super::records::Refusal;

/// Bytes of a header line; a longer one is no header.
const HEADER_CAP: usize = 16 * 1024;
/// Fields of a header line; one that names more is no header.
const FIELDS_CAP: usize = 512;

/// Which fields of a line are used, and where they are.
#[derive(Debug)]
pub(super) struct Layout {
    separator: u8,
    /// Names of the fields, separated by spaces, as in the header.
    names: String,
    count: usize,
    /// Indexes of the used fields, ascending.
    used: Vec<usize>,
    /// Where the used fields are in the last line.
    found: Vec<Range<usize>>,
}

impl Layout {
    /// `names` as in the header, separated by white space. `uses` tells, by name, which fields are used; of several with one name the first is.
    pub(super) fn new(separator: u8, names: &str, mut uses: impl FnMut(&str) -> bool) -> Result<Self, Refusal> {
        if names.len() > HEADER_CAP {
            return Err(Refusal::malformed(format!("the header line has {} bytes, {HEADER_CAP} are allowed", names.len())));
        }
        let list: Vec<&str> = names.split_ascii_whitespace().collect();
        if list.is_empty() || list.len() > FIELDS_CAP {
            return Err(Refusal::malformed(format!("the header line names {} fields, 1 to {FIELDS_CAP} are allowed", list.len())));
        }
        let used = (0..list.len()).filter(|&at| uses(list[at]) && !list[..at].contains(&list[at])).collect::<Vec<_>>();
        Ok(Self { separator, count: list.len(), names: list.join(" "), found: Vec::with_capacity(used.len()), used })
    }

    /// The header line as it is kept in a position.
    pub(super) fn names(&self) -> &str {
        &self.names
    }

    /// Number of a field among the used ones, for [`Layout::field`].
    pub(super) fn slot(&self, is_it: impl Fn(&str) -> bool) -> Option<usize> {
        let at = self.names.split(' ').position(is_it)?;
        self.used.iter().position(|used| *used == at)
    }

    /// Finds the used fields of a line, and checks that it has as many fields as the header.
    #[inline]
    pub(super) fn split(&mut self, line: &[u8]) -> Result<(), Refusal> {
        self.found.clear();
        let mut fields = 0;
        let mut start = 0;
        for end in memchr_iter(self.separator, line) {
            if self.used.get(self.found.len()).is_none_or(|used| *used == fields) {
                if self.found.len() == self.used.len() {
                    // Nothing more is used: the rest is only counted.
                    fields += memchr_iter(self.separator, &line[start..]).count();
                    start = line.len();
                    break;
                }
                self.found.push(start..end);
            }
            fields += 1;
            start = end + 1;
        }
        if self.used.get(self.found.len()) == Some(&fields) {
            self.found.push(start..line.len());
        }
        if fields + 1 == self.count {
            return Ok(());
        }
        Err(Refusal::malformed(format!("the line has {} fields, its header names {}", fields + 1, self.count)))
    }

    /// A used field of the line that was split last.
    #[inline]
    pub(super) fn field<'a>(&self, line: &'a str, slot: usize) -> &'a str {
        &line[self.found[slot].clone()]
    }
}

/// The line as text.
#[inline]
pub(super) fn utf8(line: &[u8]) -> Result<&str, Refusal> {
    std::str::from_utf8(line).map_err(|error| Refusal::malformed(format!("the text is not UTF-8 at byte {}", error.valid_up_to())))
}
