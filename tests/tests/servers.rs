//! Every server that tests rely on: it starts, answers, stops, and comes back on the same port with the same data.
//! Nothing of Millrace is tested here.

use std::fs;
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use millrace_tests::poll;
use millrace_tests::servers::{Etcd, Home, Kafka, LOOPBACK, Moto, OpenSearch, ports, process};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Message, Offset, TopicPartitionList};
use serde_json::json;

#[tokio::test]
async fn kafka_keeps_its_records_over_a_restart() -> Result<()> {
    let mut kafka = Kafka::start().await?;
    kafka.create_topic("orders", 2).await?;
    kafka.produce("orders", &[(0, "a", "first"), (1, "b", "second"), (1, "c", "third")]).await?;
    let address = kafka.bootstrap();

    kafka.stop().await?;
    assert!(TcpStream::connect(&address).is_err(), "nothing listens while it is stopped");
    kafka.start_again().await?;

    assert_eq!(kafka.bootstrap(), address);
    assert_eq!(kafka.offsets("orders", 1)?, (0, 2));
    let consumer: BaseConsumer = kafka.config().set("group.id", "reader").create()?;
    let mut from = TopicPartitionList::new();
    from.add_partition_offset("orders", 1, Offset::Beginning)?;
    consumer.assign(&from)?;
    let record = consumer.poll(Duration::from_secs(30)).context("no record within 30 s")??;
    assert_eq!(record.payload(), Some(&b"second"[..]));
    Ok(())
}

#[tokio::test]
async fn opensearch_keeps_its_documents_over_a_restart() -> Result<()> {
    let mut search = OpenSearch::start().await?;
    search.post("/logs/_doc/1", &json!({"status": 200})).await?;
    search.stop().await?;
    assert!(search.get("/").await.is_err(), "nothing answers while it is stopped");
    search.start_again().await?;
    assert_eq!(search.get("/logs/_doc/1").await?["_source"]["status"], 200);

    search.kill()?;
    search.start_again().await?;
    assert_eq!(search.count("logs").await?, 1);
    assert_eq!(search.count("no-such-index").await?, 0);
    Ok(())
}

#[tokio::test]
async fn moto_holds_objects_and_queues_until_it_is_stopped() -> Result<()> {
    let mut moto = Moto::start().await?;
    moto.create_bucket("lake").await?;
    moto.put_object("lake", "a/b c.txt", b"hello".to_vec()).await?;
    assert_eq!(moto.get_object("lake", "a/b c.txt").await?, b"hello");

    let queue = moto.create_queue("events").await?;
    assert!(queue.starts_with(&moto.url()), "a queue is where its server is: {queue}");
    moto.send_message(&queue, "one").await?;
    assert_eq!(moto.queue_length(&queue).await?, (1, 0));
    moto.call("sqs", "AmazonSQS.ReceiveMessage", json!({"QueueUrl": queue})).await?;
    assert_eq!(moto.queue_length(&queue).await?, (0, 1));

    moto.stop().await?;
    moto.start_again().await?;
    assert!(moto.get_object("lake", "a/b c.txt").await.is_err(), "a restarted moto is empty");
    Ok(())
}

#[tokio::test]
async fn etcd_answers_and_comes_back() -> Result<()> {
    let mut etcd = Etcd::start().await?;
    let url = format!("{}/version", etcd.url());
    ensure!(reqwest::get(&url).await?.text().await?.contains("3.4"));
    etcd.stop().await?;
    assert!(reqwest::get(&url).await.is_err());
    etcd.start_again().await?;
    assert!(reqwest::get(&url).await?.status().is_success());
    Ok(())
}

#[tokio::test]
async fn a_dropped_server_is_gone_with_its_folder() -> Result<()> {
    let home = Home::temporary("moto")?;
    let folder = home.path().to_owned();
    let moto = Moto::start_in(home, LOOPBACK, ports::free(LOOPBACK)?).await?;
    let address = moto.address();
    assert_eq!(process::running(&folder)?, ["moto"]);
    drop(moto);
    assert!(TcpStream::connect(address).is_err());
    assert!(!folder.exists());
    Ok(())
}

/// Where the copy of the test below that is to be killed writes the address of its server.
const VICTIM: &str = "MILLRACE_TEST_VICTIM";

/// Runs itself once more in another process, kills that, and looks whether the server it had started ends.
#[tokio::test]
async fn a_killed_test_leaves_no_server() -> Result<()> {
    if let Some(file) = std::env::var_os(VICTIM) {
        let moto = Moto::start().await?;
        fs::write(&file, format!("{}\n", moto.address()))?;
        return std::future::pending().await;
    }
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("address");
    let mut victim = Command::new(std::env::current_exe()?);
    victim.args(["--exact", "a_killed_test_leaves_no_server"]).env(VICTIM, &file).stdout(Stdio::null());
    let mut victim = victim.spawn()?;
    let written = async || {
        let text = fs::read_to_string(&file)?;
        text.strip_suffix('\n').map(str::to_owned).context("it is still being written")
    };
    let address = poll::until("the test to be killed has a server", Duration::from_mins(2), written).await?;
    TcpStream::connect(&address).context("its server answers")?;

    victim.kill()?;
    victim.wait()?;
    let gone = async || if TcpStream::connect(&address).is_err() { Ok(()) } else { Err("it still answers") };
    poll::until("its server ends", Duration::from_secs(30), gone).await
}
