//! OpenSearch: rows become documents by the bulk API. It never deletes a document and never creates a mapping.
//!
//! Maturity: beta.
//!
//! * Effectively once: a document's `_id` is its key (`idFrom`) or its place in the source, the same in every replay, so a replay
//!   overwrites a document with itself. A row whose key columns are all NULL or empty has no identity: it is refused.
//! * Order is kept for each `_id`: no two requests under way hold the same one.
//! * What OpenSearch refuses for good (mapping, size) goes to the dead letters with OpenSearch's own words. Everything else (no connection,
//!   429, 5xx, blocks on writing, missing rights) is tried again until it works, and is reported meanwhile.
//!
//! ```text
//!  writer: rows ─▶ drafts ──▶ sender: queue ─▶ delivery ─▶ client ──HTTP──▶ OpenSearch
//!    _id, index, JSON        │ sends by size, time,   │ until each document is accepted or refused
//!    waits for memory        │ nothing under way      └─ response: what OpenSearch said of each
//! ```
//!
//! Known limits
//! * Two tasks that write the same `_id` (a key that is spread over splits) overwrite each other in no particular order.
//! * The probe asks for `GET /`, which needs the right `cluster:monitor/main`; it does not show that an index may be written.
//! * No request bodies are compressed. A proxy is used if the standard variables (`HTTPS_PROXY`, `NO_PROXY`, …) say so.

mod bulk;
mod client;
mod delivery;
mod queue;
pub(crate) mod response;
mod sender;
mod sink;
mod writer;

#[cfg(test)]
mod tests;

pub use sink::OpenSearchSink;
