//! What can be said of the Kafka connector without a broker.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Int64Array, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema};
use millrace_crds::connectors::kafka::{KafkaSink as Sinks, OnPositionLost};
use millrace_crds::delivery::Guarantee;
use millrace_crds::pipeline::Limits;
use millrace_crds::report::ErrorReason;
use millrace_engine::batch::{Batch, Origin};
use millrace_engine::connector::Health;
use millrace_engine::plan::Changelog;
use millrace_engine::sink::{OpenSink, Sink as _, WriterIdentity};
use serde_json::json;

use super::KafkaSink;
use super::position::{Lost, Partition, Position, after_loss, describe};
use super::wire::cluster::Access;
use crate::context::{Context, ResolvedLimits};

fn context(secrets: &std::path::Path) -> Context {
    Context { secrets_dir: secrets.to_owned(), limits: ResolvedLimits::from(&Limits::default()) }
}

fn sink(options: serde_json::Value) -> Sinks {
    serde_json::from_value(options).unwrap()
}

#[test]
fn a_split_is_topic_and_partition() {
    let partition = Partition::parse("a.b-c_d/12").unwrap();
    assert_eq!((partition.topic.as_str(), partition.number), ("a.b-c_d", 12));
    assert_eq!(partition.to_string(), "a.b-c_d/12");
    for broken in ["topic", "topic/", "topic/x", "topic/-1", ""] {
        assert_eq!(Partition::parse(broken).unwrap_err().reason, ErrorReason::Internal, "{broken}");
    }
}

#[test]
fn a_position_survives_the_checkpoint() {
    for position in [
        Position::default(),
        Position::at(0),
        Position { topic_id: Some("0w7M2xbnQ3GTTYlM9N6cHw".to_owned()), offset: Some(1 << 40), leader_epoch: Some(12) },
    ] {
        assert_eq!(Position::read(&position.write()).unwrap(), position);
    }
    assert_eq!(Position { topic_id: Some("x".to_owned()), ..Position::at(7) }.write(), json!({"topicId": "x", "offset": 7}));
    let older = json!({"offset": 7});
    assert_eq!(Position::read(&older).unwrap().leader_epoch, None);
    assert_eq!(Position { leader_epoch: Some(3), ..Position::at(7) }.write(), json!({"offset": 7, "leaderEpoch": 3}));
    assert_eq!(Position::read(&json!({"offset": "seven"})).unwrap_err().reason, ErrorReason::Corrupt);
}

#[test]
fn a_loss_is_described_with_its_range() {
    let partition = Partition { topic: "orders".to_owned(), number: 3 };
    let position = Position { topic_id: Some("old".to_owned()), ..Position::at(100) };
    let said = |lost: &Lost, low, high| describe(&partition, &position, lost, low, high);
    let out = Lost::OutOfRange("Local: No offset to automatically reset to".to_owned());
    let retention = said(&out, 150, 200);
    assert!(retention.contains("orders/3") && retention.contains("offsets 100 to 149") && retention.contains("50 records"), "{retention}");
    let beyond = said(&out, 0, 40);
    assert!(beyond.contains("next offset 100 is beyond the end 40") && beyond.contains("40 to 99"), "{beyond}");
    let recreated = said(&Lost::Recreated { id: "new".to_owned() }, 0, 500);
    assert!(recreated.contains("id old is now new") && recreated.contains("from offset 100 on"), "{recreated}");
}

#[test]
fn the_policy_decides_where_to_go_on() {
    let cut = |end| Lost::Truncated { end };
    for lost in [Lost::OutOfRange("gone".to_owned()), Lost::Recreated { id: "new".to_owned() }, cut(7)] {
        assert_eq!(after_loss(OnPositionLost::Fail, &lost, 5, 9), None);
        assert_eq!(after_loss(OnPositionLost::Latest, &lost, 5, 9), Some(9));
        let earliest = if lost == cut(7) { 7 } else { 5 };
        assert_eq!(after_loss(OnPositionLost::Earliest, &lost, 5, 9), Some(earliest), "what is before the cut has been read");
    }
    // Retention has come further than the cut; what may be read already does not yet reach it, which is no reason to read anything twice.
    assert_eq!(after_loss(OnPositionLost::Earliest, &cut(3), 5, 9), Some(5));
    assert_eq!(after_loss(OnPositionLost::Earliest, &cut(12), 5, 9), Some(12));
}

