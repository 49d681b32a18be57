//! Bodies of bulk requests, built and taken apart. Pure: nothing is sent here.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use bytes::Bytes;
use millrace_engine::batch::Origin;
use sha2::{Digest as _, Sha256};

use super::response::Outcome;

/// OpenSearch takes no longer `_id`.
pub(super) const MAX_ID_BYTES: usize = 512;
/// What an entry costs in memory besides its bytes in the body, roughly.
const ENTRY_OVERHEAD: usize = 96;

/// One document in a request.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Hash of index and `_id`.
    pub(super) identity: u64,
    /// Where the row comes from.
    pub(super) origin: Origin,
    /// Its number there.
    pub(super) ordinal: u64,
    /// How often it was sent and not decided.
    pub(super) attempts: u32,
    /// Where its document starts in the body, behind its action line; of a deletion, where its action line starts.
    document: usize,
    /// Where it ends.
    end: usize,
}

/// A request that is being built.
#[derive(Debug, Default)]
pub(super) struct Draft {
    body: Vec<u8>,
    entries: Vec<Entry>,
}

/// A request as it is sent.
#[derive(Clone, Debug)]
pub(super) struct Request {
    body: Bytes,
    entries: Vec<Entry>,
}

impl Draft {
    /// Adds a document: one line of JSON.
    pub(super) fn push(&mut self, index: &str, id: &str, document: &[u8], origin: &Origin, ordinal: u64) {
        self.action("index", index, id);
        let start = self.body.len();
        self.body.extend_from_slice(document);
        self.body.push(b'\n');
        self.enter(index, id, start, origin, ordinal);
    }

    /// Adds the deletion of a document. What stands for it where a document is shown is the line that deletes it.
    pub(super) fn push_delete(&mut self, index: &str, id: &str, origin: &Origin, ordinal: u64) {
        let start = self.body.len();
        self.action("delete", index, id);
        self.enter(index, id, start, origin, ordinal);
    }

    fn action(&mut self, action: &str, index: &str, id: &str) {
        self.body.extend_from_slice(format!("{{\"{action}\":{{\"_index\":").as_bytes());
        push_text(&mut self.body, index);
        self.body.extend_from_slice(b",\"_id\":");
        push_text(&mut self.body, id);
        self.body.extend_from_slice(b"}}\n");
    }

    fn enter(&mut self, index: &str, id: &str, start: usize, origin: &Origin, ordinal: u64) {
        let mut hasher = DefaultHasher::new();
        (index, id).hash(&mut hasher);
        self.entries.push(Entry {
            identity: hasher.finish(),
            origin: origin.clone(),
            ordinal,
            attempts: 0,
            document: start,
            end: self.body.len(),
        });
    }

    pub(super) fn append(&mut self, other: Self) {
        let shift = self.body.len();
        self.body.extend_from_slice(&other.body);
        self.entries.extend(other.entries.into_iter().map(|entry| entry.shifted(shift)));
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of the request's body.
    pub(super) fn body_bytes(&self) -> usize {
        self.body.len()
    }

    /// Bytes of memory.
    pub(super) fn memory_bytes(&self) -> usize {
        self.body.len() + self.entries.len() * ENTRY_OVERHEAD
    }

    pub(super) fn identities(&self) -> impl Iterator<Item = u64> {
        self.entries.iter().map(|entry| entry.identity)
    }

    pub(super) fn seal(self) -> Request {
        Request { body: Bytes::from(self.body), entries: self.entries }
    }
}

impl Request {
    pub(super) fn body(&self) -> Bytes {
        self.body.clone()
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The document of entry `nth`, without its line feed.
    pub(super) fn document(&self, nth: usize) -> Bytes {
        let entry = &self.entries[nth];
        self.body.slice(entry.document..entry.end - 1)
    }

    /// The same request, each entry counted as tried once more.
    pub(super) fn again(mut self) -> Self {
        for entry in &mut self.entries {
            entry.attempts += 1;
        }
        self
    }

    /// A request of the entries `which` (ascending) only, each counted as tried once more.
    pub(super) fn only(&self, which: &[usize]) -> Self {
        let mut draft = Draft::default();
        for &nth in which {
            let start = nth.checked_sub(1).map_or(0, |before| self.entries[before].end);
            let entry = self.entries[nth].clone();
            let at = draft.body.len();
            draft.body.extend_from_slice(&self.body[start..entry.end]);
            let document = at + entry.document - start;
            draft.entries.push(Entry { document, end: draft.body.len(), attempts: entry.attempts + 1, ..entry });
        }
        draft.seal()
    }

    /// The first and the second half, each entry counted as tried once more.
    pub(super) fn halves(&self) -> (Self, Self) {
        let all: Vec<usize> = (0..self.entries.len()).collect();
        let (first, second) = all.split_at(all.len() / 2);
        (self.only(first), self.only(second))
    }

    /// Entries to send again, by what was said of each. Not among them: one that a later one with the same `_id`, already accepted,
    /// has replaced; sending it again would bring the older document back.
    pub(super) fn undecided(&self, outcomes: &[Outcome]) -> Vec<usize> {
        let mut replaced = HashSet::new();
        let mut again = Vec::new();
        for (nth, (entry, outcome)) in self.entries.iter().zip(outcomes).enumerate().rev() {
            match outcome {
                Outcome::Accepted => {
                    replaced.insert(entry.identity);
                }
                Outcome::Again { .. } if !replaced.contains(&entry.identity) => again.push(nth),
                Outcome::Again { .. } | Outcome::Refused { .. } => {}
            }
        }
        again.reverse();
        again
    }
}

impl Entry {
    fn shifted(mut self, by: usize) -> Self {
        self.document += by;
        self.end += by;
        self
    }
}

/// The `_id` for a key: itself, or its SHA-256 in hexadecimal if it is too long.
pub(super) fn id_of(key: String) -> String {
    if key.len() <= MAX_ID_BYTES {
        return key;
    }
    let digest = Sha256::digest(key.as_bytes());
    digest.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|nibble| char::from_digit(u32::from(nibble), 16).unwrap_or('0')).collect()
}

/// `text` as a JSON string.
fn push_text(body: &mut Vec<u8>, text: &str) {
    if text.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
        body.push(b'"');
        body.extend_from_slice(text.as_bytes());
        body.push(b'"');
    } else {
        body.extend_from_slice(serde_json::Value::from(text).to_string().as_bytes());
    }
}
