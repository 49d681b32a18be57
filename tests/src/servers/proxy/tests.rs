//! What each mode of the proxy does to a client. They never wait for a time to pass: each state shows itself.

use super::*;
use crate::servers::LOOPBACK;

/// A server that sends back what it receives, on as many connections as come.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await
            });
        }
    });
    address
}

async fn round_trip(stream: &mut TcpStream, text: &str) -> io::Result<()> {
    stream.write_all(text.as_bytes()).await?;
    let mut back = vec![0; text.len()];
    stream.read_exact(&mut back).await?;
    assert_eq!(back, text.as_bytes());
    Ok(())
}

#[tokio::test]
async fn passes_bytes_both_ways() {
    let proxy = Proxy::start(LOOPBACK, echo().await).await.unwrap();
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    round_trip(&mut client, "hello").await.unwrap();
}

#[tokio::test]
async fn refuses_and_comes_back_on_the_same_port() {
    let mut proxy = Proxy::start(LOOPBACK, echo().await).await.unwrap();
    let mut open = TcpStream::connect(proxy.address()).await.unwrap();
    round_trip(&mut open, "before").await.unwrap();

    proxy.set(Mode::Refuse).await.unwrap();
    let error = TcpStream::connect(proxy.address()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    assert_eq!(open.read(&mut [0]).await.unwrap_or(0), 0, "an open connection is closed too");

    proxy.set(Mode::Pass).await.unwrap();
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    round_trip(&mut client, "after").await.unwrap();
}

#[tokio::test]
async fn a_hang_loses_nothing() {
    let mut proxy = Proxy::start(LOOPBACK, echo().await).await.unwrap();
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    round_trip(&mut client, "before").await.unwrap();

    proxy.set(Mode::Hang).await.unwrap();
    client.write_all(b"held back").await.unwrap();
    let mut back = [0; 9];
    let early = tokio::time::timeout(std::time::Duration::from_millis(50), client.read(&mut back)).await;
    assert!(early.is_err(), "nothing comes back while it hangs");

    proxy.set(Mode::Pass).await.unwrap();
    client.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"held back");
}

#[tokio::test]
async fn resets_open_and_new_connections() {
    let mut proxy = Proxy::start(LOOPBACK, echo().await).await.unwrap();
    let mut open = TcpStream::connect(proxy.address()).await.unwrap();
    round_trip(&mut open, "before").await.unwrap();

    proxy.set(Mode::Reset).await.unwrap();
    let error = open.read(&mut [0]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);

    let reset = async {
        let mut client = TcpStream::connect(proxy.address()).await?;
        client.read(&mut [0]).await
    };
    assert_eq!(reset.await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}