#[test]
fn secrets_are_read_as_they_are_now_and_shown_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("login")).unwrap();
    for (file, text) in [("login/username", "ann\n"), ("login/password", "s3cret\n")] {
        std::fs::write(folder.path().join(file), text).unwrap();
    }
    let options = sink(json!({
        "bootstrapServers": "a:9092,b:9092", "topic": "t", "format": {"json": {}},
        "sasl": {"mechanism": "ScramSha512", "secretRef": {"name": "login"}},
    }));
    let access = Access::new(&options.access, &context(folder.path()));
    let cluster = access.cluster().unwrap();
    assert!(!format!("{access:?} {cluster:?}").contains("s3cret"), "{access:?} {cluster:?}");
    assert!(!access.has_changed(&cluster));
    std::fs::write(folder.path().join("login/password"), "rotated").unwrap();
    assert!(access.has_changed(&cluster));
    assert!(!access.has_changed(&access.cluster().unwrap()));
    std::fs::remove_file(folder.path().join("login/password")).unwrap();
    let error = access.cluster().unwrap_err();
    assert_eq!(error.reason, ErrorReason::SecretMissing);
    assert!(error.message.contains("login") && error.message.contains("password"), "{}", error.message);
}

#[test]
fn the_sink_refuses_a_key_column_that_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let options = sink(json!({"bootstrapServers": "a:9092", "topic": "t", "keyFrom": ["id", "nmae"], "format": {"json": {}}}));
    let sink = KafkaSink::new(&options, &context(folder.path())).unwrap();
    let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true), Field::new("name", DataType::Utf8, true)]));
    let error = sink.accepts(&schema, None).unwrap_err();
    assert!(error.message.contains("\"nmae\""), "{}", error.message);
}

#[test]
fn a_changelog_needs_a_key_that_tells_its_rows_apart() {
    let folder = tempfile::tempdir().unwrap();
    let sink = |key_from: &[&str], transactional: &str| {
        let options = json!({"bootstrapServers": "a:9092", "topic": "t", "keyFrom": key_from, "transactional": transactional, "format": {"json": {}}});
        KafkaSink::new(&sink(options), &context(folder.path())).unwrap()
    };
    let updating = |key: &[&str]| Changelog::Updating { key: key.iter().map(ToString::to_string).collect() };
    for (key_from, key) in [(vec![], vec!["id"]), (vec!["id"], vec!["id"]), (vec!["name", "id"], vec!["id"]), (vec!["id"], vec![])] {
        sink(&key_from, "Off").accepts_changelog(&updating(&key)).unwrap();
    }
    sink(&[], "Off").accepts_changelog(&Changelog::Append).unwrap();
    for (key_from, key, hint) in [
        (vec![], vec![], "group by a key, name changelog.primaryKey of the Source, or set keyFrom of the Sink"),
        (
            vec!["name"],
            vec!["id", "name"],
            "keyFrom of the Sink must hold the columns that tell its rows apart, [id, name], or be left out",
        ),
    ] {
        let error = sink(&key_from, "Off").accepts_changelog(&updating(&key)).unwrap_err();
        assert_eq!(error.reason, ErrorReason::Invalid);
        assert!(error.message.contains("revised after they were written") && error.message.contains(hint), "{}", error.message);
    }
    let said = |transactional: &str| sink(&[], transactional).guarantee_of_changelog();
    assert_eq!((said("Auto").0, said("Off").0), (Guarantee::ExactlyOnce, Guarantee::AtLeastOnce));
    assert!(said("Off").1.contains("tombstones"));
}

/// What a client in trouble said last need not be why it is: a refused login is reported only now and then, between lost connections.
#[tokio::test]
async fn whatever_the_trouble_is_a_rotated_secret_starts_the_writer_anew() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("login")).unwrap();
    let set = |password: &str| std::fs::write(folder.path().join("login/password"), password).unwrap();
    std::fs::write(folder.path().join("login/username"), "ann").unwrap();
    set("old");
    // Nobody listens there any more.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let options = sink(json!({
        "bootstrapServers": address.to_string(), "topic": "t", "format": {"json": {}},
        "sasl": {"mechanism": "Plain", "secretRef": {"name": "login"}},
    }));
    let sink = KafkaSink::new(&options, &context(folder.path())).unwrap();
    let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]));
    let health = Health::default();
    let writer = WriterIdentity { pipeline_uid: "uid".into(), output: "out".into(), task: "task".into(), generation: 1 };
    let open =
        OpenSink { writer, schema: Arc::clone(&schema), event_time: None, changelog: Changelog::Append, epoch: 1, health: health.clone() };
    let mut writer = sink.open(open).await.unwrap();
    let records = RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(vec![1]))]).unwrap();
    let batch = Batch::new(records, Origin::new("o", "o"), UInt64Array::from(vec![0]));
    let rotate = async {
        while health.current().is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        set("new");
    };
    let writing = async {
        writer.write(batch).await?;
        writer.prepare(1).await
    };
    let both = async { tokio::join!(writing, rotate).0 };
    let error = tokio::time::timeout(Duration::from_secs(60), both).await.expect("the writer goes on with the old password").unwrap_err();
    assert_eq!(error.reason, ErrorReason::Unreachable);
    assert!(error.message.contains("its Secret has changed"), "{}", error.message);
    writer.close().await;
}
