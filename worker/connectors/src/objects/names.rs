//! Names of written files and of their manifests. Pure: the same writer, epoch and number always give the same name.

use millrace_engine::checkpoint::PipelineUid;
use millrace_engine::sink::WriterIdentity;
use sha2::{Digest, Sha256};

/// Folder of everything that is not data, below the root of the data.
const OWN_FOLDER: &str = "_millrace";

/// The part of a template that holds all files: what is before the first placeholder, up to its last slash. Empty or ends in a slash.
pub(crate) fn root(template: &str) -> &str {
    let literal = template.find('{').map_or(template, |start| &template[..start]);
    literal.rfind('/').map_or("", |slash| &literal[..=slash])
}

/// `<output>-<task>-<hash of the Pipeline's UID>-g<generation>-e<epoch>-<number>.<extension>`
pub(crate) fn file(writer: &WriterIdentity, epoch: u64, number: u32, extension: &str) -> String {
    let hash = Sha256::digest(writer.pipeline_uid.as_bytes());
    let uid: String = hash[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    let WriterIdentity { output, task, generation, .. } = writer;
    format!("{output}-{task}-{uid}-g{generation}-e{epoch}-{number:05}.{extension}")
}

/// The generation in a name made by [`file`].
pub(crate) fn generation_in(name: &str) -> Option<u64> {
    let (before, _number) = name.rsplit_once('-')?;
    let (before, epoch) = before.rsplit_once('-')?;
    let (_, generation) = before.rsplit_once('-')?;
    epoch.strip_prefix('e')?.parse::<u64>().ok()?;
    generation.strip_prefix('g')?.parse().ok()
}

/// Folder of the manifests of one writer: `<root>_millrace/<pipeline uid>/<output>/<task>/`.
pub(crate) fn manifests(root: &str, writer: &WriterIdentity) -> String {
    let uid = PipelineUid::encoded(&writer.pipeline_uid);
    format!("{root}{OWN_FOLDER}/{}/{}/{}/", uid.as_str(), writer.output, writer.task)
}

/// The manifest of one epoch.
pub(crate) fn manifest(root: &str, writer: &WriterIdentity, epoch: u64) -> String {
    format!("{}{epoch:020}.json", manifests(root, writer))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer(uid: &str) -> WriterIdentity {
        WriterIdentity { pipeline_uid: uid.to_owned(), output: "archive".to_owned(), task: "logs-0".to_owned(), generation: 3 }
    }

    #[test]
    fn the_root_is_what_holds_all_partitions() {
        for (template, expected) in
            [("", ""), ("edge/dt={yyyy}/", "edge/"), ("a/b/", "a/b/"), ("a/b", "a/"), ("{x}/", ""), ("a/b={c}/d/{e}/", "a/")]
        {
            assert_eq!(root(template), expected, "{template}");
        }
    }

    #[test]
    fn a_file_is_named_by_who_wrote_it_and_when() {
        let name = file(&writer("u1"), 7, 2, "parquet");
        assert!(name.starts_with("archive-logs-0-") && name.ends_with("-g3-e7-00002.parquet"), "{name}");
        assert_eq!(generation_in(&name), Some(3));
        assert_eq!(generation_in("something-else.json"), None);
        assert_ne!(name, file(&writer("u2"), 7, 2, "parquet"), "two Pipelines may write into one folder");
    }

    #[test]
    fn a_manifest_lies_below_the_root_and_sorts_by_epoch() {
        let name = manifest("edge/", &writer("u1"), 7);
        assert!(name.starts_with("edge/_millrace/") && name.ends_with("/archive/logs-0/00000000000000000007.json"), "{name}");
        assert!(name < manifest("edge/", &writer("u1"), 10));
    }
}
