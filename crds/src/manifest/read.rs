//! From paths to documents: finds the files, splits them, parses them. What a document means is not known here.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::error::{Error, Origin};

/// A parsed document.
pub(super) struct Document {
    pub(super) value: Value,
    pub(super) origin: Origin,
}

/// The files of all paths, those of a directory by name.
pub(super) fn files<P: AsRef<Path>>(paths: &[P], errors: &mut Vec<Error>) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for path in paths.iter().map(AsRef::as_ref) {
        if !path.is_dir() {
            files.push(path.to_path_buf());
            continue;
        }
        match manifests_in(path) {
            Ok(found) if found.is_empty() => errors.push(Error::NoFiles { path: path.to_path_buf() }),
            Ok(found) => files.extend(found),
            Err(source) => errors.push(Error::Read { path: path.to_path_buf(), source }),
        }
    }
    files
}

fn manifests_in(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let named = path.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json");
        if named && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Adds the documents of a file; empty ones are passed over, as `kubectl` does.
pub(super) fn documents(file: &Path, documents: &mut Vec<Document>, errors: &mut Vec<Error>) {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(source) => {
            return errors.push(Error::Read { path: file.to_path_buf(), source });
        }
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    for (index, part) in split(text).into_iter().enumerate() {
        let origin = |line| Origin { file: file.to_path_buf(), document: index + 1, line };
        match parse(&part.text) {
            Ok(Value::Null) => {}
            Ok(value) => documents.push(Document { value, origin: origin(part.line) }),
            Err(error) => {
                let line = error.location().map_or(part.line, |at| part.first_line + at.line() - 1);
                errors.push(Error::Syntax { origin: origin(line), message: without_location(&error) });
            }
        }
    }
}

struct Part {
    text: String,
    /// Line of the file on which `text` starts.
    first_line: usize,
    /// Line of the first content.
    line: usize,
}

/// Splits at lines that start with `---`, which YAML allows nowhere else, not even inside a block of text.
fn split(text: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut current = Part { text: String::new(), first_line: 1, line: 0 };
    for (index, line) in text.lines().enumerate() {
        let rest = line.strip_prefix("---").filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t']));
        if rest.is_some() && index > 0 {
            let next = Part { text: String::new(), first_line: index + 1, line: 0 };
            parts.push(std::mem::replace(&mut current, next));
        }
        let content = rest.unwrap_or(line);
        if current.line == 0 && !content.trim().is_empty() && !content.trim_start().starts_with('#') {
            current.line = index + 1;
        }
        current.text.push_str(content);
        current.text.push('\n');
    }
    parts.push(current);
    parts.retain(|part| part.line > 0);
    parts
}

fn parse(text: &str) -> Result<Value, serde_yaml::Error> {
    // By way of YAML's own value: it refuses keys given twice, which JSON's would overwrite.
    let mut value: serde_yaml::Value = serde_yaml::from_str(text)?;
    value.apply_merge()?;
    serde_yaml::from_value(value)
}

/// The parser's message without its own line, which counts from the start of the document.
fn without_location(error: &serde_yaml::Error) -> String {
    let message = error.to_string();
    match message.rfind(" at line ") {
        Some(at) => message[..at].to_owned(),
        None => message,
    }
}
