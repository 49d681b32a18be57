//! The names and numbers of the epoch protocol: pipeline, task, epoch, generation.
//! A name that is not safe as one path segment never gets past this file.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Error;

/// Longest accepted name, in bytes: leaves room for suffixes below the 255 of common file systems.
const MAX_NAME: usize = 200;
/// How much of an over-long name stays readable in its encoding.
const READABLE: usize = 100;
/// Separates input and split in a position key; an input name (a Kubernetes name) cannot contain it.
const KEY_SEPARATOR: char = '\u{1f}';

/// The checkpoint's number within one task; starts at 1, only grows, never reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

/// The fence: every owner of a task has its own, a later owner a higher one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl Epoch {
    /// The epoch after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The epoch before this one, if there is any.
    #[must_use]
    pub fn previous(self) -> Option<Self> {
        (self.0 > 1).then(|| Self(self.0 - 1))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A task's name: one path segment of `a-z 0-9 . _ -`, at most 200 bytes, not starting with a dot.
/// Upper case is excluded because some file systems fold it: two tasks would share a folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TaskId(String);

/// A pipeline's `metadata.uid`, or what stands in for it without a cluster; the same rules as [`TaskId`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PipelineUid(String);

impl TaskId {
    /// Takes a name that already is safe.
    ///
    /// # Errors
    /// [`Error::Name`] if it is not; see [`TaskId::encoded`] for names that users choose.
    pub fn new(name: impl Into<String>) -> Result<Self, Error> {
        checked("task", name.into()).map(Self)
    }

    /// Makes a safe name of any text (a stage name with a split that a broker or a user named).
    /// Different texts give different names, and common ones stay readable.
    ///
    /// ```
    /// # use millrace_engine::checkpoint::TaskId;
    /// assert_eq!(TaskId::encoded("logs-0").as_str(), "logs-0");
    /// assert_eq!(TaskId::encoded("../Etc").as_str(), "_2e._2f_45tc");
    /// ```
    #[must_use]
    pub fn encoded(name: &str) -> Self {
        Self(encode(name))
    }

    /// The name, safe as one path segment.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl PipelineUid {
    /// Takes a Kubernetes UID, or any name that is safe.
    ///
    /// # Errors
    /// [`Error::Name`] if it is not.
    pub fn new(uid: impl Into<String>) -> Result<Self, Error> {
        checked("pipeline uid", uid.into()).map(Self)
    }

    /// Makes a safe uid of any text, as [`TaskId::encoded`] does; for pipelines that run without a cluster.
    #[must_use]
    pub fn encoded(name: &str) -> Self {
        Self(encode(name))
    }

    /// The uid, safe as one path segment.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! text_conversions {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl TryFrom<String> for $name {
            type Error = Error;
            fn try_from(text: String) -> Result<Self, Error> {
                Self::new(text)
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }
    };
}
text_conversions!(TaskId);
text_conversions!(PipelineUid);

/// The key of one split's position in an epoch record.
#[must_use]
pub fn position_key(input: &str, split: &str) -> String {
    format!("{input}{KEY_SEPARATOR}{split}")
}

/// Input and split of a position key; `None` if it is not one.
#[must_use]
pub fn split_position_key(key: &str) -> Option<(&str, &str)> {
    key.split_once(KEY_SEPARATOR)
}

fn checked(what: &'static str, name: String) -> Result<String, Error> {
    let reason = if name.is_empty() {
        "it is empty"
    } else if name.len() > MAX_NAME {
        "it is longer than 200 bytes"
    } else if name.starts_with('.') {
        "it starts with a dot"
    } else if !name.bytes().all(|b| is_plain(b) || b == b'_') {
        "it has a character other than a-z 0-9 . _ -"
    } else {
        return Ok(name);
    };
    Err(Error::Name { what, name, reason })
}

/// `_xx` for every byte that is not plain, so `__` never occurs, and is free to mark a shortened name.
fn encode(name: &str) -> String {
    if name.is_empty() {
        return "_".to_owned();
    }
    let mut text = String::with_capacity(name.len());
    for (at, byte) in name.bytes().enumerate() {
        if is_plain(byte) && !(at == 0 && byte == b'.') {
            text.push(char::from(byte));
        } else {
            text.push('_');
            push_hex(&mut text, byte);
        }
    }
    if text.len() > MAX_NAME {
        text.truncate(READABLE);
        text.push_str("__");
        text.push_str(&sha256_hex(name.as_bytes()));
    }
    text
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-')
}

fn push_hex(text: &mut String, byte: u8) {
    for nibble in [byte >> 4, byte & 0xf] {
        text.push(char::from(b"0123456789abcdef"[usize::from(nibble)]));
    }
}

/// Lower-case hexadecimal SHA-256.
pub(super) fn sha256_hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        push_hex(&mut text, byte);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn every_encoded_name_is_safe_and_different_names_stay_different() {
        let alphabet = ["a", "A", "_", ".", "/", "%", "\n", "\0", "é", "0", "#1", "__", "-", "_2f", " "];
        let mut names = vec![String::new()];
        for first in alphabet {
            names.push(first.to_owned());
            for second in alphabet {
                names.push(format!("{first}{second}"));
                names.push(format!("{first}{second}{}", "x".repeat(300)));
            }
        }
        let mut seen = BTreeMap::new();
        for name in names {
            let id = TaskId::encoded(&name);
            assert_eq!(TaskId::new(id.as_str()).unwrap(), id, "{name:?}");
            if let Some(other) = seen.insert(id.clone(), name.clone()) {
                assert_eq!(other, name, "both encode to {id}");
            }
        }
    }

    #[test]
    fn unsafe_names_are_refused_with_a_reason() {
        for (name, word) in [("", "empty"), ("..", "dot"), ("a/b", "character"), ("A", "character"), (&"x".repeat(201), "longer")] {
            let error = TaskId::new(name).unwrap_err().to_string();
            assert!(error.contains(word), "{name:?}: {error}");
        }
        assert!(serde_json::from_str::<TaskId>("\"../x\"").is_err());
    }

    #[test]
    fn a_position_key_splits_at_the_first_separator() {
        let key = position_key("logs", "topic\u{1f}0");
        assert_eq!(split_position_key(&key), Some(("logs", "topic\u{1f}0")));
        assert_eq!(split_position_key("logs"), None);
    }
}
